"""How each server is asked for forecasts, and where they stand in its answer."""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

Array = NDArray[np.floating]

JSON, NPY = "application/json", "application/x-npy"
NPY_MAGIC = b"\x93NUMPY"


@dataclass(frozen=True, slots=True)
class Request:
    """A POST."""

    path: str
    body: bytes
    content_type: str = JSON
    accept: str = JSON


Ask = Callable[[Array], Request]
"""Makes a request of windows (batch, steps, features)."""


def ask_single(windows: Array) -> Request:
    """Ours, for one window."""
    return Request("/predict", orjson.dumps({"window": windows[0].tolist()}))


def ask_batch(windows: Array) -> Request:
    """Ours, for several."""
    return Request("/predict/batch", orjson.dumps({"windows": windows.tolist()}))


def ask_single_npy(windows: Array) -> Request:
    """Ours, for one window as an array."""
    return Request("/predict", npy(windows[0].astype(np.float32)), NPY, NPY)


def ask_batch_npy(windows: Array) -> Request:
    """Ours, for several as an array."""
    return Request("/predict/batch", npy(windows.astype(np.float32)), NPY, NPY)


def ask_peer(windows: Array) -> Request:
    """The other servers that take JSON of their own."""
    return Request("/predict", orjson.dumps({"windows": windows.tolist()}))


def ask_inference_protocol(windows: Array) -> Request:
    """The Open Inference Protocol, which MLServer speaks."""
    tensor = {"name": "windows", "shape": windows.shape, "datatype": "FP32", "data": windows.ravel().tolist()}
    return Request("/v2/models/forecaster/infer", orjson.dumps({"inputs": [tensor]}))


def forecasts_in(answer: bytes) -> Array:
    """The numbers of any of their answers, in one row."""
    if answer.startswith(NPY_MAGIC):
        return np.asarray(np.load(BytesIO(answer)), np.float32).ravel()
    content: Any = orjson.loads(answer)
    if isinstance(content, dict):
        content = content.get("prediction") or content.get("predictions") or content["outputs"][0]["data"]
    return np.asarray(content, np.float32).ravel()


def npy(array: NDArray[Any]) -> bytes:
    """An array as a file of NumPy."""
    file = BytesIO()
    np.save(file, array)
    return file.getvalue()
