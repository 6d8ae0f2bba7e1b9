"""What can go wrong with a Redis or Valkey server, in words for publishers and for operators."""

from __future__ import annotations

from typing import Any

import redis
from redis import RedisError
from redis.exceptions import InvalidResponse

from ...errors import ServiceUnavailable

_RETRY = (
    "Try again. What was being published may be in it: with an id of your own, nothing is"
    " published twice."
)
_CORRECT_URL = "Correct TIDINGS_BROKER_URL, or REDIS_URL."
_START_SERVER = "Start the server, or correct TIDINGS_BROKER_URL or REDIS_URL."
_DELETE_KEY = (
    "Delete the key if nobody else needs it, or name another database in TIDINGS_BROKER_URL."
)
_CLUSTER = (
    "The event log's server is part of a Redis Cluster, which the hub does not support.",
    "Name a server that is not in a cluster in TIDINGS_BROKER_URL.",
)
_PASSWORD = ("The event log's server refuses the password.", _CORRECT_URL)
ACL_RULES = (
    "~{tidings}* +@stream +@hash +@list +@sortedset +eval +evalsha +exists +del +type +time"
    " +ping +select +client|setname"
)
"""What the hub's user needs."""
_PERMISSION = (
    "The event log's server does not permit its user what the hub needs.",
    f"Run ACL SETUSER with the user's name and {ACL_RULES}",
)
_SENTINEL = (
    "What answers at the address of the event log is a Redis Sentinel, which has no event log.",
    "Name the primary that it watches in TIDINGS_BROKER_URL, or REDIS_URL.",
)
_COMMANDS = (
    "The event log's server does not have a command that the hub needs.",
    "Use Redis 7 or Valkey, and do not rename or disable commands.",
)
_CODES = {
    "BUSY": (
        "The event log's server has been running another program's script for seconds.",
        "End it with SCRIPT KILL.",
    ),
    "CLUSTERDOWN": _CLUSTER,
    "CROSSSLOT": _CLUSTER,
    "DENIED": (
        "The event log's server is in protected mode: it serves only programs on its own machine.",
        "Set a password on the server, and put it into TIDINGS_BROKER_URL.",
    ),
    "LOADING": ("The event log's server is still loading its data.", _RETRY),
    "MASTERDOWN": (
        "The event log's server is a replica that has lost its master.",
        "Name the master in TIDINGS_BROKER_URL, or make this server one.",
    ),
    "MISCONF": (
        "The event log's server takes no writes, because it cannot save its data (MISCONF).",
        "Make room on its disk, and look into that server's own log.",
    ),
    "MOVED": _CLUSTER,
    "NOAUTH": _PASSWORD,
    "NOPERM": _PERMISSION,
    "NOREPLICAS": (
        "The event log's server takes no writes, because it has too few replicas (NOREPLICAS).",
        "Start its replicas, or lower the server's min-replicas-to-write.",
    ),
    "OOM": (
        "The memory of the event log's server is full.",
        "Give it more, or lower TIDINGS_HISTORY_BYTES.",
    ),
    "SENTINEL": _SENTINEL,  # of the hub itself
    "READONLY": (
        "The event log's server has become a replica.",
        "Try again. If it stays a replica, name its master in TIDINGS_BROKER_URL.",
    ),
    "WRONGPASS": _PASSWORD,
}
# In the server's own words, of errors without a code.
_WORDS = {
    "max number of clients": (
        "The event log's server has as many clients as it permits.",
        "Raise its maxclients, or use fewer workers: each has up to four connections.",
    ),
    "CERTIFICATE_VERIFY_FAILED": (
        "The certificate of the event log's server is unknown, expired, or of another host.",
        "If that is expected, end TIDINGS_BROKER_URL with ?ssl_cert_reqs=none.",
    ),
    "The user executing the script can't": _PERMISSION,  # Redis
    "ACL failure in script": _PERMISSION,  # Valkey
    "DB index": (
        "The event log's server does not have the database that the URL names.",
        "Correct the number at the end of the path in TIDINGS_BROKER_URL, or REDIS_URL.",
    ),
    "nknown command": _COMMANDS,
    "nknown Redis command": _COMMANDS,
    "Unknown subcommand": _COMMANDS,
}
_SEE_LOG = "Look into that server's own log."
_MAX_WORDS_CHARS = 200
_KINDS: dict[type[RedisError], tuple[str, str]] = {
    redis.AuthenticationError: _PASSWORD,
    redis.TimeoutError: ("The event log does not answer.", _RETRY),
    InvalidResponse: (
        "What answers at the address of the event log is not a Redis or Valkey server.",
        _CORRECT_URL,
    ),
    redis.ConnectionError: ("The event log cannot be reached.", _RETRY),
}


class ServerUnavailable(ServiceUnavailable):
    """An error whose text, for the hub's log, has more than its problem document, which anybody
    may get: which server was tried, and why that failed.
    """

    log_text = ""

    def __str__(self) -> str:
        return self.log_text or super().__str__()


def raise_for_error(result: Any, address: str) -> Any:
    """Return a result of a call, or raise the error that it is.

    :param address: host and port of the server, to be logged.
    :raises ServiceUnavailable: the server did not do it, or did not say that it has.
    """
    if not isinstance(result, Exception):
        return result
    if not isinstance(result, RedisError):
        raise result
    detail, remedy = _describe(result)
    error = ServerUnavailable(detail, remedy)
    cause = getattr(result.__context__, "strerror", None)
    where = f"{address}: {cause}" if cause else address
    if remedy == _RETRY and type(result) in {redis.ConnectionError, redis.TimeoutError}:
        remedy = _START_SERVER
    if remedy in {_PERMISSION[1], _SEE_LOG}:
        where += f": {_words(result)}"
    error.log_text = f"{detail.rstrip('.')} ({where}). {remedy}"
    raise error from result


def _words(error: RedisError) -> str:
    """Return what the server said, without the data that it may repeat."""
    return str(error).partition(", with args")[0][:_MAX_WORDS_CHARS]


def _describe(error: RedisError) -> tuple[str, str]:
    # The server's own words are left out: they may repeat data, and anybody may get this.
    text = str(error)
    code = getattr(error, "status_code", None) or text.partition(" ")[0]
    if code in _CODES:
        return _CODES[code]
    if code == "WRONGKEY":  # of the scripts, like the next one
        key, expected = text.split()[1:3]
        return f"The key {key} of the event log's server is not a {expected}.", _DELETE_KEY
    if code == "LASTID":
        key = text.split()[1]
        return f"The key {key} of the event log's server has the last possible id.", _DELETE_KEY
    for words, problem in _WORDS.items():
        if words in text:
            return problem
    for kind, problem in _KINDS.items():
        if isinstance(error, kind):
            return problem
    return f"The event log's server refuses ({code}).", _SEE_LOG
