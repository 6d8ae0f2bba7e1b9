"""An operator sees all settings and no secret."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from support.tokens import KEY
from webapp.config.settings import Settings
from webapp.config.shown_settings import shown_settings

SECRET = "s3cr3t-pass"
OF_URLS = {
    "TIDINGS_BROKER_URL": f"redis://user:{SECRET}@cache.example:6380/2?password={SECRET}",
    "TIDINGS_JWKS_URL": f"https://user:{SECRET}@keys.example/jwks.json?key={SECRET}",
    "TIDINGS_JWT_ISSUER": f"https://user:{SECRET}@issuer.example",
    "TIDINGS_JWT_AUDIENCE": f"https://{SECRET}@hub.example",
}
OF_KEYS = ("TIDINGS_JWT_KEY", "TIDINGS_PUBLISHER_JWT_KEY", "TIDINGS_SUBSCRIBER_JWT_KEY")


def shown(environ: dict[str, str]) -> dict[str, dict[str, Any]]:
    return {it["name"]: it for it in shown_settings(Settings.from_env(environ))}


def test_every_setting_is_shown() -> None:
    names = {f"TIDINGS_{it.name.upper()}" for it in fields(Settings) if "parse" in it.metadata}
    found = shown({"TIDINGS_HISTORY_AGE": "90s", "TIDINGS_CORS_ORIGINS": "https://a.example"})
    assert found.keys() == names
    assert (found["TIDINGS_HISTORY_AGE"]["value"], found["TIDINGS_HISTORY_AGE"]["default"]) == (
        "90s",
        False,
    )
    assert found["TIDINGS_CORS_ORIGINS"]["value"] == "https://a.example"
    assert found["TIDINGS_RETRY"]["default"]
    assert found["TIDINGS_JWT_KEY"]["value"] == ""
    assert all(isinstance(it["value"], str) for it in found.values())


def test_what_is_set_differs_from_what_is_computed() -> None:
    environ = {"TIDINGS_HISTORY_AGE": "7d", "TIDINGS_BROKER_URL": "memory://"}
    settings = replace(Settings.from_env(environ), max_subscribers=26_000)
    found = {it["name"]: (it["default"], it["computed"]) for it in shown_settings(settings)}
    assert found["TIDINGS_HISTORY_AGE"] == (False, False)  # set, although to the default
    assert found["TIDINGS_MAX_SUBSCRIBERS"] == (True, True)
    assert found["TIDINGS_HISTORY_EVENTS"] == (True, True)  # as the broker needs it
    assert found["TIDINGS_RETRY"] == (True, False)


def test_a_size_is_shown_as_it_can_be_set() -> None:
    for text in ("1G", "64M", "3K", "1000"):
        assert shown({"TIDINGS_WINDOW_BYTES": text})["TIDINGS_WINDOW_BYTES"]["value"] == text
    assert shown({})["TIDINGS_MAX_HEADER_BYTES"]["value"] == "16K"
    for text in ("1K", "200000", "0"):
        assert shown({"TIDINGS_MIN_SEND_RATE": text})["TIDINGS_MIN_SEND_RATE"]["value"] == text


def test_each_shown_default_can_be_set() -> None:
    defaults = {name: it["value"] for name, it in shown({}).items() if it["value"]}
    found = shown(defaults)
    assert {name: found[name]["value"] for name in defaults} == defaults


def test_no_secret_is_shown() -> None:
    keys = dict.fromkeys(OF_KEYS, f"{KEY}{SECRET}")
    found = shown({**OF_URLS, **keys})
    assert SECRET not in str(found)
    assert KEY not in str(found)
    assert {found[name]["value"] for name in OF_KEYS} == {"1 key"}
    assert found["TIDINGS_BROKER_URL"]["value"] == "redis://cache.example:6380/2"
    assert found["TIDINGS_JWKS_URL"]["value"] == "https://keys.example/jwks.json"


def test_a_duration_is_shown_as_it_can_be_set() -> None:
    texts = ("500ms", "15s", "90s", "5m", "2h", "8d", "0")
    for text in texts:
        assert shown({"TIDINGS_MAX_AGE": text})["TIDINGS_MAX_AGE"]["value"] == text
    assert shown({})["TIDINGS_HISTORY_AGE"]["value"] == "7d"
