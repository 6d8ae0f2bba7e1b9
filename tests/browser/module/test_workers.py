"""The module where there is no page: in workers, and in Node."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from support.programs import need
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

    from support.plain_server import Plain

WORKER = b"""
import { Tidings } from "/tidings.js";
const channel = new BroadcastChannel("worker");
new Tidings("/stream").onmessage = ({ data }) => channel.postMessage(data);
"""
LISTEN = """() => {
  window.got = [];
  new BroadcastChannel("worker").onmessage = ({ data }) => got.push(data);
}"""
STARTS = {
    "dedicated": 'new Worker("/worker.js", { type: "module" })',
    "shared": 'new SharedWorker("/worker.js", { type: "module" })',
    "service": 'navigator.serviceWorker.register("/worker.js", { type: "module" })',
}


@pytest.mark.parametrize("kind", STARTS)
def test_it_works_in_each_kind_of_worker(beside: tuple[Page, type[Plain]], kind: str) -> None:
    page, server = beside
    server.pages["/worker.js"] = WORKER
    server.parts = [b"data: for a worker\n\n"]
    page.evaluate(LISTEN)
    page.evaluate(f"() => {{ {STARTS[kind]}; }}")
    page.wait_for_function("() => got.includes('for a worker')", timeout=PATIENCE * 1000)
    assert [path for path, _ in server.asked] == ["/stream?control=1"]


def test_node_imports_it_and_reads_a_stream_by_its_whole_url(
    plain: tuple[str, type[Plain]], tmp_path: Path
) -> None:
    url, server = plain
    server.parts = [b"data: for Node\n\n"]
    (tmp_path / "tidings.mjs").write_bytes(server.pages["/tidings.js"])
    (tmp_path / "main.mjs").write_text(f"""
      import {{ Tidings }} from "./tidings.mjs";
      const source = new Tidings("{url}/stream");
      source.onmessage = ({{ data }}) => {{ console.log(data); source.close(); }};
    """)
    command = [need("node"), str(tmp_path / "main.mjs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.stdout, done.stderr) == ("for Node\n", "")
