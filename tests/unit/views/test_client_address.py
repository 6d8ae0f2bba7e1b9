"""Whose request it is, behind proxies that are trusted."""

from __future__ import annotations

import pytest

from webapp.config.settings import Settings
from webapp.views.client_address import behind, client


@pytest.mark.parametrize(
    ("proxies", "header", "address"),
    [
        (1, None, "10.0.0.1"),
        (1, "", "10.0.0.1"),
        (1, "192.0.2.7", "192.0.2.7"),
        (1, "198.51.100.1, 192.0.2.7", "192.0.2.7"),
        (1, "198.51.100.1,\t192.0.2.7 ", "192.0.2.7"),
        (2, "198.51.100.1, 192.0.2.7, 10.0.0.2", "192.0.2.7"),
        (2, "192.0.2.7", "10.0.0.1"),  # it came past a proxy
        (1, "192.0.2.7:4711", "192.0.2.7"),
        (1, "[2001:db8::7]:4711", "2001:db8::7"),
        (1, "2001:DB8:0::7", "2001:db8::7"),
        (1, "unknown", "10.0.0.1"),
        (1, "192.0.2.7, \x1b[31m", "10.0.0.1"),
    ],
)
def test_a_clients_address_is_counted_from_the_right(
    proxies: int, header: str | None, address: str
) -> None:
    environ = {"REMOTE_ADDR": "10.0.0.1", "wsgi.url_scheme": "http"}
    if header is not None:
        environ["HTTP_X_FORWARDED_FOR"] = header
    behind(lambda environ, _: environ, proxies)(environ, None)
    assert environ["REMOTE_ADDR"] == address


@pytest.mark.parametrize(
    ("proxies", "header", "scheme"),
    [
        (1, None, "http"),
        (1, "https", "https"),
        (1, "HTTPS ", "https"),
        (1, "https, http", "http"),
        (2, "https, http", "https"),
        (2, "https", "https"),  # the last proxy replaced what the first one wrote
        (1, "wss", "http"),
        (1, "https,", "http"),
    ],
)
def test_the_scheme_is_counted_from_the_right(
    proxies: int, header: str | None, scheme: str
) -> None:
    environ = {"REMOTE_ADDR": "10.0.0.1", "wsgi.url_scheme": "http"}
    if header is not None:
        environ["HTTP_X_FORWARDED_PROTO"] = header
    behind(lambda environ, _: environ, proxies)(environ, None)
    assert environ["wsgi.url_scheme"] == scheme


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.7", "192.0.2.8", False),
        ("2001:db8:0:1::7", "2001:db8:0:1:ffff::8", True),
        ("2001:db8:0:1::7", "2001:db8:0:2::7", False),
        ("::ffff:192.0.2.7", "192.0.2.7", True),
        ("::ffff:192.0.2.7", "::ffff:192.0.2.8", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("", None, True),
    ],
)
def test_an_ipv6_network_is_one_client(one: str, other: str | None, *, same: bool) -> None:
    assert (client(one) == client(other)) is same


@pytest.mark.parametrize(("env", "proxies"), [({}, 0), ({"PORT": "5000"}, 1)])
def test_on_a_platform_there_is_one_proxy(env: dict[str, str], proxies: int) -> None:
    assert Settings.from_env(env).trusted_proxies == proxies
    assert Settings.from_env({**env, "TIDINGS_TRUSTED_PROXIES": "2"}).trusted_proxies == 2


@pytest.mark.parametrize(
    ("header", "path", "expected"),
    [
        ("/hub", "/events", ("/hub", "/events")),
        ("/hub/", "/hub/events", ("/hub", "/events")),
        ("/evil, /a/b", "/a/b/events", ("/a/b", "/events")),
        ("/hub", "/hubs", ("/hub", "/hubs")),
        ("//evil.example", "/events", ("", "/events")),
        ("https://evil.example", "/events", ("", "/events")),
        ('/"><script>', "/events", ("", "/events")),
        ("/" + "a" * 101, "/events", ("", "/events")),
        ("", "/events", ("", "/events")),
    ],
)
def test_a_path_is_what_the_nearest_proxy_names(
    header: str, path: str, expected: tuple[str, str]
) -> None:
    environ = {"SCRIPT_NAME": "", "PATH_INFO": path, "HTTP_X_FORWARDED_PREFIX": header}
    environ |= {"REMOTE_ADDR": "10.0.0.1", "wsgi.url_scheme": "http"}
    behind(lambda environ, _: environ, 1)(environ, None)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == expected
