"""Tokens of the tests' key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jwt

if TYPE_CHECKING:
    from collections.abc import Sequence


KEY = "a-key-of-the-tests-that-is-long-enough"


def token(**grants: Sequence[str]) -> str:
    """Return a token of the tests' key: `token(publish=["*"])`."""
    return jwt.encode({"mercure": grants}, KEY, "HS256")


def authorization(text: str) -> dict[str, str]:
    """Return the headers that send a token."""
    return {"Authorization": f"Bearer {text}"}
