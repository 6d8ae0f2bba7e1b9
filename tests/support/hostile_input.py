"""What others may send, write or damage: strategies, and how it gets to a hub and into its log."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sqlite3
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, quote_from_bytes

from hypothesis import strategies as st

from support.tokens import KEY
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.redis_server import RedisServer
    from support.server import Server

# Half surrogate pairs and control characters too; long ones, and such that are longer when quoted.
letters = st.characters(codec=None)
words = st.text(letters, max_size=20)
long_words = st.builds(
    lambda text, count: (text * count)[:1024],
    st.sampled_from(["a", "/", "%", "%25", "é", "😀", "{a}", "\n", "\0", "\ud83d", "* ", "#"]),
    st.integers(1, 1024),
)
texts = words | long_words
odd_numbers = st.sampled_from(
    [0, -1, 1, 2**31, 2**53, 2**63 - 1, 2**64, 1e308, float("inf"), float("-inf"), float("nan")]
)
values = st.recursive(
    st.none() | st.booleans() | odd_numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)
documents = values.map(json.dumps)
rows = (
    documents | texts | st.sampled_from(["", "{", "[]", "[" * 5000, "null", '{"topics":', "\n\n"])
)
listed = st.builds(
    lambda topics, payload: json.dumps({"topics": topics, "payload": payload}),
    st.lists(texts | values, max_size=3) | values,
    values,
)
notices = st.builds(
    lambda sign, name, text: f"{sign}{name} {text}",
    st.sampled_from(["+", "-", "!", "#", "", "?"]),
    st.sampled_from(["urn:uuid:x", "inf", "nan", "-1e999", "", "1"]) | words,
    rows | listed,
)


class Subscribe(NamedTuple):
    """A subscriber that comes and goes, with a token that is signed well."""

    topics: list[str]
    claims: dict[str, Any]


class Publish(NamedTuple):
    """A publisher's event."""

    fields: dict[str, Any]


class Row(NamedTuple):
    """A row of the event log, and what its numbers are."""

    text: str
    number: Any


class Listed(NamedTuple):
    """A row of a subscriber that another process has written."""

    name: str
    text: str


class Notice(NamedTuple):
    """What another process tells all."""

    text: str
    total: Any


class Revoked(NamedTuple):
    """A row of what is refused."""

    what: str
    until: Any


mercure = st.fixed_dictionaries(
    {"subscribe": st.lists(texts, max_size=3)}, optional={"payload": values, "publish": values}
)
claims = st.fixed_dictionaries(
    {"mercure": mercure}, optional={"sub": texts | values, "exp": odd_numbers, "iat": odd_numbers}
)
# Of those that may be true the log cannot know better, and trims by them.
numbers = odd_numbers.filter(lambda it: -(2**63) <= it < 2**63 and it != 2**31) | words
items = st.one_of(
    st.builds(Subscribe, st.lists(texts, min_size=1, max_size=3), claims),
    st.builds(
        Publish,
        st.fixed_dictionaries(
            {"topic": texts | st.lists(texts, max_size=3)},
            optional=dict.fromkeys(("data", "type", "id", "retry", "private"), values),
        ),
    ),
    st.builds(Row, rows | listed, numbers),
    st.builds(Listed, words, rows | listed),
    st.builds(Notice, notices | rows, numbers),
    st.builds(
        Revoked, rows | st.builds(lambda it: json.dumps(["token", *it]), st.lists(values)), numbers
    ),
)


def signed(claims: dict[str, Any]) -> str:
    """Return a token as any library might make it: with half pairs and numbers JSON has not."""
    parts = [b'{"alg":"HS256","typ":"JWT"}', json.dumps(claims).encode()]
    text = b".".join(base64.urlsafe_b64encode(it).rstrip(b"=") for it in parts)
    end = hmac.new(KEY.encode(), text, hashlib.sha256).digest()
    return (text + b"." + base64.urlsafe_b64encode(end).rstrip(b"=")).decode()


ALL = signed({"mercure": {"publish": ["*"], "subscribe": ["*"]}})


def subscribe(hub: Server, item: Subscribe) -> None:
    """Come and go."""
    names = [quote_from_bytes(it.encode("utf-8", "surrogatepass"), safe="") for it in item.topics]
    query = "&".join(f"topic={name}" for name in names)
    for headers in ({}, {"Authorization": f"Bearer {signed(item.claims)}"}):
        with closing(HTTPConnection(hub.host, hub.port, timeout=PATIENCE)) as connection:
            connection.request("GET", f"/events?{query}", headers=headers)
            with suppress(HTTPException), closing(connection.getresponse()) as answer:
                assert answer.status < 500, (item, answer.read())


def publish(hub: Server, item: Publish) -> None:
    """Publish it, or be refused."""
    headers = {"Authorization": f"Bearer {ALL}", "Content-Type": "application/json"}
    answer = hub.http.post("/events", content=json.dumps(item.fields).encode(), headers=headers)
    assert answer.status_code < 500, (item, answer.text)


def raw(text: str) -> bytes:
    """Return bytes that are no UTF-8 where the text holds half a pair."""
    return text.encode("utf-8", "surrogatepass")


class InFile:
    """Writes into the files of a log."""

    def __init__(self, path: Path) -> None:
        self._log, self._readers = path, path.with_name(f"{path.name}-readers")

    def write(self, item: Any) -> None:
        """Write an item as another program might."""
        with (
            closing(sqlite3.connect(self._log, timeout=PATIENCE)) as log,
            closing(sqlite3.connect(self._readers, timeout=PATIENCE)) as readers,
            log,
            readers,
        ):
            self._write(log, readers, item)

    def _write(self, log: sqlite3.Connection, readers: sqlite3.Connection, item: Any) -> None:
        text, values = "CAST(? AS TEXT)", tuple[Any, ...]()
        if isinstance(item, Row):
            [(head,)] = log.execute("SELECT head FROM ends")
            values = (head + 1, item.number, item.number, item.number, None, raw(item.text))
            log.execute(f"INSERT INTO events VALUES (?, ?, ?, ?, ?, {text})", _storable(values))
        elif isinstance(item, Listed):
            readers.execute("INSERT OR REPLACE INTO processes VALUES ('other', 1e12)")
            values = ("other", raw(item.name), raw(item.text))
            readers.execute(f"INSERT OR REPLACE INTO readers VALUES (?, {text}, {text})", values)
        elif isinstance(item, Notice):
            values = _storable((item.total, raw(item.text)))
            readers.execute(f"INSERT INTO notices (total, lines) VALUES (?, {text})", values)
        else:
            values = _storable((raw(item.what), item.until))
            readers.execute(f"INSERT OR REPLACE INTO revoked VALUES ({text}, ?)", values)


def _storable(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return them as SQLite keeps them: NaN would be NULL."""
    return tuple(
        raw(it) if isinstance(it, str) else 0 if isinstance(it, float) and it != it else it  # noqa: PLR0124
        for it in values
    )


class InServer:
    """Writes into the keys of a log."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server

    def write(self, item: Any) -> None:
        """Write an item as another program might."""
        ask = self._server.ask
        if isinstance(item, Row):
            field = "draft" if len(item.text) % 3 else "other"
            ask("XADD", "{tidings}:log", "*", field, raw(item.text))
            ask("HSET", "{tidings}:ids", "#floor", "no place")
        elif isinstance(item, Listed):
            ask("ZADD", "{tidings}:processes", "1e15", "other")
            ask("HSET", "{tidings}:processes:other", raw(item.name), raw(item.text))
        elif isinstance(item, Notice):
            total = raw(item.total) if isinstance(item.total, str) else repr(item.total)
            fields = ("lines", raw(item.text), "total", total)
            ask("XADD", "{tidings}:notices", "0-*", *fields[: 4 if len(item.text) % 3 else 2])
        else:
            until = item.until if isinstance(item.until, int | float) else 0
            ask("ZADD", "{tidings}:revoked", "0" if until != until else repr(until), raw(item.what))  # noqa: PLR0124


def strike(hubs: list[Server], write: Callable[[Any], None], item: Any) -> None:
    """Let an item come to a hub, or into the log that it shares."""
    if isinstance(item, Subscribe):
        subscribe(hubs[0], item)
    elif isinstance(item, Publish):
        publish(hubs[1], item)
    else:
        write(item)


def path_of(topic: str) -> str:
    """Return what presence lists a topic under."""
    return f"/.well-known/mercure/subscriptions/{quote(topic, safe='')}"


WATCHED = f"{path_of('')[:-1]}{{/topic}}{{/subscriber}}"
LONG = "/" * 1024
