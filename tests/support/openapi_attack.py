"""Requests as an OpenAPI document describes them, and as it does not: Schemathesis makes them."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, cast

import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from schemathesis import GenerationMode as Mode
from schemathesis.core import NotSet
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import negative_data_rejection

from webapp.core import sse

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemathesis import APIOperation, Case, SerializationContext

    from support.server import Server

PUBLISHING = ("/events", "/.well-known/mercure")
# Of each operation and kind of input; where it is set, others each time.
FUZZ, EXAMPLES = "FUZZ_EXAMPLES" in os.environ, int(os.environ.get("FUZZ_EXAMPLES", "5"))
TOO_LONG = [413, 414, 431]  # a bound of the whole, which no parameter's schema can say
RULES = {
    "positive_data_acceptance": {"expected-statuses": ["2xx", 403, 404, 409, 410, *TOO_LONG]},
    "negative_data_rejection": {"expected-statuses": [400, 403, 404, 409, 415, *TOO_LONG]},
}


@schemathesis.serializer("application/x-ndjson")
def lines(_: SerializationContext, value: Any) -> bytes:
    return b"\n".join(
        json.dumps(it).encode() for it in (value if isinstance(value, list) else [value])
    )


def says_enough(case: Case[Any]) -> bool:
    """What OpenAPI 3.1 cannot say: one of several parameters must be there, or a body."""
    if case.path not in PUBLISHING or case.method == "OPTIONS":
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


def attack(server: Server, found: dict[str, Any], path: str, kind: str, **headers: str) -> None:
    """Send to a path what its operations are described to take, or what they are not.

    :param kind: `positive` or `negative`.
    """
    mode = Mode(kind)
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
