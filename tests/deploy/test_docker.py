"""The Dockerfile and compose.yaml, as far as they can be tried without a daemon: a copy of the
image's folder is served by the image's own command.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from support.doc_pages import blocks
from support.ports import free_port
from support.programs import need
from support.project import ROOT, environment
from support.server import Server
from support.tokens import KEY, token
from support.waiting import PATIENCE, until
from webapp.config.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

STEPS = [
    (line.partition(" ")[0], line.partition(" ")[2])
    for line in (ROOT / "Dockerfile").read_text().splitlines()
    if line and not line.startswith("#")
]


def step(name: str) -> str:
    [found] = [text for kind, text in STEPS if kind == name]
    return found


@pytest.fixture(name="app")
def _app(tmp_path: Path) -> Path:
    """The folder that the Dockerfile makes."""
    app = tmp_path / "app"
    app.mkdir()
    for kind, text in STEPS:
        if kind == "COPY":
            *sources, target = text.split()
            for source in sources:
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, app / target, dirs_exist_ok=True)
                else:
                    shutil.copy(ROOT / source, app / target)
    return app


def image_environment(**env: str) -> dict[str, str]:
    """The environment of a container; its programs are those of the tests."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    image = dict(it.split("=") for it in step("ENV").split())
    return environment({**image, "PATH": path, **env})


READ_ONLY = """
set -e
mount --make-rprivate /
mount --bind instance instance
mount -o remount,bind,ro /
mount -o remount,bind,ro /dev/shm
exec "$@"
"""


@contextmanager
def container(app: Path, *prefix: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the image's command."""
    with (app.parent / "log").open("wb") as out:
        process = subprocess.Popen(
            [*prefix, *json.loads(step("CMD"))],
            cwd=app,
            env=image_environment(**env),
            stdout=out,
            stderr=out,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE)


def health(app: Path, port: int) -> int:
    """Run the image's health check; return its exit status."""
    command = json.loads(step("HEALTHCHECK").partition(" CMD ")[2])
    env = image_environment(PORT=str(port))
    return subprocess.run(command, cwd=app, env=env, capture_output=True, check=False).returncode


def test_the_image_serves_where_its_environment_says(app: Path) -> None:
    env = {"TIDINGS_JWT_KEY": KEY, "TIDINGS_BIND": "127.0.0.1:0"}
    with container(app, **env) as process:
        server = Server(process, app.parent / "log")
        with server.http:
            bearer = {"Authorization": f"Bearer {token(publish=['*'])}"}
            assert (
                server.http.post("/events", data={"data": "x"}, headers=bearer).status_code == 200
            )
            assert server.http.get("/static/tidings.js").status_code == 200
            assert server.http.get("/").status_code == 200
            assert (app / "instance/tidings.db").exists()
            assert health(app, server.port) == 0
            # As `docker exec` runs it.
            asked = ["python", "-m", "webapp", "token", "--publish", "*"]
            made = subprocess.run(
                asked,
                cwd=app,
                env=image_environment(**env),
                capture_output=True,
                text=True,
                check=True,
            )
            settings = {"TIDINGS_TOKEN": made.stdout.strip(), "TIDINGS_URL": server.url}
            publish = ["python", "-m", "webapp", "publish", "hello"]
            subprocess.run(
                publish, cwd=app, env=image_environment(**settings), capture_output=True, check=True
            )
    assert health(app, server.port) != 0


def test_the_image_runs_where_its_root_is_read_only(app: Path) -> None:
    unshare = need("unshare")
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    (app / "instance").mkdir()
    env = {"TIDINGS_JWT_KEY": KEY, "TIDINGS_BIND": "127.0.0.1:0", "PYTHONDONTWRITEBYTECODE": "1"}
    with container(app, unshare, "-m", "sh", "-c", READ_ONLY, "sh", **env) as process:
        server = Server(process, app.parent / "log")
        with server.http, server.listen(topic="t") as stream:
            bearer = {"Authorization": f"Bearer {token(publish=['*'], subscribe=['*'])}"}
            event = {"topic": "t", "data": "x"}
            assert server.http.post("/events", data=event, headers=bearer).status_code == 200
            assert stream.take(1) == ["x"]
            assert server.http.get("/metrics", headers=bearer).status_code == 200
        assert "Traceback" not in server.log


def test_a_platforms_port_counts(app: Path) -> None:
    port = free_port()
    with container(app, TIDINGS_JWT_KEY=KEY, PORT=str(port)):
        until(lambda: health(app, port) == 0, "it is healthy")


def test_without_a_key_the_image_is_refused(app: Path) -> None:
    done = subprocess.run(
        json.loads(step("CMD")),
        cwd=app,
        env=image_environment(TIDINGS_BIND="0.0.0.0:0"),  # port 8000 may be taken
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode != 0
    assert "TIDINGS_JWT_KEY" in done.stderr


def test_the_image_runs_as_nobody_and_becomes_the_hub() -> None:
    assert int(step("USER")) > 0
    assert step("WORKDIR") == "/app"
    shell = json.loads(step("CMD"))
    assert shell[:2] == ["sh", "-c"]
    assert f"${{TIDINGS_BIND:-0.0.0.0:{step('EXPOSE')}}}" in shell[2]
    assert shell[2].endswith("exec gunicorn wsgi:app")  # so that signals reach it


def test_what_the_image_needs_is_sent_to_the_daemon() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    copied = [source for kind, text in STEPS if kind == "COPY" for source in text.split()[:-1]]
    assert copied
    assert not [it for it in copied if any(fnmatch(it, pattern) for pattern in ignored)]
    assert {"jwt.key", "instance", ".git"} <= set(ignored)


def composed(name: str) -> tuple[dict[str, Any], dict[str, Any], Settings]:
    """Return the services of a file, and the hub's settings; these are checked."""
    file = yaml.safe_load((ROOT / name).read_text())
    hub, log = file["services"]["hub"], file["services"]["log"]
    env = {
        name: re.sub(r"\$\{\w+:-(.*)\}", r"\1", text) for name, text in hub["environment"].items()
    }
    assert env["TIDINGS_JWT_KEY"].startswith("${TIDINGS_JWT_KEY:?")
    url = env["TIDINGS_BROKER_URL"].replace("${POSTGRES_PASSWORD}", "0f")
    settings = Settings.from_env({**env, "TIDINGS_JWT_KEY": KEY, "TIDINGS_BROKER_URL": url})
    assert settings.drain + 2 < int(hub["stop_grace_period"].removesuffix("s"))
    assert hub["read_only"]
    assert list(hub["depends_on"]) == ["log"]
    assert {volume.partition(":")[0] for volume in log["volumes"]} == set(file["volumes"])
    return hub, log, settings


def test_compose_gives_the_hub_what_fits_it() -> None:
    _, log, settings = composed("compose.yaml")
    assert settings.broker_url == "redis://log:6379"
    options = dict(zip(log["command"][1::2], log["command"][2::2], strict=True))
    assert options == {
        "--appendonly": "yes",
        "--appendfsync": "always",
        "--maxmemory-policy": "noeviction",
    }


def test_compose_with_postgresql_differs_in_the_event_log_only() -> None:
    hub, log, settings = composed("compose.postgres.yaml")
    other = composed("compose.yaml")[0]
    assert {key for key in hub if hub[key] != other[key]} == {"environment", "depends_on"}
    user = log["environment"]["POSTGRES_USER"]
    assert settings.broker_url == f"postgresql://{user}:0f@log/{user}"
    assert log["environment"]["POSTGRES_PASSWORD"].startswith("${POSTGRES_PASSWORD:?")
    assert hub["depends_on"]["log"] == {"condition": "service_healthy"}
    assert log["healthcheck"]["test"][1] == "pg_isready"
    [start] = blocks("deploy/docker.md", "With PostgreSQL", "sh")
    assert "docker compose -f compose.postgres.yaml up" in start


def test_the_documented_command_fits_the_image() -> None:
    make, execute = blocks("deploy/docker.md", "One container", "sh", "sh")
    words = shlex.split(make.replace("\\\n", " "))
    published = words[words.index("-p") + 1]
    assert published.split(":")[1] == step("EXPOSE")
    volume = words[words.index("-v") + 1]
    assert volume.split(":")[1] == f"{step('WORKDIR')}/instance"
    assert int(words[words.index("--stop-timeout") + 1]) > Settings.drain + 2
    assert "python -m webapp token" in execute
