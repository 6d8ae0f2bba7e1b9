"""The settings of a hub in an app: the environment's, and else those of `app.config`."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import Misconfigured
from .setting_names import PREFIX
from .settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOG_NAME = "tidings.db"


def read(config: Mapping[str, Any], instance_path: str, *, has_login: bool) -> Settings:
    """Return the settings of a hub in an app.

    :param config: the app's own configuration.
    :param instance_path: the folder of the event log, unless a setting names another place.
    :param has_login: whether the app decides by its login what its users may do.
    :raises Misconfigured: a setting is not valid.
    """
    own = {name: _text(it) for name, it in config.items() if name.startswith(PREFIX)}
    environ = {**own, **os.environ}
    settings = Settings.from_env(environ, demo=False, embedded=True, has_login=has_login)
    if settings.broker_url == Settings.broker_url and f"{PREFIX}BROKER_URL" not in environ:
        url = f"sqlite:///{os.path.join(instance_path, _LOG_NAME)}"  # noqa: PTH118 - text
        settings = replace(settings, broker_url=url)
    return settings


def url_prefix(text: str) -> str:
    """Return the path below which an app has its hub: empty, or with a slash only at its start.

    :raises Misconfigured: it is no fixed path.
    """
    path = text.strip("/")
    if "<" in path or not path.isprintable() or set(path) & set("?#% "):
        detail = f"The url_prefix {text!r} is not a fixed path."
        raise Misconfigured(detail, "Set one such as url_prefix='/realtime'.")
    return f"/{path}" if path else ""


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, list | tuple | set):
        return ",".join(map(str, value))
    return str(value)
