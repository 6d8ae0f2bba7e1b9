"""What is no HTTP request: how often it is logged."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from gunicorn.http import errors as http_errors

from webapp import limited_lines
from webapp.server import parse_errors

if TYPE_CHECKING:
    import pytest


def test_a_flood_of_what_is_not_http_is_counted_and_not_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    now = 1000.0
    monkeypatch.setattr(limited_lines, "monotonic", lambda: now)
    monkeypatch.setattr(parse_errors, "_log_lines", limited_lines.LimitedLines())
    for _ in range(100):
        parse_errors.log_parse_error(http_errors.InvalidRequestLine("\x1b[2J"))
        parse_errors.log_parse_error(http_errors.InvalidHeader("x"))
    now += 61
    parse_errors.log_parse_error(http_errors.InvalidHeader("x"))
    begin = "A client sent no valid HTTP request: "
    assert caplog.messages == [
        f"{begin}InvalidRequestLine",
        f"{begin}InvalidHeader",
        f"{begin}left_out=198 InvalidHeader",
    ]
