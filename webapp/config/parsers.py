"""Parse the text of a setting. The message of each ValueError completes "Set it to …".

Durations are seconds, or `500ms`, `15s`, `5m`, `2h`, `7d`, `1w`; sizes are bytes, or `64K`, `1M`,
`1G`, where `1MB` is the same as `1M`.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

KEY_HINT = "make one with `openssl rand -hex 32` and set it as TIDINGS_JWT_KEY"
ALGORITHMS = {
    *("HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
}
_KEY_BYTES = 32  # RFC 7518, section 3.2: as long as the hash of HS256
_MIN_DISTINCT_CHARS = 8  # of a secret
_PUBLISHED_KEYS = {"!ChangeThisMercureHubJWTSecretKey!", "!ChangeMe!"}  # Mercure's documentation
# Not each text that begins with a slash: base64 may.
_PATH = re.compile(
    r"(\.{0,2}|~\w*)/(app|data|dev|etc|home|mnt|opt|root|run|secrets?|srv|tmp|usr|var)/.*"
    r"|(\.{1,2}|~\w*)/.*|file:.*|[A-Za-z]:\\.*"
)
_PEM = re.compile(r"-----BEGIN [A-Z ]+-----[^-]+-----END [A-Z ]+-----")
_SECONDS_OF_UNIT = {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES_OF_UNIT = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_HEADER_BYTES = (1 << 10, 256 << 10)  # the smallest and the largest limit
_MAX_PORT = 65535
_COMPRESSION = {"public", "all", "off"}
_ON, _OFF = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}
_LOOPBACK_HOSTS = {"localhost", "127.0.0.1", "::1"}


def plain(text: str) -> str:
    """Return the text of any setting without the white space around it.

    :raises ValueError: it has a byte order mark or quotes, or is not UTF-8. A shell removes quotes;
        Docker's env files and many forms of platforms do not.
    """
    text = text.strip()
    _require(not text.startswith("\ufeff"), "the same without the byte order mark (BOM) before it")
    quoted = len(text) > 1 and text[0] in "\"'" and text[0] == text[-1]
    _require(not quoted, "the same without the quotes around it")
    _require(text.isascii() or text.encode(errors="replace").decode() == text, "text in UTF-8")
    return text


def duration(text: str) -> float:
    """Return seconds from `15`, `500ms`, `15s`, `5m`, `2h`, `7d` or `1w`.

    :raises ValueError: the text is not a duration.
    """
    expected = "a duration: seconds, or like 15s, 5m, 2h, 7d"
    match = _match(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|[smhdw]?)", text, expected)
    return float(match[1]) * _SECONDS_OF_UNIT[match[2]]


def duration_text(seconds: float) -> str:
    """Return seconds as `duration` reads them: `7d`, `90s`, `500ms`."""
    for unit in ("d", "h", "m", "s", "ms"):
        count = seconds / _SECONDS_OF_UNIT[unit]
        if seconds and count == int(count):
            return f"{int(count)}{unit}"
    return f"{seconds:g}"


def positive_duration(text: str) -> float:
    """Return seconds, more than 0."""
    _require((seconds := duration(text)) > 0, "a duration above 0")
    return seconds


def non_negative_byte_size(text: str) -> int:
    """Return bytes from `0`, `65536`, `64K`, `1M` or `1G`."""
    expected = "a size: bytes, or like 64K, 1M, 1G"
    match = _match(r"([0-9]{1,12})(?:([KMG])B?)?", text.upper(), expected)
    return int(match[1]) * _BYTES_OF_UNIT[match[2] or ""]


def byte_size(text: str) -> int:
    """Return bytes, more than 0."""
    _require(size := non_negative_byte_size(text), "a size above 0: bytes, or like 64K, 1M, 1G")
    return size


def byte_text(count: int) -> str:
    """Return bytes as `byte_size` reads them: `1G`, `64K`, `1000`."""
    fits = (unit for unit in "GMK" if count and count % _BYTES_OF_UNIT[unit] == 0)
    unit = next(fits, "")
    return f"{count // _BYTES_OF_UNIT[unit]}{unit}"


def header_size(text: str) -> int:
    """Return the limit of a header's bytes: headers of a megabyte would take a whole core."""
    smallest, largest = _HEADER_BYTES
    _require(smallest <= (limit := byte_size(text)) <= largest, "a size from 1K to 256K")
    return limit


def non_negative_int(text: str) -> int:
    """Return a whole number, 0 or more."""
    return int(_match(r"[0-9]{1,12}", text, "a whole number, 0 or more")[0])


def positive_int(text: str) -> int:
    """Return a whole number, 1 or more."""
    _require(number := non_negative_int(text), "a whole number above 0")
    return number


def port(text: str) -> int:
    """Return a TCP port."""
    _require(0 < (number := non_negative_int(text)) <= _MAX_PORT, f"a port from 1 to {_MAX_PORT}")
    return number


_ADDRESS = re.compile(r"unix:.+ | ([\w.-]+ | \[[0-9a-fA-F:.]+\]) : ([0-9]{1,5})", re.VERBOSE)


def bind(text: str) -> tuple[str, ...]:
    """Return addresses to listen on: `HOST:PORT`, `[IPv6]:PORT` or `unix:PATH`."""
    found = tuple(part.strip() for part in text.split(","))
    matches = [_ADDRESS.fullmatch(part) for part in found]
    _require(
        all(match and int(match[2] or 0) <= _MAX_PORT for match in matches),
        "an address such as 127.0.0.1:8123, 0.0.0.0:8000, [::]:8000 or unix:/run/tidings.sock, or"
        " several, separated by commas",
    )
    return found


def rate(text: str) -> float:
    """Return events a second; 0: no limit."""
    expected = "a number of events a second, or 0 for no limit"
    return float(_match(r"[0-9]{1,9}(\.[0-9]{1,3})?", text, expected)[0])


def boolean(text: str) -> bool:
    """Return whether a setting is on: `1`, `true`, `yes`, `on`, or their opposites, in any case."""
    _require(text.lower() in _ON | _OFF, "1 or 0")
    return text.lower() in _ON


def compression(text: str) -> str:
    """Return which streams are compressed."""
    _require((choice := text.lower()) in _COMPRESSION, "public, all or off")
    return choice


# An origin is compared as text, so it must be as browsers write it: ASCII, and not a pattern.
_ORIGIN = re.compile(
    r"[a-z][a-z0-9+.-]*:// ([a-z0-9_-]+(\.[a-z0-9_-]+)*\.? | \[[0-9a-f:.]+\]) (:[1-9][0-9]{0,4})?",
    re.VERBOSE,
)


def origins(text: str) -> tuple[str, ...]:
    """Return origins as a browser writes them; `null` and `*` are allowed."""
    found = _normalized_origins(text)
    _require(
        all(origin in {"*", "null"} or _ORIGIN.fullmatch(origin) for origin in found),
        "origins such as https://example.com, separated by commas, each in full (a * in a name is"
        " not a pattern); or null, or *",
    )
    return found


def named_origins(text: str) -> tuple[str, ...]:
    """Return origins as a browser writes them; `null` and `*` would allow any page."""
    found = _normalized_origins(text)
    _require(
        all(map(_ORIGIN.fullmatch, found)),
        "origins such as https://example.com, each in full; *, null and patterns are refused",
    )
    return found


def _normalized_origins(text: str) -> tuple[str, ...]:
    parts = [part.lower().removesuffix("/") for part in re.split(r"[,\s]+", text) if part]
    # Browsers leave the default port out.
    return tuple(re.sub(r"^(http://.*):80$|^(https://.*):443$", r"\1\2", part) for part in parts)


def keys(text: str) -> tuple[str, ...]:
    """Return shared secrets, or public keys as PEM. There may be several, so that one can be
    rotated.
    """
    _require(not _is_path(text), "the key itself; the path of a file goes into the …_FILE setting")
    _require(not text.startswith(("$(", "${")), "the key itself; no shell has replaced this text")
    if text.startswith("-----BEGIN "):
        # Some platforms store a line feed as the two characters \n.
        blocks = _PEM.findall(text.replace("\\n", "\n"))
        _require(
            blocks and not any("PRIVATE" in block for block in blocks),
            "public keys as PEM, -----BEGIN PUBLIC KEY----- to -----END PUBLIC KEY-----",
        )
        return tuple(blocks)
    found = tuple(part.strip() for part in text.split(","))
    _require(
        all(len(part.encode()) >= _KEY_BYTES and not _is_guessable(part) for part in found),
        f"a secret of {_KEY_BYTES} bytes or more that nobody can guess; {KEY_HINT}",
    )
    return found


def _is_path(text: str) -> bool:
    return bool(_PATH.fullmatch(text)) or (text.startswith("/") and Path(text).exists())


def _is_guessable(key: str) -> bool:
    return key in _PUBLISHED_KEYS or len(set(key)) < _MIN_DISTINCT_CHARS


def url(text: str) -> str:
    """Return an https URL, or an http URL of this machine's loopback."""
    try:
        parts = urlsplit(text)
    except ValueError:  # its message may repeat a password
        parts = urlsplit("")
    schemes = {"https", "http"} if parts.hostname in _LOOPBACK_HOSTS else {"https"}
    _require(parts.hostname and parts.scheme in schemes, "an https:// URL")
    return text


def algorithms(text: str) -> tuple[str, ...]:
    """Return names of signature algorithms."""
    found = tuple(part.strip() for part in text.split(","))
    _require(set(found) <= ALGORITHMS, f"some of {', '.join(sorted(ALGORITHMS))}")
    return found


# Checked by a regular expression first: urlsplit and redis-py repeat a password that is not encoded
# in their errors.
_BROKER_URL = re.compile(
    r"""memory:.*
    | sqlite:///[^?#]*[^?#/][^?#]*
    | rediss?://(?=[!-~]*$) ([^/?#\[\]]*@)? ([^@:/?#\[\]]+ | \[[0-9a-fA-F:.]+\]) (:[0-9]{1,5})?
      (/[0-9]*)? (\?[^#]*)?
    | postgres(ql)?://(?=[!-~]*$) ([^/?#@]*@)? [^/?#@]* (/[^/?#]*)? (\?[^#]*)?""",
    re.VERBOSE,
)


def broker_url(text: str) -> str:
    """Return the URL of the event log."""
    _require(
        _BROKER_URL.fullmatch(text),
        "sqlite:///path for a file (a relative path begins at the folder of wsgi.py),"
        " redis://host or rediss://host for Redis or Valkey, postgresql://user@host/database for"
        " PostgreSQL (in a password, write / as %2F, ? as %3F, # as %23, @ as %40), or memory://",
    )
    return text


def _match(pattern: str, text: str, expected: str) -> re.Match[str]:
    if match := re.fullmatch(pattern, text):
        return match
    raise ValueError(expected)


def _require(condition: object, expected: str) -> None:
    if not condition:
        raise ValueError(expected)
