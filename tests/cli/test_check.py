"""`tidings check` finds what is wrong with a deployment, and nothing where nothing is."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from support import proxies
from support.cli import check, succeeded, tidings
from support.faulty_network import ConnectProxy, http_network
from support.ports import free_port
from support.tokens import KEY, token

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from support.server import Server

pytestmark = pytest.mark.slow

NAMES = ["reachable", "TLS", "HTTP", "/readyz", "stream", "first bytes", "strangers", "token"]
NAMES += ["events at once", "resume by header", "resume by query", "latency", "private events"]
NAMES += ["heartbeat"]
OURS = ["tidings-check-{id}"]
TOKEN, EVERYTHING = token(publish=OURS, subscribe=OURS), token(publish=["*"])

# One nginx, one port for each way to set it up wrongly.
WAYS = {
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


@pytest.fixture(name="ways", scope="module")
def _ways(
    keyed: Server,
    server: Server,
    serve: Callable[..., Server],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("nginx")
    ports = {name: free_port() for name in WAYS}
    servers = TWO % (server.port, serve(TIDINGS_DEMO="0").port)
    silent = serve(TIDINGS_JWT_KEY=KEY).port  # for longer than the proxy waits
    servers += "\n".join(SERVER % (ports[name], silent, how) for name, how in WAYS.items())
    with proxies.nginx(folder, servers, keyed.port) as both:
        urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        yield {**urls, "two logs": f"http://127.0.0.1:{both}"}


Findings = dict[str, tuple[str, str, str]]


def found(url: str, *arguments: str, bad: Sequence[str] = (), **env: str) -> Findings:
    """What it says in JSON: name to state, detail, remedy.

    :param bad: the names of what is wrong.
    """

    def right(done: subprocess.CompletedProcess[str]) -> bool:
        checks = json.loads(done.stdout)["checks"]
        return [each["name"] for each in checks if each["state"] == "bad"] == list(bad)

    done = check(url, "--json", *arguments, right=right, **env)
    assert right(done), done.stdout + done.stderr
    assert done.returncode == bool(bad)
    assert not env.get("TIDINGS_TOKEN") or env["TIDINGS_TOKEN"] not in done.stdout
    told = json.loads(done.stdout)
    assert told["ok"] == (not bad)
    return {
        each["name"]: (each["state"], each["detail"], each["remedy"]) for each in told["checks"]
    }


def test_a_hub_with_a_key_is_proven_in_all_points(keyed: Server) -> None:
    done = check(keyed.url, "--wait", "5s", right=succeeded, TIDINGS_TOKEN=TOKEN)
    assert done.returncode == 0, done.stdout
    lines = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert [line[2:19].strip() for line in lines] == NAMES
    assert {line[0] for line in lines if "TLS" not in line and "HTTP" not in line} == {"✓"}
    assert "private events    stay unseen without a token" in done.stdout


def test_an_open_hub_on_a_laptop_is_proven_without_a_token(server: Server) -> None:
    env = {"TIDINGS_URL": server.url, "PYTHONIOENCODING": "ascii"}
    done = check("--quick", right=succeeded, **env)
    assert done.returncode == 0, done.stdout
    assert "+ latency           from publishing to reading " in done.stdout
    assert "- strangers         everybody who can reach it may publish" in done.stdout
    assert "- heartbeat         not waited for" in done.stdout


def test_without_a_token_it_says_how_to_make_one(keyed: Server) -> None:
    findings = found(keyed.url, "--wait", "5s")
    assert findings["strangers"][0] == "ok"
    state, _, remedy = findings["token"]
    assert state == "left"
    assert "tidings token -p 'tidings-check-{id}'" in remedy
    assert findings["heartbeat"][0] == "ok"


def test_a_token_that_is_not_accepted_is_read_out(keyed: Server) -> None:
    wrong = ["stream", "publishing"]
    findings = found(keyed.url, "--quick", bad=wrong, TIDINGS_TOKEN="nonsense")
    assert "401" in findings["publishing"][1]
    other = token(publish=["news"])
    findings = found(keyed.url, "--quick", bad=["publishing"], TIDINGS_TOKEN=other)
    assert "403" in findings["publishing"][1]


def test_closed_reading_is_read_out(serve: Callable[..., Server]) -> None:
    server = serve(TIDINGS_JWT_KEY=KEY, TIDINGS_ANONYMOUS="0")
    findings = found(server.url, "--quick", bad=["stream"])
    assert "TIDINGS_TOKEN" in findings["stream"][2]
    findings = found(server.url, "--quick", TIDINGS_TOKEN=TOKEN)
    assert findings["private events"][1] == "nobody reads without a token"


def test_where_nobody_answers_it_says_so_and_ends() -> None:
    done = tidings("check", f"http://127.0.0.1:{free_port()}", PYTHONIOENCODING="ascii")
    assert done.returncode == 1
    assert "x reachable" in done.stdout
    assert "-> Is the hub running" in done.stdout


FAULTS = {
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
def _outcomes(ways: dict[str, str]) -> Iterator[dict[str, Future[Findings]]]:
    """What it finds behind each, all at once: finding that nothing comes takes its time."""

    def look(way: str) -> Findings:
        env = {} if way == "two logs" else {"TIDINGS_TOKEN": TOKEN}
        heartbeat = ["--wait", "9s"] if way == "meddling" else ["--quick"]
        return found(ways[way], *heartbeat, bad=FAULTS[way], **env)

    with ThreadPoolExecutor() as pool:
        yield {way: pool.submit(look, way) for way in FAULTS}


@pytest.fixture(autouse=True, scope="module")
def _begun(request: pytest.FixtureRequest) -> None:
    """They look while the other tests run."""
    if shutil.which("nginx"):
        request.getfixturevalue("outcomes")


@pytest.mark.parametrize("way", FAULTS)
def test_behind_nginx_it_finds_what_is_wrong_and_how_to_mend_it(
    outcomes: dict[str, Future[Findings]], way: str
) -> None:
    name, remedy = REMEDIES[way]
    assert remedy in outcomes[way].result()[name][2]


def test_check_finds_tls_and_http_2_through_caddy_and_a_tunnel(
    keyed: Server, tmp_path: Path
) -> None:
    with proxies.caddy(tmp_path, keyed.port) as (port, authority):
        url = f"https://localhost:{port}"
        findings = found(url, "--quick", bad=["reachable"])
        assert "certificate is not accepted" in findings["reachable"][1]
        known = {"SSL_CERT_FILE": str(authority), "TIDINGS_TOKEN": TOKEN}
        findings = found(url, "--quick", **known)
        assert (findings["TLS"][0], findings["HTTP"][0]) == ("ok", "ok")
        for command in (
            ("publish", "x", "-t", OURS[0]),
            ("tail", "-n", "1", "--last", "1", OURS[0]),
        ):
            assert tidings(*command, "--url", url, **known).returncode == 0
        with http_network(port, ConnectProxy) as tunnel:
            for named in (tunnel.url, tunnel.url.removeprefix("http://")):
                proxied = {"HTTPS_PROXY": named, "NO_PROXY": ""}
                done = tidings("publish", "x", "-t", OURS[0], "--url", url, **known, **proxied)
                assert done.returncode == 0, done.stderr
            asked = [b"CONNECT", f"localhost:{port}".encode()]
            assert [line.split()[:2] for line in tunnel.asked] == [asked, asked]
