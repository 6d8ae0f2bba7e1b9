"""URLs, passwords, TLS, and servers that take no writes."""

from __future__ import annotations

import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import pytest
import redis

from support.doc_pages import blocks
from support.events import MANY, contents, drafts, next_events
from support.ports import free_port
from support.programs import need
from support.redis_log import STATED
from support.redis_server import IN_MEMORY, RedisServer
from support.waiting import until
from webapp.brokers.redis.broker import RedisBroker
from webapp.brokers.redis.problems import ACL_RULES
from webapp.core.events import Draft
from webapp.errors import Misconfigured, ServiceUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from support.broker_process import BrokerProcess, Connect
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


@pytest.mark.parametrize(
    ("command", "path", "said"),
    [
        ((), "7777", "does not have the database.*Correct the number"),
        (
            ("CONFIG", "SET", "replica-serve-stale-data", "no"),
            "0",
            "lost its master.*Name the master",
        ),
        (
            ("ACL", "SETUSER", "default", "-xadd", "-xlen"),
            "0",
            "does not permit.*ACL SETUSER",
        ),
        (("ACL", "SETUSER", "default", "resetkeys", "~x"), "0", "does not permit.*{tidings}"),
    ],
    ids=["database", "master", "command", "key"],
)
def test_a_refusal_says_what_to_do(
    server: RedisServer, connect: Connect, command: tuple[str, ...], path: str, said: str
) -> None:
    if "replica-serve-stale-data" in command:
        server.ask("REPLICAOF", "127.0.0.1", "1")
    if command:
        server.ask(*command)
    log = connect(server.base_url + path)
    for call in (log.start("append", drafts("a")), log.start("bounds")):
        with pytest.raises(ServiceUnavailable, match=said):
            call.result(STATED)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--cluster-enabled", "yes", "--cluster-port", str(free_port())),
            "Redis Cluster.*not in a cluster",
        ),
        (("--rename-command", "EVALSHA", ""), "does not have a command.*Use Redis 7 or Valkey"),
        (("--rename-command", "XADD", ""), "does not have a command.*Use Redis 7 or Valkey"),
    ],
    ids=["cluster", "script", "command"],
)
def test_a_server_of_another_kind_is_named(
    run: Run, connect: Connect, options: tuple[str, ...], said: str
) -> None:
    log = connect(run(*IN_MEMORY, *options).url)
    with pytest.raises(ServiceUnavailable, match=said):
        log.append(drafts("a"))


def test_a_sentinel_is_named(connect: Connect, tmp_path: Path) -> None:
    config, port = tmp_path / "sentinel.conf", free_port()
    config.write_text("bind 127.0.0.1\n")
    command = [need("redis-server"), str(config), "--sentinel", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as sentinel:
        try:
            for path in "01":
                log = connect(f"redis://127.0.0.1:{port}/{path}")
                until(partial(is_named_a_sentinel, log), "it is named")
        finally:
            sentinel.kill()


def is_named_a_sentinel(log: BrokerProcess) -> bool:
    with pytest.raises(ServiceUnavailable) as refused:
        log.bounds()
    return "is a Redis Sentinel" in str(refused.value)


def test_the_acl_line_of_the_docs_is_enough(server: RedisServer, connect: Connect) -> None:
    [line] = blocks("deploy/event-log.md", "Redis or Valkey", "text")
    assert line.strip().endswith(f">PASSWORD {ACL_RULES}")
    server.ask(*line.split())
    url = server.base_url.replace("redis://", "redis://tidings:PASSWORD@")
    for log in (connect(url + path, HISTORY_EVENTS=10) for path in "01"):
        server.ask("DEL", "{tidings}:topics")  # so that it is built again
        follower = log.follow(log.bounds().head)
        log.append([*drafts("a", id="own"), *drafts(*["x" * 100_000] * 3)])
        assert contents(next_events(follower, 4))[0] == "a"
        assert log.position_of("own")
        log.append([Draft(topics=("other",), id="own"), Draft(topics=("t", "u"), private=True)])
        next_events(follower, 2)
        assert len(log.positions_of("own", None, 10)) == 2
        for n in range(40):  # the oldest are trimmed
            log.append([Draft(topics=("t", f"{n} {m}"), id=f"{n} {m}") for m in range(4)])
        next_events(follower, 160)
        assert log.read_topics(log.bounds().floor, 1000, ["t"]).events
        assert log.before_topics(log.bounds().head, 1, 1000, ["t"])
        [newest] = log.newest(["t"], log.bounds().head, public=True)
        assert log.read_at([newest], 1000)
        assert log.topics("", "", 1).entries
        log.heartbeat({"one": "{}"})
        assert log.subscribers() == [("one", "{}")]
        log.revoke("token", time.time() + 60, "notice")
        log.revoke_subject("subject", time.time(), 0.0, "notice")
        assert log.revoked()
        assert log.subjects()
        log.deregister()
    assert not server.ask("ACL", "LOG")


def test_a_command_that_is_not_permitted_is_named(server: RedisServer) -> None:
    server.ask("ACL", "SETUSER", "default", "-client|setname")
    log = RedisBroker(server.url, 10, 1000, 10)
    with pytest.raises(ServiceUnavailable, match=r"client\|setname.*ACL SETUSER") as refused:
        log.bounds()
    assert "client|setname' command" not in str(refused.value.problem())
    log.close()


def test_a_server_with_too_many_clients_is_named(server: RedisServer, connect: Connect) -> None:
    log = connect(server.url)
    with redis.Redis(port=server.port) as client:
        client.config_set("maxclients", 1)
        with pytest.raises(ServiceUnavailable, match=r"as many clients.*Raise its maxclients"):
            log.bounds()


def test_a_program_that_is_no_redis_is_named(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        call = connect(f"redis://127.0.0.1:{listener.getsockname()[1]}/0").start("bounds")
        client, _ = listener.accept()
        with client:
            client.recv(1000)
            client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            with pytest.raises(ServiceUnavailable, match=r"not a Redis.*Correct TIDINGS"):
                call.result(STATED)


def test_a_script_that_does_not_end_is_named(server: RedisServer, connect: Connect) -> None:
    log = connect(server.url)
    log.bounds()
    server.ask("CONFIG", "SET", "busy-reply-threshold", "10")
    with redis.Redis(port=server.port) as client, ThreadPoolExecutor() as pool:
        endless = pool.submit(client.eval, "while true do end", 0)
        until(lambda: "BUSY" in str(answer_or_error(server)), "the script runs")
        with pytest.raises(ServiceUnavailable, match=r"another program's script.*SCRIPT KILL"):
            log.bounds()
        server.ask("SCRIPT", "KILL")
        assert endless.exception(STATED)


def answer_or_error(server: RedisServer) -> object:
    try:
        return server.ask("PING")
    except redis.RedisError as error:
        return error
