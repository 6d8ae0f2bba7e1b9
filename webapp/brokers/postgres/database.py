"""The connections of one process to a PostgreSQL server.

They are few, because small plans allow 20 in all: one for all publishers of the process, two for
all that read, and one for the follower. Each is opened when it is needed. It keeps no state of a
session, so a pooler may stand between; where none does, it keeps prepared statements.
"""

from __future__ import annotations

from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent
import psycopg
from gevent import socket
from gevent.lock import BoundedSemaphore
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ...errors import Misconfigured, ServiceUnavailable
from ..base import stopping
from . import cooperative, schema
from .problems import unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from psycopg import Connection

_TIMEOUT_S = 5.0  # of connecting, and of a call
_READ_CONNECTIONS = 2
_PREPARED_AFTER = 5  # calls of a statement
_DEFAULTS = {
    "application_name": "tidings",
    "client_encoding": "UTF8",
    "connect_timeout": "5",
    "keepalives_idle": "30",
    "tcp_user_timeout": "10000",
}
_BROKEN = (
    psycopg.errors.UndefinedFunction,  # the schema was dropped: the next connection makes it again
    psycopg.errors.FeatureNotSupported,  # the result of a function that was prepared has changed
    psycopg.errors.UndefinedTable,
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.ReadOnlySqlTransaction,  # after a failover the name may mean another server
)


class Database:
    """Opens connections to a server; each has the schema of this version.

    :param url: `postgresql://` or `postgres://`, with libpq's options in its query, and `listen`.
    :raises Misconfigured: the URL has an option that does not exist.
    """

    def __init__(self, url: str) -> None:
        self._was_usable = False
        self.listens: bool | None = None
        """Whether the server's notifications arrive; None: it has to be found out."""
        url, listen = _split_listen(url)
        if listen is not None:
            self.listens = listen == "on"
        try:
            given = {name: str(value) for name, value in conninfo_to_dict(url).items()}
        except psycopg.ProgrammingError:  # it may repeat a password
            raise _bad_option() from None
        self._options = {**_DEFAULTS, **given}
        hosts, ports = (self._options.get(it, "") for it in ("host", "port"))
        self.address = f"{hosts or 'local socket'}:{ports or 5432}"

    def connect(self) -> Connection:
        """Return a new connection, in autocommit.

        :raises ServiceUnavailable: the server cannot be reached, or the database cannot be used any
            more: a newer hub has upgraded the schema.
        :raises Misconfigured: the database cannot be used.
        """
        connection = None
        try:
            with _time_limit(_TIMEOUT_S * 2):
                where = make_conninfo(**{**self._options, **self._addresses()})
                connection = cooperative.connect(where, autocommit=True, prepare_threshold=None)
                schema.prepare(connection)
        except (psycopg.Error, OSError) as error:
            if connection:
                connection.close()
            raise unavailable(error, self.address) from error
        except BaseException as error:
            if connection:
                connection.close()
            if isinstance(error, Misconfigured) and self._was_usable:
                raise ServiceUnavailable(error.detail, error.remedy) from error
            raise
        self._was_usable = True
        return connection

    def _addresses(self) -> dict[str, str]:
        """Resolve the names of hosts: libpq would block all greenlets meanwhile."""
        hosts = self._options.get("host", "").split(",")
        if "hostaddr" in self._options or not hosts[0] or any(it.startswith("/") for it in hosts):
            return {}
        ports = self._options.get("port", "5432").split(",")
        ports = ports * len(hosts) if len(ports) == 1 else ports
        found = [
            (host, str(address[4][0]), port)
            for host, port in zip(hosts, ports, strict=True)
            for address in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        ]
        names = ("host", "hostaddr", "port")
        return dict(zip(names, (",".join(it) for it in zip(*found, strict=True)), strict=True))


class Channel:
    """One connection, for one caller at a time. It is opened when it is needed, and again when it
    was lost.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None
        self.closed = False

    @property
    def connection(self) -> Connection:
        """The connection, opened if there is none.

        :raises ServiceUnavailable: the server cannot be reached, or the hub is stopping.
        """
        if self.closed:
            raise stopping()
        if self._connection and not _is_alive(self._connection):
            self.drop()
        if not self._connection:
            connection = self._database.connect()
            if self.closed:
                connection.close()
                raise stopping()
            self._connection = connection
        return self._connection

    def call(
        self,
        query: str,
        values: Sequence[Any] = (),
        *,
        binary: bool = False,
        tries: int = 1,
        timeout: float = _TIMEOUT_S,
    ) -> list[Any]:
        """Return the rows of one statement.

        :param tries: more than 1, if it may be done again when the connection was lost.
        :raises ServiceUnavailable: the server did not do it, or did not say that it has.
        """
        connection = self.connection
        # Behind a pooler, a prepared statement would be one of another client's connection.
        connection.prepare_threshold = _PREPARED_AFTER if self._database.listens else None
        try:
            with _time_limit(timeout):
                cursor = connection.execute(query, values or None, binary=binary)
                rows: list[Any] = cursor.fetchall() if cursor.description else []
                return rows
        except (psycopg.Error, TimeoutError) as error:
            is_lost = connection.broken
            if is_lost or isinstance(error, (TimeoutError, *_BROKEN)):
                self.drop()
            if is_lost and tries > 1:
                return self.call(query, values, binary=binary, tries=tries - 1, timeout=timeout)
            raise unavailable(error, self._database.address) from error
        except BaseException:  # the caller is gone: nobody may use a connection in the middle
            self.drop()
            raise

    def receive(self) -> list[str]:
        """Return the names of the notifications that have arrived, without waiting.

        :raises ServiceUnavailable: the connection is lost.
        """
        connection = self.connection
        names = []
        while found := connection.pgconn.notifies():
            names.append(found.relname.decode())
        return names

    def drop(self) -> None:
        """Close the connection; the next call opens another."""
        connection, self._connection = self._connection, None
        if connection:
            connection.close()

    def close(self) -> None:
        """Close the connection, and refuse further calls."""
        self.closed = True
        self.drop()


class ReadChannels:
    """The connections of all that read. A call of many waits for its turn."""

    def __init__(self, database: Database) -> None:
        self._channels = [Channel(database) for _ in range(_READ_CONNECTIONS)]
        self._free = list(self._channels)
        self._slots = BoundedSemaphore(_READ_CONNECTIONS)
        self._failed_at = 0.0  # a monotonic time
        self._failure: Exception | None = None

    def call(
        self,
        query: str,
        values: Sequence[Any] = (),
        *,
        tries: int = 1,
        timeout: float = _TIMEOUT_S,
    ) -> list[Any]:
        """Return the rows of one statement.

        :param tries: more than 1, if it may be done again over another connection.
        :raises ServiceUnavailable: the server did not do it.
        """
        gevent.sleep(0)  # a greenlet that calls again at once queues behind those that wait
        queued = monotonic()
        with self._slots:
            # If a call timed out after this one queued, fail at once: a thousand of them must not
            # wait for a time-out each.
            if self._failure and self._failed_at >= queued:
                raise self._failure
            channel = self._free.pop()
            try:
                return channel.call(query, values, tries=tries, timeout=timeout)
            except Exception as error:
                if monotonic() - queued > _TIMEOUT_S / 2:
                    self._failed_at, self._failure = monotonic(), error
                raise
            finally:
                if channel.closed:  # by `close`, during the call
                    channel.drop()
                self._free.append(channel)

    def close(self) -> None:
        """Close the connections; one that is in use is closed after its call."""
        for channel in self._channels:
            channel.closed = True
        for channel in self._free:
            channel.close()


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    with gevent.Timeout(seconds, TimeoutError("timeout expired")):
        yield


def _is_alive(connection: Connection) -> bool:
    """Whether the server has not closed an idle connection: one look at the socket."""
    try:
        connection.pgconn.consume_input()
    except psycopg.Error:
        return False
    return not connection.closed


def _split_listen(url: str) -> tuple[str, str | None]:
    """Return a URL without the hub's own option, and its value."""
    base, _, query = url.partition("?")
    options = [it for it in query.split("&") if it]
    values = [it.partition("=")[2] for it in options if it.partition("=")[0] == "listen"]
    if any(it not in {"on", "off"} for it in values):
        raise _bad_option()
    rest = "&".join(it for it in options if it.partition("=")[0] != "listen")
    return f"{base}?{rest}" if rest else base, values[-1] if values else None


def _bad_option() -> Misconfigured:
    detail = "The URL of the event log has an unknown option, or a wrong value of one."
    remedy = "Correct what follows the ? in TIDINGS_BROKER_URL."
    return Misconfigured(detail, remedy)
