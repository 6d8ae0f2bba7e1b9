"""What can go wrong with a Redis or Valkey server, in words for publishers and for operators."""

from __future__ import annotations

from typing import Any

import redis
from redis import RedisError
from redis.exceptions import NoPermissionError

from ...errors import ServiceUnavailable

_RETRY = (
    "Try again. What was being published may be in it: with an id of your own, nothing is"
    " published twice."
)
_CHECK_URL = "Start the server, or correct TIDINGS_BROKER_URL or REDIS_URL."
_WRONG_KEY = (
    "Delete the key if nobody else needs it, or name another database in TIDINGS_BROKER_URL."
)
_UNTRUSTED = (
    "The certificate of the event log's server is not signed by a known authority.",
    "If that is expected, end TIDINGS_BROKER_URL with ?ssl_cert_reqs=none.",
)
_PROBLEMS: dict[type[RedisError], tuple[str, str]] = {
    redis.AuthenticationError: (
        "The event log's server refuses the password.",
        "Correct TIDINGS_BROKER_URL, or REDIS_URL.",
    ),
    NoPermissionError: (
        "The event log's server does not permit its user what the hub needs.",
        "Permit it scripts, and the commands of streams, hashes, lists and sorted sets.",
    ),
    redis.OutOfMemoryError: (
        "The memory of the event log's server is full.",
        "Give it more, or lower TIDINGS_HISTORY_BYTES.",
    ),
    redis.ReadOnlyError: ("The event log's server has become a replica.", _RETRY),
    redis.BusyLoadingError: ("The event log's server is still loading its data.", _RETRY),
    redis.TimeoutError: ("The event log does not answer.", _RETRY),
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
    remedy = _CHECK_URL if type(result) in {redis.ConnectionError, redis.TimeoutError} else remedy
    error.log_text = f"{detail.rstrip('.')} ({where}). {remedy}"
    raise error from result


def _describe(error: RedisError) -> tuple[str, str]:
    # The server's own words are left out: they may repeat data.
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return _UNTRUSTED
    for kind, problem in _PROBLEMS.items():
        if isinstance(error, kind):
            return problem
    code, _, text = str(error).partition(" ")
    if code == "WRONGKEY":  # of log.lua
        key, expected = text.split()[:2]
        return f"The key {key} of the event log's server is not a {expected}.", _WRONG_KEY
    code = getattr(error, "status_code", None) or code
    return f"The event log's server refuses ({code}).", "Look into that server's own log."
