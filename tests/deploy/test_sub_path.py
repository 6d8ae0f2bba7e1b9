"""The hub below a path of a site, behind nginx and Caddy, which remove the path or pass it on."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import httpx
import pytest
from playwright.sync_api import expect

from support import proxies
from support.cli import check
from support.doc_pages import blocks
from support.page_proxies import NGINX_BELOW_A_PATH, page_proxy
from support.tokens import KEY, token
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Page

    from support.server import Server

[PREFIX] = blocks("deploy/reverse-proxy.md", "Below a path", "sh")
REMOVED = "location /hub/ { proxy_pass http://127.0.0.1:8000/; proxy_buffering off; }"
PRESENCE = ".well-known/mercure/subscriptions"


@contextmanager
def nginx(location: str, hub: Server, folder: Path) -> Iterator[httpx.Client]:
    """A site with one location, as a client of the hub in it."""
    block = location.replace("127.0.0.1:8000", f"127.0.0.1:{hub.port}")
    block = block.replace("{", "{{").replace("}", "}}")
    with proxies.nginx(folder, f"server {{{{ listen 127.0.0.1:{{port}}; {block} }}}}", 0) as port:
        url = f"http://127.0.0.1:{port}/hub/"
        with httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False) as client:
            yield client


@pytest.fixture(name="removed", scope="module")
def _removed(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Behind a proxy that removes the path."""
    with nginx(REMOVED, server, tmp_path_factory.mktemp("nginx")) as client:
        yield client


@pytest.fixture(name="below", scope="module")
def _below(serve: Callable[..., Server]) -> Server:
    """A hub that knows the path."""
    name, _, value = PREFIX.strip().partition("=")
    return serve(**{name: value, "TIDINGS_JWT_KEY": KEY, "TIDINGS_HEARTBEAT": "1"})


@pytest.fixture(name="passed", scope="module")
def _passed(below: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Behind the nginx of the page, which passes the path on."""
    with nginx(NGINX_BELOW_A_PATH, below, tmp_path_factory.mktemp("nginx")) as client:
        yield client


@pytest.fixture(name="named", scope="module")
def _named(
    serve: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """Behind the same, which names the path to a hub that does not know it."""
    hub = serve(TIDINGS_JWT_KEY=KEY, TIDINGS_TRUSTED_PROXIES="1", TIDINGS_HEARTBEAT="1")
    header = "proxy_http_version 1.1; proxy_set_header X-Forwarded-Prefix /hub;"
    block = NGINX_BELOW_A_PATH.replace("proxy_http_version 1.1;", header)
    with nginx(block, hub, tmp_path_factory.mktemp("nginx")) as client:
        yield client


@pytest.fixture(name="site", params=["removed", "passed", "named"])
def _site(request: pytest.FixtureRequest) -> httpx.Client:
    """Behind either."""
    found: httpx.Client = request.getfixturevalue(request.param)
    return found


def test_the_pages_load_all_their_files_and_show_events_and_commands_of_their_path(
    site: httpx.Client, page: Page
) -> None:
    failed = list[str]()
    page.on("response", lambda it: failed.append(it.url) if it.status == 404 else None)
    for name, status in (("console", "Connected|Live|Token"), ("", "Connected")):
        page.goto(f"{site.base_url}{name}")
        expect(page.get_by_role("status").first).to_have_text(re.compile(status))
        assert page.evaluate("[...document.styleSheets].every((it) => it.cssRules.length)")
    assert failed == []
    headers = {"Authorization": f"Bearer {token(publish=['*'])}"}
    assert site.post("events", data={"data": "below"}, headers=headers).status_code == 200
    expect(page.get_by_role("listitem").last).to_have_text("New event: below")
    expect(page.locator("#curl-publish")).to_contain_text(f"{site.base_url}events")


def test_the_link_leads_to_mercures_path(site: httpx.Client) -> None:
    for page in ("", "console"):
        answer = site.get(page)
        [(link, rel)] = re.findall(r'<(.*?)>; rel="(\w+)"', answer.headers["Link"])
        hub = urljoin(str(answer.url), link)
        assert (hub, rel) == (f"{site.base_url}.well-known/mercure", "mercure")
        with site.stream("GET", hub, params={"topic": "t"}) as stream:
            assert stream.headers["Content-Type"].startswith("text/event-stream")


@pytest.mark.parametrize("name", ["passed", "named"])
def test_presence_knows_topics_with_slashes(request: pytest.FixtureRequest, name: str) -> None:
    passed: httpx.Client = request.getfixturevalue(name)
    headers = {"Authorization": f"Bearer {token(publish=['*'], subscribe=['*'])}"}
    with passed.stream("GET", "events", params={"topic": "/users/7"}, headers=headers) as stream:
        parts = stream.iter_text()
        next(parts)
        topic = f"{PRESENCE}/%2Fusers%2F7"
        listed = until(
            lambda: passed.get(topic, headers=headers).json()["subscriptions"], "it is listed"
        )
        path = listed[0]["id"].removeprefix("/")
        assert passed.get(path, headers=headers).json()["topic"] == "/users/7"
        assert passed.delete(path, headers=headers).status_code == 204
        assert "hub.bye" in "".join(parts)


@pytest.mark.parametrize(
    ("name", "base"), [("removed", "/"), ("passed", "/hub"), ("named", "/hub")]
)
def test_its_document_names_the_path_that_the_hub_knows(
    request: pytest.FixtureRequest, name: str, base: str
) -> None:
    site: httpx.Client = request.getfixturevalue(name)
    assert site.get("openapi.json").json()["servers"] == [{"url": base}]


def test_tidings_check_finds_nothing_wrong_below_a_path(named: httpx.Client) -> None:
    secret = token(publish=["*"], subscribe=["*"])
    done = check(
        "--url",
        str(named.base_url),
        right=lambda done: done.returncode == 0,
        TIDINGS_TOKEN=secret,
    )
    assert done.returncode == 0, done.stdout


def test_health_checks_answer_with_and_without_the_path(below: Server) -> None:
    for path in ("/healthz", "/readyz", "/hub/healthz", "/hub/readyz"):
        assert below.http.get(path).status_code == 200
    assert below.http.get("/hubs/readyz").status_code == 404


def test_the_path_without_its_slash_leads_to_the_page(below: Server) -> None:
    answer = below.http.get("/hub?topic=a%26b")
    assert (answer.status_code, answer.headers["Location"]) == (308, "/hub/?topic=a%26b")
    assert below.http.get("/hub").headers["Location"] == "/hub/"


def test_behind_caddy_it_answers_below_the_path(below: Server, tmp_path: Path) -> None:
    with page_proxy("caddy-below-a-path", tmp_path, below.port) as port:
        url = f"http://127.0.0.1:{port}/hub"
        with httpx.Client(timeout=PATIENCE, trust_env=False, follow_redirects=True) as client:
            assert str(client.get(url).url) == f"{url}/"
            assert client.get(f"{url}/readyz").text == "ready\n"
            presence = client.get(f"{url}/{PRESENCE}/%2Fusers%2F7")
            assert presence.status_code == 401  # and not 404
