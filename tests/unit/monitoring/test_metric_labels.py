"""Each value of a label that the code uses is known from the start: it begins at 0."""

from __future__ import annotations

import re

from support.project import ROOT
from webapp import tasks
from webapp.monitoring import metrics

CODE = "\n".join(path.read_text() for path in (ROOT / "webapp").rglob("*.py"))


def test_the_names_of_all_tasks_are_known() -> None:
    used = set(re.findall(r'\b(?:lasting|skip|Skipping)\(\s*"(\w+)"', CODE))
    assert used == set(tasks.TASKS)


def test_the_reasons_of_all_ends_are_known() -> None:
    used = set(re.findall(r'\b(?:end|cut_off)\("(\w+)"\)', CODE))
    assert used
    assert used <= set(metrics._END_REASONS)


def test_a_total_leaves_out_what_the_console_was_refused() -> None:
    found = metrics.Numbers({"refused_total": {"console": 7, "full": 2, "forbidden": 1}}, {})
    assert found.total("refused_total") == 3
    assert found.by_label("refused_total")["console"] == 7
