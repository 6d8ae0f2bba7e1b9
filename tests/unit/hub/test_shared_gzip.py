"""A feed's shared compression: each subscriber decodes every byte as it comes, to the right end."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from webapp.core import gzip_format, sse
from webapp.core.gzip_format import DICTIONARY_BYTES, LONG_DICTIONARY_BYTES, shift_crc
from webapp.hub.delivery import gzip_limits, shared_gzip
from webapp.hub.delivery.gzip_payload import PayloadForEach
from webapp.hub.delivery.shared_gzip import GzipStream, SharedGzip

if TYPE_CHECKING:
    from collections.abc import Callable


COUNTED = (gzip_format.__file__, str(Path(shared_gzip.__file__).parent / "*"), __file__)
FRAMING_BYTES = 6  # of a chunk of 16 to 255 bytes


@pytest.fixture(autouse=True)
def there_is_time_to_compress(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, and whatever other tests compressed."""
    time = gzip_limits.CompressionTime(burst_s=float("inf"))
    monkeypatch.setattr(shared_gzip, "compression_time", time)


class Client:
    """A subscriber, and what its client has read."""

    def __init__(self) -> None:
        self.gzip = GzipStream()
        self.sent = self.read = self.wire = b""
        self.decoder = zlib.decompressobj(31)

    def take(self, part: bytes, plain: bytes) -> None:
        """Read a part, byte by byte. It is decoded whole at its end."""
        self.sent += plain
        self.wire += part
        self.read += b"".join(self.decoder.decompress(bytes([it])) for it in part)
        assert self.read == self.sent

    def alone(self, plain: bytes) -> None:
        self.take(self.gzip.part(plain), plain)

    def end(self, plain: bytes = b"") -> None:
        if self.gzip.feed:
            self.gzip.feed.remove(self)
        self.take(self.gzip.last_part(plain), plain)
        assert self.decoder.eof
        assert gzip.decompress(self.wire) == self.sent


class Feed:
    """A feed with its subscribers, of which some are sent the payload that is under way."""

    def __init__(self) -> None:
        self.parked: list[Client] = []
        self.gzip = SharedGzip(self.parked)
        self.payload: Any = None
        self.waiting: list[Client] = []
        self.left: list[Client] = []  # meanwhile
        self.log = b""

    def join(self, client: Client) -> None:
        self.gzip.add(client)
        self.parked.append(client)
        if client in self.left:  # a heartbeat may reach it
            self.left.remove(client)
            self.waiting.append(client)

    def leave(self, client: Client) -> None:
        self.gzip.remove(client)
        self.parked.remove(client)
        if client in self.waiting:
            self.waiting.remove(client)
        if self.payload:
            self.left.append(client)

    def begin(self, raw: bytes) -> None:
        self.payload = self.gzip.begin(raw, 0, bool)
        self.waiting = list(self.parked)
        self.log += raw

    def hand(self, client: Client) -> None:
        self.waiting.remove(client)
        send(self.payload, client)

    def close(self) -> None:
        with self.payload:
            self.waiting, self.left = [], []
        self.payload = None

    def send_all(self, raw: bytes) -> None:
        self.begin(raw)
        for client in self.parked:
            self.hand(client)
        self.close()


def send(payload: Any, client: Client) -> None:
    client.take(form_for(payload, client).raw, payload.plain)
    payload.note_sent([client])


def form_for(payload: Any, client: Client) -> Any:
    other_form = payload.other_form()
    return (other_form(client) or payload) if other_form else payload


def text(chance: Random) -> bytes:
    number = chance.randrange(10**6)
    size = chance.choice([0, 1, 10, 100, 100, 3000, 70_000 if chance.random() < 0.05 else 5])
    kinds: list[Callable[[], bytes]] = [
        lambda: sse.encode(f'{{"price": {number}, "pad": "{"x" * size}"}}', id=f"{number}-0"),
        lambda: sse.HEARTBEAT,
        lambda: chance.randbytes(size),
    ]
    return chance.choice(kinds)() or b"-"


def step(feed: Feed, chance: Random) -> None:
    """Do one thing that can happen to a feed, also while a payload is under way."""
    action, clients = chance.random(), feed.parked
    if feed.payload and action < 0.5:
        if feed.waiting and action < 0.47:
            feed.hand(chance.choice(feed.waiting))
        else:
            feed.close()  # those that wait are left out
    elif not feed.payload and action < 0.4:
        feed.begin(text(chance))
    elif action < 0.6 and len(clients) < 9:
        client = Client()
        client.alone(text(chance))
        for _ in range(chance.randrange(4)):
            client.alone(feed.log[-chance.randrange(1, 4000) :] or b"-")
        feed.join(client)
    elif clients:
        happen(feed, chance.choice(clients), chance)


def happen(feed: Feed, client: Client, chance: Random) -> None:
    action = chance.random()
    if action < 0.2:
        feed.leave(client)
        client.end(chance.choice([b"", b"event: hub.bye\n\n"]))
    elif action < 0.5:  # its socket was full
        feed.leave(client)
        client.alone(feed.log[-chance.randrange(1, 3000) :] or b"-")
        feed.join(client)
    elif action < 0.9:
        send(PayloadForEach(feed.gzip, text(chance)), client)
    elif action < 0.95:
        feed.gzip.drop_tail()
    elif feed.payload:  # a second one for all is for each alone
        with feed.gzip.begin(b"event: hub.mark\n\n", 0, bool) as payload:
            send(payload, client)


@pytest.mark.parametrize("seed", range(40))
def test_any_order_of_steps_leaves_each_stream_right(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance, feed = Random(seed), Feed()
    monkeypatch.setattr(gzip_limits, "_TINY_BYTES", chance.choice([0, 32]))
    monkeypatch.setattr(gzip_limits, "_MAX_SHARE", chance.choice([100, 0.3, 0]))
    monkeypatch.setattr(shared_gzip, "_MANY", chance.choice([1, 3, 32]))
    for _ in range(300):
        step(feed, chance)
    if feed.payload:
        feed.close()
    for client in list(feed.parked):
        feed.leave(client)
        client.end()


def events(count: int, first: int = 0) -> list[bytes]:
    row = '{"id": "host-%d", "cpu": %d, "memory": %d, "state": "up", "region": "eu-central-1"}'
    numbers = range(first, first + count)
    return [sse.encode(row % (it % 40, it * 7 % 100, it * 13 % 100), id=str(it)) for it in numbers]


def with_one(sent: int = 0) -> tuple[Feed, Client]:
    """Return a feed with a subscriber that was sent some events."""
    feed, client = Feed(), Client()
    client.alone(b"retry: 2000\n")
    feed.join(client)
    for event in events(sent):
        feed.send_all(event)
    return feed, client


def test_json_of_many_subscribers_gets_three_and_a_half_times_shorter() -> None:
    _, client = with_one(sent=300)
    assert len(client.sent) > 3.5 * len(client.wire)


def rows(count: int) -> list[bytes]:
    """Return a row of a table for each of 40 hosts, and again."""
    chance, found = Random(1), []
    for number in range(count):
        host, at = number % 40, 1_795_807_571_000 + 100 * number + chance.randrange(5)
        row = (
            f'<tr id="host-{host}" class="host host--ok" hx-swap-oob="true" data-at="{at}">'
            f'<td class="host__name">web-{host:02}.example.net</td>'
            f'<td class="host__cpu">{chance.randrange(100)} %</td>'
            f'<td class="host__memory">{chance.randrange(100)} %</td>'
            '<td class="host__state"><span class="dot dot--ok"></span> up</td></tr>'
        )
        found.append(sse.encode(row, id=f"{at - chance.randrange(3)}-0"))
    return found


def wire_share(texts: list[bytes], subscribers: int) -> float:
    """Return how many times fewer bytes are sent to so many subscribers, with the framing."""
    feed = Feed()
    for _ in range(subscribers):
        client = Client()
        client.alone(b"retry: 2000\n")
        feed.join(client)
    sent, wire = len(client.sent), len(client.wire)
    for text in texts:
        feed.send_all(text)
    framing = FRAMING_BYTES * len(texts)
    return (len(client.sent) - sent + framing) / (len(client.wire) - wire + framing)


def test_rows_of_one_template_get_eight_times_shorter_for_many_subscribers() -> None:
    assert wire_share(rows(300), shared_gzip._MANY) > 8


def test_a_long_tail_costs_its_time_only_for_many_subscribers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []
    deflate = gzip_format.deflate

    def note(plain: bytes, before: bytes, *args: Any) -> bytes:
        sizes.append(len(before))
        return deflate(plain, before, *args)

    monkeypatch.setattr(gzip_format, "deflate", note)
    wire_share(rows(100), shared_gzip._MANY - 1)
    assert max(sizes) == DICTIONARY_BYTES
    wire_share(rows(100), shared_gzip._MANY)
    assert max(sizes) == LONG_DICTIONARY_BYTES


def test_a_new_subscriber_is_in_step_after_one_larger_payload() -> None:
    feed, old = with_one(sent=50)
    new = Client()
    new.alone(b"retry: 2000\n")
    feed.join(new)
    sizes = []
    for event in events(40, 50):
        before = len(old.wire), len(new.wire)
        feed.send_all(event)
        sizes.append((len(old.wire) - before[0], len(new.wire) - before[1], len(event)))
    assert 2 * sizes[0][0] < sizes[0][1] < sizes[0][2]
    assert all(new_size < plain / 1.5 for _, new_size, plain in sizes[1:])
    assert sizes[-1][0] == sizes[-1][1]


def test_who_was_replayed_the_last_payloads_is_in_step_at_once() -> None:
    feed, old = with_one(sent=50)
    new = Client()
    new.alone(b"retry: 2000\n")
    new.alone(b"".join(events(50)))
    feed.join(new)
    before = len(old.wire), len(new.wire)
    feed.send_all(events(1, 50)[0])
    assert len(old.wire) - before[0] == len(new.wire) - before[1]


@pytest.mark.parametrize("sent", [0, 5, 100])
def test_who_joins_with_a_payload_and_is_sent_it_once_more_has_it_twice(sent: int) -> None:
    feed, client = with_one(sent)
    feed.begin(event := events(1, 100)[0])
    feed.leave(client)
    client.alone(feed.log[-3000:])
    feed.join(client)
    feed.hand(client)
    feed.close()
    feed.send_all(b"event: hub.mark\n\n")
    assert client.read.count(event) == 2
    client.end()


def test_after_a_payload_for_all_nobody_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    feed, _ = with_one(sent=5)
    feed.begin(b"data: \n\n")
    feed.hand(feed.parked[0])
    monkeypatch.setattr(feed.gzip, "_parked", None)
    feed.close()


@pytest.mark.parametrize(("subscribers", "most"), [(31, 4), (80, 9)])
def test_a_payload_has_a_few_forms_at_most(
    subscribers: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[bytes] = []
    deflate = gzip_format.deflate

    def count(plain: bytes, *args: Any) -> bytes:
        calls.append(plain)
        return deflate(plain, *args)

    monkeypatch.setattr(gzip_format, "deflate", count)
    feed, counts = Feed(), []
    for event in events(subscribers):
        client = Client()
        client.alone(b"retry: 2000\n")
        feed.join(client)
        calls.clear()
        feed.send_all(event)
        counts.append(calls.count(event))
    assert (counts[0], max(counts)) == (1, most)


def test_json_for_subscribers_that_stay_for_60_events_gets_three_and_a_half_times_shorter() -> None:
    feed, plain, wire = Feed(), 0, 0
    for number, event in enumerate(events(180)):
        client = Client()
        client.alone(b"retry: 2000\n")
        feed.join(client)
        before = sum(len(it.wire) for it in feed.parked)
        feed.send_all(event)
        if number >= 60:
            plain += (len(event) + FRAMING_BYTES) * len(feed.parked)
            sizes = [len(it.wire) for it in feed.parked]
            wire += sum(sizes) - before + len(sizes) * FRAMING_BYTES
            feed.leave(feed.parked[0])
    assert plain > 3.5 * wire


def test_compression_takes_a_part_of_the_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(gzip_limits, "monotonic", lambda: clock.now)
    time = gzip_limits.CompressionTime()

    def deflate(plain: bytes, *_: object) -> bytes:
        clock.now += 0.01
        return plain[:1]

    monkeypatch.setattr(gzip_format, "deflate", deflate)
    compressed = 0
    while clock.now < 10:
        compressed += len(time.deflate(b"x" * 100, b"")) == 1
        clock.now += 0.001
    assert 10 * 0.3 <= compressed * 0.01 <= 10 * 0.3 + 0.3


def test_a_large_payload_has_one_form() -> None:
    feed, old = with_one(sent=50)
    new = Client()
    new.alone(b"retry: 2000\n")
    feed.join(new)
    feed.begin(random := Random(1).randbytes(100_000))
    assert form_for(feed.payload, old) is form_for(feed.payload, new)
    feed.hand(old)
    feed.hand(new)
    feed.close()
    before = len(old.wire), len(new.wire)
    feed.send_all(random[-2000:])
    assert len(old.wire) - before[0] == len(new.wire) - before[1] < 100


def test_other_work_is_done_while_those_are_counted_out_that_were_not_sent_a_payload() -> None:
    feed, clients = Feed(), [Client() for _ in range(20)]
    for client in clients:
        client.alone(b"retry: 2000\n")
        feed.join(client)
    waiting = iter(clients)

    def disturb() -> None:
        if client := next(waiting, None):
            feed.gzip.remove(client)
            client.alone(b"data: alone\n\n")
            feed.gzip.add(client)
            with feed.gzip.begin(b":\n", 0, bool) as heartbeat:
                send(heartbeat, client)

    with feed.gzip.begin(b"data: missed\n\n", 1, disturb):
        pass
    feed.send_all(b"data: all\n\n")
    for client in clients:
        client.end()


def test_a_feed_that_was_dropped_while_it_compressed_has_no_tail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("webapp.hub.delivery.shared_gzip.tails", tails := gzip_limits.Tails())
    feed, client = with_one()

    def leave() -> None:
        feed.leave(client)
        feed.gzip.drop()

    with feed.gzip.begin(b"x" * 100_000, 1, leave):
        pass
    assert not tails._feeds
    assert not feed.gzip._tail.plain()


def taken_by(make: Callable[[], object]) -> int:
    """Return how many bytes of memory the product's code and this file take for something. Threads
    of other tests may take some at the same time.
    """
    counted = [tracemalloc.Filter(inclusive=True, filename_pattern=it) for it in COUNTED]
    tracemalloc.start()
    try:
        made = make()
        found = tracemalloc.take_snapshot().filter_traces(counted)
        del made
    finally:
        tracemalloc.stop()
    return sum(it.size for it in found.traces)


@pytest.mark.parametrize("sent_bytes", [0, 100_000])
def test_a_subscriber_takes_two_hundred_bytes(sent_bytes: int) -> None:
    feed, _ = with_one()
    with feed.gzip.begin(b"x" * sent_bytes, 1, bool):
        pass
    clients = [Client() for _ in range(1000)]

    def join() -> None:
        for number, client in enumerate(clients):
            client.gzip = GzipStream()
            client.gzip.part(f"retry: {number}\n".encode())
            feed.gzip.add(client)

    assert taken_by(join) / len(clients) <= 200


@pytest.mark.parametrize("kind", ["random", "rows"])
def test_a_feed_takes_four_kilobytes(kind: str) -> None:
    chance, parked = Random(1), [Client() for _ in range(shared_gzip._MANY)]
    texts = rows(200) if kind == "rows" else [chance.randbytes(2 * DICTIONARY_BYTES)] * 2

    def fill() -> list[SharedGzip]:
        feeds = [SharedGzip(parked) for _ in range(20)]
        for feed in feeds:
            feed.add(Client())
            for text in texts:
                with feed.begin(text, 0, bool):
                    pass
        return feeds

    taken = taken_by(fill)
    gzip_limits.tails._feeds.clear()
    assert taken / 20 <= gzip_limits._FEED_BYTES


def test_the_tails_of_all_feeds_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gzip_limits, "_MAX_TAILS_BYTES", 3 * gzip_limits._FEED_BYTES)
    monkeypatch.setattr("webapp.hub.delivery.shared_gzip.tails", gzip_limits.Tails())
    feeds = [SharedGzip([Client()]) for _ in range(5)]
    for feed in feeds:
        with feed.begin(b"x" * 100, 0, bool):
            pass
    assert [bool(feed._tail.plain()) for feed in feeds] == [False, False, True, True, True]
    feeds[2].drop()
    with feeds[0].begin(b"x" * 100, 0, bool):
        pass
    assert [bool(feed._tail.plain()) for feed in feeds[-2:]] == [True, True]


def test_a_large_payload_is_compressed_in_pieces() -> None:
    pauses = []
    feed, client = with_one()
    raw = b"abc" * 100_000
    with feed.gzip.begin(raw, 1, lambda: pauses.append(1)) as payload:
        send(payload, client)
    assert len(pauses) == len(raw) // gzip_format.PIECE_BYTES


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 200_000])
def test_stored_bytes_can_be_decoded(size: int) -> None:
    plain = b"x" * size
    part = gzip_format.HEAD + gzip_format.stored(plain)
    assert part.endswith(b"\0\0\0\xff\xff")
    assert gzip.decompress(part + gzip_format.end(zlib.crc32(plain), size)) == plain


def test_crcs_of_texts_that_go_on_alike_differ_by_a_shifted_difference() -> None:
    chance = Random(1)
    for _ in range(200):
        one, other, rest = (chance.randbytes(chance.randrange(300)) for _ in range(3))
        before = zlib.crc32(one) ^ zlib.crc32(other)
        after = zlib.crc32(one + rest) ^ zlib.crc32(other + rest)
        assert shift_crc(before, len(rest)) == after
        assert shift_crc(after, -len(rest)) == before
