"""A worker that ends TLS itself: what strangers do in handshakes and records."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import socket
import ssl
import struct
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from support.server import Server, serving
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_CONNECTIONS = 16
RECORD = b"\x17\x03\x03\x3f\xff"  # the head of a record with 16 KB of data


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("tls")
    certificate = make_certificate(folder)
    arguments = ["--certfile", str(certificate), "--keyfile", str(certificate)]
    arguments += ["--bind=127.0.0.1:0", f"--worker-connections={MAX_CONNECTIONS}"]
    env = {"TIDINGS_HEADER_TIMEOUT": "1s", "TIDINGS_DEMO": "0"}
    with serving(arguments, env, folder / "log") as found:
        yield found


def make_certificate(folder: Path) -> Path:
    """Make a key and a certificate for this machine, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + dt.timedelta(days=1))
    certificate = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    path = folder / "certificate.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


def context() -> ssl.SSLContext:
    found = ssl.create_default_context()
    found.check_hostname, found.verify_mode = False, ssl.CERT_NONE
    return found


def connect(server: Server) -> socket.socket:
    return socket.create_connection((server.host, server.port), PATIENCE)


def ask(server: Server, method: str, path: str) -> bytes:
    request = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with context().wrap_socket(connect(server)) as sock:
        sock.sendall(request.encode())
        return b"".join(iter(lambda: sock.recv(1 << 16), b""))


def client_hello() -> bytes:
    """Return what a client sends first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context().wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


def test_an_event_passes_through_tls(server: Server) -> None:
    with context().wrap_socket(connect(server)) as stream:
        stream.sendall(b"GET /events?topic=t HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = b""
        while b"hub.open" not in received:
            received += stream.recv(1 << 16)
        assert b" 200 OK" in ask(server, "POST", "/events?topic=t&data=hello")
        while b"data: hello\n" not in received:
            received += stream.recv(1 << 16)


@pytest.mark.parametrize(
    "begin",
    [b"", b"GET / HTTP/1.1\r\n\r\n", client_hello(), client_hello()[:99], b"\x16" * 600],
    ids=["nothing", "http", "hello", "half", "garbage"],
)
@pytest.mark.parametrize("reset", [False, True])
def test_a_handshake_that_fails_logs_nothing(server: Server, begin: bytes, *, reset: bool) -> None:
    before = other_lines(server)
    with connect(server) as sock:
        sock.sendall(begin)
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert b" 200 OK" in ask(server, "GET", "/healthz")
    assert other_lines(server) == before


def other_lines(server: Server) -> list[str]:
    """Return the lines of the log that are not of streams."""
    return [line for line in server.log.splitlines() if "] stream " not in line]


def drip(sock: socket.socket, data: bytes) -> None:
    """Send a byte at a time until the connection is closed."""
    sock.settimeout(0.05)
    pieces = iter(data)

    def is_closed() -> bool:
        try:
            sock.send(bytes([next(pieces, 0)]))
            return not sock.recv(1 << 16)
        except TimeoutError:
            return False
        except ConnectionError:
            return True

    until(is_closed, "the connection is closed")


def test_a_slow_handshake_has_the_time_of_a_header(server: Server) -> None:
    with connect(server) as sock:
        drip(sock, client_hello())
    assert b'refused_total{reason="header_timeout"}' in ask(server, "GET", "/metrics")


def test_a_slow_record_has_the_time_of_a_header(server: Server) -> None:
    with ExitStack() as stack:
        sock = stack.enter_context(context().wrap_socket(connect(server)))
        below = stack.enter_context(closing(socket.socket(fileno=os.dup(sock.fileno()))))
        below.sendall(RECORD)
        drip(below, b"x" * (1 << 14))


def test_handshakes_count_as_connections(server: Server) -> None:
    def files() -> int:
        return len(list(Path(f"/proc/{server.worker}/fd").iterdir()))

    before = until(files, "the worker has files")
    with ExitStack() as stack:
        for _ in range(5 * MAX_CONNECTIONS):
            stack.enter_context(connect(server))
        assert b" 200 OK" in ask(server, "GET", "/healthz")
        assert files() <= before + MAX_CONNECTIONS
