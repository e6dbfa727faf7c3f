"""The limit for one Python process: bare ASGI, no validation, one call for all requests of a turn of the event loop."""

import asyncio
from typing import Any

import numpy as np
import orjson

from benchmarks.peers.kernel import forecast

_waiting: list[tuple[Any, asyncio.Future[Any]]] = []


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answers every request as a batch of windows."""
    if scope["type"] != "http":
        return
    body, is_more = b"", True
    while is_more:
        message = await receive()
        body += message.get("body", b"")
        is_more = message.get("more_body", False)
    windows = np.array(orjson.loads(body)["windows"], np.float32)
    answer = orjson.dumps({"predictions": await _submit(windows)}, option=orjson.OPT_SERIALIZE_NUMPY)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


def _submit(windows: Any) -> asyncio.Future[Any]:
    loop = asyncio.get_running_loop()
    if not _waiting:
        loop.call_soon(_compute)
    _waiting.append((windows, loop.create_future()))
    return _waiting[-1][1]


def _compute() -> None:
    batch = _waiting.copy()
    _waiting.clear()
    forecasts = forecast(np.concatenate([windows for windows, _ in batch]))
    start = 0
    for windows, answer in batch:
        if not answer.cancelled():
            answer.set_result(forecasts[start : start + len(windows)])
        start += len(windows)
