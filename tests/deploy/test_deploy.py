"""The deploy pages' recipes, as far as they can be tried here: each is taken from its page.

The box of one's own is run as it is written, but for addresses, paths and a shorter heartbeat. For
platforms what can be known without them: their files are well-formed, the hub accepts its settings,
and it is gone before they kill it.
"""

from __future__ import annotations

import configparser
import datetime as dt
import json
import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tomllib
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPSConnection
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from support import proxies
from support.cli import check, succeeded
from support.doc_pages import blocks, section
from support.project import ROOT, environment, installed
from support.server import serving
from support.stream import Stream
from support.tokens import KEY, token
from support.waiting import PATIENCE, until
from webapp.config.settings import Settings
from webapp.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.server import Server

pytestmark = pytest.mark.slow

BOX = [
    *blocks("deploy/systemd.md", "The socket", "ini"),
    *blocks("deploy/systemd.md", "The unit", "ini"),
    *blocks("deploy/systemd.md", "The settings", "env", "sh")[:1],
    *blocks("deploy/reverse-proxy.md", "Caddy", "caddy"),
    *blocks("deploy/reverse-proxy.md", "nginx", "nginx"),
]
EVERYTHING = token(publish=["*"], subscribe=["*"])
START = (ROOT / "Procfile").read_text().removeprefix("web: ").strip()
GOODBYE = 2  # seconds after TIDINGS_DRAIN, as the overview says


def variables(text: str) -> dict[str, str]:
    """An environment file, with a real key in it."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    found = dict(line.split("=", 1) for line in lines)
    return {name: KEY if value == "…" else value for name, value in found.items()}


class Unit(configparser.RawConfigParser):
    """A unit file."""

    def optionxform(self, optionstr: str) -> str:
        return optionstr


@pytest.fixture(name="unit", scope="module")
def _unit(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The unit, with the paths that it has here."""
    folder = installed(tmp_path_factory.mktemp("srv"))
    (folder / "env").write_text("")
    gunicorn = Path(sys.executable).with_name("gunicorn")
    text = BOX[1].replace("/srv/tidings/.venv/bin/gunicorn", str(gunicorn))
    text = text.replace("/etc/tidings.env", str(folder / "env"))
    return text.replace("/srv/tidings", str(folder))


def test_systemd_has_nothing_to_say_about_the_units(unit: str, tmp_path: Path) -> None:
    path = tmp_path / "tidings.service"
    path.write_text(unit)
    path.with_suffix(".socket").write_text(BOX[0])
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd is not installed")
    done = subprocess.run(
        ["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout + done.stderr == ""


# What systemd does with the socket whose number is the first argument: the program gets it as 3.
PASS_SOCKET = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


class Box:
    """A hub that is run as the units say."""

    def __init__(self, unit: str, folder: Path) -> None:
        units = Unit()
        units.read_string(BOX[0])
        units.read_string(unit)
        self.service = units["Service"]
        host = units["Socket"]["ListenStream"].partition(":")[0]
        self.socket = socket.create_server((host, 0))
        self.port = self.socket.getsockname()[1]
        self.folder = folder
        self.log_path = folder / "log"
        self.start()

    def start(self) -> None:
        """As `systemctl start` does, with the socket that is open already."""
        env = variables(BOX[2]) | {"TIDINGS_HEARTBEAT": "0.5", "TIDINGS_DRAIN": "1"}
        env["NOTIFY_SOCKET"] = str(self.folder / "notify")
        env["TIDINGS_BROKER_URL"] = env["TIDINGS_BROKER_URL"].replace(
            "/var/lib/tidings", str(self.folder)
        )
        command = [sys.executable, "-c", PASS_SOCKET, str(self.socket.fileno())]
        command += [*shlex.split(self.service["ExecStart"]), "--access-logfile", "-"]
        with (
            self.log_path.open("ab") as log,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified,
        ):
            Path(env["NOTIFY_SOCKET"]).unlink(missing_ok=True)
            notified.bind(env["NOTIFY_SOCKET"])
            notified.settimeout(PATIENCE)
            self.process = subprocess.Popen(
                command,
                cwd=self.service["WorkingDirectory"],
                env=environment(env),
                stdout=log,
                stderr=log,
                pass_fds=[self.socket.fileno()],
                start_new_session=True,
            )
            assert b"READY=1" in notified.recv(1000)  # Type=notify

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def stop(self) -> None:
        """As `systemctl stop` does with KillMode=mixed; systemd would not have killed it."""
        self.process.send_signal(signal.SIGTERM)
        try:
            assert self.process.wait(float(self.service["TimeoutStopSec"])) == 0
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)


@pytest.fixture(name="box", scope="module")
def _box(unit: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    box = Box(unit, tmp_path_factory.mktemp("box"))
    first = HTTPConnection("127.0.0.1", box.port, timeout=PATIENCE)
    first.request("GET", "/readyz")  # nginx would not wait for the first worker for so long
    assert first.getresponse().status == 200
    first.close()
    yield box
    box.stop()
    box.socket.close()


class Edge:
    """A proxy in front of the box, with TLS."""

    def __init__(self, port: int, authority: Path) -> None:
        self.port = port
        self.url = f"https://localhost:{port}"
        self.authority = authority

    def connect(self, source: str = "127.0.0.1") -> HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self.authority))
        return HTTPSConnection(
            "localhost", self.port, timeout=PATIENCE, context=context, source_address=(source, 0)
        )

    @contextmanager
    def listen(self, topic: str) -> Iterator[Stream]:
        connection = self.connect()
        connection.request("GET", f"/events?topic={topic}")
        stream = Stream(connection.getresponse(), connection)
        try:
            yield stream
        finally:
            stream.close()

    def publish(self, topic: str, data: str, source: str = "127.0.0.1", **headers: str) -> None:
        connection = self.connect(source)
        said = {"Authorization": f"Bearer {EVERYTHING}", "Content-Type": "text/plain", **headers}
        connection.request("POST", f"/events?topic={topic}", data.encode(), said)
        assert connection.getresponse().status == 200
        connection.close()


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=90))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    chain, private = folder / "fullchain.pem", folder / "privkey.pem"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return chain, private


def plain(config: str) -> str:
    """A configuration as `edges` takes it, in which braces are the format's."""
    return config.replace("{", "{{").replace("}", "}}")


@contextmanager
def nginx(box: Box, folder: Path) -> Iterator[Edge]:
    chain, private = certificate(folder)
    site = plain(BOX[4]).replace("listen 443", "listen 127.0.0.1:{port}")
    site = site.replace("/etc/letsencrypt/live/hub.example/fullchain.pem", str(chain))
    site = site.replace("/etc/letsencrypt/live/hub.example/privkey.pem", str(private))
    site = site.replace("hub.example", "localhost").replace("127.0.0.1:8000", "127.0.0.1:{hub}")
    assert "proxy_read_timeout 60s" in site
    site = site.replace("proxy_read_timeout 60s", "proxy_read_timeout 3s")
    with proxies.nginx(folder, site, box.port) as port:
        yield Edge(port, chain)


@contextmanager
def caddy(box: Box, folder: Path) -> Iterator[Edge]:
    site = plain(BOX[3]).replace("127.0.0.1:8000", "127.0.0.1:{hub}")
    site = site.replace("hub.example", "localhost:{port}")
    with proxies.caddy(folder, box.port, site) as (port, authority):
        yield Edge(port, authority)


@pytest.fixture(name="edge", scope="module", params=[nginx, caddy], ids=["nginx", "caddy"])
def _edge(
    box: Box, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Edge]:
    with ExitStack() as stack:
        yield stack.enter_context(request.param(box, tmp_path_factory.mktemp("edge")))


def test_tidings_check_finds_nothing_wrong_with_a_box(edge: Edge) -> None:
    known = {"SSL_CERT_FILE": str(edge.authority), "TIDINGS_TOKEN": EVERYTHING}
    done = check(edge.url, "--wait", "9s", right=succeeded, **known)
    assert done.returncode == 0, done.stdout
    assert {line[0] for line in done.stdout.splitlines()} == {"✓"}


def test_heartbeats_alone_keep_a_stream_open(edge: Edge, topic: str) -> None:
    with edge.listen(topic) as stream:
        assert stream.next().type == "hub.open"
        beats = b""
        while beats.count(b":\n") < 7:  # one each half second; nginx would cut it after three
            more = stream.response.read1(1 << 16)
            assert more, "it was cut"
            beats += more
        edge.publish(topic, "still here")
        assert stream.take(1) == ["still here"]


def test_each_line_of_a_pipe_passes_at_once(edge: Edge, topic: str) -> None:
    pipe = edge.connect()
    with edge.listen(topic) as stream:
        stream.next()
        pipe.putrequest("POST", "/events")
        for name, value in {
            "Content-Type": "application/x-ndjson",
            "Transfer-Encoding": "chunked",
            "Authorization": f"Bearer {EVERYTHING}",
        }.items():
            pipe.putheader(name, value)
        pipe.endheaders()
        for n in range(3):
            line = json.dumps({"topic": topic, "data": str(n)}).encode() + b"\n"
            pipe.send(b"%X\r\n%b\r\n" % (len(line), line))
            assert stream.take(1) == [str(n)]
        pipe.send(b"0\r\n\r\n")
        assert json.load(pipe.getresponse())["published"] == 3
        pipe.close()


def test_the_hub_knows_a_clients_own_address_and_believes_no_other(
    edge: Edge, box: Box, topic: str
) -> None:
    before = box.log.count('127.0.0.2 "POST /events" 200')
    edge.publish(topic, "x", source="127.0.0.2", **{"X-Forwarded-For": "203.0.113.9"})
    until(lambda: box.log.count('127.0.0.2 "POST /events" 200') > before, "it is in the log")
    assert "203.0.113.9" not in box.log


def test_the_hubs_own_page_publishes_with_its_cookie(edge: Edge, topic: str) -> None:
    page = {"Cookie": f"mercureAuthorization={EVERYTHING}", "Origin": edge.url, "Authorization": ""}
    edge.publish(topic, "x", **page)


def test_a_restart_ends_streams_and_refuses_no_connection(box: Box) -> None:
    before = HTTPConnection("127.0.0.1", box.port, timeout=PATIENCE)
    before.request("GET", "/events")
    stream = Stream(before.getresponse(), before)
    stream.next()
    box.stop()
    [bye] = [message.data for message in stream.rest() if message.type == "hub.bye"]
    assert json.loads(bye)["reason"] == "drain"
    stream.close()
    between = HTTPConnection("127.0.0.1", box.port, timeout=PATIENCE)
    between.request("GET", "/readyz")  # and no hub is there yet
    box.start()
    assert between.getresponse().status == 200
    between.close()


def accepted(env: dict[str, str]) -> Settings:
    """The settings, which the hub must accept where others can reach it."""
    settings = Settings.from_env({"PORT": "8080", **env})
    settings.check_workers(2)
    settings.check_exposure(reachable=True)
    return settings


# https://devcenter.heroku.com/articles/app-json-schema
APP_JSON: dict[str, Any] = {
    "name": str,
    "description": str,
    "keywords": list,
    "website": str,
    "repository": str,
    "logo": str,
    "success_url": str,
    "scripts": dict,
    "env": dict,
    "formation": dict,
    "addons": list,
    "buildpacks": list,
    "environments": dict,
    "stack": str,
}


def test_heroku_can_read_app_json() -> None:
    app = json.loads((ROOT / "app.json").read_text())
    assert app.keys() <= APP_JSON.keys()
    assert all(isinstance(value, APP_JSON[name]) for name, value in app.items())
    assert len(app["name"]) <= 30
    for about in app["env"].values():
        assert about.keys() <= {"description", "value", "required", "generator"}
        assert about.get("generator", "secret") == "secret"
    assert app["formation"].keys() == {"web"}
    for about in app["formation"].values():
        assert about.keys() == {"quantity", "size"}
    env = {name: about.get("value", KEY) for name, about in app["env"].items()}
    theirs = "rediss://:pass@host.example:6380"
    settings = accepted({**env, "REDIS_URL": theirs, "WEB_CONCURRENCY": "2"})
    assert settings.broker_url == f"{theirs}?ssl_cert_reqs=none"
    with pytest.raises(Misconfigured, match="no REDIS_URL"):
        accepted(env)


def test_heroku_by_hand_sets_what_app_json_sets() -> None:
    [sh] = blocks("deploy/heroku.md", "Heroku", "sh")
    app = json.loads((ROOT / "app.json").read_text())
    words = shlex.split(sh)
    assert set(app["addons"]) <= set(words)
    for name, about in app["env"].items():
        assert any(word.startswith(f"{name}={about.get('value', '')}") for word in words)


def test_heroku_with_postgresql_names_the_variable_of_its_add_on() -> None:
    [sh] = blocks("deploy/heroku.md", "With PostgreSQL, without a Redis", "sh")
    assert "heroku addons:create heroku-postgresql:essential-0\n" in sh
    words = dict(it.split("=", 1) for it in shlex.split(sh) if it.startswith("TIDINGS_"))
    theirs = "postgres://user:pass@host.example:5432/db"
    settings = accepted({**words, "TIDINGS_JWT_KEY": KEY, "DATABASE_URL": theirs})
    assert settings.broker_url == f"{theirs}?sslmode=require"


def test_render_with_postgresql_differs_in_the_event_log_only() -> None:
    [text] = blocks("deploy/render.md", "With PostgreSQL, without a Key Value store", "yaml")
    [first] = blocks("deploy/render.md", "Render", "yaml")
    file = yaml.safe_load(text)
    [web], [log] = file["services"], file["databases"]
    other = yaml.safe_load(first)["services"][0]
    assert {key for key in web if web[key] != other[key]} == {"envVars"}
    key, url = web["envVars"]
    assert key == other["envVars"][0]
    assert url["fromDatabase"] == {"name": log["name"], "property": "connectionString"}
    theirs = "postgresql://user:pass@dpg-1/db"
    assert accepted({"TIDINGS_JWT_KEY": KEY, url["key"]: theirs}).broker_url == theirs
    assert log["ipAllowList"] == []


def test_render_can_read_its_file(server: Server) -> None:
    [text] = blocks("deploy/render.md", "Render", "yaml")
    web, log = yaml.safe_load(text)["services"]
    assert web["startCommand"] == START
    assert server.http.get(web["healthCheckPath"]).text == "ready\n"
    env = {each["key"]: each.get("value", KEY) for each in web["envVars"]}
    settings = accepted({**env, "REDIS_URL": "redis://red-1:6379"})
    assert settings.drain + GOODBYE < web["maxShutdownDelaySeconds"] <= 300
    assert web["envVars"][1]["fromService"]["name"] == log["name"]
    assert (log["type"], log["maxmemoryPolicy"], log["ipAllowList"]) == (
        "keyvalue",
        "noeviction",
        [],
    )
    assert "-r requirements.txt" in web["buildCommand"]


def test_fly_can_read_its_file(server: Server) -> None:
    text, _ = blocks("deploy/fly.md", "Fly.io", "toml", "sh")
    fly = tomllib.loads(text)
    settings = accepted({**fly["env"], "TIDINGS_JWT_KEY": KEY})
    service = fly["http_service"]
    assert settings.port == service["internal_port"]
    assert settings.drain + GOODBYE < fly["kill_timeout"]
    assert settings.broker_url.startswith(f"sqlite:///{fly['mounts']['destination']}/")
    [ready] = service["checks"]
    assert server.http.get(ready["path"]).text == "ready\n"
    limits = service["concurrency"]
    assert (limits["type"], limits["soft_limit"] < limits["hard_limit"]) == ("connections", True)


def test_railway_can_read_its_file(server: Server) -> None:
    text, env = blocks("deploy/railway.md", "Railway", "json", "env")
    deploy = json.loads(text)["deploy"]
    assert deploy["startCommand"] == START
    assert server.http.get(deploy["healthcheckPath"]).text == "ready\n"
    settings = accepted({**variables(env), "REDIS_URL": "redis://redis.railway.internal:6379"})
    assert settings.drain + GOODBYE < deploy["drainingSeconds"]
    assert settings.max_age < 15 * 60


def test_kubernetes_is_given_what_fits_it() -> None:
    [text] = blocks("deploy/kubernetes.md", "The pod", "yaml")
    pod = yaml.safe_load(text)["spec"]["template"]["spec"]
    [container] = pod["containers"]
    env = {it["name"]: it.get("value", KEY) for it in container["env"]}
    settings = accepted(env)
    assert pod["terminationGracePeriodSeconds"] > settings.drain + GOODBYE
    assert settings.port == container["ports"][0]["containerPort"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    mounts = {it["mountPath"] for it in container["volumeMounts"]}
    assert str(Path(settings.broker_url.removeprefix("sqlite:///")).parent) in mounts
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] == settings.port
        assert container[probe]["httpGet"]["path"] in {"/readyz", "/healthz"}


def test_kubernetes_leads_clients_to_the_pod() -> None:
    [pod] = blocks("deploy/kubernetes.md", "The pod", "yaml")
    labels = yaml.safe_load(pod)["spec"]["template"]["metadata"]["labels"]
    texts = blocks("deploy/kubernetes.md", "Outside the cluster", "yaml", "yaml")
    service, ingress = map(yaml.safe_load, texts)
    [port] = service["spec"]["ports"]
    assert service["spec"]["selector"] == labels
    assert port["targetPort"] == 8000
    [rule] = ingress["spec"]["rules"]
    [path] = rule["http"]["paths"]
    backend = {"name": service["metadata"]["name"], "port": {"number": port["port"]}}
    assert path["backend"]["service"] == backend
    notes = ingress["metadata"]["annotations"]
    read = int(notes["nginx.ingress.kubernetes.io/proxy-read-timeout"])
    assert read > Settings.heartbeat + 5


# Python's search for a folder for temporary files finds none, as with a read-only root.
READ_ONLY = """
import runpy, sys, tempfile
sys.argv = sys.argv[3:]
tempfile._candidate_tempdir_list = lambda: ["/proc"]
runpy.run_module("gunicorn", run_name="__main__")
"""


def test_it_serves_where_only_its_folder_can_be_written(tmp_path: Path) -> None:
    env = {"TIDINGS_BROKER_URL": f"sqlite:///{tmp_path}/log.db"}
    prefix = [sys.executable, "-c", READ_ONLY]
    with serving(["-b", "127.0.0.1:0"], env, tmp_path / "log", prefix) as server:
        server.publish("x")
        assert server.http.get("/metrics").status_code == 200


def test_cloud_run_is_given_what_fits_it() -> None:
    [sh] = blocks("deploy/cloud-run.md", "Cloud Run", "sh")
    words = shlex.split(sh.replace("\\\n", " "))
    options = dict(pairwise(words))
    env = dict(pair.split("=", 1) for pair in options["--set-env-vars"].split(","))
    settings = accepted({**env, "TIDINGS_JWT_KEY": KEY})
    assert settings.drain + GOODBYE < 10
    assert settings.max_age < float(options["--timeout"]) <= 3600
    assert int(options["--concurrency"]) <= 1000


def test_the_table_of_limits_names_settings_that_there_are() -> None:
    table = section("deploy/overview.md", "Plan for proxies and platforms")
    for name in re.findall(r"(TIDINGS_\w+)", table):
        assert name.removeprefix("TIDINGS_").lower() in Settings.__dataclass_fields__
