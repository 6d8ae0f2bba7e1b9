"""What the hub logs when it starts: where it is, and who may read and publish."""

from __future__ import annotations

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
