"""Requests of every kind that the service answers or refuses. `soak` sends them by the million, `fuzz` mutates them."""

import gzip
import random
from collections.abc import Iterator, Sequence
from http import HTTPStatus

import orjson

from benchmarks.dialects import NPY, Array, Request, npy
from benchmarks.generator import encode
from benchmarks.mistakes import NEVER, OCTETS, TOO_LARGE, mistakes
from benchmarks.wire import Case, Subject, chunked, get, post, post_json, tensor

BATCH = 8


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
        *mistakes(subject),
    ]


def a_round(cases: Sequence[Case], seed: int) -> list[int]:
    """Returns places of the cases in a random order, each as often as its share says."""
    places = [place for place, case in enumerate(cases) for _ in range(case.share)]
    random.Random(seed).shuffle(places)  # noqa: S311 (no secret)
    return places


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
        yield Case("records", post_json(path, {"records": records}))
    as_rows = orjson.dumps(content)
    yield Case("JSON", post(path, as_rows))
    yield Case("npy", post(path, npy(array), NPY))
    yield Case("npy, for npy", post(path, npy(array), NPY, NPY))
    yield Case("JSON, for npy", post(path, as_rows, accept=NPY))
    yield Case("JSON, by version", post(f"{path}?model=default&version={subject.version}", as_rows))
    yield Case("JSON, by label", post(f"{path}?label={subject.label}", as_rows))
    yield Case("JSON, in chunks", chunked(path, as_rows))


def _right_v1(subject: Subject, windows: Array) -> Iterator[Case]:
    rows = windows.tolist()
    model = "/v1/models/default"
    yield Case("/v1 rows", post_json(f"{model}:predict", {"instances": rows}))
    yield Case("/v1 rows by name", post_json(f"{model}:predict", {"instances": [{"windows": row} for row in rows]}))
    yield Case("/v1 columns", post_json(f"{model}:predict", {"inputs": rows}))
    yield Case("/v1 by version", post_json(f"{model}/versions/{subject.version}:predict", {"instances": rows}))
    yield Case("/v1 by label", post_json(f"{model}/labels/{subject.label}:predict", {"inputs": {"windows": rows}}))
    packed = gzip.compress(orjson.dumps({"instances": rows}), mtime=0)
    yield Case("/v1 gzip", post(f"{model}:predict", packed, Content_Encoding="gzip"))


def _right_v2(subject: Subject, windows: Array) -> Iterator[Case]:
    path = "/v2/models/default/infer"
    flat = {"inputs": [tensor(windows, data=windows.ravel().tolist())]}
    document = orjson.dumps({"inputs": [tensor(windows, parameters={"binary_data_size": windows.nbytes})]})
    length = {"Inference_Header_Content_Length": str(len(document))}
    binary = document + windows.tobytes()
    yield Case("/v2 JSON", post_json(path, flat))
    yield Case("/v2 nested", post_json(path, {"inputs": [tensor(windows, data=windows.tolist())]}))
    yield Case("/v2 by version", post_json(f"/v2/models/default/versions/{subject.version}/infer", flat))
    yield Case("/v2 binary", post(path, binary, OCTETS, **length))
    for_binary = {**flat, "parameters": {"binary_data_output": True}}
    yield Case("/v2 JSON, for binary", post_json(path, for_binary))
    yield Case(
        "/v2 gzip, for gzip",
        post(path, gzip.compress(binary, mtime=0), OCTETS, Content_Encoding="gzip", Accept_Encoding="gzip", **length),
    )


def _visits(subject: Subject) -> Iterator[Case]:
    """Requests for anything but forecasts."""
    v1, v2 = "/v1/models/default", "/v2/models/default"
    native = ["/models", "/models/default", f"/models/default/versions/{subject.version}", "/models/default/example"]
    tfserving = ["/v1/models", v1, f"{v1}/versions/{subject.version}", f"{v1}/metadata"]
    inference = ["/v2", "/v2/health/live", "/v2/health/ready", f"{v2}/ready", v2, f"{v2}/config", f"{v2}/stats"]
    health = ["/livez", "/readyz", "/healthz", "/metrics", "/openapi.json", "/docs", "/docs/swagger-ui.css"]
    for path in (*native, *tfserving, *inference, "/v2/models/stats", *health):
        yield Case(f"GET {path}", get(path))
    yield Case("GET /", get("/"), HTTPStatus.TEMPORARY_REDIRECT)
    yield Case("POST /v2/repository/index", post("/v2/repository/index", b""))
    yield Case("POST /v2/repository/index, ready", post_json("/v2/repository/index", {"ready": True}))


def _administration(subject: Subject) -> Iterator[Case]:
    """Requests of an operator, who changes a label of his own."""
    key = {"Authorization": f"Bearer {subject.admin_key}"}
    model = "/admin/models/default"
    label, choice = orjson.dumps({"version": subject.version}), orjson.dumps({"latest": 2})
    yield Case("GET /admin/models", get("/admin/models", **key))
    yield Case("GET /admin state", get(f"{model}/state", **key))
    yield Case("PUT /admin label", encode(Request(f"{model}/labels/own", label), "PUT", key))
    yield Case("PUT /admin policy", encode(Request(f"{model}/policy", choice), "PUT", key))
    not_there = encode(Request(f"{model}/labels/own", orjson.dumps({"version": NEVER})), "PUT", key)
    yield Case("PUT /admin label, for no version", not_there, HTTPStatus.CONFLICT)
