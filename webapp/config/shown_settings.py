"""The settings in force as an operator may see them: without secrets."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from . import parsers
from .setting_names import PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable

    from .settings import Settings

_TO_TEXT: dict[Any, Callable[[Any], str]] = {
    parsers.duration: parsers.duration_text,
    parsers.positive_duration: parsers.duration_text,
    parsers.byte_size: parsers.byte_text,
    parsers.non_negative_byte_size: parsers.byte_text,
    parsers.header_size: parsers.byte_text,
}


def shown_settings(settings: Settings) -> list[dict[str, Any]]:
    """Return the name and value of each setting, and whether it is the default, or computed from
    others or from the machine, and not set.

    Keys are counted, and URLs have no user, password and query.
    """
    return [
        {
            "name": PREFIX + it.name.upper(),
            "value": _shown(settings, it.name, it.metadata["parse"]),
            "default": it.name not in settings.given,
            "computed": it.name not in settings.given and getattr(settings, it.name) != it.default,
        }
        for it in fields(settings)
        if "parse" in it.metadata
    ]


def _shown(settings: Settings, name: str, parse: Any) -> str:
    value = getattr(settings, name)
    if parse is parsers.keys:
        return f"{len(value)} key{'s' if len(value) > 1 else ''}" if value else ""
    if parse is parsers.broker_url:
        return settings.broker_label
    if parse is parsers.url and value:
        return _without_secrets(value)
    if to_text := _TO_TEXT.get(parse):
        return to_text(value)
    if value is None or isinstance(value, bool):
        return str(int(value)) if value is not None else ""
    items = value if isinstance(value, tuple) else (value,)
    text = ",".join(f"{it:g}" if isinstance(it, float) else str(it) for it in items)
    return re.sub(r"//[^/@]*@", "//", text)  # the user and password of a URL


def _without_secrets(text: str) -> str:
    url = urlsplit(text)
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"
