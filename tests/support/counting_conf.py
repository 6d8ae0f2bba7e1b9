"""A configuration of gunicorn's whose worker counts its objects when it is asked to.

Each file `ask` in the folder `OBJECT_COUNTS` is answered with a file `found`, of JSON.
"""

from __future__ import annotations

import gc
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from webapp.server.conf import *  # noqa: F403 - the hub's own configuration

_POLL_S = 0.05
_FOLDER = Path(os.environ["OBJECT_COUNTS"])


def count(worker: Any) -> Counter[str]:
    """Return how many objects of each kind there are."""
    gc.collect()
    kinds = map(type, gc.get_objects())
    counts = Counter(f"{it.__module__}.{it.__name__}" for it in kinds)
    counts["idle"] = len(worker._greenlets._idle)
    counts["files"] = len(list(Path("/proc/self/fd").iterdir()))
    counts["connections"] = len(worker.connections)
    return counts


def post_worker_init(worker: Any) -> None:
    """Answer until the worker stops."""
    import gevent

    def answer() -> None:
        while True:
            gevent.sleep(_POLL_S)
            if (asked := _FOLDER / "ask").exists():
                (_FOLDER / "writing").write_text(json.dumps(count(worker)))
                asked.unlink()
                (_FOLDER / "writing").rename(_FOLDER / "found")

    gevent.spawn(answer)
