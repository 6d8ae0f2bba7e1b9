"""What browsers are told: how to take an answer, what a page may do, which origins may read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx
    from conftest import Server

ALLOWED, NEAR = "https://a.example", "http://localhost:3000"
STRANGERS = [
    "https://b.example",
    "https://a.example.b.example",
    "https://ba.example",
    "https://axexample",
    "https://a.example:8443",
    "http://a.example",
    "https://a.example/",
    "https://a.example b",
    "https://a.example, https://b.example",
    "null",
    "*",
    "file://",
]
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization",
}


def get(server: Server, method: str, path: str, **headers: str) -> httpx.Headers:
    with server.http.stream(method, path, headers=headers) as answer:
        return answer.headers


@pytest.mark.parametrize(
    "path",
    ["/", "/events", "/events?last=x", "/healthz", "/nowhere", "/static/live.js", "/%zz%00"],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT"])
def test_every_answer_is_what_it_says_it_is(server: Server, method: str, path: str) -> None:
    assert get(server, method, path)["X-Content-Type-Options"] == "nosniff"


def test_what_is_refused_before_the_app_is_what_it_says_it_is(server: Server) -> None:
    assert get(server, "GET", "/" + "a" * 9000)["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["/", "/console"])
def test_the_pages_load_their_own_files_and_nothing_else(server: Server, path: str) -> None:
    headers = get(server, "GET", path)
    assert dict(
        part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";")
    ) == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "camera=()" in headers["Permissions-Policy"]


def cors(headers: httpx.Headers) -> dict[str, str]:
    return {name: it for name, it in headers.items() if name.startswith("access-control-")}


@pytest.fixture(name="listed", scope="module")
def _listed(serve: Callable[..., Server]) -> Server:
    return serve(TIDINGS_CORS_ORIGINS=f"{ALLOWED}, {NEAR}", TIDINGS_DEMO="0")


@pytest.mark.parametrize("origin", [ALLOWED, NEAR])
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_an_allowed_origin_may_read_with_its_cookies(
    listed: Server, method: str, origin: str
) -> None:
    headers = get(listed, method, "/events", Origin=origin, **PREFLIGHT)
    assert headers["Access-Control-Allow-Origin"] == origin
    assert headers["Access-Control-Allow-Credentials"] == "true"
    assert "Origin" in headers["Vary"]


@pytest.mark.parametrize("path", ["/events", "/events?last=x", "/", "/nowhere"])
@pytest.mark.parametrize("origin", STRANGERS)
def test_no_other_origin_may(listed: Server, server: Server, origin: str, path: str) -> None:
    for hub in (listed, server):  # the second allows none at all
        for method in ("GET", "OPTIONS"):
            assert cors(get(hub, method, path, Origin=origin, **PREFLIGHT)) == {}


@pytest.mark.parametrize("origins", ["*", f"*, {ALLOWED}"])
def test_where_every_origin_may_read_none_brings_cookies(
    serve: Callable[..., Server], origins: str
) -> None:
    hub = serve(TIDINGS_CORS_ORIGINS=origins, TIDINGS_DEMO="0")
    for origin in (ALLOWED, "https://b.example", "null"):
        for method in ("GET", "OPTIONS"):
            headers = get(hub, method, "/events", Origin=origin, **PREFLIGHT)
            assert headers["Access-Control-Allow-Origin"] in {"*", origin}
            assert "Access-Control-Allow-Credentials" not in headers
