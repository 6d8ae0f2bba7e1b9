"""Starting: what is refused and why, the command line, the platform's way."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import jwt
import pytest

from support.ports import free_port, has_ipv6
from support.project import ROOT, environment, installed
from support.server import running
from support.tokens import KEY
from support.waiting import PATIENCE, until
from webapp.brokers import connect
from webapp.brokers.sqlite import log_table
from webapp.brokers.sqlite.rows import encode_row
from webapp.config.parsers import duration
from webapp.config.settings import Settings
from webapp.core import sse
from webapp.core.events import Draft
from webapp.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.server import Server

pytestmark = pytest.mark.slow

MEMORY = {"TIDINGS_BROKER_URL": "memory://"}
REFUSALS = {
    "a platform's port without a key": ({"PORT": "5000"}, [], "For a key, make one with"),
    "an address of another machine": ({"TIDINGS_BIND": "192.0.2.1:0"}, [], "TIDINGS_BIND=127"),
    "a bind for all by a setting": ({"TIDINGS_BIND": "0.0.0.0:0"}, [], "TIDINGS_JWT_KEY"),
    "two binds, one for all": ({}, ["-b", "127.0.0.1:0", "-b", "[::]:0"], "TIDINGS_JWT_KEY"),
    "many workers, as the platform says": (MEMORY | {"WEB_CONCURRENCY": "2"}, [], "BROKER_URL"),
    "an unknown setting": ({"TIDINGS_HEARTBEET": "1"}, [], "Did you mean TIDINGS_HEARTBEAT?"),
}
BAD_SETTINGS = {
    "a weak key": ({"TIDINGS_JWT_KEY": "short"}, "32 bytes"),
    "an unreadable setting": ({"TIDINGS_HEARTBEAT": "soon"}, "15s, 5m, 2h, 7d"),
    "an unknown broker": ({"TIDINGS_BROKER_URL": "amqp://x"}, "TIDINGS_BROKER_URL"),
    "a Redis URL that is none": ({"REDIS_URL": "localhost:6379"}, "rediss://host"),
    "a file with options": ({"TIDINGS_BROKER_URL": "sqlite:///x?mode=ro"}, "sqlite:///path"),
    "nobody may read": ({"TIDINGS_ANONYMOUS": "0"}, "TIDINGS_JWT_KEY"),
    "an event larger than a body": ({"TIDINGS_MAX_EVENT_BYTES": "9M"}, "MAX_BODY_BYTES"),
}


@pytest.mark.parametrize(("env", "arguments", "remedy"), REFUSALS.values(), ids=REFUSALS)
def test_it_refuses_to_start_rather_than_lie(
    tmp_path: Path, env: dict[str, str], arguments: list[str], remedy: str
) -> None:
    log = tmp_path / "log"
    with running(arguments, env, log) as process:
        assert process.wait(PATIENCE) != 0
    said = log.read_text()
    assert "Tidings does not start: " in said
    assert remedy in said
    assert "Traceback" not in said


@pytest.mark.parametrize(("env", "remedy"), BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_bad_settings_are_refused_with_the_remedy(env: dict[str, str], remedy: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        Settings.from_env(env)
    assert remedy in str(refused.value)


def test_a_platforms_port_on_ones_own_machine_is_refused_with_what_to_set_instead() -> None:
    with pytest.raises(Misconfigured, match=r"set TIDINGS_BIND=127\.0\.0\.1:5000 instead"):
        Settings.from_env({"PORT": "5000"}).check_exposure(reachable=True)


def test_a_url_with_an_unknown_option_is_refused_with_what_to_correct() -> None:
    with pytest.raises(Misconfigured, match="what follows the \\? in TIDINGS_BROKER_URL"):
        connect(Settings.from_env({"REDIS_URL": "redis://h/?no=1"}))


def test_without_its_log_it_waits_a_while_and_does_not_start(tmp_path: Path) -> None:
    log = tmp_path / "log"
    port = free_port()
    env = {"REDIS_URL": f"redis://:secret-word@127.0.0.1:{port}"}
    env["PYTHONPATH"] = str(ROOT / "tests")
    with running(["-b", "127.0.0.1:0", "-k", "support.short_timeouts.Worker"], env, log) as process:
        until(lambda: "waits for the event log" in log.read_text(), "it says what it waits for")
        assert process.wait(2 * PATIENCE) != 0
    said = log.read_text()
    why = f"127.0.0.1:{port}: Connection refused"
    assert f"Tidings does not start: The event log cannot be reached ({why})" in said
    assert "secret-word" not in said
    assert "Traceback" not in said


def test_a_hub_that_is_stopped_before_it_reached_its_log_never_says_that_it_serves(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    env = {"REDIS_URL": f"redis://127.0.0.1:{free_port()}"}
    with running(["-b", "127.0.0.1:0"], env, log) as process:
        until(lambda: "waits for the event log" in log.read_text(), "it waits")
        process.terminate()
        assert process.wait(PATIENCE) == 0
    assert "Tidings is at" not in log.read_text()


def test_one_of_several_workers_says_why_they_do_not_start(tmp_path: Path) -> None:
    log = tmp_path / "log"
    env = {"TIDINGS_BROKER_URL": f"sqlite:///{log}/is-no-folder"}
    with running(["-b", "127.0.0.1:0", "-w", "3"], env, log) as process:
        assert process.wait(PATIENCE) == 3
    assert log.read_text().count("Tidings does not start: ") == 1
    assert "Tidings is at" not in log.read_text()


@pytest.mark.parametrize("mark", "/?#[\N{ACCOUNT OF}")
def test_a_password_that_is_not_encoded_is_refused_without_it(mark: str) -> None:
    url = f"redis://user:secret{mark}word@127.0.0.1/0"
    with pytest.raises(Misconfigured) as refused:
        Settings.from_env({"REDIS_URL": url})
    assert "%2F" in str(refused.value)
    assert "secret" not in str(refused.value)
    assert refused.value.__suppress_context__


def test_the_urls_of_logs_are_read() -> None:
    hosts = ("h", "h:1", "h/0", "h:1/15?ssl_cert_reqs=none", "[::1]:6379", ":p@h", "u:p%2F@x@h:1/")
    for url in [
        *(f"rediss://{h}" for h in hosts),
        "sqlite:////a/b c",
        "sqlite:///%20",
        "memory://",
    ]:
        assert Settings.from_env({"REDIS_URL": url}).broker_url == url


def test_it_refuses_sockets_that_gevent_has_not_patched() -> None:
    command = [sys.executable, "-c", "from webapp import create_app; create_app()"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment({}), capture_output=True, text=True, check=False
    )
    assert "monkey.patch_all()" in done.stderr


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("15", 15),
        ("1.5s", 1.5),
        ("5m", 300),
        ("2h", 7200),
        ("7d", 604800),
        ("1w", 604800),
        ("500ms", 0.5),
    ],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1", "1y", "1 h", "1e3", "٣", "inf", "nan"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(Misconfigured, match="15s, 5m, 2h, 7d"):
        Settings.from_env({"TIDINGS_MAX_AGE": text})


def test_a_refusal_repeats_a_value_but_never_a_secret() -> None:
    with pytest.raises(Misconfigured, match="TIDINGS_RETRY='soon\\\\x1b' is not valid"):
        Settings.from_env({"TIDINGS_RETRY": "soon\x1b"})
    for name in ("JWT_KEY", "PUBLISHER_JWT_KEY", "SUBSCRIBER_JWT_KEY", "JWKS_URL", "BROKER_URL"):
        with pytest.raises(Misconfigured, match=f"TIDINGS_{name} is not valid") as refused:
            Settings.from_env({f"TIDINGS_{name}": "hidden"})
        assert "hidden" not in str(refused.value)
    for url in ("https://me:hidden\u2100@host/", "https://[hidden"):
        with pytest.raises(Misconfigured, match="an https:// URL") as refused:
            Settings.from_env({"TIDINGS_JWKS_URL": url})
        assert "hidden" not in str(refused.value)


NO_ORIGINS = ["example.com", "https://a.example/path", "https://a/, b", "https://me@a.example"]
PATTERNS = ["https://*.example.com", "https://(a|b).example", "https://a?.example", "http://[a-z]"]


@pytest.mark.parametrize(
    "text", [*NO_ORIGINS, *PATTERNS, "https://a.example:", "https://ü.example"]
)
def test_what_is_no_origin_is_refused(text: str) -> None:
    for name in ("TIDINGS_CORS_ORIGINS", "TIDINGS_PUBLISH_ORIGINS"):
        with pytest.raises(Misconfigured, match="such as https://example"):
            Settings.from_env({name: text})


@pytest.mark.parametrize("text", ["*", "null", "https://a.example, null"])
def test_no_setting_lets_any_page_publish(text: str) -> None:
    assert Settings.from_env({"TIDINGS_CORS_ORIGINS": text}).cors_origins
    with pytest.raises(Misconfigured, match="TIDINGS_PUBLISH_ORIGINS"):
        Settings.from_env({"TIDINGS_PUBLISH_ORIGINS": text})


def test_sizes_and_origins_are_read() -> None:
    settings = Settings.from_env(
        {"TIDINGS_MAX_EVENT_BYTES": "64K", "TIDINGS_CORS_ORIGINS": "https://A.example:443/, null"}
    )
    assert settings.max_event_bytes == 65536
    assert Settings.from_env({"TIDINGS_HISTORY_BYTES": "2gb"}).history_bytes == 2 << 30
    assert settings.cors_origins == ("https://a.example", "null")


def test_the_demo_is_only_for_a_hub_that_nothing_was_configured_for() -> None:
    assert Settings.from_env({"PATH": "/bin"}).demo
    assert not Settings.from_env({"TIDINGS_RETRY": "1"}).demo
    assert not Settings.from_env({"TIDINGS_CORS_ORIGINS": "https://a.example"}).demo
    assert not Settings.from_env({"PORT": "80"}).demo
    assert Settings.from_env({"TIDINGS_DEMO": "1", "PORT": "80"}).demo
    first_steps = {"TIDINGS_BIND": "127.0.0.1:8123", "TIDINGS_CORS_ORIGINS": "null"}
    assert Settings.from_env(first_steps).demo


def test_the_command_line_counts_before_the_setting_and_the_port() -> None:
    env = environment({"TIDINGS_BIND": "127.0.0.1:81", "PORT": "80", "TIDINGS_JWT_KEY": KEY})
    command = [sys.executable, "-m", "gunicorn", "--print-config", "-b", "127.0.0.1:82", "wsgi:app"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert re.search(r"^bind += \['127\.0\.0\.1:82'\]$", done.stdout, re.MULTILINE)


def test_it_starts_with_what_kubernetes_sets_for_services_of_its_name(
    serve: Callable[..., Server],
) -> None:
    server = serve(TIDINGS_SERVICE_HOST="10.0.0.1", TIDINGS_PORT="tcp://10.0.0.1:8000")
    until(lambda: "the demo publishes" in server.log, "it says so")  # nothing is configured


def test_a_clock_that_is_far_behind_the_newest_event_is_warned_of(
    serve: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.db"
    monkeypatch.setattr(log_table, "now", lambda: round((time.time() + 1000.5 * 3600) * 1000))
    table = log_table.LogTable(path, 10, 1 << 20, 3600)
    table.append([[encode_row(Draft(topics=("t",), data="of the future"))]])
    table.close()
    ahead = serve(TIDINGS_BROKER_URL=f"sqlite:///{path}")
    until(lambda: "is 1000 hours newer than this machine's clock" in ahead.log, "it warns")
    with ahead.listen(topic="t", last=1) as stream:
        ahead.publish("after it", topic="t")
        assert stream.take(2) == ["of the future", "after it"]


def test_a_hub_opened_on_purpose_says_so(serve: Callable[..., Server]) -> None:
    server = serve("-b", "0.0.0.0:0", TIDINGS_OPEN="1")
    sentence = "everybody who can reach it may read and publish"
    until(lambda: sentence in server.log, "it says so")


def test_a_second_worker_that_is_asked_for_later_is_taken_back(
    serve: Callable[..., Server],
) -> None:
    server = serve(**MEMORY)
    server.process.send_signal(signal.SIGTTIN)
    until(lambda: "There can be only one worker" in server.log, "it is taken back")
    assert server.log.count("Booting worker") == 1


class Platform:
    """Runs the Procfile as a platform does: PORT set, the process type `web`."""

    def __init__(self, folder: Path, **env: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / f"log-{self.port}"
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        command = [sys.executable, "-m", "honcho", "-f", str(ROOT / "Procfile"), "start", "web"]
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                command,
                cwd=installed(folder),
                env=environment({"PORT": str(self.port), "PATH": path, **env}),
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        for host in ("127.0.0.1", *(["[::1]"] if has_ipv6() else [])):
            url = f"http://{host}:{self.port}/readyz"
            until(lambda url=url: answers(url), "the platform sees it ready")  # type: ignore[misc]
        assert "://::" not in self.log.read_text()  # an IPv6 address is in brackets

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(PATIENCE)


@pytest.fixture(name="platform")
def _platform() -> Iterator[Platform]:
    """A platform that generated the key, as app.json asks it to, and stops it at the end."""
    with tempfile.TemporaryDirectory() as folder:
        platform = Platform(Path(folder), TIDINGS_JWT_KEY=KEY, WEB_CONCURRENCY="1")
        yield platform
        if platform.process.poll() is None:
            platform.stop()


def token(**claims: object) -> dict[str, str]:
    return {"Authorization": f"Bearer {jwt.encode(claims, KEY, 'HS256')}"}


def test_the_procfile_runs_as_a_platform_runs_it(platform: Platform) -> None:
    publisher = token(mercure={"publish": ["*"]})
    with (
        httpx.Client(base_url=platform.url, timeout=PATIENCE, trust_env=False) as client,
        client.stream("GET", "/events") as stream,
    ):
        lines = stream.iter_lines()
        assert next(lines).startswith("retry: ")
        assert client.post("/events", data={"data": "no token"}).status_code == 401
        assert client.post("/events", data={"data": "x"}, headers=publisher).status_code == 200
        assert next(line for line in lines if line == "data: x")
        began = time.monotonic()
        os.killpg(platform.process.pid, signal.SIGTERM)
        assert next(line for line in lines if line == "event: hub.bye")
        list(lines)
    platform.process.wait(PATIENCE)
    assert time.monotonic() - began < 28  # platforms kill it after 30 s
    assert "Traceback" not in platform.log.read_text()


def test_the_procfile_starts_again_after_a_stop(platform: Platform) -> None:
    platform.stop()
    again = Platform(platform.log.parent, TIDINGS_JWT_KEY=KEY)
    again.stop()


def test_what_platforms_read_from_the_root_says_what_they_expect() -> None:
    app = json.loads((ROOT / "app.json").read_text())
    assert app["env"]["TIDINGS_JWT_KEY"]["generator"] == "secret"
    assert re.fullmatch(r"3\.1[1-3]\n", (ROOT / ".python-version").read_text())
    lock_files = {"requirements.txt", "Pipfile.lock", "poetry.lock", "uv.lock"}
    assert lock_files & {path.name for path in ROOT.iterdir()} == {"requirements.txt"}


@pytest.mark.parametrize("name", ["requirements.txt", "tests/requirements.txt"])
def test_requirements_are_pinned_and_hashed_and_name_no_index(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert "--index" not in text
    for requirement in re.split(r"\n(?=\w)", text):
        assert "==" in requirement
        assert "--hash=sha256:" in requirement


def test_flasks_development_server_streams_the_generator_way(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "run", "-p", str(port)]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            command,
            cwd=installed(tmp_path),
            env=environment({"TIDINGS_DEMO": "0"}),
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: answers(f"{url}/readyz"), "it serves")
        with (
            httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False) as client,
            client.stream("GET", "/events") as one,
            client.stream("GET", "/events") as two,
        ):
            subscribers = [sse.decode(stream.iter_bytes()) for stream in (one, two)]
            assert [next(subscriber).type for subscriber in subscribers] == ["hub.open"] * 2
            line = json.dumps({"data": "y"}) + "\n"
            client.post("/events", data={"data": "x"})
            client.post("/events", content=line, headers={"Content-Type": "application/x-ndjson"})
            for subscriber in subscribers:
                assert [next(subscriber).data, next(subscriber).data] == ["x", "y"]
    finally:
        server.kill()
        server.wait(PATIENCE)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, verify=False, timeout=PATIENCE).status_code == 200
    except httpx.TransportError:
        return False


def test_another_host_name_is_refused_on_a_laptop(server: Server) -> None:
    answer = server.http.get("/events", headers={"Host": "evil.example"})
    assert answer.status_code == 400
    assert "localhost" in answer.json()["remedy"]
    assert server.http.get("/", headers={"Host": "evil.example"}).status_code == 400
    for host in ("localhost:1", "LOCALHOST", "127.0.0.1", "[::1]:8000"):
        assert server.http.get("/", headers={"Host": host}).status_code == 200
