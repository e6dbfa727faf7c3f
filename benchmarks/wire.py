"""Requests as they go over the wire, each with the status that it should be answered with, and the service for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson
from numpy.typing import NDArray

from benchmarks.dialects import JSON, Array, Request
from benchmarks.generator import encode
from benchmarks.models import Model
from benchmarks.processes import HOST
from benchmarks.servers import Program, own_program

MAX_BATCH_WINDOWS = 64
ADMIN_KEY = "only for this benchmark"
LABEL = "stable"
CHUNK_BYTES = 64


@dataclass(frozen=True, slots=True)
class Subject:
    """The model that is asked, and the service's limits.

    Attributes:
        windows: More windows than a request may have, shape (batch, steps, features).
        features: The names of the features.
        max_windows: The most windows in a request.
        version: A version of the model `default` that serves.
        label: A label of a version that serves.
        admin_key: The service's key for `/admin`.
    """

    windows: Array
    features: Sequence[str]
    max_windows: int
    version: int
    label: str
    admin_key: str

    @classmethod
    def of(cls, model: Model, version: int) -> "Subject":
        """Describes a version of a model that `asked_program` serves."""
        features = [f"feature_{number}" for number in range(model.shape.features)]
        windows = model.windows(MAX_BATCH_WINDOWS + 1)
        return cls(windows, features, MAX_BATCH_WINDOWS, version, LABEL, ADMIN_KEY)


@dataclass(frozen=True, slots=True)
class Case:
    """A request.

    Attributes:
        name: What it is.
        request: The bytes that go over the wire.
        status: The status that it should be answered with.
        share: How often it is sent in a round of requests.
    """

    name: str
    request: bytes
    status: int = HTTPStatus.OK
    share: int = 1


def asked_program(model: Model, label_of: int, *, engine: str, **settings: object) -> Program:
    """Returns the service with the limits of `Subject.of`, two versions that serve and the label on one of them."""
    policy = f"[default]\nlatest = 2\nlabels = {{ {LABEL} = {label_of} }}\n"
    (model.models_dir / "policies.toml").write_text(policy)
    limits: dict[str, Any] = {"admin_key": ADMIN_KEY, "max_batch_windows": MAX_BATCH_WINDOWS, **settings}
    return own_program(model, engine=engine, **limits)


def post(path: str, body: bytes, content_type: str = JSON, accept: str = JSON, **headers: str) -> bytes:
    """Returns a POST."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return encode(Request(path, body, content_type, accept), headers=named)


def post_json(path: str, content: object, **headers: str) -> bytes:
    """Returns a POST of JSON."""
    return post(path, orjson.dumps(content), **headers)


def get(path: str, **headers: str) -> bytes:
    """Returns a GET."""
    return encode(Request(path, b""), "GET", headers)


def chunked(path: str, body: bytes) -> bytes:
    """Returns a request whose body comes in small chunks."""
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {JSON}\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = [body[start : start + CHUNK_BYTES] for start in range(0, len(body), CHUNK_BYTES)]
    return head.encode() + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


def tensor(windows: NDArray[Any], **rest: object) -> dict[str, object]:
    """Describes windows as a tensor of `/v2`."""
    return {"name": "windows", "shape": windows.shape, "datatype": "FP32", **rest}
