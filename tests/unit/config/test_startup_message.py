"""What the hub logs when it starts: where it is, and who may read and publish."""

from __future__ import annotations

from typing import Any

import pytest

from webapp.config.settings import Settings
from webapp.config.startup import startup_message


@pytest.mark.parametrize(
    ("address", "url"),
    [
        (("127.0.0.1", 8000), "http://127.0.0.1:8000"),
        (("::1", 8000, 0, 0), "http://[::1]:8000"),
        (("::", 8000, 0, 0), "http://[::]:8000"),
        ("/run/tidings.sock", "unix:/run/tidings.sock"),
    ],
)
def test_it_names_each_address_as_a_url(address: object, url: str) -> None:
    assert f"Tidings is at {url} (" in startup_message(Settings(), [address], tls=False)
    both = startup_message(Settings(), [address, ("localhost", 1)], tls=False)
    assert f"Tidings is at {url} and http://localhost:1 (" in both


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "everybody on this machine may read and publish"),
        ({"embedded": True}, "everybody may read public events; the app and users"),
        ({"embedded": True, "anonymous": False}, "users whom the app permits may read"),
        ({"jwt_key": ("k",), "anonymous": False}, "those with a token may read public events"),
    ],
)
def test_it_says_who_may_read_and_publish(options: dict[str, Any], sentence: str) -> None:
    message = startup_message(Settings(**options), [("127.0.0.1", 1)], tls=False)
    assert f": {sentence}" in message
