"""What the project says about itself, and whether its locks hold what it asks for."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import import_module
from typing import TYPE_CHECKING

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import webapp
from support.project import ROOT
from webapp.core.version import __version__

if TYPE_CHECKING:
    from support.server import Server

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
DEPENDENCIES = [Requirement(line) for line in PROJECT["dependencies"]]
TEST_DEPENDENCIES = [
    Requirement(line)
    for line in (ROOT / "tests/requirements.in").read_text().splitlines()
    if line and not line.startswith("#")
]
REACHED_INTO = {"flask", "gevent", "gunicorn", "prometheus-client", "redis", "werkzeug"}


def pins(lock: str) -> dict[str, set[Version]]:
    """Return the versions that a lock has of each package; every one must have its hashes."""
    found: dict[str, set[Version]] = {}
    for entry in (ROOT / lock).read_text().replace("\\\n", " ").splitlines():
        line, *hashes = entry.split(" --hash=")
        requirement = Requirement(line.strip())
        assert hashes, line
        [pin] = requirement.specifier
        assert pin.operator == "==", line
        found.setdefault(canonicalize_name(requirement.name), set()).add(Version(pin.version))
    return found


def test_the_version_is_written_in_one_place() -> None:
    assert PROJECT["dynamic"] == ["version"]
    module, _, name = PYPROJECT["tool"]["setuptools"]["dynamic"]["version"]["attr"].rpartition(".")
    assert getattr(import_module(module), name) == __version__ == webapp.__version__
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_hub_reports_the_version_everywhere(server: Server) -> None:
    assert server.http.get("/openapi.json").json()["info"]["version"] == __version__
    assert server.http.get("/console/state").json()["version"] == __version__
    assert f'tidings_build_info{{python="{sys.version.split()[0]}",version="{__version__}"}}' in (
        server.http.get("/metrics").text
    )
    with server.listen() as stream:
        assert f'"server": "tidings/{__version__}"' in stream.next().data


@pytest.mark.parametrize(
    ("module", "not_imported"),
    [
        ("webapp", {"ssl", "flask", "gevent"}),
        ("webapp.server.conf", {"ssl", "flask", "gevent"}),
        # gunicorn's own gevent worker imports ssl.
        ("webapp.server.worker", {"flask", "redis", "jwt", "prometheus_client", "webapp.app"}),
    ],
)
def test_what_gunicorns_master_imports_leaves_ssl_to_the_worker(
    module: str, not_imported: set[str]
) -> None:
    """What uses ssl must be imported after gevent has patched the worker."""
    code = f"import sys, {module}; print(sorted({not_imported!r} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout == "[]\n"


def test_the_licence_is_in_the_metadata_and_in_its_file() -> None:
    assert PROJECT["license"] == "MIT"
    for name in PROJECT["license-files"]:
        assert (ROOT / name).read_text().startswith("MIT License\n")


def test_packages_whose_internals_are_used_have_an_upper_bound() -> None:
    bounded = {
        dependency.name
        for dependency in DEPENDENCIES
        if any(specifier.operator == "<" for specifier in dependency.specifier)
    }
    assert bounded == REACHED_INTO


@pytest.mark.parametrize(
    ("lock", "dependencies"),
    [("requirements.txt", DEPENDENCIES), ("tests/requirements.txt", TEST_DEPENDENCIES)],
    ids=["hub", "tests"],
)
def test_the_lock_satisfies_the_dependencies(lock: str, dependencies: list[Requirement]) -> None:
    """`make lock` writes it again."""
    locked = pins(lock)
    for dependency in dependencies:
        versions = locked[canonicalize_name(dependency.name)]
        assert all(dependency.specifier.contains(version) for version in versions), dependency


def test_both_locks_have_the_same_version_of_a_package() -> None:
    hub, tests = pins("requirements.txt"), pins("tests/requirements.txt")
    assert {name: hub[name] for name in hub.keys() & tests.keys()} == {
        name: tests[name] for name in hub.keys() & tests.keys()
    }


def test_the_workflow_runs_the_ci_script_and_may_only_read() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert workflow["permissions"] == {"contents": "read"}
    [job] = workflow["jobs"].values()
    assert job["steps"][-1] == {"run": "bash .ci/run"}
    actions = [step["uses"] for step in job["steps"] if "uses" in step]
    assert actions
    assert all(re.fullmatch(r"actions/\w+@[0-9a-f]{40}", action) for action in actions)


def test_dependabot_knows_every_lock() -> None:
    config = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text())
    known = {(it["package-ecosystem"], it["directory"]) for it in config["updates"]}
    assert known == {("pip", "/"), ("pip", "/tests"), ("npm", "/tests"), ("github-actions", "/")}


def test_pre_commit_runs_the_locked_ruff() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    [repo] = config["repos"]
    [version] = pins("tests/requirements.txt")["ruff"]
    assert repo["rev"] == f"v{version}"
    assert [hook["id"] for hook in repo["hooks"]] == ["ruff-check", "ruff-format"]


def test_issue_forms_are_readable_and_name_what_they_ask() -> None:
    forms = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
    for form in (yaml.safe_load(path.read_text()) for path in forms if path.stem != "config"):
        assert form["name"]
        assert form["description"]
        asked = [field for field in form["body"] if field["type"] != "markdown"]
        assert len({field["id"] for field in asked}) == len(asked)
        assert all(field["attributes"]["label"] for field in asked)
