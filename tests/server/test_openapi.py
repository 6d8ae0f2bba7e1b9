"""The hub does what its OpenAPI document says, whatever is sent to it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from typing import TYPE_CHECKING, Any, cast
from unicodedata import category

import jwt
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from schemathesis import GenerationMode as Mode
from schemathesis import SerializationContext
from schemathesis.core import NotSet
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import negative_data_rejection

from support.project import ROOT, environment
from support.tokens import KEY
from webapp.core import sse
from webapp.server.parse_errors import PROBLEMS

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemathesis import APIOperation, Case

    from support.server import Server

pytestmark = pytest.mark.slow


# Streams that end by themselves, soon.
SHORT = {"TIDINGS_HEARTBEAT": "0.04", "TIDINGS_MAX_AGE": "0.02", "TIDINGS_DEMO": "0"}
# Of each operation and kind of input; where it is set, others each time.
FUZZ, EXAMPLES = "FUZZ_EXAMPLES" in os.environ, int(os.environ.get("FUZZ_EXAMPLES", "5"))
TOO_LONG = [413, 414, 431]  # a bound of the whole, which no parameter's schema can say
RULES = {
    "positive_data_acceptance": {"expected-statuses": ["2xx", 403, 404, 409, 410, *TOO_LONG]},
    "negative_data_rejection": {"expected-statuses": [400, 403, 404, 409, 415, *TOO_LONG]},
}
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


@schemathesis.serializer("application/x-ndjson")
def lines(_: SerializationContext, value: Any) -> bytes:
    return b"\n".join(
        json.dumps(it).encode() for it in (value if isinstance(value, list) else [value])
    )


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


def says_enough(case: Case[Any]) -> bool:
    """What OpenAPI 3.1 cannot say: one of several parameters must be there, or a body."""
    if case.path not in PATHS[:2] or case.method == "OPTIONS":
        return True
    query, strict = case.query or {}, "mercure" in case.path
    if case.method != "POST":
        return bool(query.get("topic") or query.get("match")) or not strict
    if contradicts_itself(case) or has_a_name_that_multipart_cannot_hold(case):
        return False
    raw = case.media_type == "text/plain" or query.get("raw") in {1, "1"}
    if isinstance(case.body, NotSet) or raw:
        return bool(query.get("topic") or (not strict and isinstance(case.body, str) and case.body))
    return True


def has_control_events(case: Case[Any]) -> bool:
    return str((case.query or {}).get("control", int("mercure" not in case.path))) == "1"


def has_a_name_that_multipart_cannot_hold(case: Case[Any]) -> bool:
    """Whether a name ends in a backslash: requests does not escape it, so it escapes the quote."""
    body = case.body if case.media_type == "multipart/form-data" else None
    return isinstance(body, dict) and any(name.endswith("\\") for name in body)


def contradicts_itself(case: Case[Any]) -> bool:
    """Whether the query and the body have the same field, or the query says of several events, or
    of none, what belongs to one.
    """
    query, body = case.query or {}, case.body
    if isinstance(body, NotSet):
        return False
    events = body if isinstance(body, list) else [body]
    names = {name.partition("[")[0] for it in events if isinstance(it, dict) for name in it}
    of_one = not {"id", "end"}.isdisjoint(query) and len(events) != 1
    return "data" in query or bool(names & query.keys()) or of_one


def attack(server: Server, found: dict[str, Any], path: str, mode: Mode, **headers: str) -> None:
    """Send to a path what its operations are described to take, or what they are not."""
    config = schemathesis.Config.from_dict({"checks": RULES})
    schema = schemathesis.openapi.from_dict(found, config=config)
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        if operation.path == path and (mode is Mode.POSITIVE or operation.query or operation.body):
            sender(operation, mode, server.url, headers)()


def sender(
    operation: APIOperation[Any, Any, Any, Any], mode: Mode, url: str, headers: dict[str, str]
) -> Callable[[], None]:
    @settings(
        max_examples=EXAMPLES,
        derandomize=not FUZZ,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def send(case: Case[Any]) -> None:
        assume(mode is Mode.NEGATIVE or says_enough(case))
        typed = case.media_type in {"application/json", "application/x-ndjson"}
        answer = case.call_and_validate(
            url, headers=headers, excluded_checks=[] if typed else [negative_data_rejection]
        )
        if case.method == "GET" and answer.headers.get("content-type") == [sse.CONTENT_TYPE]:
            first = next(iter(sse.decode([answer.content])), None)
            if has_control_events(case):
                assert first
                assert first.type == "hub.open"
            else:  # what others published, if anything
                assert not first or not first.type.startswith("hub.")

    return cast("Callable[[], None]", send)


@pytest.mark.parametrize("path", PATHS)
def test_what_it_allows_is_accepted_and_answered_as_it_says(hub: Server, path: str) -> None:
    attack(hub, document(hub), path, Mode.POSITIVE)
    assert "Traceback" not in hub.log


@pytest.mark.parametrize("path", PATHS[:2])
def test_what_it_does_not_allow_is_refused_as_it_says(hub: Server, path: str) -> None:
    attack(hub, narrowed(document(hub)), path, Mode.NEGATIVE)
    assert "Traceback" not in hub.log


@pytest.mark.parametrize("path", ["/events", *KEYED])
def test_it_asks_for_a_token_where_one_is_needed(locked: Server, path: str) -> None:
    found = document(locked)
    assert found["components"]["securitySchemes"].keys() == {"bearer", "query", "cookie"}
    claims = {"mercure": {"publish": ["*"], "subscribe": ["*"]}}
    attack(locked, found, path, Mode.POSITIVE, Authorization=f"Bearer {jwt.encode(claims, KEY)}")
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
