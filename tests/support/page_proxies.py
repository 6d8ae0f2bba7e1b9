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
    :param files: what else it reads, in its folder.
    :param around: the rest of its configuration, with the block as {block}. Compression is on there
        where the proxy has it, for all that the block does not exempt.
    """

    command: list[str]
    block: str
    changes: dict[str, str]
    around: str = "{block}"
    files: dict[str, str] = {}  # noqa: RUF012 - nothing changes it


_PAGE = [
    *blocks("deploy/reverse-proxy.md", "Caddy", "caddy"),
    *blocks("deploy/reverse-proxy.md", "nginx", "nginx"),
    *blocks("deploy/reverse-proxy.md", "HAProxy", "haproxy"),
    *blocks("deploy/reverse-proxy.md", "Apache", "apache", "http"),
    *blocks("deploy/reverse-proxy.md", "Varnish", "vcl"),
    *blocks("deploy/reverse-proxy.md", "lighttpd", "lighttpd", "sh"),
]
_HAPROXY = """defaults
    timeout connect 5s
    timeout client 50s
    timeout server 50s
    compression algo gzip
{block}"""
_APACHE_MODULES = [
    *("mpm_event", "alias", "asis", "authz_core", "deflate", "env", "filter", "headers"),
    *("proxy", "proxy_http"),
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
_CADDY = CADDY.replace("{{", "{").replace("}}", "}")
_NGINX = NGINX.replace("{{", "{").replace("}}", "}")
PROXIES = {
    "caddy": Proxy(
        CADDY_COMMAND,
        _PAGE[0],
        {r"hub\.example {": "http://127.0.0.1:{port} {\n\tbind 127.0.0.1\n\tencode"},
        _CADDY + "{block}",
    ),
    "nginx": Proxy(
        ["nginx", "-p", "{folder}", "-c"],
        _PAGE[1],
        {r"listen 443 ssl http2": "listen 127.0.0.1:{port}", r"\n *ssl_.*": ""},
        _NGINX + "gzip on; gzip_types *; gzip_proxied any;\n{block}}",
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
            r"/etc/apache2/": "{folder}/",
        },
        _APACHE + "{block}",
        {"tidings-outage.asis": _PAGE[4]},
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
        _PAGE[5],
        {},
    ),
    "lighttpd": Proxy(
        ["lighttpd", "-D", "-f"],
        _PAGE[6],
        {r"/etc/lighttpd/": "{folder}/"},
        _LIGHTTPD,
        {"tidings-outage.sh": _PAGE[7]},
    ),
}
_LOCATIONS = _PAGE[1].partition("location / ")[2].rstrip().removesuffix("}")
NGINX_BELOW_A_PATH = f"location /hub/ {_LOCATIONS}"
"""The locations of the page, with the changes that it describes."""
BELOW_A_PATH = {
    "caddy-below-a-path": Proxy(
        CADDY_COMMAND,
        _PAGE[0],
        {
            r"hub\.example {": "http://127.0.0.1:{port} {\n\tbind 127.0.0.1",
            "reverse_proxy ": "redir /hub /hub/\n\treverse_proxy /hub/* ",
            "method GET": "method GET\n\t\t\tpath /hub/*",
        },
        _CADDY + "{block}",
    ),
    "nginx-below-a-path": Proxy(
        ["nginx", "-p", "{folder}", "-c"],
        NGINX_BELOW_A_PATH,
        {},
        _NGINX + "server { listen 127.0.0.1:{port}; {block} }}",
    ),
}
"""These pass on what is below /hub/."""


@contextmanager
def page_proxy(name: str, folder: Path, hub: int, **changes: str) -> Iterator[int]:
    """Run a proxy before a hub; yield its port.

    :param changes: what else differs in the block and the files, as regular expressions.
    """
    proxy, port = {**PROXIES, **BELOW_A_PATH}[name], free_port()
    block = proxy.block
    for pattern, new in proxy.changes.items():
        block, count = re.subn(pattern, new.replace("\\", r"\\"), block)
        assert count, f"{name}: {pattern}"
    block = re.sub(r"127\.0\.0\.1(:|\D+)8000", rf"127.0.0.1\g<1>{hub}", block)

    def filled(text: str) -> str:
        for pattern, new in changes.items():
            text = re.sub(pattern, new, text)
        return text.replace("{folder}", str(folder)).replace("{port}", str(port))

    for file, text in proxy.files.items():
        (folder / file).write_text(filled(text))
    program, *options = [filled(part) for part in proxy.command]
    path = program if "/" in program else need(program)
    with running([path, *options], folder, port, filled(proxy.around.replace("{block}", block))):
        yield port
