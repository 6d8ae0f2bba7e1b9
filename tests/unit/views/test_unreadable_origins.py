"""Origins whose pages cannot read events are logged, each once."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from webapp.config.settings import Settings
from webapp.views import unreadable_origins
from webapp.views.unreadable_origins import log_unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _nothing_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.WARNING):
        yield
    unreadable_origins._logged.clear()


def subscribed(origin: str | None, *allowed: str) -> None:
    headers = [] if origin is None else [("Origin", origin)]
    environ = EnvironBuilder("/events", "http://localhost:8000", headers=headers).get_environ()
    log_unreadable(Request(environ), Settings(cors_origins=allowed))


def test_an_origin_is_logged_once_with_the_setting_that_allows_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for _ in range(3):
        subscribed("null")
    assert caplog.messages == [
        "Pages of the origin 'null' cannot read events: it is not in TIDINGS_CORS_ORIGINS."
    ]


def test_pages_that_can_read_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    subscribed(None)
    subscribed("http://localhost:8000")
    subscribed("null", "https://a.example", "null")
    subscribed("https://b.example", "*")
    assert caplog.messages == []


def test_the_log_is_bounded(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unreadable_origins, "_MAX_ORIGINS", 2)
    for number in range(5):
        subscribed(f"https://{number}.example/\x1b" + 1000 * "x")
    assert len(caplog.messages) == 2
    assert max(map(len, caplog.messages)) < 200
    assert "\x1b" not in caplog.text
