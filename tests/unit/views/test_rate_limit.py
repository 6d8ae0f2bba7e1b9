"""Token buckets, one for each publisher."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import jwt
import pytest
from flask import Flask

from support.hub import make_hub
from support.tokens import KEY
from webapp.auth.authorizer import Authorizer
from webapp.views import error_handlers, publish
from webapp.views.rate_limit import Rate
from webapp.views.services import Services

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("rate", "burst"), [(0.5, 1), (1.0, 1), (2.5, 2), (100.0, 100)])
def test_a_bucket_holds_a_second_and_says_when_there_is_more(rate: float, burst: int) -> None:
    clock = Clock()
    bucket = Rate(rate, clock)
    assert [bucket.take("a", 1) for _ in range(burst)] == [0.0] * burst
    for _ in range(50):
        wait = bucket.take("a", 1)
        assert wait > 0
        assert bucket.take("other", 0) == 0
        clock.now += wait * 0.99
        assert bucket.take("a", 1) > 0
        clock.now += wait * 0.0101
        assert bucket.take("a", 1) == 0


def test_more_than_a_bucket_holds_is_taken_on_credit() -> None:
    clock = Clock()
    bucket = Rate(10, clock)
    assert bucket.take("a", 100) == 0
    assert bucket.take("a", 0) == pytest.approx(9.1)
    assert bucket.take("a", 10) == pytest.approx(10)
    assert bucket.take("a", 100) == pytest.approx(10)


def test_the_buckets_are_bounded_and_the_least_used_is_forgotten() -> None:
    bucket = Rate(1, Clock())
    for number in range(10_000):
        bucket.take(str(number), 1)
    bucket.take("0", 5)  # refused: it took nothing
    clock_start = len(bucket._full_at)
    bucket.take("new", 1)
    assert clock_start == len(bucket._full_at) == 10_000
    assert "0" not in bucket._full_at


@pytest.fixture(name="new_app")
def _new_app() -> Iterator[Callable[[], Flask]]:
    with ExitStack() as hubs:

        def new_app() -> Flask:
            hub = make_hub(jwt_key=(KEY,), publish_rate=0.001)
            hubs.callback(hub.stop)
            app = Flask("one rate")
            app.extensions["tidings"] = Services(hub, Authorizer(hub.settings))
            error_handlers.init_app(app)
            app.register_blueprint(publish.bp)
            return app

        yield new_app


@pytest.fixture(name="app")
def _app(new_app: Callable[[], Flask]) -> Flask:
    return new_app()


def test_apps_in_one_process_have_their_own_hubs_and_limits(
    new_app: Callable[[], Flask],
) -> None:
    headers = {"Authorization": f"Bearer {jwt.encode({'mercure': {'publish': ['*']}}, KEY)}"}
    apps = [new_app(), new_app()]
    statuses = [
        app.test_client().post("/events", data={"data": "x"}, headers=headers).status_code
        for app in (*apps, *apps)
    ]
    assert statuses == [200, 200, 429, 429]
    assert [app.extensions["tidings"].hub.broker.count() for app in apps] == [1, 1]


def test_the_rate_is_the_tokens_however_it_is_written(app: Flask) -> None:
    def publish(token: str, address: str) -> int:
        return (
            app.test_client()
            .post(
                "/events",
                data={"data": "x"},
                headers={"Authorization": f"Bearer {token}"},
                environ_base={"REMOTE_ADDR": address},
            )
            .status_code
        )

    first, second = (
        jwt.encode({"mercure": {"publish": ["*"]}, "sub": name}, KEY) for name in ("a", "b")
    )
    end = {"B": "A", "A": "B"}.get(first[-1], chr(ord(first[-1]) + 1))  # bits that say nothing
    spellings = [first, first, f"{first}=", f"{first}!", first[:-1] + end]
    statuses = [publish(it, f"192.0.2.{n}") for n, it in enumerate(spellings)]
    assert statuses[:2] == [200, 429]
    assert set(statuses[2:]) <= {401, 429}
    assert publish(second, "192.0.2.9") == 200
    hub = app.extensions["tidings"].hub
    hub.flush_metrics()
    assert hub.metrics.numbers().by_label("refused_total")["rate"] == statuses.count(429)
