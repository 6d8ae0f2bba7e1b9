"""Proxies in front of a hub, for real: nginx and Caddy, with what a test has them do."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from support.ports import free_port
from support.programs import need
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator

NGINX = """
daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 256; }}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
"""
CADDY = """{{
  admin off
  auto_https disable_redirects
  skip_install_trust
  local_certs
  storage file_system {folder}
}}
"""
CADDY_COMMAND = [str(Path(sys.executable).with_name("caddy")), "run"]
CADDY_COMMAND += ["--adapter", "caddyfile", "--config"]
SITE = """https://localhost:{port} {{
  bind 127.0.0.1
  reverse_proxy 127.0.0.1:{hub}
}}
"""


@contextmanager
def nginx(folder: Path, servers: str, hub: int) -> Iterator[int]:
    """Run nginx with these servers, in which {port} and {hub} are filled in; yield its port."""
    command = [need("nginx"), "-p", str(folder), "-c"]
    with _formatted(command, folder, f"{NGINX}{servers}\n}}}}\n", hub) as port:
        yield port


@contextmanager
def caddy(folder: Path, hub: int, site: str = SITE) -> Iterator[tuple[int, Path]]:
    """Run Caddy with a site; yield its port and the authority that its certificate is of."""
    with _formatted(CADDY_COMMAND, folder, CADDY + site, hub) as port:
        until(lambda: _speaks_tls(port), "Caddy has its certificate")
        yield port, folder / "pki/authorities/local/root.crt"


@contextmanager
def _formatted(command: list[str], folder: Path, config: str, hub: int) -> Iterator[int]:
    port = free_port()
    text = config.format(folder=folder, port=port, hub=hub)
    with running(command, folder, port, text):
        yield port


@contextmanager
def running(command: list[str], folder: Path, port: int, config: str) -> Iterator[None]:
    """Run a proxy, with the path of its configuration as the last argument."""
    path = folder / "config"
    path.write_text(config)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, str(path)], stdout=log, stderr=log)
    try:
        until(lambda: answers(port), "the proxy is up")
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)


def answers(port: int) -> bool:
    """Whether somebody listens."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _speaks_tls(port: int) -> bool:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as plain:
            context.wrap_socket(plain, server_hostname="localhost").close()
    except OSError:
        return False
    return True
