"""Which peers are trusted proxies, and how many of them a worker remembers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gunicorn.config import Config

from webapp.server import request_bounds
from webapp.server.request_bounds import BoundedRequest

if TYPE_CHECKING:
    import pytest


class Request(BoundedRequest):
    """A request of which only the peer is known."""

    def __init__(self, peer: str | tuple[str, int]) -> None:
        self.cfg = Config()
        self.peer_addr = peer


def test_trusted_peers_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_bounds, "_MAX_REMEMBERED_PEERS", 3)
    for _ in range(2):
        assert Request(("127.0.0.1", 1))._peer_is_trusted_proxy()
        assert Request("")._peer_is_trusted_proxy()
        for number in range(9):
            assert not Request((f"192.0.2.{number}", 1))._peer_is_trusted_proxy()
            assert len(request_bounds._trusted_peers) <= 3
