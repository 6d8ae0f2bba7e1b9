"""The dashboard and the documentation have every metric."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.doc_pages import PAGES
from support.metrics import OPERATOR
from support.project import ROOT

if TYPE_CHECKING:
    from support.server import Server

pytestmark = pytest.mark.slow

DASHBOARD = json.loads((ROOT / "webapp/static/grafana.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
NAME = re.compile(r"\btidings_\w+")


def test_the_dashboard_shows_every_metric_and_no_other(hub: Server) -> None:
    text = hub.http.get("/metrics", headers=OPERATOR).text
    families = list(text_string_to_metric_families(text))
    samples = {sample.name for it in families for sample in it.samples}
    queries = [variable["query"] for variable in DASHBOARD["templating"]["list"][1:]]
    expressions = [target["expr"] for panel in PANELS for target in panel["targets"]]
    shown = set(NAME.findall(" ".join([*expressions, *(query["query"] for query in queries)])))
    assert shown <= samples
    missing = {it.name for it in families if not any(name.startswith(it.name) for name in shown)}
    # Those that only the console needs: a rate or the number of a worker says as much.
    assert missing == {
        "tidings_worker_pid",
        "tidings_worker_cpu_ratio",
        "tidings_worker_start_timestamp_seconds",
    }
    assert all(text.count("(") == text.count(")") for text in expressions)


def test_the_dashboard_can_be_imported_anywhere() -> None:
    source = {"type": "prometheus", "uid": "${datasource}"}
    first, *variables = DASHBOARD["templating"]["list"]
    assert (first["type"], first["name"], first["query"]) == (
        "datasource",
        "datasource",
        "prometheus",
    )
    for item in [*variables, *PANELS, *(target for panel in PANELS for target in panel["targets"])]:
        assert item["datasource"] == source
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    fields = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(fields)) == len(fields), "panels overlap"
    assert max(x for x, _ in fields) < 24
    assert all(panel["title"] and panel["description"] for panel in PANELS)
    assert all(panel["fieldConfig"]["defaults"]["unit"] for panel in PANELS)


def test_the_docs_list_every_metric_and_no_other(hub: Server) -> None:
    text = hub.http.get("/metrics", headers=OPERATOR).text
    families = list(text_string_to_metric_families(text))
    names = {it.name + ("_total" if it.type == "counter" else "") for it in families}
    page = PAGES["docs/operate/metrics.md"]
    rows = re.findall(r"^\| (`tidings_.*?) \|", page, re.MULTILINE)
    assert set(NAME.findall(" ".join(rows))) == names
    samples = {sample.name for it in families for sample in it.samples}
    assert set(NAME.findall(page)) <= names | samples
