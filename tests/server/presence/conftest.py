"""A hub with a key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.tokens import KEY

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.server import Server


@pytest.fixture(name="hub", scope="module")
def _hub(serve: Callable[..., Server]) -> Server:
    """Two workers that share a file."""
    return serve(TIDINGS_JWT_KEY=KEY, WEB_CONCURRENCY="2")
