"""The usual Flask and gevent stack, to compare with: a queue and a generator per subscriber."""

from __future__ import annotations

from queue import Queue
from typing import TYPE_CHECKING

from flask import Flask, Response, request, stream_with_context

if TYPE_CHECKING:
    from collections.abc import Iterator

app = Flask(__name__)
subscribers: set[Queue[str]] = set()


def stream(queue: Queue[str]) -> Iterator[str]:
    """Begin at once: gunicorn sends the headers with the first piece."""
    try:
        yield ":\n\n"
        while True:
            yield f"data: {queue.get()}\n\n"
    finally:
        subscribers.discard(queue)


@app.get("/events")
def subscribe() -> Response:
    queue: Queue[str] = Queue()
    subscribers.add(queue)
    return Response(stream_with_context(stream(queue)), mimetype="text/event-stream")


@app.post("/events")
def publish() -> tuple[str, int]:
    data = request.get_data(as_text=True)
    for queue in list(subscribers):
        queue.put(data)
    return "", 204


@app.post("/nothing")
def nothing() -> tuple[str, int]:
    """Do nothing: what a request costs in any case."""
    return "", 204
