"""Names of settings: what is injected is ignored, and mistakes are refused with a proposal."""

from __future__ import annotations

import pytest

from webapp.config.settings import Settings
from webapp.errors import Misconfigured

KUBERNETES = {
    "TIDINGS_SERVICE_HOST": "10.0.0.1",
    "TIDINGS_SERVICE_PORT": "8000",
    "TIDINGS_SERVICE_PORT_HTTP": "8000",
    "TIDINGS_PORT": "tcp://10.0.0.1:8000",
    "TIDINGS_PORT_8000_TCP": "tcp://10.0.0.1:8000",
    "TIDINGS_PORT_8000_TCP_PROTO": "tcp",
    "TIDINGS_PORT_8000_TCP_PORT": "8000",
    "TIDINGS_PORT_8000_TCP_ADDR": "10.0.0.1",
}
REDIS = {name.replace("TIDINGS_", "TIDINGS_REDIS_"): value for name, value in KUBERNETES.items()}
LINKED = {"TIDINGS_NAME": "/web/tidings", "TIDINGS_REDIS_ENV_REDIS_VERSION": "7.0.15"}


@pytest.mark.parametrize("injected", [KUBERNETES, REDIS, LINKED], ids=["own", "redis", "docker"])
def test_what_a_container_platform_injects_is_ignored(injected: dict[str, str]) -> None:
    assert Settings.from_env(injected) == Settings.from_env({})
    with pytest.raises(Misconfigured, match="mean TIDINGS_HEARTBEAT"):
        Settings.from_env({**injected, "TIDINGS_HEARTBEET": "5"})


@pytest.mark.parametrize(
    ("setting", "remedy"),
    [
        ("PORT=8123", "To choose the address of the hub, set TIDINGS_BIND=127.0.0.1:8123."),
        ("HOST=0.0.0.0", "To choose the address of the hub, set TIDINGS_BIND=0.0.0.0:8000."),
        ("HOST=::1", "To choose the address of the hub, set TIDINGS_BIND=[::1]:8000."),
        ("PORT=http", "To choose the address of the hub, set TIDINGS_BIND=127.0.0.1:8123."),
        ("WORKERS=2", "Did you mean WEB_CONCURRENCY?"),
        ("SECRET=x", "Did you mean TIDINGS_JWT_KEY?"),
        ("JWT_SECRET=x", "Did you mean TIDINGS_JWT_KEY?"),
        ("REDIS_URL=redis://h", "Did you mean REDIS_URL?"),
        ("DATABASE_URL=x", "Did you mean TIDINGS_BROKER_URL?"),
        ("CORS_ALLOWED_ORIGINS=x", "Did you mean TIDINGS_CORS_ORIGINS?"),
        ("HISTORY_EVENT=1", "Did you mean TIDINGS_HISTORY_EVENTS?"),
        ("BIND_ADDRESS=x", "To choose the address of the hub, set TIDINGS_BIND="),
        ("LOGLEVEL=debug", "Did you mean GUNICORN_CMD_ARGS='--log-level debug'?"),
        ("QWERTY=1", "Leave it out."),
        ("NAME=mine", "Leave it out."),
    ],
)
def test_an_unknown_setting_is_refused_with_what_was_meant(setting: str, remedy: str) -> None:
    name, value = setting.split("=", 1)
    with pytest.raises(Misconfigured) as refused:
        Settings.from_env({f"TIDINGS_{name}": value})
    assert refused.value.remedy.startswith(remedy)


def test_an_unknown_host_and_port_are_proposed_as_one_address() -> None:
    with pytest.raises(Misconfigured, match=r"TIDINGS_BIND=192\.0\.2\.1:81\."):
        Settings.from_env({"TIDINGS_HOST": "192.0.2.1", "TIDINGS_PORT": "81"})


@pytest.mark.parametrize(
    "text", ["127.0.0.1:8123", "[::1]:0, localhost:80", "unix:/run/a b.sock", "0.0.0.0:65535"]
)
def test_addresses_are_read(text: str) -> None:
    assert ", ".join(Settings.from_env({"TIDINGS_BIND": text}).bind) == text


@pytest.mark.parametrize(
    "text", ["", "8123", ":8123", "::1:80", "127.0.0.1", "h:65536", "h:80,", "http://h:80", "*:80"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(Misconfigured, match=r"127\.0\.0\.1:8123"):
        Settings.from_env({"TIDINGS_BIND": text})


@pytest.mark.parametrize(
    ("value", "shown"),
    [("abc", "TIDINGS_HEARTBEAT='abc' is not"), ("x" * 99, f"='{'x' * 40}'... is not")],
)
def test_the_value_that_is_refused_is_shown_in_quotes(value: str, shown: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        Settings.from_env({"TIDINGS_HEARTBEAT": value})
    assert shown in str(refused.value)
