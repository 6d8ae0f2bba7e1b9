"""URLs, passwords, TLS, and servers that take no writes."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from support.events import MANY, contents, drafts, next_events
from support.ports import free_port
from support.programs import need
from support.redis_log import STATED
from support.redis_server import IN_MEMORY, RedisServer
from webapp.brokers.redis.broker import RedisBroker
from webapp.errors import Misconfigured, ServiceUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from support.broker_process import Connect
    from support.redis_server import Run


def test_a_server_that_takes_no_writes_can_be_read(server: RedisServer, connect: Connect) -> None:
    log = connect(server.url)
    start = log.bounds().head
    log.append(drafts("a"))
    server.ask("CONFIG", "SET", "min-replicas-to-write", "1")
    with pytest.raises(ServiceUnavailable, match="NOREPLICAS"):
        log.append(drafts("b"))
    assert contents(next_events(log.follow(start), 1)) == contents(log.read(start, MANY)) == ["a"]


def test_an_option_that_does_not_exist_is_refused_at_once() -> None:
    for option in ("ssl_cert_reqs=some", "no_such=1", "db=x"):
        with pytest.raises(Misconfigured, match="option"):
            RedisBroker(f"rediss://127.0.0.1/?{option}", 10, 1000, 10)


def test_only_the_hubs_log_names_the_server() -> None:
    port = free_port()
    log = RedisBroker(f"redis://:secret-word@127.0.0.1:{port}", 10, 1000, 10)
    with pytest.raises(ServiceUnavailable) as refused:
        log.bounds()
    said = str(refused.value)
    assert f"127.0.0.1:{port}: Connection refused" in said
    assert "secret-word" not in said
    assert str(port) not in str(refused.value.problem())
    log.close()


def test_a_wrong_password_is_said_without_it(run: Run, connect: Connect) -> None:
    server = run(*IN_MEMORY, "--requirepass", "the right one")
    for url in (server.url, server.url.replace("redis://", "redis://:wr0ng@")):
        log = connect(url)
        for call in (log.start("bounds"), log.start("append", drafts("a"))):
            with pytest.raises(ServiceUnavailable, match="password") as refused:
                call.result(STATED)
            assert "wr0ng" not in str(refused.value)
    log = connect(server.url.replace("redis://", "redis://:the%20right%20one@"))
    assert log.append(drafts("a"))


def test_a_server_behind_tls_is_reached(tmp_path: Path, run: Run, connect: Connect) -> None:
    names = ["-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "cert.pem"]
    request = [need("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", *names]
    subprocess.run(request, cwd=tmp_path, check=True, capture_output=True)
    key, cert = str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")
    tls = ["--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "no"]
    port = free_port()
    run(*IN_MEMORY, *tls, "--tls-port", str(port))
    url = f"rediss://127.0.0.1:{port}/0"
    log = connect(f"{url}?ssl_cert_reqs=none")
    follower = log.follow(log.bounds().head)
    log.append(drafts("a"))
    assert contents(next_events(follower, 1)) == ["a"]
    with pytest.raises(
        ServiceUnavailable, match="ssl_cert_reqs=none"
    ):  # nobody knows who signed it
        connect(url).bounds()
