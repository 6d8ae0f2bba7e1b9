"""The hub as it is, and a page that says how long garbage collection has stopped it at most;
where there are several workers, each answer says which one gave it.

It is the collector's CPU time: what other programs take meanwhile is not its doing.
"""

from __future__ import annotations

import gc
import os
import time
from typing import TYPE_CHECKING

from wsgi import app

if TYPE_CHECKING:
    from flask import Response

longest = began = 0.0


def note(phase: str, _: object) -> None:
    global began, longest  # noqa: PLW0603 - the collector calls a function
    if phase == "start":
        began = time.thread_time()
    else:
        longest = max(longest, time.thread_time() - began)


@app.get("/pause")
def pause() -> dict[str, float]:
    """Return milliseconds since the last time that this was asked."""
    global longest
    found, longest = longest * 1000, 0.0
    return {"pause": found}


def sign(answer: Response) -> Response:
    answer.headers["Worker"] = str(os.getpid())
    return answer


gc.callbacks.append(note)
if os.environ["WEB_CONCURRENCY"] != "1":
    app.after_request(sign)
