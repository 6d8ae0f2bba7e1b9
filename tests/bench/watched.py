"""The hub as it is, and a page that says how long garbage collection has stopped it at most."""

from __future__ import annotations

import gc
import time

from wsgi import app

longest = began = 0.0


def note(phase: str, _: object) -> None:
    global began, longest  # noqa: PLW0603 - the collector calls a function
    if phase == "start":
        began = time.perf_counter()
    else:
        longest = max(longest, time.perf_counter() - began)


@app.get("/pause")
def pause() -> dict[str, float]:
    """Return milliseconds since the last time that this was asked."""
    global longest
    found, longest = longest * 1000, 0.0
    return {"pause": found}


gc.callbacks.append(note)
