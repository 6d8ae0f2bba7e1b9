"""The newest warnings of the log, in a file that anything may happen to."""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING

import pytest

from webapp.monitoring.metrics_folder import VARIABLE
from webapp.monitoring.server_warnings import WarningHandler

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture
def handler() -> WarningHandler:
    return WarningHandler()


@pytest.fixture
def logger(handler: WarningHandler) -> Iterator[logging.Logger]:
    logger = logging.getLogger("test_server_warnings")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)


def record(text: str, at: float, pid: int = 7, level: int = logging.WARNING) -> logging.LogRecord:
    found = logging.LogRecord("x", level, "", 1, text, (), None)
    found.created, found.process = at, pid
    return found


def test_other_processes_see_them_newest_first(logger: logging.Logger) -> None:
    logger.info("not this one")
    logger.warning("one %s", "word")
    logger.error("two")
    found = WarningHandler().read()
    assert [(it.level, it.pid, it.text) for it in found] == [
        ("ERROR", os.getpid(), "two"),
        ("WARNING", os.getpid(), "one word"),
    ]


def test_a_traceback_is_its_kind_of_error(logger: logging.Logger, handler: WarningHandler) -> None:
    try:
        int("what a client sent")
    except ValueError:
        logger.exception("It failed.")
    assert [it.text for it in handler.read()] == ["It failed. (ValueError)"]


def test_they_are_bounded(handler: WarningHandler, folder: Path) -> None:
    for second in range(100):
        handler.handle(record("\U0001f600" * 100_000, second))
    found = handler.read()
    assert [it.time for it in found] == list(range(99, 49, -1))
    assert {len(it.text) for it in found} == {500}
    assert (folder / "warnings.json").stat().st_size < 1 << 18


def test_a_flood_costs_five_in_a_second(
    handler: WarningHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = []
    monkeypatch.setattr(handler, "share", lambda: shares.append(1))
    for number in range(10_000):
        handler.handle(record(str(number), 5 + number / 1e6))
    assert [it.text for it in handler.read()] == ["4", "3", "2", "1", "0"]
    assert len(shares) == 5


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("of eyJhbGciOiJIUzI1NiJ9.eyJtZXJjdXJlIjp7fX0.c2ln today", "of … today"),
        ("redis://user:p@ss-word@db:6379/0 failed", "redis://…db:6379/0 failed"),
        ("Authorization: Bearer s3cr3t, x", "Authorization: Bearer … x"),
        ("a\r\n[1] [ERROR] forged", "a [1] [ERROR] forged"),
        ("\x1b[2J\u202e", "\ufffd[2J\ufffd"),
        ("100 %", "100 %"),
    ],
)
def test_secrets_and_control_characters_are_left_out(
    handler: WarningHandler, text: str, shown: str
) -> None:
    handler.handle(record(text, 1))
    assert [it.text for it in handler.read()] == [shown]


@pytest.mark.parametrize(
    "content",
    [
        b"x",
        b"[]",
        b'{"a": 7}',
        b'{"a": [1, "WARNING", 7]}',
        b'{"a": [1e999, "WARNING", 7, "x"]}',
        b'{"a": [1, "WARNING", 1e999, "x"]}',
        b"[" * 200_000,
        b"\xff\x00" * 99,
    ],
)
def test_a_damaged_file_is_written_again(
    handler: WarningHandler, folder: Path, content: bytes
) -> None:
    (folder / "warnings.json").write_bytes(content)
    assert handler.read() == []
    handler.handle(record("a", 1))
    assert [it.text for it in WarningHandler().read()] == ["a"]


def test_texts_of_a_damaged_file_are_bounded(handler: WarningHandler, folder: Path) -> None:
    (folder / "warnings.json").write_text(json.dumps({"a": [1, "W" * 9999, 7, ["x"] * 9999]}))
    [found] = handler.read()
    assert (len(found.level), len(found.text)) == (500, 500)


def test_what_cannot_be_written_is_remembered_and_logs_nothing(
    logger: logging.Logger,
    handler: WarningHandler,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    os.mkfifo(folder / "warnings.json")
    logger.warning("a")
    assert [it.text for it in handler.read()] == ["a"]
    assert caplog.messages == ["a"]
    assert capsys.readouterr().err == ""
    (folder / "warnings.json").unlink()
    handler.share()
    assert [it.text for it in WarningHandler().read()] == ["a"]


def test_without_a_folder_they_are_in_memory(
    logger: logging.Logger, handler: WarningHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    logger.warning("a")
    assert [it.text for it in handler.read()] == ["a"]
    assert WarningHandler().read() == []


def test_where_no_log_is_set_up_python_still_writes_warnings(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logger, "propagate", False)
    logger.warning("a")
    assert capsys.readouterr().err == "a\n"
    logger.addHandler(other := logging.NullHandler())
    logger.warning("b")
    logger.removeHandler(other)
    assert capsys.readouterr().err == ""


def test_a_line_that_cannot_be_formatted_ends_nothing(
    logger: logging.Logger, handler: WarningHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    monkeypatch.setattr(logger, "propagate", False)
    logger.warning("%d", "x")
    assert handler.read() == []
