"""What can go wrong with a PostgreSQL server, in words for publishers and for operators."""

from __future__ import annotations

import re

import psycopg
from psycopg import errors

from ...errors import ServiceUnavailable

_RETRY = (
    "Try again. What was being published may be in it: with an id of your own, nothing is"
    " published twice."
)
_CORRECT_URL = "Correct TIDINGS_BROKER_URL."
_START_SERVER = "Start the server, or correct TIDINGS_BROKER_URL."
_SEE_LOG = "Look into that server's own log."
_PASSWORD = ("The event log's server refuses the user or the password.", _CORRECT_URL)
_UNREACHABLE = ("The event log cannot be reached.", _RETRY)
NO_ANSWER = ("The event log does not answer.", _RETRY)
_KINDS: dict[type[psycopg.Error], tuple[str, str]] = {
    errors.InvalidPassword: _PASSWORD,
    errors.InvalidAuthorizationSpecification: _PASSWORD,
    errors.InvalidCatalogName: (
        "The event log's server does not have the database that the URL names.",
        "Create it, or correct TIDINGS_BROKER_URL.",
    ),
    errors.TooManyConnections: (
        "The event log's server has as many connections as it permits.",
        "Raise its max_connections, or use fewer workers: each has up to four.",
    ),
    errors.ReadOnlySqlTransaction: (
        "The event log's server takes no writes: it is a standby, or the database is read-only.",
        "Name the primary in TIDINGS_BROKER_URL, or end the read-only mode.",
    ),
    errors.DiskFull: (
        "The disk of the event log's server is full.",
        "Make room on it, and lower TIDINGS_HISTORY_BYTES if it fills again.",
    ),
    errors.OutOfMemory: ("The event log's server has no memory left.", _SEE_LOG),
    errors.CannotConnectNow: ("The event log's server is starting or stopping.", _RETRY),
    errors.InsufficientPrivilege: (
        "The event log's server does not permit its user what the hub needs.",
        "Let the hub's user own the schema tidings and all in it.",
    ),
    errors.QueryCanceled: (
        "The event log's server has ended a statement that took too long, or was asked to.",
        "Try again. If it stays so, raise the statement_timeout of the hub's user.",
    ),
    errors.LockNotAvailable: (
        "A transaction of another program holds the event log's tables, which have to be upgraded.",
        "End the transaction: pg_stat_activity of the server lists it.",
    ),
    errors.AdminShutdown: _UNREACHABLE,
    errors.CrashShutdown: _UNREACHABLE,
    errors.IdleSessionTimeout: _UNREACHABLE,
}
# In the words of libpq and of the server: errors of connecting have no code.
_WORDS = {
    "password authentication failed": _PASSWORD,
    "no password supplied": _PASSWORD,
    "pg_hba.conf.*(no encryption|SSL off)": (
        "The event log's server lets this user connect over TLS only, or not from this address.",
        "Correct sslmode in TIDINGS_BROKER_URL, or the server's pg_hba.conf.",
    ),
    "pg_hba.conf": (
        "The event log's server does not let this user connect from this address.",
        "Add it to the server's pg_hba.conf, or correct TIDINGS_BROKER_URL.",
    ),
    "authentication failed": _PASSWORD,
    'database ".*" does not exist': _KINDS[errors.InvalidCatalogName],
    'role ".*" does not exist': _PASSWORD,
    "too many clients": _KINDS[errors.TooManyConnections],
    "too many connections": _KINDS[errors.TooManyConnections],
    "remaining connection slots are reserved": _KINDS[errors.TooManyConnections],
    "no more connections allowed": _KINDS[errors.TooManyConnections],
    "certificate verify failed|does not match host name": (
        "The certificate of the event log's server is unknown, expired, or of another host.",
        "Correct sslrootcert or sslmode in TIDINGS_BROKER_URL.",
    ),
    "root certificate file": (
        "There are no certificates to check that of the event log's server with.",
        "Name a file of them with sslrootcert in TIDINGS_BROKER_URL.",
    ),
    "server does not support SSL": (
        "The event log's server does not support TLS, and the URL requires it.",
        "Correct sslmode in TIDINGS_BROKER_URL.",
    ),
    "is starting up|is shutting down|in recovery mode": _KINDS[errors.CannotConnectNow],
    "session is not read-write|server is in hot standby": _KINDS[errors.ReadOnlySqlTransaction],
    "expected authentication request|invalid response to SSL": (
        "What answers at the address of the event log is not a PostgreSQL server.",
        _CORRECT_URL,
    ),
    "timeout expired": NO_ANSWER,
}
_MAX_WORDS_CHARS = 200


class ServerUnavailable(ServiceUnavailable):
    """An error whose text, for the hub's log, has more than its problem document, which anybody
    may get: which server was tried, and why that failed.
    """

    log_text = ""

    def __str__(self) -> str:
        return self.log_text or super().__str__()


def unavailable(error: psycopg.Error | OSError, address: str) -> ServerUnavailable:
    """Return what an error of a call means.

    :param address: host and port of the server, to be logged.
    """
    detail, remedy = _describe(error)
    found = ServerUnavailable(detail, remedy)
    words = " ".join(str(error).split())[:_MAX_WORDS_CHARS]
    where = f"{address}: {words}" if words else address
    if remedy == _RETRY and detail in {_UNREACHABLE[0], NO_ANSWER[0]}:
        remedy = _START_SERVER
    found.log_text = f"{detail.rstrip('.')} ({where}). {remedy}"
    return found


def _describe(error: psycopg.Error | OSError) -> tuple[str, str]:
    # The server's own words are left out: they may repeat data, and anybody may get this.
    if isinstance(error, TimeoutError):
        return NO_ANSWER
    for kind, problem in _KINDS.items():
        if isinstance(error, kind):
            return problem
    code = getattr(error, "sqlstate", None)
    if code is None or code.startswith("08"):  # of a connection
        text = str(error)
        for words, problem in _WORDS.items():
            if re.search(words, text):
                return problem
        return _UNREACHABLE
    return f"The event log's server refuses ({code}).", _SEE_LOG
