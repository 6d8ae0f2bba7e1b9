"""Parse the text of a setting. The message of each ValueError completes "Set it to …".

Durations are seconds, or `15s`, `5m`, `2h`, `7d`; sizes are bytes, or `64K`, `1M`, `1G`.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

KEY_HINT = "make one with `openssl rand -hex 32` and set it as TIDINGS_JWT_KEY"
ALGORITHMS = {
    *("HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
}
_KEY_BYTES = 32  # RFC 7518, section 3.2: as long as the hash of HS256
_MIN_DISTINCT_CHARS = 8  # of a secret
_PUBLISHED_KEYS = {"!ChangeThisMercureHubJWTSecretKey!", "!ChangeMe!"}  # Mercure's documentation
_PEM = re.compile(r"-----BEGIN [A-Z ]+-----[^-]+-----END [A-Z ]+-----")
_SECONDS_OF_UNIT = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES_OF_UNIT = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_HEADER_BYTES = (1 << 10, 256 << 10)  # the smallest and the largest limit
_MAX_PORT = 65535


def duration(text: str) -> float:
    """Return seconds from `15`, `15s`, `5m`, `2h` or `7d`.

    :raises ValueError: the text is not a duration.
    """
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([smhd]?)", text)
    if not match:
        message = "a duration: seconds, or like 15s, 5m, 2h, 7d"
        raise ValueError(message)
    return float(match[1]) * _SECONDS_OF_UNIT[match[2]]


def positive_duration(text: str) -> float:
    """Return seconds, more than 0."""
    seconds = duration(text)
    if not seconds:
        message = "a duration above 0"
        raise ValueError(message)
    return seconds


def byte_size(text: str) -> int:
    """Return bytes from `65536`, `64K`, `1M` or `1G`, more than 0."""
    match = re.fullmatch(r"([0-9]{1,12})([KMG]?)", text.upper())
    if not match or not int(match[1]):
        message = "a size above 0: bytes, or like 64K, 1M, 1G"
        raise ValueError(message)
    return int(match[1]) * _BYTES_OF_UNIT[match[2]]


def header_size(text: str) -> int:
    """Return the limit of a header's bytes: headers of a megabyte would take a whole core."""
    if not _HEADER_BYTES[0] <= (limit := byte_size(text)) <= _HEADER_BYTES[1]:
        message = "a size from 1K to 256K"
        raise ValueError(message)
    return limit


def non_negative_int(text: str) -> int:
    """Return a whole number, 0 or more."""
    if not re.fullmatch(r"[0-9]{1,12}", text):
        message = "a whole number, 0 or more"
        raise ValueError(message)
    return int(text)


def positive_int(text: str) -> int:
    """Return a whole number, 1 or more."""
    if not (number := non_negative_int(text)):
        message = "a whole number above 0"
        raise ValueError(message)
    return number


def rate(text: str) -> float:
    """Return events a second; 0: no limit."""
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,3})?", text):
        message = "a number of events a second, or 0 for no limit"
        raise ValueError(message)
    return float(text)


def boolean(text: str) -> bool:
    """Return whether a setting is on: `1`, `true`, `yes`, `on`, or their opposites, in any case."""
    if text.lower() not in {"0", "1", "false", "true", "no", "yes", "off", "on"}:
        message = "1 or 0"
        raise ValueError(message)
    return text.lower() in {"1", "true", "yes", "on"}


# An origin is compared as text, so it must be as browsers write it: ASCII, and not a pattern.
_ORIGIN = re.compile(
    r"[a-z][a-z0-9+.-]*:// ([a-z0-9_-]+(\.[a-z0-9_-]+)*\.? | \[[0-9a-f:.]+\]) (:[1-9][0-9]{0,4})?",
    re.VERBOSE,
)


def origins(text: str) -> tuple[str, ...]:
    """Return origins as a browser writes them; `null` and `*` are allowed."""
    found = _normalized_origins(text)
    if not all(origin in {"*", "null"} or _ORIGIN.fullmatch(origin) for origin in found):
        message = (
            "origins such as https://example.com, separated by commas, each in full (a * in a name"
            " is not a pattern); or null, or *"
        )
        raise ValueError(message)
    return found


def named_origins(text: str) -> tuple[str, ...]:
    """Return origins as a browser writes them; `null` and `*` would allow any page."""
    found = _normalized_origins(text)
    if not all(map(_ORIGIN.fullmatch, found)):
        message = (
            "origins such as https://example.com, each in full; *, null and patterns are refused"
        )
        raise ValueError(message)
    return found


def _normalized_origins(text: str) -> tuple[str, ...]:
    parts = [part.lower() for part in re.split(r"[,\s]+", text) if part]
    # Browsers leave the default port out.
    return tuple(re.sub(r"^(http://.*):80$|^(https://.*):443$", r"\1\2", part) for part in parts)


def keys(text: str) -> tuple[str, ...]:
    """Return shared secrets, or public keys as PEM. There may be several, so that one can be
    rotated.
    """
    # Some platforms store a line feed as the two characters \n.
    if text.startswith("-----BEGIN "):
        blocks = _PEM.findall(text.replace("\\n", "\n"))
        if blocks and not any("PRIVATE" in block for block in blocks):
            return tuple(blocks)
        message = "public keys as PEM, -----BEGIN PUBLIC KEY----- to -----END PUBLIC KEY-----"
        raise ValueError(message)
    found = tuple(part.strip() for part in text.split(","))
    if any(len(part.encode()) < _KEY_BYTES or _is_guessable(part) for part in found):
        message = f"a secret of {_KEY_BYTES} bytes or more that nobody can guess; {KEY_HINT}"
        raise ValueError(message)
    return found


def _is_guessable(key: str) -> bool:
    return key in _PUBLISHED_KEYS or len(set(key)) < _MIN_DISTINCT_CHARS


def url(text: str) -> str:
    """Return an https URL, or an http URL of this machine's loopback."""
    parts = urlsplit(text)
    loopback = parts.hostname in {"localhost", "127.0.0.1", "::1"}
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and loopback)):
        message = "an https:// URL"
        raise ValueError(message)
    return text


def algorithms(text: str) -> tuple[str, ...]:
    """Return names of signature algorithms."""
    found = tuple(part.strip() for part in text.split(","))
    if not set(found) <= ALGORITHMS:
        message = f"some of {', '.join(sorted(ALGORITHMS))}"
        raise ValueError(message)
    return found


# Checked by a regular expression first: urlsplit and redis-py repeat a password that is not encoded
# in their errors.
_BROKER_URL = re.compile(
    r"""memory:.*
    | sqlite:///[^?#]*[^?#/][^?#]*
    | rediss?://(?=[!-~]*$) ([^/?#\[\]]*@)? ([^@:/?#\[\]]+ | \[[0-9a-fA-F:.]+\]) (:[0-9]{1,5})?
      (/[0-9]*)? (\?[^#]*)?""",
    re.VERBOSE,
)


def broker_url(text: str) -> str:
    """Return the URL of the event log."""
    if _BROKER_URL.fullmatch(text):
        return text
    message = (
        "sqlite:///path for a file (a relative path begins at the folder of wsgi.py),"
        " redis://host or rediss://host for Redis or Valkey (in a password, write / as %2F, ? as"
        " %3F, # as %23), or memory://"
    )
    raise ValueError(message)


def port(text: str) -> int:
    """Return a TCP port."""
    if not 0 < (number := non_negative_int(text)) <= _MAX_PORT:
        message = f"a port from 1 to {_MAX_PORT}"
        raise ValueError(message)
    return number
