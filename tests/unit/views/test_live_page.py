"""The live page: its commands fit the hub's settings."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from flask import Flask

from support.hub import make_hub
from support.signing_keys import RSA, pem
from support.tokens import KEY
from webapp.auth.authorizer import Authorizer
from webapp.views.pages import live_page
from webapp.views.pages.page import COMMAND
from webapp.views.services import Services

OPEN: dict[str, Any] = {}
KEYED = {"jwt_key": (KEY,)}
APP = {"embedded": True}
HEADER = '-H "Authorization: Bearer $TOKEN"'


def text(**settings: Any) -> str:
    """Return the text of the page of a hub with these settings."""
    app = Flask("live page")
    hub = make_hub(**settings)
    app.extensions["tidings"] = Services(hub, Authorizer(hub.settings))
    app.register_blueprint(live_page.bp)
    page = app.test_client().get("/").text
    return re.sub(r"\s+", " ", html.unescape(re.sub("<[^>]+>", "", page)))


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        (OPEN, ["Subscribe curl -N http://HOST/events", "curl -d data=hello http://HOST/events"]),
        (KEYED, [f"curl -N {HEADER} http", f"curl -d data=hello {HEADER} http"]),
        (KEYED, [f"TOKEN=$({COMMAND} token --subscribe '*' --publish '*')"]),
        (KEYED, ["needs the hub's TIDINGS_JWT_KEY.", "It receives public events."]),
        (KEYED | {"jwt_audience": "a"}, ["hub's TIDINGS_JWT_KEY and TIDINGS_JWT_AUDIENCE."]),
        ({"jwt_key": (pem(RSA),)}, ["--publish '*' --key private.pem)", "and the private key of"]),
        (KEYED | {"publisher_jwt_key": (KEY[::-1],)}, ["Ask those who have its keys for one"]),
        ({"jwks_url": "https://a.example/keys"}, ["Ask those who have its keys for one"]),
        ({"publisher_jwt_key": (KEY,)}, ["curl -N http", f"-d data=hello {HEADER} http"]),
        (KEYED | {"anonymous": False}, ['import { Tidings } from "http://HOST/static/tidings.js"']),
        (OPEN, ['new EventSource("http://HOST/events")', "add null"]),
        ({"cors_origins": ("null",)}, ["origin http://HOST, and in a file that you open"]),
        ({"cors_origins": ("https://a.example",)}, ["of the origin http://HOST. For a page of"]),
        ({"cors_origins": ("*",)}, ["It works in pages of all origins."]),
        (APP, ['or in flask shell: hub.publish("hello")', 'new EventSource("/PATH/events")']),
        (APP | {"has_login": True, "anonymous": False}, ['EventSource("/PATH/events")']),
        (APP | KEYED, [f"curl -d data=hello {HEADER} http", "It works in the app's own pages."]),
    ],
)
def test_the_commands_fit_the_hub(settings: dict[str, Any], shown: list[str]) -> None:
    page = text(**settings)
    assert [words for words in shown if words not in page] == []


def test_the_page_names_no_origin_that_is_allowed() -> None:
    assert "a.example" not in text(cors_origins=("https://a.example",))


@pytest.mark.parametrize(
    ("settings", "publishes"),
    [(OPEN, True), (APP, False), (APP | {"has_login": True}, True), (APP | KEYED, True)],
)
def test_the_page_publishes_where_the_hub_lets_it(
    settings: dict[str, Any], *, publishes: bool
) -> None:
    assert ("Publish an event to events" in text(**settings)) == publishes
