"""How many objects of each kind a hub's worker has."""

from __future__ import annotations

import json
from pathlib import Path

from support.waiting import until


class ObjectCounts:
    """Counts the objects of a worker, whose hub is served with its arguments and environment.

    :param folder: for questions to the worker and its answers.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.arguments = ("-c", str(Path(__file__).with_name("counting_conf.py")))
        self.env = {"OBJECT_COUNTS": str(folder)}

    def now(self) -> dict[str, int]:
        """Return the counts by name, of all that Python's garbage collector sees."""
        found = self._folder / "found"
        found.unlink(missing_ok=True)
        (self._folder / "ask").touch()
        until(found.exists, "the worker has counted")
        counts: dict[str, int] = json.loads(found.read_text())
        return counts

    def greenlets(self) -> int:
        """Return how many greenlets there are, without those that wait for something to do."""
        counts = self.now()
        every = sum(count for name, count in counts.items() if name.endswith("reenlet"))
        return every - counts["idle"]
