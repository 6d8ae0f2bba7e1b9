"""Secrets that files have, and keys that are not what they should be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.signing_keys import RSA, pem
from support.tokens import KEY
from webapp.config.settings import Settings
from webapp.errors import Misconfigured

KEYS = ["TIDINGS_JWT_KEY", "TIDINGS_PUBLISHER_JWT_KEY", "TIDINGS_SUBSCRIBER_JWT_KEY"]


def in_file(folder: Path, content: bytes) -> str:
    (folder / "secret").write_bytes(content)
    return str(folder / "secret")


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("content", [KEY, f"{KEY}\n", f"{KEY}\r\n"])
def test_a_file_has_a_key(tmp_path: Path, name: str, content: str) -> None:
    env = {"TIDINGS_JWT_KEY": KEY} if name != "TIDINGS_JWT_KEY" else {}
    env |= {f"{name}_FILE": in_file(tmp_path, content.encode())}
    assert getattr(Settings.from_env(env), name.removeprefix("TIDINGS_").lower()) == (KEY,)


def test_a_file_has_a_public_key(tmp_path: Path) -> None:
    path = in_file(tmp_path, pem(RSA).encode())
    assert Settings.from_env({"TIDINGS_JWT_KEY_FILE": path}).jwt_key == (pem(RSA).strip(),)


@pytest.mark.parametrize(
    "url", ["redis://:pass@redis.example/1", "$REDIS_URL?ssl_cert_reqs=none", "memory://"]
)
def test_a_file_has_the_url_of_the_event_log(tmp_path: Path, url: str) -> None:
    env = {"REDIS_URL": "rediss://other.example"}
    env |= {"TIDINGS_BROKER_URL_FILE": in_file(tmp_path, f"{url}\n".encode())}
    expected = url.replace("$REDIS_URL", env["REDIS_URL"])
    assert Settings.from_env(env).broker_url == expected


def refusal(env: dict[str, str]) -> str:
    with pytest.raises(Misconfigured) as refused:
        Settings.from_env(env)
    assert KEY not in str(refused.value)
    return str(refused.value)


def test_a_setting_has_a_value_or_a_file(tmp_path: Path) -> None:
    env = {"TIDINGS_JWT_KEY": KEY, "TIDINGS_JWT_KEY_FILE": in_file(tmp_path, KEY.encode())}
    assert "TIDINGS_JWT_KEY and TIDINGS_JWT_KEY_FILE are both set" in refusal(env)


def test_a_file_that_cannot_be_read_is_refused_with_its_setting(tmp_path: Path) -> None:
    missing = refusal({"TIDINGS_JWT_KEY_FILE": str(tmp_path / "missing")})
    assert "file that TIDINGS_JWT_KEY_FILE names cannot be read: No such file" in missing
    assert "cannot be read: File name too long" in refusal({"TIDINGS_JWT_KEY_FILE": "x" * 5000})
    os.mkfifo(tmp_path / "fifo")
    wrong = [tmp_path, tmp_path / "fifo", in_file(tmp_path, b""), "/dev/zero"]
    for path in wrong:
        assert "does not name a file of 1 byte" in refusal({"TIDINGS_JWT_KEY_FILE": str(path)})
    assert "does not name a file of 1 byte" in refusal(
        {"TIDINGS_BROKER_URL_FILE": in_file(tmp_path, b"x" * 70_000)}
    )


def test_a_key_in_a_file_is_checked_as_any_other(tmp_path: Path) -> None:
    text = refusal({"TIDINGS_JWT_KEY_FILE": in_file(tmp_path, b"short")})
    assert "TIDINGS_JWT_KEY is not valid" in text
    binary = in_file(tmp_path, b"\xff" * 40)
    assert "Set it to text in UTF-8" in refusal({"TIDINGS_JWT_KEY_FILE": binary})


WRONG_KEYS = {
    "a path": ("/run/secrets/tidings_jwt_key_file", "…_FILE setting"),
    "a path in a home": ("~/secrets/the-key-of-the-hub.txt.backup", "…_FILE setting"),
    "a relative path": ("./secrets/the-key-of-the-hub.txt.backup", "…_FILE setting"),
    "a URL of a file": ("file:///run/secrets/tidings_jwt_key_file", "…_FILE setting"),
    "a path that exists": (str(Path(__file__)), "…_FILE setting"),
    "in quotes": (f'"{KEY}"', "without the quotes"),
    "in single quotes": (f"'{KEY}'", "without the quotes"),
    "a byte order mark": (f"\ufeff{KEY}", "byte order mark"),
    "a variable": ("${THE_SECRET_OF_ANOTHER_VARIABLE_HERE}", "no shell"),
    "a command": ("$(openssl rand -hex 32 | tr -d '\\n')", "no shell"),
    "not UTF-8": (f"{KEY}\udcff", "text in UTF-8"),
}


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize(("text", "reason"), WRONG_KEYS.values(), ids=WRONG_KEYS)
def test_what_is_no_key_is_refused_with_the_reason(name: str, text: str, reason: str) -> None:
    said = refusal({name: text})
    assert said.startswith(f"{name} is not valid.")
    assert reason in said
    assert text not in said


@pytest.mark.parametrize(
    "key", ["/abc+def/ghijklmnopqrstuvwxyz0123456789ABCDE=", "/9j4AAQSkZJRgABAQEAYABgAAD2wBDAAg"]
)
def test_a_key_in_base64_may_begin_with_a_slash(key: str) -> None:
    assert Settings.from_env({"TIDINGS_JWT_KEY": key}).jwt_key == (key,)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("TIDINGS_HEARTBEAT", '"15s"'),
        ("TIDINGS_BROKER_URL", "'redis://redis.example'"),
        ("TIDINGS_CORS_ORIGINS", '"https://a.example"'),
        ("TIDINGS_JWT_ISSUER", '"https://issuer.example"'),
        ("REDIS_URL", '"redis://redis.example"'),
        ("PORT", '"8000"'),
    ],
)
def test_the_quotes_around_any_setting_are_named(name: str, text: str) -> None:
    assert "without the quotes" in refusal({name: text})
