"""Firefox, driven by WebDriver BiDi (https://w3c.github.io/webdriver-bidi/) over a WebSocket.

Playwright drives only a Firefox of its own make.
"""

from __future__ import annotations

import json
import re
import secrets
import socket
import struct
import subprocess
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from support.programs import need
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Firefox:
    """A tab of a running Firefox."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 4 * PATIENCE)
        self._stream = self._socket.makefile("rb")
        self._count = 0
        self._upgrade(port)
        self._send("session.new", capabilities={})
        self._tab = self._send("browsingContext.create", type="tab")["context"]

    def close(self) -> None:
        """Disconnect; the process goes on."""
        self._stream.close()
        self._socket.close()

    def goto(self, url: str) -> None:
        """Open a page."""
        self._send("browsingContext.navigate", context=self._tab, url=url, wait="complete")

    def evaluate(self, function: str, *arguments: object) -> Any:
        """Call a function of JavaScript with JSON, await its promise, and return its result."""
        call = f"({function})(...{json.dumps(arguments)})"
        text = f"Promise.resolve({call}).then((it) => JSON.stringify(it ?? null))"
        where = {"context": self._tab}
        done = self._send("script.evaluate", expression=text, target=where, awaitPromise=True)
        assert done["type"] == "success", done
        return json.loads(done["result"]["value"])

    def _upgrade(self, port: int) -> None:
        head = f"GET /session HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        head += "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        head += f"Sec-WebSocket-Key: {secrets.token_hex(8)}{'A' * 6}==\r\n\r\n"
        self._socket.sendall(head.encode())
        assert b" 101 " in self._stream.readline()
        while self._stream.readline().strip():
            pass

    def _send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self._count += 1
        command = {"id": self._count, "method": method, "params": parameters}
        payload = json.dumps(command).encode()
        size = len(payload)
        head = bytes([0x81, 0x80 | min(size, 126)])
        if size > 125:
            head += struct.pack("!H", size)
        # One frame of text. Firefox refuses a mask of zeros.
        mask = b"mask"
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        self._socket.sendall(head + mask + masked)
        while True:
            answer = json.loads(self._message())
            if answer.get("id") == self._count:
                assert answer["type"] == "success", answer
                result: dict[str, Any] = answer["result"]
                return result

    def _message(self) -> bytes:
        message, is_final = b"", False
        while not is_final:
            first, size = self._stream.read(2)
            if size >= 126:
                size = int.from_bytes(self._stream.read(2 if size == 126 else 8))
            payload = self._stream.read(size)
            if first & 0x0F <= 2:  # not a ping
                message += payload
                is_final = bool(first & 0x80)
        return message


@contextmanager
def firefox(folder: Path) -> Iterator[Firefox]:
    """Run Firefox with a profile of its own."""
    log = folder / "log"
    command = [need("firefox-esr"), "--headless", "--no-remote", "--profile", str(folder)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--remote-debugging-port", "0"],
            env={"HOME": str(folder), "PATH": "/usr/bin:/bin"},
            stdout=out,
            stderr=out,
        )

    def port() -> int:
        found = re.search(r"BiDi listening on ws://127\.0\.0\.1:(\d+)", log.read_text())
        assert process.poll() is None, log.read_text()
        return int(found[1]) if found else 0

    try:
        with closing(Firefox(until(port, "Firefox is up"))) as tab:
            yield tab
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()
