"""How a stream writes to its client's socket, and waits while it is parked."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, cast

from gevent.event import Event as Signal

from ..socket_protocol import never_sends
from .control_stream import ControlStream

if TYPE_CHECKING:
    from typing import Any

    from ..socket_protocol import Keeper, SubscriberSocket


class SocketStream(ControlStream):
    """The socket of one stream, if its server has one."""

    __slots__ = ("_socket",)

    def __init__(self, *values: Any) -> None:
        super().__init__(*values)
        self._socket: SubscriberSocket | None = None

    def _attach(self, socket: SubscriberSocket | None) -> Keeper | None:
        """Begin to write to a socket. Return the keeper of a parked stream, or None: it waits."""
        self._socket = socket
        if socket is None or not socket.is_stream:
            self._detach()
            return None
        self.chunked, self.send, self.sock = socket.nonblocking_send()
        self.wakeup = socket.wakeup or Signal()
        return socket.wakeup

    def _detach(self) -> None:
        """Stop writing to the socket; the stream waits while it is parked."""
        self.chunked, self.send, self.sock = False, never_sends, None
        self.wakeup = Signal()

    def _wait(self) -> None:
        signal = cast("Signal", self.wakeup)
        signal.wait()
        signal.clear()

    def _on_disconnect(self) -> None:
        self.unsent_frame = None
        timed_out = self._socket is not None and self._socket.write_timed_out
        self.end("too_slow" if timed_out else "client_left")

    def drop_unsent(self) -> None:
        """Send nothing any more of what the stream has taken from the event log. If nothing of it
        was sent, the stream reads it again; otherwise the stream ends.
        """
        if isinstance(self.unsent, bytes) and self.unsent and self.sending and not self.gzip:
            self.cursor, _ = self.sending
            self.last_id_sent = min(self.last_id_sent, self.cursor)
            self.unsent, self.unsent_frame, self.sending = b"", None, None
            return
        super().drop_unsent()
        if self._socket:
            self._socket.abort()

    def _unpark(self) -> bytes:
        """Go on after being parked; return what is left of what was written to its socket."""
        if self.parked:  # the socket took everything
            self.cursor = max(self.cursor, self._context.fanout.sent_up_to(self.feed))
        self.feed.unpark(self)
        unsent, self.unsent = self.unsent, b""
        if unsent is None:
            raise BrokenPipeError(errno.EPIPE, "too many bytes wait for slow clients")
        if self._socket is None or self.sock is None or not unsent:
            return bytes(unsent)
        self._socket.sendall(unsent)  # the rest of a chunk, whose header was sent already
        self.unsent_frame = None
        return b""
