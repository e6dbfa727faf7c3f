"""What the head of a request must be like, besides what the parser checks, and the answers to a head that is not.

The answers have no body. Each closes the connection, because nobody knows where the next request begins.
"""

from collections.abc import Sequence

MAX_HEAD_BYTES = 64 * 1024
"""Longest request line and headers together."""

MAX_HEADERS = 100
"""Most headers of a request, as in Apache's and gunicorn's defaults."""

VERSIONS = frozenset({"1.0", "1.1"})
"""The versions of HTTP that are answered."""

NO_VERSION = "0.0"
"""What the parser says before it has read a version."""


def _closing(status: str) -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode()


BAD_REQUEST = _closing("400 Bad Request")
REQUEST_TIMEOUT = _closing("408 Request Timeout")
HEAD_TOO_LARGE = _closing("431 Request Header Fields Too Large")
NOT_IMPLEMENTED = _closing("501 Not Implemented")
TOO_MANY_CONNECTIONS = _closing("503 Service Unavailable\r\nretry-after: 1")
VERSION_NOT_SUPPORTED = _closing("505 HTTP Version Not Supported")


def head_size(url: bytes, headers: Sequence[tuple[bytes, bytes]]) -> int:
    """Returns the size of a head, without bytes of the body from the same read."""
    return len(url) + sum(len(name) + len(value) for name, value in headers)


def expects_100_continue(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Returns whether the client waits with its body for a sign (RFC 9110, section 10.1.1)."""
    return b"100-continue" in [value.lower() for name, value in headers if name == b"expect"]


def answer_to_garbage(version: str) -> bytes:
    """Returns the answer to bytes that the parser refuses, given the version that it has read so far."""
    return BAD_REQUEST if version in VERSIONS or version == NO_VERSION else VERSION_NOT_SUPPORTED


def answer_to_faulty(version: str, headers: Sequence[tuple[bytes, bytes]]) -> bytes | None:
    """Returns the answer to a head that breaks the rules of HTTP/1.1 (RFC 9112), or None for a right head.

    Args:
        version: The version of HTTP in the request line.
        headers: All headers, their names in lower case.
    """
    if version not in VERSIONS:
        return VERSION_NOT_SUPPORTED
    if len(headers) > MAX_HEADERS:
        return HEAD_TOO_LARGE
    hosts, is_coded = 0, False
    for name, _ in headers:
        if name == b"host":
            hosts += 1
        elif name == b"transfer-encoding":
            is_coded = True
    if hosts > 1 or (not hosts and version == "1.1"):  # section 3.2
        return BAD_REQUEST
    if is_coded:
        if version == "1.0":  # section 6.1: its framing is faulty
            return BAD_REQUEST
        codings = [value.strip().lower() for name, value in headers if name == b"transfer-encoding"]
        if codings != [b"chunked"]:
            return NOT_IMPLEMENTED
    return None
