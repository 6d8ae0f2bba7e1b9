from __future__ import annotations

from typing import Any

import pytest
from flask import Request

from webapp.views.hub_request import HubRequest

FIELDS = (
    "method",
    "scheme",
    "root_path",
    "path",
    "query_string",
    "remote_addr",
    "server",
    "host",
    "shallow",
    "mimetype",
    "mimetype_params",
)
ENVIRON = {
    "REQUEST_METHOD": "get",
    "wsgi.url_scheme": "http",
    "PATH_INFO": "/events",
    "QUERY_STRING": "topic=a&last=\xe9",
    "SERVER_NAME": "localhost",
    "SERVER_PORT": "8000",
    "REMOTE_ADDR": "192.0.2.1",
    "HTTP_ACCEPT": "text/event-stream",
}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"PATH_INFO": ""},
        {"PATH_INFO": "//caf\xc3\xa9", "SCRIPT_NAME": "/hub/"},
        {"PATH_INFO": "//events/\xff"},
        {"SCRIPT_NAME": "/caf\xc3\xa9"},
        {"wsgi.url_scheme": "https", "HTTP_HOST": "example.com:444", "REMOTE_ADDR": ""},
        {"SERVER_NAME": "/run/hub.sock", "SERVER_PORT": ""},
        {"CONTENT_TYPE": "Text/Plain; Charset=UTF-8"},
        {"CONTENT_TYPE": "application/json"},
    ],
)
def test_a_request_reads_as_one_of_flask(fields: dict[str, str]) -> None:
    environ: dict[str, Any] = ENVIRON | fields
    ours, flasks = HubRequest({**environ}), Request({**environ})
    for name in FIELDS:
        assert getattr(ours, name) == getattr(flasks, name), name
    assert list(ours.headers) == list(flasks.headers)


def test_a_request_needs_no_more_than_pep_3333_demands() -> None:
    environ = {name: ENVIRON[name] for name in ("REQUEST_METHOD", "wsgi.url_scheme", "SERVER_NAME")}
    request = HubRequest(environ)
    assert (request.path, request.query_string, request.remote_addr) == ("/", b"", None)
    assert request.server == ("localhost", None)
