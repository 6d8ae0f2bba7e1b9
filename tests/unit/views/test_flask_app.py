from __future__ import annotations

import pytest
from flask import Blueprint

from webapp.views.flask_app import HubFlask


@pytest.mark.parametrize("hook", ["before_request", "after_request", "teardown_request"])
def test_a_blueprint_whose_hooks_would_not_be_called_is_refused(hook: str) -> None:
    blueprint = Blueprint("hooked", __name__)
    getattr(blueprint, hook)(lambda *_: None)
    with pytest.raises(TypeError, match=hook):
        HubFlask(__name__).register_blueprint(blueprint)
