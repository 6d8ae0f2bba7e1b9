"""`tidings check`: it finds what is wrong with a deployment, and nothing else."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from support import proxies
from support.cli import check, succeeded, tidings
from support.faulty_network import ConnectProxy, http_network
from support.page_proxies import page_proxy
from support.ports import free_port
from support.presence import PATH
from support.tokens import KEY, token

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from support.server import Server

pytestmark = pytest.mark.slow

NAMES = ["reachable", "TLS", "HTTP", "/readyz", "page", "stream", "first bytes", "strangers"]
NAMES += ["token", "events at once", "resume by header", "resume by query", "latency", "pipe"]
NAMES += ["disconnection", "private events", "heartbeat"]
CHECK_TOPICS = ["tidings-check-{id}"]
TOKEN = token(publish=CHECK_TOPICS, subscribe=CHECK_TOPICS)
SEES_WHO_LEFT = token(
    publish=CHECK_TOPICS, subscribe=[*CHECK_TOPICS, f"{PATH}/tidings-check-{{id}}"]
)

# How nginx can be set up wrongly; each way has a port of one nginx.
MISTAKES = {
    # From HTTP/1.1 chunks nginx passes on what has come even so.
    "buffering": "proxy_http_version 1.0; proxy_ignore_headers X-Accel-Buffering;",
    "compressing": "gzip on; gzip_types text/event-stream; gzip_proxied any; gzip_min_length 1;",
    "meddling": 'proxy_set_header Last-Event-ID ""; proxy_hide_header Cache-Control;'
    " proxy_read_timeout 4s;",
}
TWO = """
proxy_http_version 1.1; proxy_set_header Host localhost;
upstream two {{ server 127.0.0.1:%d; server 127.0.0.1:%d; }}
server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://two; }} }}
"""
SERVER = "server {{ listen 127.0.0.1:%d; location / {{ proxy_pass http://127.0.0.1:%d; %s }} }}"


@pytest.fixture(name="keyed", scope="module")
def _keyed(serve: Callable[..., Server]) -> Server:
    return serve(TIDINGS_JWT_KEY=KEY, TIDINGS_HEARTBEAT="1")


@pytest.fixture(name="silent", scope="module")
def _silent(serve: Callable[..., Server]) -> Server:
    """A hub that sends no heartbeats for longer than the proxies wait."""
    return serve(TIDINGS_JWT_KEY=KEY)


@pytest.fixture(name="urls", scope="module")
def _urls(
    keyed: Server,
    silent: Server,
    server: Server,
    serve: Callable[..., Server],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("nginx")
    ports = {name: free_port() for name in MISTAKES}
    servers = TWO % (server.port, serve(TIDINGS_DEMO="0").port)
    servers += "\n".join(SERVER % (ports[name], silent.port, how) for name, how in MISTAKES.items())
    with proxies.nginx(folder, servers, keyed.port) as both:
        found = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        yield {**found, "two logs": f"http://127.0.0.1:{both}"}


Results = dict[str, tuple[str, str, str]]


def results_of(url: str, *arguments: str, bad: Sequence[str] = (), **env: str) -> Results:
    """Return what it prints as JSON: name to state, detail, remedy.

    :param bad: the names of the checks that must fail.
    """

    def expected(done: subprocess.CompletedProcess[str]) -> bool:
        checks = json.loads(done.stdout)["checks"]
        return [each["name"] for each in checks if each["state"] == "bad"] == list(bad)

    done = check(url, "--json", *arguments, right=expected, **env)
    assert expected(done), done.stdout + done.stderr
    assert done.returncode == bool(bad)
    assert not env.get("TIDINGS_TOKEN") or env["TIDINGS_TOKEN"] not in done.stdout
    printed = json.loads(done.stdout)
    assert printed["ok"] == (not bad)
    return {
        each["name"]: (each["state"], each["detail"], each["remedy"]) for each in printed["checks"]
    }


def test_a_hub_with_a_key_passes_all_checks(keyed: Server) -> None:
    done = check(keyed.url, "--wait", "5s", right=succeeded, TIDINGS_TOKEN=SEES_WHO_LEFT)
    assert done.returncode == 0, done.stdout
    lines = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert [line[2:19].strip() for line in lines] == NAMES
    assert {line[0] for line in lines if "TLS" not in line and "HTTP" not in line} == {"✓"}
    assert "private events    stay unseen without a token" in done.stdout


def test_an_open_hub_on_loopback_passes_without_a_token(server: Server) -> None:
    env = {"TIDINGS_URL": server.url, "PYTHONIOENCODING": "ascii"}
    done = check("--quick", right=succeeded, **env)
    assert done.returncode == 0, done.stdout
    assert "+ latency           from publish to arrival " in done.stdout
    assert "- strangers         everybody who can reach it may publish" in done.stdout
    assert "- heartbeat         not waited for" in done.stdout


def test_without_a_token_it_says_how_to_make_one(keyed: Server) -> None:
    results = results_of(keyed.url, "--wait", "5s")
    assert results["strangers"][0] == "ok"
    state, _, remedy = results["token"]
    assert state == "left"
    assert "tidings token -p 'tidings-check-{id}'" in remedy
    assert results["heartbeat"][0] == "ok"


def test_it_reports_a_token_that_is_not_accepted(keyed: Server) -> None:
    wrong = ["stream", "publishing"]
    results = results_of(keyed.url, "--quick", bad=wrong, TIDINGS_TOKEN="nonsense")
    assert "401" in results["publishing"][1]
    other = token(publish=["news"])
    results = results_of(keyed.url, "--quick", bad=["publishing"], TIDINGS_TOKEN=other)
    assert "403" in results["publishing"][1]


def test_it_reports_a_hub_that_refuses_anonymous_subscribers(serve: Callable[..., Server]) -> None:
    server = serve(TIDINGS_JWT_KEY=KEY, TIDINGS_ANONYMOUS="0")
    results = results_of(server.url, "--quick", bad=["stream"])
    assert "TIDINGS_TOKEN" in results["stream"][2]
    results = results_of(server.url, "--quick", TIDINGS_TOKEN=TOKEN)
    assert results["private events"][1] == "nobody reads without a token"


def test_it_stops_where_nobody_answers() -> None:
    done = tidings("check", f"http://127.0.0.1:{free_port()}", PYTHONIOENCODING="ascii")
    assert done.returncode == 1
    assert "x reachable" in done.stdout
    assert "-> Is the hub running" in done.stdout


FAILED_CHECKS = {
    "buffering": ["stream"],
    "compressing": ["stream"],
    "meddling": ["stream", "resume by header", "heartbeat"],
    "two logs": ["events at once"],
}
REMEDIES = {
    "buffering": ("stream", "proxy_buffering off; proxy_http_version 1.1; proxy_read_timeout"),
    "compressing": ("stream", "gzip off"),
    "meddling": ("heartbeat", "proxy_read_timeout"),
    "two logs": ("events at once", "TIDINGS_BROKER_URL"),
}


@pytest.fixture(name="outcomes", scope="module")
def _outcomes(urls: dict[str, str]) -> Iterator[dict[str, Future[Results]]]:
    """The results behind each, all at once: it takes time to find that nothing comes."""

    def look(mistake: str) -> Results:
        env = {} if mistake == "two logs" else {"TIDINGS_TOKEN": TOKEN}
        heartbeat = ["--wait", "9s"] if mistake == "meddling" else ["--quick"]
        return results_of(urls[mistake], *heartbeat, bad=FAILED_CHECKS[mistake], **env)

    with ThreadPoolExecutor() as pool:
        yield {mistake: pool.submit(look, mistake) for mistake in FAILED_CHECKS}


@pytest.fixture(autouse=True, scope="module")
def _run_early(request: pytest.FixtureRequest) -> None:
    """Run them while the other tests run."""
    if shutil.which("nginx"):
        request.getfixturevalue("outcomes")


@pytest.mark.parametrize("mistake", FAILED_CHECKS)
def test_it_finds_what_is_wrong_behind_nginx_and_how_to_fix_it(
    outcomes: dict[str, Future[Results]], mistake: str
) -> None:
    name, remedy = REMEDIES[mistake]
    assert remedy in outcomes[mistake].result()[name][2]


def test_it_finds_tls_and_http_2_through_caddy_and_a_tunnel(keyed: Server, tmp_path: Path) -> None:
    with proxies.caddy(tmp_path, keyed.port) as (port, authority):
        url = f"https://localhost:{port}"
        results = results_of(url, "--quick", bad=["reachable"])
        assert "certificate is not accepted" in results["reachable"][1]
        known = {"SSL_CERT_FILE": str(authority), "TIDINGS_TOKEN": TOKEN}
        results = results_of(url, "--quick", **known)
        assert (results["TLS"][0], results["HTTP"][0]) == ("ok", "ok")
        for command in (
            ("publish", "x", "-t", CHECK_TOPICS[0]),
            ("tail", "-n", "1", "--last", "1", CHECK_TOPICS[0]),
        ):
            assert tidings(*command, "--url", url, **known).returncode == 0
        with http_network(port, ConnectProxy) as tunnel:
            for named in (tunnel.url, tunnel.url.removeprefix("http://")):
                proxied = {"HTTPS_PROXY": named, "NO_PROXY": ""}
                done = tidings(
                    "publish", "x", "-t", CHECK_TOPICS[0], "--url", url, **known, **proxied
                )
                assert done.returncode == 0, done.stderr
            asked = [b"CONNECT", f"localhost:{port}".encode()]
            assert [line.split()[:2] for line in tunnel.asked] == [asked, asked]


@pytest.mark.parametrize(
    ("mistake", "bad", "name", "remedy"),
    [
        ("http-no-delay", ["latency"], "latency", "option http-no-delay"),
        ("abortonclose", [], "disconnection", "option abortonclose"),
    ],
)
def test_it_names_the_options_that_haproxy_lacks(
    silent: Server, tmp_path: Path, mistake: str, bad: list[str], name: str, remedy: str
) -> None:
    with page_proxy("haproxy", tmp_path, silent.port, **{f" *option {mistake}\n": ""}) as port:
        url = f"http://127.0.0.1:{port}"
        results = results_of(url, "--quick", bad=bad, TIDINGS_TOKEN=SEES_WHO_LEFT)
        state, _, text = results[name]
        assert state != "ok"
        assert remedy in text
        assert results["pipe"][0] == "ok"


def test_it_finds_a_body_that_is_held_back_and_a_page_without_its_files(
    silent: Server, tmp_path: Path
) -> None:
    site = SERVER.replace("location /", "location /hub/static/ {{ return 404; }} location /hub/")
    site = site.replace(":%d; %s", ":%d/; %s") % (port := free_port(), silent.port, "")
    with proxies.nginx(tmp_path, f"{site} server {{{{ listen 127.0.0.1:{{port}}; }}}}", 0):
        url = f"http://127.0.0.1:{port}/hub"
        results = results_of(url, "--quick", bad=["page"], TIDINGS_TOKEN=SEES_WHO_LEFT)
    assert "SCRIPT_NAME" in results["page"][2]
    assert results["pipe"][0] == "left"
    assert "proxy_request_buffering off" in results["pipe"][2]
    assert results["disconnection"][0] == "ok"
