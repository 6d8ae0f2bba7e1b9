"""The Makefile's environment: which Python it takes, when it refuses, when it makes a new one."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from support.programs import need
from support.project import ROOT

if TYPE_CHECKING:
    from pathlib import Path

# As a Python would answer; an environment of its is of the Python that runs the tests.
_FAKE = """#!/bin/sh
[ "$1" = -c ] || {{ echo "made by {version}" >>"{log}"; exec "{python}" "$@" --without-pip; }}
exec "{python}" -c "import sys
sys.version, sys.version_info = '{version} fake', ({numbers}, 'final', 0)
exec(sys.argv[1])" "$2"
"""


class Environment:
    """A folder for the Makefile's environment, and Pythons that say which version they are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.venv = folder / "venv"
        self.log = folder / "log"

    def python(self, version: str) -> Path:
        """Return a Python that says that it is of a version."""
        path = self.folder / f"python{version}"
        numbers = version.replace(".", ", ")
        path.write_text(
            _FAKE.format(version=version, numbers=numbers, python=sys.executable, log=self.log)
        )
        path.chmod(0o755)
        return path

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `make` for the environment alone."""
        cfg = self.venv / "pyvenv.cfg"
        command = [need("make"), "-s", "-C", str(ROOT), f"VENV={self.venv}", str(cfg), *arguments]
        # The tests' own `make` would pass its variables on.
        ours = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
        ours.pop("PYTHON", None)
        return subprocess.run(command, env=ours, capture_output=True, text=True, check=False)

    def exists_as(self, version: str) -> None:
        """Make it as if a Python of this version had."""
        (self.venv / "bin").mkdir(parents=True)
        self.python(version).rename(self.venv / "bin/python")
        (self.venv / "pyvenv.cfg").touch()

    @property
    def made_by(self) -> list[str]:
        """Which Pythons made an environment."""
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture(name="environment")
def _environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path)


@pytest.mark.parametrize("version", ["2.7.18", "3.6.15", "3.10.12"])
def test_an_old_python_is_refused_with_what_to_do(environment: Environment, version: str) -> None:
    python = environment.python(version)
    run = environment.make(f"PYTHON={python}")
    assert run.returncode
    assert f"needs Python 3.11 or newer, and {python} is {version}." in run.stderr
    assert "PYTHON=python3.12" in run.stderr
    assert not environment.venv.exists()


def test_a_python_that_is_missing_is_named(environment: Environment) -> None:
    run = environment.make("PYTHON=/no/python")
    assert run.returncode
    assert "/no/python cannot be run." in run.stderr


def test_a_refused_python_leaves_a_good_environment_alone(environment: Environment) -> None:
    environment.exists_as("3.12.1")
    run = environment.make(f"PYTHON={environment.python('3.10.12')}")
    assert run.returncode
    assert (environment.venv / "bin/python").exists()


@pytest.mark.parametrize("version", ["3.11.0", "3.13.0"])
def test_an_environment_is_made_by_the_python_that_is_named(
    environment: Environment, version: str
) -> None:
    run = environment.make(f"PYTHON={environment.python(version)}")
    assert run.returncode == 0, run.stderr
    assert environment.made_by == [f"made by {version}"]
    assert (environment.venv / "bin/python").exists()


def test_an_environment_of_the_same_python_is_kept(environment: Environment) -> None:
    environment.exists_as("3.12.1")
    run = environment.make(f"PYTHON={environment.python('3.12.1')}")
    assert run.returncode == 0, run.stderr
    assert environment.made_by == []


def test_an_environment_is_kept_when_no_python_is_named(environment: Environment) -> None:
    environment.exists_as("3.12.1")
    run = environment.make()
    assert run.returncode == 0, run.stderr
    assert (environment.venv / "bin/python").read_text().startswith("#!/bin/sh")


@pytest.mark.parametrize("before", ["3.10.12", "3.11.9"])
def test_an_environment_of_another_python_is_made_again(
    environment: Environment, before: str
) -> None:
    environment.exists_as(before)
    run = environment.make(f"PYTHON={environment.python('3.12.1')}")
    assert run.returncode == 0, run.stderr
    assert environment.made_by == ["made by 3.12.1"]


def test_a_broken_environment_is_made_again(environment: Environment) -> None:
    environment.exists_as("3.12.1")
    (environment.venv / "bin/python").unlink()
    run = environment.make(f"PYTHON={environment.python('3.12.1')}")
    assert run.returncode == 0, run.stderr
    assert environment.made_by == ["made by 3.12.1"]
    assert (environment.venv / "bin/python").exists()


def test_an_environment_that_cannot_be_made_leaves_nothing(environment: Environment) -> None:
    python = environment.python("3.12.1")
    python.write_text(python.read_text().replace("exec", "false", 1))
    run = environment.make(f"PYTHON={python}")
    assert run.returncode
    assert "apt install python3-venv" in run.stderr
    assert not environment.venv.exists()
