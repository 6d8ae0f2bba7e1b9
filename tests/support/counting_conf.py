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


def post_worker_init(worker: Any) -> None:
    """Answer until the worker stops."""
    import gevent

    def answer() -> None:
        while True:
            gevent.sleep(_POLL_S)
            if (asked := _FOLDER / "ask").exists():
                gc.collect()
                kinds = map(type, gc.get_objects())
                counts = Counter(f"{it.__module__}.{it.__name__}" for it in kinds)
                counts["files"] = len(list(Path("/proc/self/fd").iterdir()))
                counts["connections"] = len(worker.connections)
                (_FOLDER / "writing").write_text(json.dumps(counts))
                asked.unlink()
                (_FOLDER / "writing").rename(_FOLDER / "found")

    gevent.spawn(answer)
