"""What a publisher's request does beside its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from flask import Flask
from gevent.event import Event as Signal

from webapp.auth.authorizer import Authorizer
from webapp.views.publish import bp
from webapp.views.services import Services

if TYPE_CHECKING:
    from collections.abc import Sequence

    from webapp.core.events import Draft, Event
    from webapp.hub.hub import Hub


def app_of(hub: Hub) -> Flask:
    app = Flask(__name__)
    app.extensions["tidings"] = Services(hub, Authorizer(hub.settings))
    app.register_blueprint(bp)
    return app


def test_an_event_goes_out_before_its_publisher_is_answered(hub: Hub) -> None:
    """To make the answer takes longer than to write to a few subscribers."""
    app = app_of(hub)
    answer = app.test_client().post("/events", data={"topic": "t", "data": "hello"})
    assert answer.status_code == 200
    assert str(hub.fanout.dispatched_up_to) == answer.text.strip()


def test_an_answer_waits_for_no_pause_of_the_dispatcher(hub: Hub) -> None:
    """Under load the dispatcher pauses so that events are joined."""
    paused = Signal()
    hub.dispatcher._pause = paused.wait  # type: ignore[method-assign, assignment]
    answer = app_of(hub).test_client().post("/events", data={"topic": "t", "data": "hello"})
    assert answer.status_code == 200
    assert str(hub.fanout.dispatched_up_to) != answer.text.strip()
    paused.set()


@pytest.mark.parametrize(("topics", "most"), [(1, 500), (100, 40)])
def test_a_pipe_appends_a_bounded_number_of_its_lines_at_once(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, topics: int, most: int
) -> None:
    sizes, append = list[int](), hub.broker.append

    def note_size(drafts: Sequence[Draft]) -> list[Event]:
        sizes.append(len(drafts))
        return append(drafts)

    monkeypatch.setattr(hub.broker, "append", note_size)
    url = f"/events?{'&'.join(f'topic={number}' for number in range(topics))}"
    lines = {"data": "{}\n" * 1200, "content_type": "application/x-ndjson"}
    answer = app_of(hub).test_client().post(url, **lines)
    assert answer.json
    assert answer.json["published"] == sum(sizes) == 1200
    assert max(sizes) <= most
