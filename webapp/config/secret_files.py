"""Settings that are secrets, read from files: `TIDINGS_JWT_KEY_FILE` for `TIDINGS_JWT_KEY`.

Docker, Kubernetes and systemd hand over secrets as files.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SUFFIX = "_FILE"
_MAX_SECRET_BYTES = 64 << 10


def read(environ: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """Return the values of those settings that a file has, by the name of their setting.

    :param names: of the settings that may have a file.
    :raises Misconfigured: a setting has both a file and a value, or a file cannot be read.
    """
    found = {}
    for name in names:
        if (path := environ.get(name + SUFFIX)) is not None:
            if name in environ:
                detail = f"{name} and {name}{SUFFIX} are both set."
                raise Misconfigured(detail, "Leave one of them out.")
            found[name] = _content(name + SUFFIX, Path(path))
    return found


def _content(name: str, path: Path) -> str:
    try:
        content = b""
        if path.is_file() or not path.exists():  # a FIFO could be read only once
            with path.open("rb") as file:
                content = file.read(_MAX_SECRET_BYTES + 1)
    except OSError as error:
        detail = f"The file that {name} names cannot be read: {error.strerror}."
        raise Misconfigured(detail, "Name a file that the hub may read.") from None
    if not content.strip() or len(content) > _MAX_SECRET_BYTES:
        detail = f"{name} does not name a file of 1 byte to {_MAX_SECRET_BYTES >> 10} KB."
        raise Misconfigured(detail, "Name the file that contains the secret.")
    return content.decode(errors="surrogateescape")  # as in the environment
