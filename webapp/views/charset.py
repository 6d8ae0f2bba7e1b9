"""The encoding of what is sent: UTF-8."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import UnsupportedMediaType

if TYPE_CHECKING:
    from collections.abc import Mapping


def check_charset(parameters: Mapping[str, str]) -> None:
    """Refuse another encoding than UTF-8.

    :raises Unreadable: a header's parameters name one.
    """
    if parameters.get("charset", "utf-8").lower() not in {"utf-8", "utf8", "ascii", "us-ascii"}:
        detail = "The body is in another encoding than UTF-8."
        raise UnsupportedMediaType(detail, "Send it as UTF-8.")
