"""Imports only ever point up the table of layers."""

from __future__ import annotations

import ast
from pathlib import Path

WEBAPP = Path(__file__).parent.parent / "webapp"

LAYERS = [
    ["errors", "files", "skips", "version", "wire", "texts", "settings", "uri_template"],
    ["events", "metrics", "topics"],
    ["window", "peer", "voice", "brokers.base", "brokers.link", "brokers.roster"],
    [
        "brokers.commits",
        "brokers.database",
        "brokers.logfile",
        "brokers.memory",
        "brokers.redis",
        "brokers.roster_redis",
        "brokers.roster_rows",
        "brokers.roster_sqlite",
        "brokers.rows",
        "brokers.sqlite",
        "brokers.tail",
        "brokers.wake",
        "auth",
        "changes",
        "claims",
        "fanout",
        "feeds",
        "history",
        "journal",
        "jwks",
        "keys",
        "lifetime",
        "limits",
        "logstate",
        "pace",
        "replays",
        "revocations",
        "seat",
        "subscription",
        "subscriptions",
        "turns",
        "connection",
        "framing",
        "input",
        "listener",
        "once",
        "output",
        "watch",
    ],
    ["hub", "presence"],
    ["brokers", "demo", "views"],
    [
        "views.bodies",
        "views.charset",
        "views.events",
        "views.forms",
        "views.lean",
        "views.multipart",
        "views.openapi",
        "views.ops",
        "views.origins",
        "views.pages",
        "views.pipe",
        "views.presence",
        "views.problems",
        "views.tokens",
        "views.values",
    ],
    [
        "cli.away",
        "cli.check",
        "cli.findings",
        "cli.follow",
        "cli.listening",
        "cli.output",
        "cli.probes",
        "cli.publish",
        "cli.reach",
        "cli.remote",
        "cli.tail",
        "cli.token",
    ],
    [
        "",
        "cli",
        "cli.__main__",
        "conf",
        "exposure",
        "refusals",
        "server",
        "shared",
        "startup",
        "worker",
    ],
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
MAY_IMPORT_GEVENT = {
    "fanout",
    "history",
    "hub",
    "jwks",
    "logstate",
    "pace",
    "presence",
    "seat",
    "skips",
    "subscription",
    "turns",
    "listener",
    "server",
    "startup",
    "watch",
    "demo",
    "brokers",
    "brokers.commits",
    "brokers.link",
    "brokers.memory",
    "brokers.redis",
    "brokers.roster_sqlite",
    "brokers.sqlite",
    "brokers.tail",
    "brokers.wake",
}


def modules() -> dict[str, ast.Module]:
    found = {}
    for path in WEBAPP.rglob("*.py"):
        parts = path.relative_to(WEBAPP).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        found[name] = ast.parse(path.read_text())
    return found


def runtime_nodes(tree: ast.AST) -> list[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING`, which are never run."""
    nodes = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        nodes += [node, *runtime_nodes(node)]
    return nodes


def imports(tree: ast.Module) -> set[str]:
    found = set()
    for node in runtime_nodes(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def ours(tree: ast.Module) -> set[str]:
    names = {
        name.removeprefix("webapp").removeprefix(".")
        for name in imports(tree)
        if name.split(".")[0] == "webapp"
    }
    return {name for name in names if name in LEVEL and name}


def test_every_module_has_its_layer() -> None:
    assert set(modules()) == set(LEVEL)


def test_imports_point_to_a_lower_layer_or_stay_in_their_own() -> None:
    wrong = [
        f"{name} imports {other}"
        for name, tree in modules().items()
        for other in ours(tree)
        if LEVEL[other] > LEVEL[name]
    ]
    assert wrong == []


def test_gevent_is_imported_only_where_something_must_wait() -> None:
    users = {
        name
        for name, tree in modules().items()
        if any(i.split(".")[0] == "gevent" for i in imports(tree))
    }
    assert users <= MAY_IMPORT_GEVENT


def test_only_the_app_has_hooks_since_others_are_not_called() -> None:
    hooks = {"before_request", "after_request", "after_this_request", "url_value_preprocessor"}
    hooks |= {"teardown_request", "teardown_appcontext"}
    found = {
        name
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if {getattr(node, "attr", ""), getattr(node, "id", "")} & hooks
    }
    assert found == {""}


def test_no_file_is_longer_than_can_be_read_at_once() -> None:
    long = {p.name: n for p in WEBAPP.rglob("*.py") if (n := len(p.read_text().splitlines())) > 300}
    assert long == {}
