"""Headers for browsers: how to read a response, what a page may do, which origins may read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.tokens import KEY

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from support.server import Server

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


REFUSED = {
    "no path": ("GET", "/nowhere", {}, 404),
    "no file": ("GET", "/static/nothing.js", {}, 404),
    "no method": ("PUT", "/events", {}, 405),
    "no range": ("GET", "/static/live.js", {"Range": "bytes=999999-"}, 416),
    "no cursor": ("GET", "/events", {"Last-Event-ID": "x" * 129}, 400),
    "a long line": ("GET", "/" + "a" * 9000, {}, 414),
    "a long header": ("GET", "/", {"X": "a" * 20_000}, 431),
}


@pytest.mark.parametrize("name", REFUSED)
def test_no_cache_keeps_a_refusal(server: Server, name: str) -> None:
    method, path, headers, status = REFUSED[name]
    with server.http.stream(method, path, headers=headers) as answer:
        assert answer.status_code == status
        assert answer.headers["Cache-Control"] == "no-store"


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


@pytest.mark.parametrize("path", ["/console", "/static/console.css", "/static/console/json.js"])
def test_pages_and_scripts_are_compressed_for_clients_that_accept_it(
    server: Server, path: str
) -> None:
    plain = server.http.get(path, headers={"Accept-Encoding": "identity"})
    packed = server.http.get(path, headers={"Accept-Encoding": "gzip"})
    assert packed.text == plain.text
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert plain.headers["Vary"] == packed.headers["Vary"] == "Accept-Encoding"
    assert int(packed.headers["Content-Length"]) < int(plain.headers["Content-Length"]) / 1.5
    if etag := packed.headers.get("ETag"):
        assert etag == f"W/{plain.headers['ETag']}"
        assert server.http.get(path, headers={"If-None-Match": etag}).status_code == 304


def test_pictures_and_parts_of_files_are_not_compressed(server: Server) -> None:
    headers = {"Accept-Encoding": "gzip", "Range": "bytes=0-9"}
    assert "Content-Encoding" not in get(server, "GET", "/static/live.png", **headers)
    assert "Content-Encoding" not in get(server, "GET", "/static/page.css", **headers)


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


def preflight(server: Server, method: str, headers: str) -> httpx.Headers:
    asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return get(server, "OPTIONS", "/events", Origin=ALLOWED, **asked)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_allowed_origin_may_send_headers_of_other_tools(listed: Server, method: str) -> None:
    sent = "baggage, datastar-request, sentry-trace, traceparent, X-Requested-With"
    headers = preflight(listed, method, sent)
    assert headers["Access-Control-Allow-Headers"] == ", ".join(sorted(sent.split(", ")))
    assert method in headers["Access-Control-Allow-Methods"]


@pytest.mark.parametrize("name", ["X-Forwarded-Host", "x-forwarded-proto", "Forwarded", "a b"])
def test_no_page_sends_the_headers_of_a_proxy(listed: Server, name: str) -> None:
    headers = preflight(listed, "POST", f"Authorization, {name}")
    assert headers["Access-Control-Allow-Headers"] == "Authorization"


def test_an_allowed_origin_reads_the_headers_that_it_needs(listed: Server) -> None:
    exposed = get(listed, "GET", "/healthz", Origin=ALLOWED)["Access-Control-Expose-Headers"]
    needed = {"Retry-After", "ETag", "WWW-Authenticate", "Link", "Last-Event-ID"}
    assert needed <= set(exposed.split(", "))


@pytest.mark.parametrize("path", ["/events", "/events?last=x", "/", "/nowhere"])
@pytest.mark.parametrize("origin", STRANGERS)
def test_no_other_origin_may(listed: Server, server: Server, origin: str, path: str) -> None:
    for hub in (listed, server):  # the second allows none at all
        for method in ("GET", "OPTIONS"):
            assert cors(get(hub, method, path, Origin=origin, **PREFLIGHT)) == {}


def test_where_every_origin_may_read_none_brings_cookies(serve: Callable[..., Server]) -> None:
    hub = serve(TIDINGS_CORS_ORIGINS=f"*, {ALLOWED}", TIDINGS_DEMO="0")
    for origin in (ALLOWED, "https://b.example", "null"):
        for method in ("GET", "OPTIONS"):
            headers = get(hub, method, "/events", Origin=origin, **PREFLIGHT)
            assert headers["Access-Control-Allow-Origin"] in {"*", origin}
            assert "Access-Control-Allow-Credentials" not in headers


V6 = "http://[::1]:3000"
FILES = "null"


@pytest.fixture(name="exact", scope="module")
def _exact(serve: Callable[..., Server]) -> Server:
    origins = f"{V6}, https://app.example.org, {FILES}"
    return serve(TIDINGS_CORS_ORIGINS=origins, TIDINGS_DEMO="0")


@pytest.mark.parametrize("origin", [V6, "https://app.example.org", FILES])
def test_an_origin_is_compared_as_it_is_written(exact: Server, origin: str) -> None:
    for method in ("GET", "OPTIONS"):
        headers = get(exact, method, "/events", Origin=origin, **PREFLIGHT)
        assert headers["Access-Control-Allow-Origin"] == origin
        credentials = headers.get("Access-Control-Allow-Credentials")
        assert credentials == (None if origin == FILES else "true")


@pytest.mark.parametrize(
    "origin",
    [
        "http://1:3000",
        "http://1:3000.evil",
        "http://:3000",
        "https://appXexample.org",
        "https://app.example.org.evil.net",
        "https://app.example.orgs",
        "nullx",
    ],
)
def test_no_origin_is_taken_for_an_expression(exact: Server, origin: str) -> None:
    for method in ("GET", "OPTIONS"):
        assert cors(get(exact, method, "/events", Origin=origin, **PREFLIGHT)) == {}


FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "{own}0"},
    {"Origin": "http://127.0.0.1"},
    {"Origin": "https://page.example.evil"},
    {"Origin": "{own}, https://page.example"},
    {"Origin": "https://evil.example", "X-Forwarded-Host": "evil.example"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]
OWN = [
    {},
    {"Origin": "{own}"},
    {"Origin": "{tls}"},  # behind a proxy that ends TLS
    {"Origin": "https://page.example"},
    {"Origin": "https://page.example", "Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
]


@pytest.fixture(name="keyless", scope="module", params=["0", "1"], ids=["local", "open"])
def _keyless(serve: Callable[..., Server], request: pytest.FixtureRequest) -> Server:
    return serve(TIDINGS_OPEN=request.param, TIDINGS_PUBLISH_ORIGINS="https://page.example")


def publish(hub: Server, headers: dict[str, str], path: str = "/events") -> httpx.Response:
    own = {"own": hub.url, "tls": hub.url.replace("http:", "https:")}
    sent = {name: text.format(**own) for name, text in headers.items()}
    return hub.http.post(path, data={"topic": "t", "data": "x"}, headers=sent)


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
@pytest.mark.parametrize("path", ["/events", "/.well-known/mercure"])
def test_no_page_of_another_origin_publishes_where_no_token_is_needed(
    keyless: Server, headers: dict[str, str], path: str
) -> None:
    answer = publish(keyless, headers, path)
    assert answer.status_code == 403
    assert "TIDINGS_PUBLISH_ORIGINS" in answer.json()["remedy"]


@pytest.mark.parametrize("headers", OWN, ids=str)
def test_the_hubs_own_pages_and_what_is_no_page_publish(
    keyless: Server, headers: dict[str, str]
) -> None:
    assert publish(keyless, headers).status_code == 200


@pytest.fixture(name="proxied", scope="module")
def _proxied(serve: Callable[..., Server]) -> Server:
    return serve(TIDINGS_OPEN="1", TIDINGS_TRUSTED_PROXIES="1")


@pytest.mark.parametrize(
    ("named", "status"),
    [
        ({"Host": "hub.example", "Origin": "https://hub.example"}, 200),
        ({"Host": "hub.example:443", "Origin": "https://hub.example"}, 200),
        ({"Host": "hub.example:8443", "Origin": "https://hub.example:8443"}, 200),
        ({"Host": "hub.example:8443", "Origin": "https://hub.example"}, 403),
        ({"X-Forwarded-Host": "hub.example", "Origin": "https://hub.example"}, 200),
        ({"X-Forwarded-Host": "hub.example", "Origin": "ftp://hub.example"}, 403),
        ({"X-Forwarded-Host": "hub.example", "Origin": "https://evil.example"}, 403),
    ],
    ids=str,
)
def test_behind_a_proxy_a_page_has_the_host_that_it_asked_for(
    proxied: Server, named: dict[str, str], status: int
) -> None:
    assert publish(proxied, named).status_code == status


@pytest.fixture(name="keyed", scope="module")
def _keyed(serve: Callable[..., Server]) -> Server:
    return serve(TIDINGS_JWT_KEY=KEY)


@pytest.mark.parametrize("host", ["xn--", "xn--a.example", "xn--%c2%ad"])
def test_a_host_that_is_no_domain_name_is_not_the_hubs_own(keyed: Server, host: str) -> None:
    headers = [("Host", host), ("Cookie", "mercureAuthorization=x"), ("Origin", "https://a.b")]
    assert keyed.http.post("/events", data={"data": "x"}, headers=headers).status_code == 403
    assert "a bug of the hub" not in keyed.log
