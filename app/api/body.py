"""The body of a request: its declared type, its encoding, and reading it within limits of size and time."""

import asyncio
import zlib
from collections.abc import Mapping
from enum import Enum
from functools import lru_cache

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from app.errors import BodyTimeout, BodyTooLarge, MalformedBody, UnsupportedEncoding, UnsupportedMediaType
from app.settings import Settings

WINDOW_BITS = {b"gzip": 16 + zlib.MAX_WBITS, b"x-gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
"""The `wbits` of zlib for each encoding. In HTTP, `deflate` is the format of RFC 1950 (RFC 9110, section 8.4.1.2)."""

NUMBER_BYTES = 64
"""Room for a number in JSON, with its brackets and the white space of an indented body."""

OTHER_BYTES = 64 * 1024
"""Room for the rest of a body."""

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
    if declared is None or headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
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


def inflatable_bytes(settings: Settings, window_numbers: int) -> int:
    """Returns the largest size of an inflated body in bytes: what the largest request for a model needs.

    A few encoded bytes can become as many as the service takes. To parse them would hold up all other requests.

    Args:
        settings: The service's settings, with the most bytes and windows taken.
        window_numbers: The numbers in a window; 0 for a body without windows.
    """
    return min(settings.max_body_bytes, settings.max_batch_windows * window_numbers * NUMBER_BYTES + OTHER_BYTES)


def inflate(headers: Mapping[bytes, bytes], body: bytes, max_bytes: int) -> bytes:
    """Undoes the Content-Encoding of a body, which may be gzip or deflate.

    Args:
        headers: Headers by lower-case name.
        body: The body as it came.
        max_bytes: The largest inflated body taken; see `inflatable_bytes`.

    Raises:
        UnsupportedEncoding: The body has another encoding.
        MalformedBody: The body does not have the encoding that the headers declare, or has it too many times.
        BodyTooLarge: The inflated body has more than `max_bytes`.
    """
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
    if encoding in {b"identity", b""}:
        return body
    window_bits = WINDOW_BITS.get(encoding)
    if window_bits is None:
        raise UnsupportedEncoding
    return _inflate(encoding.decode(), window_bits, body, max_bytes) if body else body


def _inflate(encoding: str, window_bits: int, body: bytes, max_bytes: int) -> bytes:
    """Undoes an encoding, piece by piece: zlib copies what follows a stream once for every stream."""
    pieces: list[bytes] = []
    size = 0
    rest = memoryview(body)
    for _ in range(MAX_STREAMS):
        inflater = zlib.decompressobj(window_bits)
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
                raise BodyTooLarge(max_bytes, "inflated body")
            rest = rest[len(piece) - len(inflater.unused_data) :]
        if not rest:
            return b"".join(pieces)
    raise MalformedBody(f"{encoding} of at most {MAX_STREAMS} streams")


async def read_body(
    headers: Mapping[bytes, bytes], receive: Receive, *, max_bytes: int, timeout_seconds: float, is_here: bool = False
) -> bytes:
    """Reads the whole body. Refuses a body that is too large before it comes, if the headers tell its size.

    Args:
        headers: Headers by lower-case name.
        receive: The request's ASGI `receive`.
        max_bytes: The largest body taken.
        timeout_seconds: The longest time that the body may take to arrive.
        is_here: Whether the body has arrived, so that no timer is needed.

    Raises:
        BodyTooLarge: The body has, or declares, more than `max_bytes`.
        BodyTimeout: The body did not arrive in time.
        ClientDisconnect: The client left.
    """
    if int(headers.get(b"content-length", b"0")) > max_bytes:
        raise BodyTooLarge(max_bytes)
    if is_here:
        return await _read(receive, max_bytes)
    try:
        async with asyncio.timeout(timeout_seconds):
            return await _read(receive, max_bytes)
    except TimeoutError:
        raise BodyTimeout(timeout_seconds) from None


async def _read(receive: Receive, max_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body = message.get("body", b"")
        size += len(body)
        if size > max_bytes:
            raise BodyTooLarge(max_bytes)
        chunks.append(body)
        if not message.get("more_body", False):
            return body if size == len(body) else b"".join(chunks)
