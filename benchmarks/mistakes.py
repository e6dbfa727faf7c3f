"""Wrong requests of some 130 kinds, each with the status that it should be refused with."""

import gzip
from collections.abc import Iterator
from http import HTTPStatus

import orjson

from benchmarks.dialects import NPY, npy
from benchmarks.processes import HOST
from benchmarks.wire import Case, Subject, get, post, post_json, tensor

BODY_TOO_LARGE = 2**20
"""More bytes than a model with small windows takes."""
NEVER = 10**15
"""A version that nobody makes."""
OCTETS = "application/octet-stream"
TOO_LARGE, UNPROCESSABLE = HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY
HEAD_TOO_LARGE = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE


def mistakes(subject: Subject) -> Iterator[Case]:
    """Yields all wrong requests."""
    yield from _wrong_native(subject)
    yield from _wrong_v1(subject)
    yield from _wrong_v2(subject)
    yield from _misdirected(subject)
    yield from _broken()


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
        yield Case(f"{name} in a window", post_json("/predict", {"window": wrong}), UNPROCESSABLE)
        yield Case(f"{name} in a batch", post_json("/predict/batch", {"windows": [window, wrong]}), UNPROCESSABLE)
    for name, content in {
        "no field": {},
        "an unknown field": {"window": window, "units": "MW"},
        "window and records": {"window": window, "records": []},
        "a future for a model that takes none": {"window": window, "future": window},
        "a time for a model that takes none": {"window": window, "time": "2026-11-29T13:00:00"},
        "windows for one window": {"windows": [window]},
        "a list": [window],
        "records without a feature": {"records": [{} for _ in window]},
    }.items():
        yield Case(name, post_json("/predict", content), UNPROCESSABLE)
    yield Case("an empty batch", post_json("/predict/batch", {"windows": []}), UNPROCESSABLE)
    yield from _garbled("/predict", b"window")
    yield Case("NaN", post("/predict", b'{"window": [NaN]}'), UNPROCESSABLE)
    text = post("/predict", orjson.dumps({"window": window}), "text/plain")
    yield Case("text", text, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    packed = gzip.compress(orjson.dumps({"window": window}), mtime=0)
    yield Case("gzip", post("/predict", packed, Content_Encoding="gzip"), HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
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
        yield Case(f"{name} for {path}", post(path, body), status)


def _wrong_arrays(subject: Subject) -> Iterator[Case]:
    window = subject.windows[0]
    array = npy(window)
    yield Case("half an array", post("/predict", array[: len(array) // 2], NPY), HTTPStatus.BAD_REQUEST)
    yield Case("no array", post("/predict", b"NUMPY", NPY), HTTPStatus.BAD_REQUEST)
    yield Case("an array of another shape", post("/predict", npy(window[1:]), NPY), UNPROCESSABLE)
    yield Case("an array with NaN", post("/predict", npy(window * float("nan")), NPY), UNPROCESSABLE)
    yield Case("an array of text", post("/predict", npy(window.astype("U4")), NPY), UNPROCESSABLE)


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
        yield Case(f"/v1 {name}", post_json(f"{model}:predict", content), HTTPStatus.BAD_REQUEST)
    yield from _garbled(f"{model}:predict", b"instances")
    yield Case("/v1 NaN", post(f"{model}:predict", b'{"instances": [[NaN]]}'), HTTPStatus.BAD_REQUEST)
    body = {"instances": [window]}
    yield Case("/v1 classify", post_json(f"{model}:classify", body), HTTPStatus.NOT_IMPLEMENTED)
    yield Case("/v1 unknown model", post_json("/v1/models/nobody:predict", body), HTTPStatus.NOT_FOUND)
    yield Case("/v1 unknown version", post_json(f"{model}/versions/{NEVER}:predict", body), HTTPStatus.NOT_FOUND)
    yield Case("/v1 unknown label", post_json(f"{model}/labels/never:predict", body), HTTPStatus.BAD_REQUEST)
    yield Case(
        "/v1 half a gzip",
        post(f"{model}:predict", gzip.compress(b"{}")[:9], Content_Encoding="gzip"),
        HTTPStatus.BAD_REQUEST,
    )
    yield Case("/v1 brotli", post(f"{model}:predict", b"{}", Content_Encoding="br"), HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    bomb = gzip.compress(b" " * BODY_TOO_LARGE, mtime=0)
    yield Case("/v1 a gzip that inflates too far", post(f"{model}:predict", bomb, Content_Encoding="gzip"), TOO_LARGE)


def _wrong_v2(subject: Subject) -> Iterator[Case]:
    """Wrong requests to the Open Inference Protocol."""
    path, window = "/v2/models/default/infer", subject.windows[:1]
    data = window.ravel().tolist()
    for name, tensors in {
        "no tensor": [],
        "a number too few": [tensor(window, data=data[1:])],
        "another shape": [tensor(window[:, 1:], data=data)],
        "no data": [tensor(window)],
        "another name": [{**tensor(window, data=data), "name": "input"}],
        "another type": [{**tensor(window, data=data), "datatype": "BYTES"}],
        "a tensor twice": [tensor(window, data=data)] * 2,
        "shared memory": [tensor(window, parameters={"shared_memory_region": "x", "shared_memory_byte_size": 4})],
    }.items():
        yield Case(f"/v2 {name}", post_json(path, {"inputs": tensors}), HTTPStatus.BAD_REQUEST)
    yield from _garbled(path, b"inputs")
    body = {"inputs": [tensor(window, data=data)]}
    length = {"Inference_Header_Content_Length": "-1"}
    yield Case("/v2 length -1", post(path, b"{}", OCTETS, **length), HTTPStatus.BAD_REQUEST)
    yield Case("/v2 unknown model", post_json("/v2/models/nobody/infer", body), HTTPStatus.NOT_FOUND)
    yield Case("/v2 unknown version", post_json("/v2/models/default/versions/0/infer", body), HTTPStatus.NOT_FOUND)
    yield Case("/v2 unload", post("/v2/repository/models/default/unload", b""), HTTPStatus.BAD_REQUEST)


def _misdirected(subject: Subject) -> Iterator[Case]:
    """Requests for what is not there, with wrong methods, and without a key."""
    body = orjson.dumps({"window": subject.windows[0].tolist()})
    for query in ("model=nobody", f"version={NEVER}", "label=never", "model=nobody&version=1"):
        yield Case(f"/predict?{query}", post(f"/predict?{query}", body), HTTPStatus.NOT_FOUND)
    for query in ("version=0", "version=one", "model=..%2F..", "debug=1", f"version=1&label={subject.label}"):
        yield Case(f"/predict?{query}", post(f"/predict?{query}", body), UNPROCESSABLE)
    for path in ("/nowhere", "/predict/", "/models/nobody", "/models/default/versions/9999", "/v2/nowhere"):
        yield Case(f"GET {path}", get(path), HTTPStatus.NOT_FOUND)
    yield Case("GET /v1/nowhere", get("/v1/nowhere"), HTTPStatus.BAD_REQUEST)
    for path in ("/predict", "/predict/batch", "/v2/models/default/infer"):
        yield Case(f"GET {path}", get(path), HTTPStatus.METHOD_NOT_ALLOWED)
    yield Case("POST /livez", post("/livez", b""), HTTPStatus.METHOD_NOT_ALLOWED)
    yield Case("/admin without a key", get("/admin/models"), HTTPStatus.UNAUTHORIZED)
    wrong_key = get("/admin/models", Authorization="Bearer of bad news")
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
