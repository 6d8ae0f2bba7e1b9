"""The proxies of the page on reverse proxies, each run with the block that the page has for it."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from support.doc_pages import blocks
from support.ports import free_port
from support.programs import need
from support.proxies import CADDY, CADDY_COMMAND, NGINX, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Proxy(NamedTuple):
    """How to run a proxy on loopback without TLS. {folder} and {port} are filled in.

    :param command: its last argument is the path of its configuration, which is added.
    :param changes: what differs in the block, as regular expressions.
    :param around: the rest of its configuration, with the block as {block}. Compression is on there
        where the proxy has it, for all that the block does not exempt.
    """

    command: list[str]
    block: str
    changes: dict[str, str]
    around: str = "{block}"


_PAGE = [
    *blocks("deploy/reverse-proxy.md", "Caddy", "caddy"),
    *blocks("deploy/reverse-proxy.md", "nginx", "nginx"),
    *blocks("deploy/reverse-proxy.md", "HAProxy", "haproxy"),
    *blocks("deploy/reverse-proxy.md", "Apache", "apache"),
    *blocks("deploy/reverse-proxy.md", "Varnish", "vcl"),
    *blocks("deploy/reverse-proxy.md", "lighttpd", "lighttpd"),
]
_HAPROXY = """defaults
    timeout connect 5s
    timeout client 50s
    timeout server 50s
    compression algo gzip
{block}"""
_APACHE_MODULES = [
    *("mpm_event", "authz_core", "deflate", "env", "filter", "headers", "proxy", "proxy_http"),
]
_APACHE = """ServerRoot {folder}
ServerName localhost
DefaultRuntimeDir {folder}
PidFile {folder}/pid
ErrorLog {folder}/error.log
Listen 127.0.0.1:{port}
""" + "".join(
    f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n" for name in _APACHE_MODULES
)
_LIGHTTPD = """server.bind = "127.0.0.1"
server.port = {port}
server.document-root = "{folder}"
server.modules = ( "mod_deflate" )
deflate.mimetypes = ( "text/" )
deflate.allowed-encodings = ( "gzip" )
{block}"""
PROXIES = {
    "caddy": Proxy(
        CADDY_COMMAND,
        _PAGE[0],
        {r"hub\.example {": "http://127.0.0.1:{port} {\n\tbind 127.0.0.1\n\tencode"},
        CADDY.replace("{{", "{").replace("}}", "}") + "{block}",
    ),
    "nginx": Proxy(
        ["nginx", "-p", "{folder}", "-c"],
        _PAGE[1],
        {r"listen 443 ssl http2": "listen 127.0.0.1:{port}", r"\n *ssl_.*": ""},
        NGINX.replace("{{", "{").replace("}}", "}")
        + "gzip on; gzip_types *; gzip_proxied any;\n{block}}",
    ),
    "haproxy": Proxy(
        ["haproxy", "-db", "-f"],
        _PAGE[2],
        {r"bind :443 .*": "bind 127.0.0.1:{port}"},
        _HAPROXY,
    ),
    "apache": Proxy(
        ["apache2", "-D", "FOREGROUND", "-f"],
        _PAGE[3],
        {
            r"\*:443": "127.0.0.1:{port}",
            r"\n *(SSL|Protocols).*": "",
            r"</Virt": "SetOutputFilter DEFLATE\n</Virt",
        },
        _APACHE + "{block}",
    ),
    "varnish": Proxy(
        [
            "varnishd",
            "-j",
            "none",
            "-F",
            "-n",
            "{folder}",
            "-a",
            "127.0.0.1:{port}",
            "-s",
            "malloc,8M",
            "-f",
        ],
        _PAGE[4],
        {},
    ),
    "lighttpd": Proxy(["lighttpd", "-D", "-f"], _PAGE[5], {}, _LIGHTTPD),
}


@contextmanager
def page_proxy(name: str, folder: Path, hub: int, **changes: str) -> Iterator[int]:
    """Run a proxy before a hub; yield its port.

    :param changes: what else differs in the block.
    """
    proxy, port = PROXIES[name], free_port()
    block = proxy.block
    for pattern, new in {**proxy.changes, **changes}.items():
        block, count = re.subn(pattern, new.replace("\\", r"\\"), block)
        assert count, f"{name}: {pattern}"
    block = re.sub(r"127\.0\.0\.1(:|\D+)8000", rf"127.0.0.1\g<1>{hub}", block)

    def filled(text: str) -> str:
        return text.replace("{folder}", str(folder)).replace("{port}", str(port))

    program, *options = [filled(part) for part in proxy.command]
    path = program if "/" in program else need(program)
    with running([path, *options], folder, port, filled(proxy.around.replace("{block}", block))):
        yield port
