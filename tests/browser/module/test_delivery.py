"""The browser module `tidings.js` as it is sent: its size, types, and for whom."""

from __future__ import annotations

import gzip
import re
from typing import TYPE_CHECKING

from support.project import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.server import Server

MODULE = ROOT / "webapp" / "static" / "tidings.js"


def test_it_is_small_and_all_its_options_have_types() -> None:
    code = MODULE.read_bytes()
    assert len(code) < 12 << 10
    assert len(gzip.compress(code, 9)) < 4 << 10
    types = MODULE.with_suffix(".d.ts").read_text()
    options = re.search(r"const {(.*?)} = options", MODULE.read_text())
    assert options
    for name in re.findall(r"(\w+)(?: =[^,]+)?,", options[1]):
        assert f"  {name}?: " in types, name


def test_pages_of_other_origins_may_import_it_and_browsers_keep_it(
    serve: Callable[..., Server],
) -> None:
    origin = "https://a.example"
    server = serve(TIDINGS_CORS_ORIGINS=origin, TIDINGS_DEMO="0")
    answer = server.http.get("/static/tidings.js", headers={"Origin": origin})
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert answer.headers["Cache-Control"] == "no-cache"
    again = {"If-None-Match": answer.headers["ETag"]}
    assert server.http.get("/static/tidings.js", headers=again).status_code == 304
    types = server.http.get("/static/tidings.d.ts").headers["Content-Type"]
    assert types == "text/plain; charset=utf-8"
