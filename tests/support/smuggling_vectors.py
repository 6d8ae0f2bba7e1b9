"""Requests whose end is a matter of opinion, each with a name: what smuggling is made of."""

from __future__ import annotations

HOST = b"Host: localhost\r\n"
FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"

LENGTHS = {
    "a list": b"5, 5",
    "a list of two": b"5, 0",
    "plus": b"+5",
    "minus": b"-5",
    "an underscore": b"5_0",
    "hexadecimal": b"0x5",
    "octal": b"0o5",
    "a fraction": b"5.0",
    "an exponent": b"5e0",
    "a semicolon": b"5;",
    "quotes": b'"5"',
    "two that differ": b"5\r\nContent-Length: 0",
    "two that agree": b"5\r\nContent-Length: 5",
    "another script's digit": b"\xd9\xa5",
    "a vertical tab": b"5\x0b",
    "two numbers": b"5 5",
    "NUL": b"\x005",
    "nothing": b"",
    "folded": b"\r\n 5",
    "and chunked": b"5\r\nTransfer-Encoding: chunked",
}
CODINGS = {
    "a space before the colon": b"Transfer-Encoding : chunked",
    "a tab before the colon": b"Transfer-Encoding\t: chunked",
    "another coding": b"Transfer-Encoding: xchunked",
    "chunked first": b"Transfer-Encoding: chunked, identity",
    "chunked twice": b"Transfer-Encoding: chunked, chunked",
    "chunked twice, in two": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "identity": b"Transfer-Encoding: identity",
    "identity first": b"Transfer-Encoding: identity, chunked",
    "identity first, in two": b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "chunked first, in two": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "compressed": b"Transfer-Encoding: gzip, chunked",
    "a parameter": b"Transfer-Encoding: chunked;q=1",
    "an empty member": b"Transfer-Encoding: ,chunked",
    "a vertical tab": b"Transfer-Encoding: \x0bchunked",
    "a form feed": b"Transfer-Encoding: chunked\x0c",
    "quotes": b'Transfer-Encoding: "chunked"',
    "NUL in it": b"Transfer-Encoding: chun\0ked",
    "NUL before it": b"\0Transfer-Encoding: chunked",
    "a bare LF before it": b"X: y\nTransfer-Encoding: chunked",
    "a bare CR before it": b"X: y\rTransfer-Encoding: chunked",
    "folded": b"Transfer-Encoding:\r\n chunked",
    "in a folded line": b"X: y\r\n Transfer-Encoding: chunked",
    "no colon": b"Transfer-Encoding",
    "no value": b"Transfer-Encoding:",
}
CHUNKS = {
    "0x": b"0x5\r\nhello\r\n",
    "plus": b"+5\r\nhello\r\n",
    "minus": b"-5\r\nhello\r\n",
    "an underscore": b"5_0\r\nhello\r\n",
    "a space before": b" 5\r\nhello\r\n",
    "no digit": b"G\r\nhello\r\n",
    "NUL": b"5\0\r\nhello\r\n",
    "more than 64 bits": b"1" + b"0" * 16 + b"5\r\nhello\r\n",
    "a bare LF": b"5\nhello\r\n",
    "a bare CR": b"5\rhello\r\n",
    "no end": b"5\r\nhello",
    "an end with a bare LF": b"5\r\nhello\n",
    "an end with a bare CR": b"5\r\nhello\r",
    "a bare LF in an extension": b"5;a\nb\r\nhello\r\n",
    "nothing": b"\r\n",
    "an end of bare LFs": b"0\n\n",
    "a length among the trailers": b"0\r\nContent-Length: 99\r\n\r\n",
    "a coding among the trailers": b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a last one after a bare LF": b"\n0\r\n\r\n",
}


def request(line: bytes, *headers: bytes, body: bytes | None = None) -> bytes:
    """Return a request; with a length where nothing else says where its body ends."""
    length = b"" if body is None or CHUNKED in headers else b"Content-Length: %d\r\n" % len(body)
    return line + b" HTTP/1.1\r\n" + HOST + b"".join(headers) + length + b"\r\n" + (body or b"")
