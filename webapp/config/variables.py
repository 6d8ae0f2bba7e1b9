"""Read environment variables, and refuse those that are not valid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import Misconfigured
from . import parsers
from .setting_names import PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_URL_VARIABLES = {"REDIS_URL": "a Redis", "DATABASE_URL": "a PostgreSQL database"}
_SECRET = {parsers.keys, parsers.broker_url, parsers.url}  # a refusal does not repeat their text
_MAX_ECHO_CHARS = 40


def platform(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that a platform makes: the fields of `Settings`, where they are set."""
    values: dict[str, Any] = {}
    if port := environ.get("PORT"):
        values["port"] = read("PORT", port, parsers.port)
    if workers := environ.get("WEB_CONCURRENCY"):
        values["web_concurrency"] = read("WEB_CONCURRENCY", workers, parsers.positive_int)
    return values


def read(name: str, text: str, parse: Callable[[str], Any]) -> Any:
    """Return the value of a variable.

    :param parse: makes the value of its text; it raises ValueError with what would be valid.
    :raises Misconfigured: the text is not valid.
    """
    try:
        return parse(parsers.plain(text))
    except ValueError as error:
        rest = "..." if len(text) > _MAX_ECHO_CHARS else ""
        value = "" if parse in _SECRET else f"={text[:_MAX_ECHO_CHARS]!a}{rest}"
        detail = f"{name}{value} is not valid."
        raise Misconfigured(detail, f"Set it to {error}.") from None


def expanded(name: str, text: str, environ: Mapping[str, str]) -> str:
    """Replace `$REDIS_URL` or `$DATABASE_URL` at the start of the broker's URL, so that a setting
    can add options to a URL that the platform may change.
    """
    variable = next((it for it in _URL_VARIABLES if text.startswith(f"${it}")), None)
    if name != PREFIX + "BROKER_URL" or not variable:
        return text
    if not environ.get(variable):
        detail = f"{name} begins with ${variable}, and there is no {variable}."
        remedy = f"Add {_URL_VARIABLES[variable]} to the app, or leave the setting out."
        raise Misconfigured(detail, remedy)
    return text.replace(f"${variable}", environ[variable], 1)
