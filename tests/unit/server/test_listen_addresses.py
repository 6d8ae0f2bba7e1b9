"""Which addresses the hub listens on, and how it refuses an address that is in use."""

from __future__ import annotations

import logging
import socket
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from support.ports import has_ipv6
from webapp.config.settings import Settings
from webapp.errors import Misconfigured
from webapp.server import listen_addresses
from webapp.server.listen_addresses import await_free, choose

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(name="taken")
def _taken(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An address that another program listens on."""
    monkeypatch.setattr(listen_addresses, "_RETRY_S", 0)
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()


def wait(settings: Settings, *addresses: object, reuse_port: bool = False) -> None:
    cfg = SimpleNamespace(address=addresses, reuse_port=reuse_port)
    await_free(cfg, settings, logging.getLogger())


def test_a_port_that_is_taken_is_refused_with_the_setting_that_chooses_another(taken: Any) -> None:
    with pytest.raises(Misconfigured) as refused:
        wait(Settings(), taken)
    assert f"listens on 127.0.0.1:{taken[1]} already" in refused.value.detail
    assert "TIDINGS_BIND=127.0.0.1:8123" in refused.value.remedy
    with pytest.raises(Misconfigured, match="Set PORT to another port"):
        wait(Settings(port=taken[1]), taken)


def test_it_waits_for_an_address_that_becomes_free(
    taken: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waits = list[float]()
    monkeypatch.setattr(time, "sleep", waits.append)
    listen = listen_addresses._listen
    monkeypatch.setattr(
        listen_addresses, "_listen", lambda it: listen(it if len(waits) < 2 else ("127.0.0.1", 0))
    )
    with caplog.at_level(logging.INFO):
        wait(Settings(), taken)
    assert len(waits) == 2
    assert caplog.messages == [f"127.0.0.1:{taken[1]} is in use. The hub waits until it is free."]


def test_addresses_that_others_may_share_are_not_tried(taken: Any) -> None:
    wait(Settings(), taken, reuse_port=True)
    wait(Settings(), 3, "\0abstract", ("127.0.0.1", 0))


def test_a_path_where_no_socket_can_be_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for path, why in {
        file: "not a socket",
        tmp_path / "missing" / "socket": "No such file or directory",
    }.items():
        with pytest.raises(Misconfigured, match=f"cannot listen on unix:{path}: .*{why}"):
            wait(Settings(), str(path))
    assert file.is_file()


def test_a_socket_of_another_server_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen_addresses, "_RETRY_S", 0)
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(Misconfigured, match="Another program listens on unix:"):
            wait(Settings(), str(path))
    wait(Settings(), str(path))  # its server has ended without removing it


def test_the_platforms_port_is_open_for_ipv6_where_that_includes_ipv4(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert choose(Settings()) == ["127.0.0.1:8000"]
    assert choose(Settings(port=80, bind=("127.0.0.1:81",))) == ["127.0.0.1:81"]
    assert choose(Settings(port=80)) == ["[::]:80" if has_ipv6() else "0.0.0.0:80"]
    monkeypatch.setattr(socket, "create_connection", refused)  # as if it accepted IPv6 only
    assert choose(Settings(port=80)) == ["0.0.0.0:80"]
    monkeypatch.setattr(socket, "socket", refused)  # as if there were no IPv6
    assert choose(Settings(port=80)) == ["0.0.0.0:80"]


def refused(*_: object, **__: object) -> None:
    raise OSError
