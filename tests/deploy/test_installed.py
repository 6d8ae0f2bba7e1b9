"""The package `tidings` as pip installs it: the hub runs from any folder."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from support.embedded import running
from support.project import ROOT, environment
from support.waiting import PATIENCE
from webapp.core.version import __version__

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from support.server import Server

BUILD = "import sys; from setuptools import build_meta as b; b.build_{}(sys.argv[1])"
# What the repository has in webapp/ and templates/ must be in the wheel.
SOURCES = {
    f"tidings/{path.relative_to(ROOT if folder == 'templates' else ROOT / folder)}"
    for folder in ("webapp", "templates")
    for path in (ROOT / folder).rglob("*")
    if path.is_file() and path.suffix != ".pyc"
}


def build(kind: str, source: Path, target: Path) -> Path:
    """Build a wheel or an sdist of a folder, as pip does."""
    target.mkdir(exist_ok=True)
    command = [sys.executable, "-c", BUILD.format(kind), str(target)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [made] = target.iterdir()
    return made


@pytest.fixture(name="sdist", scope="module")
def _sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    for name in ("webapp", "templates", "pyproject.toml", "README.md", "LICENSE"):
        (folder / name).symlink_to(ROOT / name)
    return build("sdist", folder, folder / "dist")


@pytest.fixture(name="wheel", scope="module")
def _wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel that was built from the sdist alone."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    [source] = folder.iterdir()
    return build("wheel", source, folder / "dist")


@pytest.fixture(name="site", scope="module")
def _site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages that has Tidings; the packages it needs are those of the tests."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def settings(site: Path, env: dict[str, str]) -> dict[str, str]:
    return environment({"PYTHONPATH": str(site), **env})


def serving(
    site: Path, folder: Path, *arguments: str, **env: str
) -> AbstractContextManager[Server]:
    """Run `tidings serve` in a folder."""
    command = ["tidings", "serve", "--bind", "127.0.0.1:0", *arguments]
    log = folder.parent / f"{folder.name}.log"
    return running(folder, log, command, {"PYTHONPATH": str(site), **env})


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if name.startswith("tidings/")}
    assert names == SOURCES


def test_the_hub_runs_in_an_empty_folder(site: Path, folder: Path) -> None:
    with serving(site, folder) as server:
        with server.listen() as stream:
            server.publish("hello")
            assert "hello" in stream.take(3)  # the demo publishes, too
        for path in ("/", "/console", "/static/tidings.js", "/static/page.css", "/openapi.json"):
            assert server.http.get(path).status_code == 200, path
        assert f"(sqlite:///{folder / 'instance/tidings.db'})" in server.log
    assert [path.name for path in folder.iterdir()] == ["instance"]


def test_it_runs_no_code_of_the_current_folder(site: Path, folder: Path) -> None:
    for name in ("flask", "gunicorn", "gevent", "wsgi"):
        (folder / f"{name}.py").write_text("raise SystemExit('a file of the folder')")
    with serving(site, folder) as server:
        assert server.http.get("/healthz").status_code == 200
        assert "a file of the folder" not in server.log


def test_its_workers_share_the_event_log_in_a_folder_of_choice(site: Path, folder: Path) -> None:
    data = folder / "data"
    with serving(site, folder, "--workers", "2", "--data", "data") as server:
        with server.listen(topic="a") as first, server.listen(topic="a") as second:
            server.publish("hello", topic="a")
            assert first.take(1) == second.take(1) == ["hello"]
        assert server.log.count("Booting worker") == 2
    assert (data / "tidings.db").exists()
    again = serving(site, folder, "--data", str(data))
    with again as server, server.listen(topic="a", last=1) as stream:
        assert stream.take(1) == ["hello"]


@pytest.mark.parametrize(
    ("arguments", "env", "reason"),
    [
        (["--bind", "0.0.0.0:0"], {}, "TIDINGS_JWT_KEY"),
        (["--broker", "memory://", "--workers", "2"], {}, "TIDINGS_BROKER_URL"),
        (["--broker", "memory://", "--data", "x"], {}, "--data"),
        (["--bind", "127.0.0.1:0", "--", "-k", "sync"], {}, "-c python:tidings.server.conf"),
    ],
)
def test_it_refuses_what_the_hub_refuses(
    site: Path, folder: Path, arguments: list[str], env: dict[str, str], reason: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tidings", "serve", *arguments],
        cwd=folder,
        env=settings(site, env),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode != 0
    assert reason in done.stderr


def test_it_says_its_version(site: Path, folder: Path) -> None:
    command = [sys.executable, "-m", "tidings", "--version"]
    done = subprocess.run(
        command, cwd=folder, env=settings(site, {}), capture_output=True, text=True, check=True
    )
    assert done.stdout == f"tidings, version {__version__}\n"
