from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from flask import Blueprint
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter

from webapp.views import presence, publish, subscribe
from webapp.views.flask_app import HubFlask

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("hook", ["before_request", "after_request", "teardown_request"])
def test_a_blueprint_whose_hooks_would_not_be_called_is_refused(hook: str) -> None:
    blueprint = Blueprint("hooked", __name__)
    getattr(blueprint, hook)(lambda *_: None)
    with pytest.raises(TypeError, match=hook):
        HubFlask(__name__).register_blueprint(blueprint)


def found_by(match: Callable[..., Any]) -> object:
    try:
        return match(return_rule=True)
    except HTTPException as error:
        return type(error)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "OPTIONS"])
def test_a_request_has_the_view_that_werkzeug_finds(method: str) -> None:
    app = HubFlask(__name__)
    for module in (subscribe, publish, presence):
        app.register_blueprint(module.bp)
    paths = [rule.rule.replace("<path:filename>", "a.js") for rule in app.url_map.iter_rules()]
    for path in (*paths, "/unknown", "/events/", "//events", "/"):
        with app.test_request_context(path, method=method) as context:
            adapter = context.url_adapter
            assert adapter is not None
            assert found_by(adapter.match) == found_by(partial(MapAdapter.match, adapter))
