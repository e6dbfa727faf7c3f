"""Reading a request's body: declared as something the service reads, within its limits of size and time."""

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
"""How zlib is told of an encoding; `deflate` is the format of RFC 1950, as RFC 9110 has it."""

NUMBER_BYTES = 64
"""Room for a number in JSON, with brackets and the white space of an indented body around it."""

OTHER_BYTES = 64 * 1024
"""Room for everything in a body that is not numbers."""

HEADER_VALUES = 256
"""Different values of a header whose meaning is remembered."""

MAX_HEADER_BYTES = 256
"""How much of such a value is looked at."""


class MediaType(Enum):
    """What a body can be."""

    JSON = b"application/json"
    NPY = b"application/x-npy"


def declared_type(headers: Mapping[bytes, bytes]) -> MediaType:
    """What the body is declared to be.

    Args:
        headers: By lower-case name.

    Raises:
        UnsupportedMediaType: Neither JSON nor npy, or encoded in some way.
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
    """What the answer should be: npy where the Accept header names it and likes nothing better, else JSON."""
    return _preferred(headers.get(b"accept", b"")[:MAX_HEADER_BYTES])


@lru_cache(HEADER_VALUES)
def _preferred(accept: bytes) -> MediaType:
    weights = dict(_weighted(part) for part in accept.lower().split(b","))
    npy = weights.get(MediaType.NPY.value, 0.0)
    others = (MediaType.JSON.value, b"application/*", b"*/*")
    json = next((weights[name] for name in others if name in weights), 0.0)
    return MediaType.NPY if npy > 0 and npy >= json else MediaType.JSON


def _weighted(part: bytes) -> tuple[bytes, float]:
    """One media range of an Accept header, and its weight; one that cannot be read counts as 0."""
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
    """How the answer should be encoded: gzip or deflate where Accept-Encoding names one and likes no encoding better.

    Its `*` names none: such a caller takes anything, and what is not encoded is there soonest.
    """
    return _preferred_encoding(headers.get(b"accept-encoding", b"")[:MAX_HEADER_BYTES])


@lru_cache(HEADER_VALUES)
def _preferred_encoding(accept: bytes) -> bytes | None:
    weights = dict(_weighted(part) for part in accept.lower().split(b","))
    best = max((b"gzip", b"deflate"), key=lambda name: weights.get(name, 0.0))
    weight = weights.get(best, 0.0)
    return best if weight > 0 and weight >= weights.get(b"identity", 0.0) else None


def deflate(encoding: bytes, body: bytes) -> bytes:
    """A body in an encoding, as small as can be had quickly."""
    return zlib.compress(body, zlib.Z_BEST_SPEED, WINDOW_BITS[encoding])


def inflatable_bytes(settings: Settings, window_numbers: int) -> int:
    """The largest body that an encoded one may become: what the largest request for a model needs, and no more.

    A few bytes can become as many as the service takes, and those would hold all others up while they are parsed.

    Args:
        settings: Tells the most bytes and windows taken.
        window_numbers: How many numbers a window has; 0 where a body has none.
    """
    return min(settings.max_body_bytes, settings.max_batch_windows * window_numbers * NUMBER_BYTES + OTHER_BYTES)


def inflate(headers: Mapping[bytes, bytes], body: bytes, max_bytes: int) -> bytes:
    """A body as it was before its Content-Encoding, which may be gzip or deflate.

    Args:
        headers: By lower-case name.
        body: As it came.
        max_bytes: Largest body taken, inflated; see `inflatable_bytes`.

    Raises:
        UnsupportedEncoding: It is encoded in another way.
        MalformedBody: It is not encoded in the way it says.
        BodyTooLarge: It would become larger than is taken.
    """
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
    if encoding in {b"identity", b""}:
        return body
    window_bits = WINDOW_BITS.get(encoding)
    if window_bits is None:
        raise UnsupportedEncoding
    pieces: list[bytes] = []
    size = 0
    while body:  # gzip may come as several streams (RFC 1952, section 2.2)
        inflater = zlib.decompressobj(window_bits)
        try:
            piece = inflater.decompress(body, max_bytes - size + 1)
        except zlib.error:
            raise MalformedBody(f"{encoding.decode()}, as its Content-Encoding says") from None
        size += len(piece)
        if size > max_bytes:
            raise BodyTooLarge(max_bytes, "inflated body")
        if not inflater.eof:
            raise MalformedBody(f"whole: its {encoding.decode()} ends too early")
        pieces.append(piece)
        body = inflater.unused_data
    return b"".join(pieces)


async def read_body(
    headers: Mapping[bytes, bytes], receive: Receive, *, max_bytes: int, timeout_seconds: float, is_here: bool = False
) -> bytes:
    """Reads the whole body, refusing as early as can be: from the headers alone where they tell.

    Args:
        headers: By lower-case name.
        receive: The request's ASGI `receive`.
        max_bytes: Largest body taken.
        timeout_seconds: Longest time the body may take to arrive.
        is_here: Whether it has arrived, so that no clock need be set.

    Raises:
        BodyTooLarge: More bytes are declared, or come, than are taken.
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
