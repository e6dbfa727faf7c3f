"""Whether the service grows: its memory after many requests of every kind against its memory after the first ones."""

from collections.abc import Iterator
from http import HTTPStatus

import numpy as np
import orjson

from benchmarks.dialects import Request, ask_batch, ask_batch_npy, ask_single, ask_single_npy
from benchmarks.generator import Outcome, encode, send_closed
from benchmarks.models import Model, made_models
from benchmarks.processes import resident_mib
from benchmarks.servers import Server, own_program
from benchmarks.tables import Bar, bars, figure, table

FIRST, ALL = 20_000, 200_000
CONNECTIONS = 16
MAX_BATCH_WINDOWS = 64
MAX_BODY_BYTES = 2**16
LIMIT = 1.02
SECONDS = 900
"""A run that takes longer is given up."""

Mix = list[tuple[bytes, HTTPStatus]]
"""Requests as they go over the wire, each with the status it should be answered with."""


def run(only: list[str], *, quick: bool) -> Iterator[str]:
    """Yields a table for each engine, and the bars."""
    first, total = (FIRST // 20, ALL // 20) if quick else (FIRST, ALL)
    verdicts: list[Bar] = []
    with made_models(["small"]) as models:
        for engine in ("onnx", "tensorflow"):
            if not only or engine in only:
                rows, growth = _measure(models["small"], engine, first, total)
                yield f"### {models['small'].shape}, {engine} engine\n\n{rows}\n"
                verdicts.append(
                    Bar(f"{engine} engine: RSS after {total} requests / after {first}", growth, "<=", LIMIT, "x")
                )
    yield f"{bars(verdicts)}\n"


def _measure(model: Model, engine: str, first: int, total: int) -> tuple[str, float]:
    program = own_program(model, engine=engine, max_batch_windows=MAX_BATCH_WINDOWS, max_body_bytes=MAX_BODY_BYTES)
    server = Server(program, model.folder / f"memory-{engine}")
    rows, memory = [], []
    sent = 0
    try:
        server.wait_for(ask_single(model.windows(1)))
        mix = _mix(model)
        for goal in (first, total):
            count = goal - sent
            outcome = send_closed(
                server.port, [request for request, _ in mix], CONNECTIONS, seconds=SECONDS, count=count
            )
            sent = goal
            resident, highest = resident_mib(server.group.process.pid)
            memory.append(resident)
            unexpected = _unexpected(outcome, mix)
            rows.append([str(goal), figure(count / outcome.seconds), figure(resident), figure(highest), unexpected])
    finally:
        server.group.stop()
    return table(["after requests", "requests/s", "RSS, MiB", "highest, MiB", "unexpected answers"], rows), memory[
        1
    ] / memory[0]


def _unexpected(outcome: Outcome, mix: Mix) -> str:
    """How many answers had another status than they should, and the statuses that came for which request."""
    expected = np.array([status for _, status in mix])
    wrong = outcome.statuses != expected[outcome.kinds]
    cases = sorted(set(zip(outcome.kinds[wrong].tolist(), outcome.statuses[wrong].tolist(), strict=True)))
    listing = ", ".join(f"{status} for number {kind}" for kind, status in cases)
    return f"{np.count_nonzero(wrong)} ({listing})" if cases else "0"


def _mix(model: Model) -> Mix:
    """Right requests of all kinds, and wrong ones."""
    one, some, most = model.windows(1), model.windows(8), model.windows(MAX_BATCH_WINDOWS)
    single = ask_single(one)
    flat = {"window": one.ravel().tolist()}
    records = {"records": [{"feature_0": value} for value in one.ravel().tolist()]}
    right = [single, _predict(flat), _predict(records), ask_batch(some), ask_batch(most)]
    right += [ask_single_npy(one), ask_batch_npy(some), ask_batch_npy(most)]
    unprocessable = [
        {"window": one[0, 1:].tolist()},
        {"window": [*one[0, 1:].tolist(), [None]]},
        {"window": [*one[0, 1:].tolist(), [1.0, 2.0]]},
        {"window": [["1"]] * model.shape.steps},
        {"windows": one.tolist()},
    ]
    return [
        *((encode(request), HTTPStatus.OK) for request in right),
        *((encode(_predict(body)), HTTPStatus.UNPROCESSABLE_ENTITY) for body in unprocessable),
        (encode(Request("/predict", b'{"window": [[')), HTTPStatus.BAD_REQUEST),
        (encode(Request("/predict", single.body, "text/plain")), HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
        (encode(Request("/predict?model=nobody", single.body)), HTTPStatus.NOT_FOUND),
        (encode(Request("/nowhere", single.body)), HTTPStatus.NOT_FOUND),
        (encode(ask_batch(model.windows(MAX_BATCH_WINDOWS + 1))), HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
        (encode(ask_batch_npy(model.windows(MAX_BATCH_WINDOWS + 1))), HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
        (encode(Request("/predict", b" " * (MAX_BODY_BYTES + 1))), HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
        (encode(Request("/models", b""), "GET"), HTTPStatus.OK),
        (encode(Request("/metrics", b""), "GET"), HTTPStatus.OK),
    ]


def _predict(content: object) -> Request:
    return Request("/predict", orjson.dumps(content))
