"""A hub with a key and two workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.metrics import read
from support.tokens import KEY
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.server import Server


@pytest.fixture(name="hub", scope="module")
def _hub(serve: Callable[..., Server]) -> Server:
    """Two workers behind a key, both of which have begun."""
    server = serve("-w", "2", TIDINGS_JWT_KEY=KEY)
    until(lambda: len(read(server)["workers"]) == 2, "both have begun")
    return server
