"""The body of a request: its declared type, its encoding, and reading it within limits of size and time."""

import asyncio
import zlib
from collections.abc import Mapping
from enum import Enum
from functools import lru_cache

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from app.errors import BodyTimeout, BodyTooLarge, MalformedBody, UnsupportedEncoding, UnsupportedMediaType
from app.payloads.sizes import OTHER_BYTES, FindLargest, Largest
from app.serving.room import Room

WINDOW_BITS = {b"gzip": 16 + zlib.MAX_WBITS, b"x-gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
"""The `wbits` of zlib for each encoding. In HTTP, `deflate` is the format of RFC 1950 (RFC 9110, section 8.4.1.2)."""

SMALL_BYTES = 64 * 1024
"""The largest body that the event loop reads itself, whatever its form: in some 5 ms at most."""

QUICK_BYTES = 2 * 1024 * 1024
"""The largest body of the usual form that the event loop reads itself, in some 5 ms. All other bodies are read in the
side thread. To go there and back costs less than to read them, but more than to read a small body."""

MAX_STREAMS = 256
"""Most streams in an encoded body. Gzip may come as several streams (RFC 1952, section 2.2), even as empty ones."""

PIECE_BYTES = 64 * 1024
"""How much of an encoded body is inflated in one call."""

HEADER_VALUES = 256
"""How many values of a header are remembered with their meaning."""

MAX_HEADER_BYTES = 256
"""Longest part of a header that is read."""


class MediaType(Enum):
    """The media types that the service reads and writes."""

    JSON = b"application/json"
    NPY = b"application/x-npy"


def declared_type(headers: Mapping[bytes, bytes]) -> MediaType:
    """Returns the media type that the headers declare for the body.

    Args:
        headers: Headers by lower-case name.

    Raises:
        UnsupportedMediaType: The media type is neither JSON nor npy, or the body has a content encoding.
    """
    declared = _media_type(headers.get(b"content-type", b"")[:MAX_HEADER_BYTES])
    encoding = headers.get(b"content-encoding")
    if declared is None or not (encoding is None or encoding.strip().lower() == b"identity"):
        raise UnsupportedMediaType
    return declared


@lru_cache(HEADER_VALUES)
def _media_type(content_type: bytes) -> MediaType | None:
    name = content_type.partition(b";")[0].strip().lower()
    if name == MediaType.NPY.value:
        return MediaType.NPY
    is_json = name == MediaType.JSON.value or (name.startswith(b"application/") and name.endswith(b"+json"))
    return MediaType.JSON if is_json else None


def wanted_type(headers: Mapping[bytes, bytes]) -> MediaType:
    """Returns the media type for the answer: npy if the Accept header names it and prefers no other, else JSON."""
    return _preferred(headers.get(b"accept", b"")[:MAX_HEADER_BYTES])


@lru_cache(HEADER_VALUES)
def _preferred(accept: bytes) -> MediaType:
    weights = dict(_weighted(part) for part in accept.lower().split(b","))
    npy = weights.get(MediaType.NPY.value, 0.0)
    others = (MediaType.JSON.value, b"application/*", b"*/*")
    json = next((weights[name] for name in others if name in weights), 0.0)
    return MediaType.NPY if npy > 0 and npy >= json else MediaType.JSON


def _weighted(part: bytes) -> tuple[bytes, float]:
    """Reads one item of an Accept or Accept-Encoding header, and its weight; 0 for a weight that is no number."""
    name, *parameters = (piece.strip() for piece in part.split(b";"))
    for parameter in parameters:
        key, _, value = parameter.partition(b"=")
        if key.strip() == b"q":
            try:
                return name, float(value)
            except ValueError:
                return name, 0.0
    return name, 1.0


def wanted_encoding(headers: Mapping[bytes, bytes]) -> bytes | None:
    """Returns the encoding for the answer: gzip or deflate if Accept-Encoding names it and prefers no other, else None.

    `*` names no encoding: the caller takes anything, and an answer without an encoding is there soonest.
    """
    return _preferred_encoding(headers.get(b"accept-encoding", b"")[:MAX_HEADER_BYTES])


@lru_cache(HEADER_VALUES)
def _preferred_encoding(accept: bytes) -> bytes | None:
    weights = dict(_weighted(part) for part in accept.lower().split(b","))
    best = max((b"gzip", b"deflate"), key=lambda name: weights.get(name, 0.0))
    weight = weights.get(best, 0.0)
    return best if weight > 0 and weight >= weights.get(b"identity", 0.0) else None


def deflate(encoding: bytes, body: bytes) -> bytes:
    """Encodes a body, for speed rather than size."""
    return zlib.compress(body, zlib.Z_BEST_SPEED, WINDOW_BITS[encoding])


class BodyLimit:
    """How large a body may be: as large as the service takes, and as the largest request for its model.

    Args:
        service_bytes: The most bytes that the service takes.
        largest: Works out the largest request. A body of `OTHER_BYTES` is never too large for a model.
    """

    __slots__ = ("_find_largest", "_found", "_service_bytes")

    def __init__(self, service_bytes: int, largest: FindLargest) -> None:
        self._service_bytes = service_bytes
        self._find_largest = largest
        self._found: Largest | None = None

    @property
    def _largest(self) -> Largest:
        if self._found is None:
            self._found = self._find_largest()
        return self._found

    @property
    def max_bytes(self) -> int:
        """The most bytes that the body may have."""
        return min(self._service_bytes, self._largest.max_bytes)

    def check(self, size: int) -> None:
        """Checks the size of a body, or of the part of the body that has come.

        Raises:
            BodyTooLarge: The body is too large.
        """
        if size > self._service_bytes or (size > OTHER_BYTES and size > self._largest.max_bytes):
            raise self.error("body")

    def error(self, what: str) -> BodyTooLarge:
        """Returns the error for a body that is too large."""
        if self._service_bytes <= self._largest.max_bytes:
            return BodyTooLarge(self._service_bytes, what)
        return BodyTooLarge(self._largest.max_bytes, what, self._largest.takes)


def content_encoding(headers: Mapping[bytes, bytes]) -> str | None:
    """Returns the Content-Encoding of a body, which may be gzip or deflate; None for a body as it is.

    Args:
        headers: Headers by lower-case name.

    Raises:
        UnsupportedEncoding: The body has another encoding.
    """
    encoding = headers.get(b"content-encoding")
    if encoding is None or (encoding := encoding.strip().lower()) in {b"identity", b""}:
        return None
    if encoding not in WINDOW_BITS:
        raise UnsupportedEncoding
    return encoding.decode()


def inflate(encoding: str, body: bytes, max_bytes: int) -> bytes | None:
    """Undoes the encoding of a body, piece by piece: zlib copies what follows a stream once for every stream.

    Args:
        encoding: The encoding; see `content_encoding`.
        body: The body as it came.
        max_bytes: The largest inflated body taken.

    Returns:
        The inflated body; None if it has more than `max_bytes`.

    Raises:
        MalformedBody: The body does not have the encoding, or has it too many times.
    """
    pieces: list[bytes] = []
    size = 0
    rest = memoryview(body)
    for _ in range(MAX_STREAMS):
        inflater = zlib.decompressobj(WINDOW_BITS[encoding.encode()])
        while not inflater.eof:
            if not rest:
                raise MalformedBody(f"complete: its {encoding} data ends too early")
            piece = rest[:PIECE_BYTES]
            try:
                pieces.append(inflater.decompress(piece, max_bytes - size + 1))
            except zlib.error:
                raise MalformedBody(f"{encoding}, although its Content-Encoding says so") from None
            size += len(pieces[-1])
            if size > max_bytes:
                return None
            rest = rest[len(piece) - len(inflater.unused_data) :]
        if not rest:
            return b"".join(pieces)
    raise MalformedBody(f"{encoding} of at most {MAX_STREAMS} streams")


async def read_body(
    headers: Mapping[bytes, bytes], receive: Receive, limit: BodyLimit, room: Room, timeout_seconds: float
) -> bytes:
    """Reads the whole body. Refuses a body that is too large before it comes, if the headers tell its size.

    Args:
        headers: Headers by lower-case name.
        receive: The request's ASGI `receive`.
        limit: How large the body may be.
        room: Bounds the bytes of all large bodies that arrive.
        timeout_seconds: The longest time that the body may take to arrive.

    Raises:
        BodyTooLarge: The body has, or declares, too many bytes.
        BodyTimeout: The body did not arrive in time.
        TooManyLargeBodies: Other large bodies that arrive take too much memory.
        ClientDisconnect: The client left.
    """
    limit.check(int(headers.get(b"content-length", b"0")))
    try:
        async with asyncio.timeout(timeout_seconds):
            return await _read(receive, limit, room)
    except TimeoutError:
        raise BodyTimeout(timeout_seconds) from None


async def _read(receive: Receive, limit: BodyLimit, room: Room) -> bytes:
    chunks: list[bytes] = []
    size = counted = 0
    try:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body = message.get("body", b"")
            size += len(body)
            limit.check(size)
            chunks.append(body)
            if not message.get("more_body", False):
                return body if size == len(body) else b"".join(chunks)
            if size > SMALL_BYTES:
                room.take(size - counted, own=counted)
                counted = size
    finally:
        room.give_back(counted)
