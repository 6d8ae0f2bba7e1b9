"""What a publisher's request does beside its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Flask
from gevent.event import Event as Signal

from webapp.auth.authorizer import Authorizer
from webapp.views.publish import bp
from webapp.views.services import Services

if TYPE_CHECKING:
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
