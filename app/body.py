"""Reading a request's body: declared as JSON, within its limits of size and time."""

import asyncio

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from app.errors import BodyTimeout, BodyTooLarge, UnsupportedMediaType


async def read_json_body(scope: Scope, receive: Receive, *, max_bytes: int, timeout_seconds: float) -> bytes:
    """Reads the whole body, refusing as early as can be: from the headers alone where they tell.

    Args:
        scope: The request's ASGI scope.
        receive: The request's ASGI `receive`.
        max_bytes: Largest body taken.
        timeout_seconds: Longest time the body may take to arrive.

    Raises:
        UnsupportedMediaType: The headers declare something other than plain JSON.
        BodyTooLarge: More bytes are declared, or come, than are taken.
        BodyTimeout: The body did not arrive in time.
        ClientDisconnect: The client left.
    """
    headers = dict(scope["headers"])
    media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
    if not _is_json(media_type) or encoding != b"identity":
        raise UnsupportedMediaType
    if int(headers.get(b"content-length", b"0")) > max_bytes:
        raise BodyTooLarge(max_bytes)
    try:
        async with asyncio.timeout(timeout_seconds):
            return await _read(receive, max_bytes)
    except TimeoutError:
        raise BodyTimeout(timeout_seconds) from None


def _is_json(media_type: str) -> bool:
    return media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))


async def _read(receive: Receive, max_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > max_bytes:
            raise BodyTooLarge(max_bytes)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)
