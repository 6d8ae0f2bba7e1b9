"""The hub's handler of log lines writes what Python's own would write."""

from __future__ import annotations

import io
import logging
import sys
from logging import StreamHandler
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from gunicorn.config import Config

from webapp.server.loggers import AccessLogger, LineFormatter, LineHandler

if TYPE_CHECKING:
    import pytest


def records() -> list[logging.LogRecord]:
    error = None
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        error = sys.exc_info()
    made = [
        logging.LogRecord("webapp", logging.INFO, "", 1, "a topic %s", ("ä",), None),
        logging.LogRecord("webapp", logging.ERROR, "", 1, "an error", (), error),
        logging.LogRecord("webapp", logging.WARNING, "", 1, "100 %", (), None),
        logging.LogRecord("webapp", logging.INFO, "", 1, "the same second", (), None),
    ]
    for record, created in zip(made, (1.2, 1.7, 99.9, 99.0), strict=True):
        record.created = created
    return made


def written(handler: StreamHandler[Any], formatter: logging.Formatter) -> str:
    handler.setFormatter(formatter)
    for record in records():
        handler.handle(record)
    text: str = handler.stream.getvalue()
    return text


def test_lines_are_those_of_gunicorn() -> None:
    formats = AccessLogger.error_fmt, AccessLogger.datefmt
    found = written(LineHandler(io.StringIO()), LineFormatter(*formats))
    assert found == written(StreamHandler(io.StringIO()), logging.Formatter(*formats))
    assert found.count("\n") > len(records())  # a traceback has several lines


def test_a_line_that_cannot_be_written_does_not_end_its_task(
    capsys: pytest.CaptureFixture[str],
) -> None:
    handler = LineHandler(SimpleNamespace(write=None))
    assert handler.handle(records()[0])
    assert "Logging error" in capsys.readouterr().err


def test_standard_error_has_such_a_handler_and_a_file_has_pythons(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The logger is that of all tests in this process: others may have left handlers.
    monkeypatch.setattr(logging.getLogger("gunicorn.error"), "handlers", [])
    cfg = Config()
    logger = AccessLogger(cfg)
    assert [type(it) for it in logger.error_log.handlers] == [LineHandler]
    cfg.set("errorlog", str(tmp_path / "log"))
    logger.setup(cfg)
    assert [type(it) for it in logger.error_log.handlers] == [logging.FileHandler]
    logger.error_log.handlers.pop().close()
