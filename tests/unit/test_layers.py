"""Where gevent and hooks may be, and how long a file may be."""

from __future__ import annotations

import ast
from functools import cache

from support.project import ROOT

WEBAPP = ROOT / "webapp"

MAY_IMPORT_GEVENT = (
    "hub",
    "presence",
    "server",
    "brokers",
    "scheduling",
    "loop_thread",
    "tasks",
    "auth.jwks",
    "app",
    "embedding",
)


@cache
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


def test_gevent_is_imported_only_where_something_must_wait() -> None:
    users = {
        name
        for name, tree in modules().items()
        if any(i.split(".")[0] == "gevent" for i in imports(tree))
    }
    assert {it for it in users if not it.startswith(MAY_IMPORT_GEVENT)} == set()


def test_no_file_is_longer_than_can_be_read_at_once() -> None:
    long = {p.name: n for p in WEBAPP.rglob("*.py") if (n := len(p.read_text().splitlines())) > 300}
    assert long == {}
