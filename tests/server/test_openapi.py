"""The hub does what its OpenAPI document says, whatever is sent to it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import cache
from typing import TYPE_CHECKING, Any
from unicodedata import category

import jwt
import pytest

from support.project import ROOT, environment
from support.tokens import KEY
from webapp.server.parse_errors import PROBLEMS

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.server import Server

    Attack = Callable[..., None]

pytestmark = pytest.mark.slow


# Streams that end by themselves, soon.
SHORT = {"TIDINGS_HEARTBEAT": "0.04", "TIDINGS_MAX_AGE": "0.02", "TIDINGS_DEMO": "0"}
PATHS = [
    "/events",
    "/.well-known/mercure",
    "/",
    "/healthz",
    "/readyz",
    "/topics",
    "/metrics",
    "/console",
    "/console/state",
    "/console/hub",
    "/console/topics",
    "/console/connections",
    "/console/connections/{id}",
    "/openapi.json",
    "/static/{filename}",
]
KEYED = [
    "/.well-known/mercure/subscriptions",
    "/.well-known/mercure/subscriptions/{topic}",
    "/.well-known/mercure/subscriptions/{topic}/{subscriber}",
    "/.well-known/mercure/revocations",
]
ROUTES = """
import json, wsgi
print(json.dumps([[rule.rule, sorted(rule.methods)] for rule in wsgi.app.url_map.iter_rules()]))
"""


@cache
def unicode_class() -> str:
    """Schemathesis makes no text for a pattern with categories, so here are their members."""
    wanted = [c for c in map(chr, range(sys.maxunicode)) if category(c) in {"Cc", "Cf"}]
    return json.dumps(re.escape("".join(wanted)))[1:-1]


def document(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        server.http.get("/openapi.json").text.replace(r"\\p{Cc}\\p{Cf}", unicode_class())
    )
    return found


def routes(**env: str) -> set[tuple[str, str]]:
    command = [sys.executable, "-c", ROUTES]
    env = environment({"TIDINGS_BROKER_URL": "memory://", **env})
    said = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, check=True).stdout
    return {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule), method.lower())
        for rule, methods in json.loads(said)
        for method in methods
    }


def operations(server: Server) -> set[tuple[str, str]]:
    paths = document(server)["paths"]
    return {(path, it) for path in paths for it in paths[path] if it != "parameters"}


def test_it_has_every_route_and_no_other(server: Server) -> None:
    assert operations(server) == routes()
    assert {path for path, _ in routes()} == set(PATHS)


def test_it_says_which_headers_a_refusal_has(server: Server) -> None:
    found = document(server)["components"]["responses"]
    required = {
        (status, name)
        for status, it in found.items()
        for name, header in it.get("headers", {}).items()
        if header.get("required")
    }
    assert required == {
        ("Unauthorized", "WWW-Authenticate"),
        ("TooManyRequests", "Retry-After"),
        ("ServiceUnavailable", "Retry-After"),
    }
    assert "WWW-Authenticate" in found["Forbidden"]["headers"]


def test_of_a_hub_with_a_key_it_has_every_route_and_no_other(locked: Server) -> None:
    assert operations(locked) == routes(TIDINGS_JWT_KEY=KEY)
    assert {path for path, _ in operations(locked)} == {*PATHS, *KEYED}


@pytest.fixture(name="hub", scope="module")
def _hub(serve: Callable[..., Server]) -> Server:
    return serve(**SHORT)


@pytest.fixture(name="locked", scope="module")
def _locked(serve: Callable[..., Server]) -> Server:
    return serve(TIDINGS_JWT_KEY=KEY, **SHORT)


@pytest.fixture(name="attack")
def _attack() -> Attack:
    # Late: importing Schemathesis takes half a second, in each process that collects the tests.
    from support.openapi_attack import attack

    return attack


def narrowed(found: dict[str, Any]) -> dict[str, Any]:
    """Leave out what another parameter or the body may overrule: it is not refused either."""
    for path in ("/events", "/.well-known/mercure"):
        del found["paths"][path]["post"]["parameters"]
        found["paths"][path]["post"]["requestBody"]["required"] = True
        for method in ("get", "head"):
            kept = found["paths"][path][method]["parameters"]
            kept[:] = [
                it for it in kept if it["name"] in {"topic", "last_event_id", "last", "wait"}
            ]
            kept[0]["required"] = "mercure" in path
    return found


@pytest.mark.parametrize("path", PATHS)
def test_what_it_allows_is_accepted_and_answered_as_it_says(
    hub: Server, attack: Attack, path: str
) -> None:
    attack(hub, document(hub), path, "positive")
    assert "Traceback" not in hub.log


@pytest.mark.parametrize("path", PATHS[:2])
def test_what_it_does_not_allow_is_refused_as_it_says(
    hub: Server, attack: Attack, path: str
) -> None:
    attack(hub, narrowed(document(hub)), path, "negative")
    assert "Traceback" not in hub.log


@pytest.mark.parametrize("path", ["/events", *KEYED])
def test_it_asks_for_a_token_where_one_is_needed(locked: Server, attack: Attack, path: str) -> None:
    found = document(locked)
    assert found["components"]["securitySchemes"].keys() == {"bearer", "query", "cookie"}
    claims = {"mercure": {"publish": ["*"], "subscribe": ["*"]}}
    attack(locked, found, path, "positive", Authorization=f"Bearer {jwt.encode(claims, KEY)}")
    assert "Traceback" not in locked.log


def test_it_has_what_is_refused_before_there_is_a_route(server: Server) -> None:
    statuses = {str(status.value) for status, *_ in PROBLEMS.values()}
    for item in document(server)["paths"].values():
        assert statuses <= item["options"]["responses"].keys()


def test_without_a_key_it_asks_for_no_token(hub: Server) -> None:
    assert "ecurity" not in json.dumps(document(hub))


def test_it_names_the_bounds_of_this_hub(serve: Callable[..., Server]) -> None:
    hub = serve(TIDINGS_MAX_EVENT_BYTES="123", TIDINGS_ANONYMOUS="0", TIDINGS_JWT_KEY=KEY)
    found = document(hub)
    assert found["components"]["schemas"]["Form"]["properties"]["data"]["maxLength"] == 123
    assert {} not in found["paths"]["/events"]["get"]["security"]


def test_it_is_sent_again_only_when_it_has_changed(server: Server) -> None:
    first = server.http.get("/openapi.json")
    again = server.http.get("/openapi.json", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["Cache-Control"] == "no-cache"
