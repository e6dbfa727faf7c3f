"""Requests of every kind that the service answers or refuses, each with the status that it should be answered with.

`soak` sends them by the million, and `fuzz` mutates them.
"""

import gzip
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson
from numpy.typing import NDArray

from benchmarks.dialects import JSON, NPY, Array, Request, npy
from benchmarks.generator import encode
from benchmarks.models import Model
from benchmarks.processes import HOST
from benchmarks.servers import Program, own_program

MAX_BATCH_WINDOWS = 64
ADMIN_KEY = "only for this benchmark"
LABEL = "stable"
BATCH = 8
BODY_TOO_LARGE = 2**20
"""More bytes than a model with small windows takes."""
NEVER = 10**15
"""A version that nobody makes."""
OCTETS = "application/octet-stream"
TOO_LARGE, UNPROCESSABLE = HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY
HEAD_TOO_LARGE = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE


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


def cases(subject: Subject) -> list[Case]:
    """Returns all requests. About a tenth of a round of requests is wrong."""
    one, some = subject.windows[:1], subject.windows[:BATCH]
    most, more = subject.windows[: subject.max_windows], subject.windows[: subject.max_windows + 1]
    return [
        *(Case(f"one window, {case.name}", case.request, share=48) for case in _right(subject, one)),
        *(Case(f"{BATCH} windows, {case.name}", case.request, share=8) for case in _right(subject, some)),
        *(Case(f"{len(most)} windows, {case.name}", case.request) for case in _right(subject, most)),
        *(Case(f"a window too many, {case.name}", case.request, TOO_LARGE) for case in _right(subject, more)),
        *_visits(subject),
        *_administration(subject),
        *_wrong_native(subject),
        *_wrong_v1(subject),
        *_wrong_v2(subject),
        *_misdirected(subject),
        *_broken(),
    ]


def a_round(cases: Sequence[Case], seed: int) -> list[int]:
    """Returns places of the cases in a random order, each as often as its share says."""
    places = [place for place, case in enumerate(cases) for _ in range(case.share)]
    random.Random(seed).shuffle(places)  # noqa: S311 (no secret)
    return places


def _post(path: str, body: bytes, content_type: str = JSON, accept: str = JSON, **headers: str) -> bytes:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return encode(Request(path, body, content_type, accept), headers=named)


def _post_json(path: str, content: object, **headers: str) -> bytes:
    return _post(path, orjson.dumps(content), **headers)


def _get(path: str, **headers: str) -> bytes:
    return encode(Request(path, b""), "GET", headers)


def _chunked(path: str, body: bytes) -> bytes:
    """A request whose body comes in chunks of 64 bytes."""
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {JSON}\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = [body[start : start + 64] for start in range(0, len(body), 64)]
    return head.encode() + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


def _right(subject: Subject, windows: Array) -> Iterator[Case]:
    """Requests for the forecasts of these windows, in all protocols and forms."""
    yield from _right_native(subject, windows)
    yield from _right_v1(subject, windows)
    yield from _right_v2(subject, windows)


def _right_native(subject: Subject, windows: Array) -> Iterator[Case]:
    rows = windows.tolist()
    path, content, array = "/predict/batch", {"windows": rows}, windows
    if len(windows) == 1:
        path, content, array = "/predict", {"window": rows[0]}, windows[0]
        records = [dict(zip(subject.features, row, strict=True)) for row in rows[0]]
        yield Case("records", _post_json(path, {"records": records}))
    as_rows = orjson.dumps(content)
    yield Case("JSON", _post(path, as_rows))
    yield Case("npy", _post(path, npy(array), NPY))
    yield Case("npy, for npy", _post(path, npy(array), NPY, NPY))
    yield Case("JSON, for npy", _post(path, as_rows, accept=NPY))
    yield Case("JSON, by version", _post(f"{path}?model=default&version={subject.version}", as_rows))
    yield Case("JSON, by label", _post(f"{path}?label={subject.label}", as_rows))
    yield Case("JSON, in chunks", _chunked(path, as_rows))


def _right_v1(subject: Subject, windows: Array) -> Iterator[Case]:
    rows = windows.tolist()
    model = "/v1/models/default"
    yield Case("/v1 rows", _post_json(f"{model}:predict", {"instances": rows}))
    yield Case("/v1 rows by name", _post_json(f"{model}:predict", {"instances": [{"windows": row} for row in rows]}))
    yield Case("/v1 columns", _post_json(f"{model}:predict", {"inputs": rows}))
    yield Case("/v1 by version", _post_json(f"{model}/versions/{subject.version}:predict", {"instances": rows}))
    yield Case("/v1 by label", _post_json(f"{model}/labels/{subject.label}:predict", {"inputs": {"windows": rows}}))
    packed = gzip.compress(orjson.dumps({"instances": rows}), mtime=0)
    yield Case("/v1 gzip", _post(f"{model}:predict", packed, Content_Encoding="gzip"))


def _right_v2(subject: Subject, windows: Array) -> Iterator[Case]:
    path = "/v2/models/default/infer"
    flat = {"inputs": [_tensor(windows, data=windows.ravel().tolist())]}
    document = orjson.dumps({"inputs": [_tensor(windows, parameters={"binary_data_size": windows.nbytes})]})
    length = {"Inference_Header_Content_Length": str(len(document))}
    binary = document + windows.tobytes()
    yield Case("/v2 JSON", _post_json(path, flat))
    yield Case("/v2 nested", _post_json(path, {"inputs": [_tensor(windows, data=windows.tolist())]}))
    yield Case("/v2 by version", _post_json(f"/v2/models/default/versions/{subject.version}/infer", flat))
    yield Case("/v2 binary", _post(path, binary, OCTETS, **length))
    for_binary = {**flat, "parameters": {"binary_data_output": True}}
    yield Case("/v2 JSON, for binary", _post_json(path, for_binary))
    yield Case(
        "/v2 gzip, for gzip",
        _post(path, gzip.compress(binary, mtime=0), OCTETS, Content_Encoding="gzip", Accept_Encoding="gzip", **length),
    )


def _tensor(windows: NDArray[Any], **rest: object) -> dict[str, object]:
    return {"name": "windows", "shape": windows.shape, "datatype": "FP32", **rest}


def _visits(subject: Subject) -> Iterator[Case]:
    """Requests for anything but forecasts."""
    v1, v2 = "/v1/models/default", "/v2/models/default"
    native = ["/models", "/models/default", f"/models/default/versions/{subject.version}", "/models/default/example"]
    tfserving = ["/v1/models", v1, f"{v1}/versions/{subject.version}", f"{v1}/metadata"]
    inference = ["/v2", "/v2/health/live", "/v2/health/ready", f"{v2}/ready", v2, f"{v2}/config", f"{v2}/stats"]
    health = ["/livez", "/readyz", "/healthz", "/metrics", "/openapi.json", "/docs", "/docs/swagger-ui.css"]
    for path in (*native, *tfserving, *inference, "/v2/models/stats", *health):
        yield Case(f"GET {path}", _get(path))
    yield Case("GET /", _get("/"), HTTPStatus.TEMPORARY_REDIRECT)
    yield Case("POST /v2/repository/index", _post("/v2/repository/index", b""))
    yield Case("POST /v2/repository/index, ready", _post_json("/v2/repository/index", {"ready": True}))


def _administration(subject: Subject) -> Iterator[Case]:
    """Requests of an operator, who changes a label of his own."""
    key = {"Authorization": f"Bearer {subject.admin_key}"}
    model = "/admin/models/default"
    label, choice = orjson.dumps({"version": subject.version}), orjson.dumps({"latest": 2})
    yield Case("GET /admin/models", _get("/admin/models", **key))
    yield Case("GET /admin state", _get(f"{model}/state", **key))
    yield Case("PUT /admin label", encode(Request(f"{model}/labels/own", label), "PUT", key))
    yield Case("PUT /admin policy", encode(Request(f"{model}/policy", choice), "PUT", key))
    not_there = encode(Request(f"{model}/labels/own", orjson.dumps({"version": NEVER})), "PUT", key)
    yield Case("PUT /admin label, for no version", not_there, HTTPStatus.CONFLICT)


def _wrong_native(subject: Subject) -> Iterator[Case]:
    """Wrong bodies on the native routes."""
    window = subject.windows[0].tolist()
    rows = {
        "a step too few": window[1:],
        "a ragged row": [*window[1:], [*window[0], 1.0]],
        "an empty row": [*window[1:], []],
        "a string": [*window[1:], ["1"] * len(window[0])],
        "null": [*window[1:], [None] * len(window[0])],
        "true": [*window[1:], [True] * len(window[0])],
        "an object": [*window[1:], {}],
        "a number beyond float32": [*window[1:], [1e300] * len(window[0])],
        "no list": 1.0,
        "an empty list": [],
    }
    for name, wrong in rows.items():
        yield Case(f"{name} in a window", _post_json("/predict", {"window": wrong}), UNPROCESSABLE)
        yield Case(f"{name} in a batch", _post_json("/predict/batch", {"windows": [window, wrong]}), UNPROCESSABLE)
    for name, content in {
        "no field": {},
        "an unknown field": {"window": window, "units": "MW"},
        "window and records": {"window": window, "records": []},
        "windows for one window": {"windows": [window]},
        "a list": [window],
        "records without a feature": {"records": [{} for _ in window]},
    }.items():
        yield Case(name, _post_json("/predict", content), UNPROCESSABLE)
    yield Case("an empty batch", _post_json("/predict/batch", {"windows": []}), UNPROCESSABLE)
    yield from _garbled("/predict", b"window")
    yield Case("NaN", _post("/predict", b'{"window": [NaN]}'), UNPROCESSABLE)
    text = _post("/predict", orjson.dumps({"window": window}), "text/plain")
    yield Case("text", text, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    packed = gzip.compress(orjson.dumps({"window": window}), mtime=0)
    yield Case("gzip", _post("/predict", packed, Content_Encoding="gzip"), HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    yield from _wrong_arrays(subject)


def _garbled(path: str, field: bytes) -> Iterator[Case]:
    """Bodies that are not JSON, or hardly."""
    bodies = {
        "an unfinished body": b'{"%b": [[' % field,
        "no body": b"",
        "bytes that are no text": b'{"%b": "\xff\xfe"}' % field,
        "UTF-16": '{"a": 1}'.encode("utf-16"),
        "two documents": b"{}{}",
        "depth": b"[" * 10_000,
        "a body too large": b" " * BODY_TOO_LARGE,
    }
    for name, body in bodies.items():
        status = TOO_LARGE if len(body) == BODY_TOO_LARGE else HTTPStatus.BAD_REQUEST
        yield Case(f"{name} for {path}", _post(path, body), status)


def _wrong_arrays(subject: Subject) -> Iterator[Case]:
    window = subject.windows[0]
    array = npy(window)
    yield Case("half an array", _post("/predict", array[: len(array) // 2], NPY), HTTPStatus.BAD_REQUEST)
    yield Case("no array", _post("/predict", b"NUMPY", NPY), HTTPStatus.BAD_REQUEST)
    yield Case("an array of another shape", _post("/predict", npy(window[1:]), NPY), UNPROCESSABLE)
    yield Case("an array with NaN", _post("/predict", npy(window * float("nan")), NPY), UNPROCESSABLE)
    yield Case("an array of text", _post("/predict", npy(window.astype("U4")), NPY), UNPROCESSABLE)


def _wrong_v1(subject: Subject) -> Iterator[Case]:
    """Wrong requests to TensorFlow Serving's API."""
    model, window = "/v1/models/default", subject.windows[0].tolist()
    for name, content in {
        "no rows": {},
        "empty rows": {"instances": []},
        "rows and columns": {"instances": [window], "inputs": [window]},
        "a step too few": {"instances": [window[1:]]},
        "a string": {"instances": ["one"]},
        "another name": {"instances": [{"window": window}]},
        "another signature": {"signature_name": "other", "instances": [window]},
    }.items():
        yield Case(f"/v1 {name}", _post_json(f"{model}:predict", content), HTTPStatus.BAD_REQUEST)
    yield from _garbled(f"{model}:predict", b"instances")
    yield Case("/v1 NaN", _post(f"{model}:predict", b'{"instances": [[NaN]]}'), HTTPStatus.BAD_REQUEST)
    body = {"instances": [window]}
    yield Case("/v1 classify", _post_json(f"{model}:classify", body), HTTPStatus.NOT_IMPLEMENTED)
    yield Case("/v1 unknown model", _post_json("/v1/models/nobody:predict", body), HTTPStatus.NOT_FOUND)
    yield Case("/v1 unknown version", _post_json(f"{model}/versions/{NEVER}:predict", body), HTTPStatus.NOT_FOUND)
    yield Case("/v1 unknown label", _post_json(f"{model}/labels/never:predict", body), HTTPStatus.BAD_REQUEST)
    yield Case(
        "/v1 half a gzip",
        _post(f"{model}:predict", gzip.compress(b"{}")[:9], Content_Encoding="gzip"),
        HTTPStatus.BAD_REQUEST,
    )
    yield Case("/v1 brotli", _post(f"{model}:predict", b"{}", Content_Encoding="br"), HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    bomb = gzip.compress(b" " * BODY_TOO_LARGE, mtime=0)
    yield Case("/v1 a gzip that inflates too far", _post(f"{model}:predict", bomb, Content_Encoding="gzip"), TOO_LARGE)


def _wrong_v2(subject: Subject) -> Iterator[Case]:
    """Wrong requests to the Open Inference Protocol."""
    path, window = "/v2/models/default/infer", subject.windows[:1]
    data = window.ravel().tolist()
    for name, tensors in {
        "no tensor": [],
        "a number too few": [_tensor(window, data=data[1:])],
        "another shape": [_tensor(window[:, 1:], data=data)],
        "no data": [_tensor(window)],
        "another name": [{**_tensor(window, data=data), "name": "input"}],
        "another type": [{**_tensor(window, data=data), "datatype": "BYTES"}],
        "a tensor twice": [_tensor(window, data=data)] * 2,
        "shared memory": [_tensor(window, parameters={"shared_memory_region": "x", "shared_memory_byte_size": 4})],
    }.items():
        yield Case(f"/v2 {name}", _post_json(path, {"inputs": tensors}), HTTPStatus.BAD_REQUEST)
    yield from _garbled(path, b"inputs")
    body = {"inputs": [_tensor(window, data=data)]}
    length = {"Inference_Header_Content_Length": "-1"}
    yield Case("/v2 length -1", _post(path, b"{}", OCTETS, **length), HTTPStatus.BAD_REQUEST)
    yield Case("/v2 unknown model", _post_json("/v2/models/nobody/infer", body), HTTPStatus.NOT_FOUND)
    yield Case("/v2 unknown version", _post_json("/v2/models/default/versions/0/infer", body), HTTPStatus.NOT_FOUND)
    yield Case("/v2 unload", _post("/v2/repository/models/default/unload", b""), HTTPStatus.BAD_REQUEST)


def _misdirected(subject: Subject) -> Iterator[Case]:
    """Requests for what is not there, with wrong methods, and without a key."""
    body = orjson.dumps({"window": subject.windows[0].tolist()})
    for query in ("model=nobody", f"version={NEVER}", "label=never", "model=nobody&version=1"):
        yield Case(f"/predict?{query}", _post(f"/predict?{query}", body), HTTPStatus.NOT_FOUND)
    for query in ("version=0", "version=one", "model=..%2F..", "debug=1", f"version=1&label={subject.label}"):
        yield Case(f"/predict?{query}", _post(f"/predict?{query}", body), UNPROCESSABLE)
    for path in ("/nowhere", "/predict/", "/models/nobody", "/models/default/versions/9999", "/v2/nowhere"):
        yield Case(f"GET {path}", _get(path), HTTPStatus.NOT_FOUND)
    yield Case("GET /v1/nowhere", _get("/v1/nowhere"), HTTPStatus.BAD_REQUEST)
    for path in ("/predict", "/predict/batch", "/v2/models/default/infer"):
        yield Case(f"GET {path}", _get(path), HTTPStatus.METHOD_NOT_ALLOWED)
    yield Case("POST /livez", _post("/livez", b""), HTTPStatus.METHOD_NOT_ALLOWED)
    yield Case("/admin without a key", _get("/admin/models"), HTTPStatus.UNAUTHORIZED)
    wrong_key = _get("/admin/models", Authorization="Bearer of bad news")
    yield Case("/admin with a wrong key", wrong_key, HTTPStatus.UNAUTHORIZED)


def _broken() -> Iterator[Case]:
    """Heads that break the rules of HTTP; the service closes the connection."""
    host = f"Host: {HOST}\r\n"
    for name, head in {
        "no HTTP": "EHLO example.org\r\n\r\n",
        "no host": "GET /livez HTTP/1.1\r\n\r\n",
        "two hosts": f"GET /livez HTTP/1.1\r\n{host}{host}\r\n",
        "a name with a blank": f"GET /livez HTTP/1.1\r\n{host}A b: c\r\n\r\n",
        "a negative length": f"POST /predict HTTP/1.1\r\n{host}Content-Length: -1\r\n\r\n",
        "two lengths": f"POST /predict HTTP/1.1\r\n{host}Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "a length and chunks": f"POST / HTTP/1.1\r\n{host}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    }.items():
        yield Case(name, head.encode(), HTTPStatus.BAD_REQUEST)
    many = "".join(f"X-{number}: 1\r\n" for number in range(101))
    yield Case("too many headers", f"GET /livez HTTP/1.1\r\n{host}{many}\r\n".encode(), HEAD_TOO_LARGE)
    long = f"GET /livez HTTP/1.1\r\n{host}X: {'x' * 2**16}\r\n\r\n".encode()
    yield Case("a head too long", long, HEAD_TOO_LARGE)
    coding = f"POST /predict HTTP/1.1\r\n{host}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n".encode()
    yield Case("an unknown transfer coding", coding, HTTPStatus.NOT_IMPLEMENTED)
    later = f"GET /livez HTTP/2.0\r\n{host}\r\n".encode()
    yield Case("HTTP/2.0", later, HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
