"""What the hub logs of refused tokens and pages."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from flask import Request
from werkzeug.test import EnvironBuilder

from webapp import limited_lines
from webapp.errors import BadRequest, Forbidden, Unauthorized
from webapp.monitoring.recent_refusals import RecentRefusals
from webapp.views import refusal_log

if TYPE_CHECKING:
    import pytest

TOKEN = "eyJhbGciOiJIUzI1NiJ9"


def request(path: str = "/events", address: str = "192.0.2.7") -> Request:
    environ = EnvironBuilder(path, query_string={"authorization": TOKEN}).get_environ()
    token = {"HTTP_AUTHORIZATION": f"Bearer {TOKEN}"}
    return Request(environ | token | {"REMOTE_ADDR": address})


def new_log(recent: RecentRefusals | None = None) -> refusal_log.RefusalLog:
    return refusal_log.RefusalLog(recent or RecentRefusals(None))


def expired() -> Unauthorized:
    return Unauthorized("The token has expired: its exp was 7 s ago.", "Send a fresh one.")


def test_a_refusal_is_logged_with_its_cause_and_without_the_token(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    log = new_log()
    log.note(expired(), request())
    log.note(Forbidden("Pages of https://a.b may not publish with a cookie.", "Add it."), request())
    begin = "refused: client=192.0.2.7 status=%d method=GET path=/events detail="
    assert caplog.messages == [
        begin % 401 + "The token has expired: its exp was 7 s ago.",
        begin % 403 + "Pages of https://a.b may not publish with a cookie.",
    ]
    assert TOKEN not in caplog.text


def test_other_refusals_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    new_log().note(BadRequest("It is wrong.", "Correct it."), request())
    assert caplog.messages == []


def test_a_path_cannot_forge_a_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    new_log().note(expired(), request("/a\x1b[2J refused: client=x" + "y" * 1000))
    [line] = caplog.messages
    assert line.isprintable()
    assert "path=/a%1B[2J%20refused:%20client%3Dx" in line
    assert len(line) < 400


def test_a_flood_of_refusals_is_counted_and_not_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    now = 1000.0
    monkeypatch.setattr(limited_lines, "monotonic", lambda: now)
    log = new_log()
    for number in range(100):
        for _ in range(2):
            log.note(expired(), request(address=f"192.0.2.{number}"))
    assert len(caplog.messages) == 20
    now += 61
    log.note(expired(), request())
    # The second one of each of the 20, and both of 80; a line says how many were left out before.
    assert sum(left_out(line) for line in caplog.messages) == 180
    assert len(caplog.messages) == 21


def left_out(line: str) -> int:
    return int(line.partition("left_out=")[2].partition(" ")[0] or 0)


def test_a_refusal_of_the_console_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    recent = RecentRefusals(None)
    log = new_log(recent)
    log.note(expired(), request("/console/hub"), is_console=True)
    assert len(caplog.messages) == 1
    assert not recent.read()
    error = Forbidden("Not granted.", "Use another.", asked=["/a"], granted=["/b"])
    log.note(error.about("user-7"), request())
    [found] = recent.read().values()
    assert (found.reason, found.subject, found.asked) == ("forbidden", "user-7", ("/a",))
    assert (found.granted, found.remedy) == (("/b",), "Use another.")
    assert "user-7" not in str(error.problem())
