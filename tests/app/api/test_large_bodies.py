"""Large bodies: what would hold up all other requests is read beside the event loop, and the rest on it."""

import gzip
import json
import select
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.api import direct, open_inference
from app.api.body import QUICK_BYTES, SMALL_BYTES, inflate
from app.api.forecasting import MAX_NUMBERS_AT_ONCE
from app.payloads import native as native_payloads
from app.payloads import npy
from app.payloads.open_inference import reading as reading_of_v2
from app.payloads.sizes import MAX_ANSWER_NUMBERS
from app.payloads.tfserving import reading as reading_of_v1
from app.serving.service import WAITING_BODIES
from app.serving.side import SIDE_THREAD
from tests.app.fakes import loader, version_folders
from tests.app.held import HeldFunction, held, noted
from tests.app.in_process import Application, application, listening
from tests.servers import connect, read_answer
from tests.versions import contract_of
from tests.waiting import PATIENCE_SECONDS, wait_until

JSON = {"Content-Type": "application/json"}
NPY = {"Content-Type": "application/x-npy"}
GZIP = {**JSON, "Content-Encoding": "gzip"}

BATCH, V1, V2 = "/predict/batch", "/v1/models/default:predict", "/v2/models/default/infer"

WINDOWS = np.random.default_rng(0).normal(size=(1000, 4, 2)).tolist()
"""More than `SMALL_BYTES`, and less than a model needs that takes 1024 windows."""


@pytest.fixture(scope="module")
def service(models_dir: Path) -> Iterator[Application]:
    """The service, which takes large batches."""
    with application(models_dir.parent, max_batch_windows=1024) as running:
        yield running


@dataclass(frozen=True)
class Sent:
    """A body, and the function that reads it, which a test may hold."""

    module: Any
    reads: str
    path: str
    body: bytes
    headers: dict[str, str]


def sent(module: Any, reads: str, path: str, headers: dict[str, str] | None = None, **fields: Any) -> Sent:
    """Returns a body of JSON with these fields."""
    body = json.dumps(fields).encode()
    headers = headers or JSON
    return Sent(module, reads, path, gzip.compress(body) if headers is GZIP else body, headers)


def tensor(**changes: Any) -> dict[str, Any]:
    """Returns a tensor of `/v2`."""
    return {"name": "windows", "shape": [1000, 4, 2], "datatype": "FP32", "data": WINDOWS, **changes}


@pytest.mark.parametrize(
    ("large", "status"),
    [
        (sent(native_payloads, "parse_json", BATCH, windows=WINDOWS, more=1), 422),
        (sent(native_payloads, "parse_json", BATCH, windows=[WINDOWS]), 422),
        (sent(reading_of_v1, "parse_document", V1, instances=WINDOWS, more=1), 200),
        (sent(reading_of_v1, "parse_document", V1, inputs={"windows": WINDOWS}), 200),
        (sent(reading_of_v2, "parse_document", V2, inputs=[tensor()]), 200),
        (sent(reading_of_v2, "parse_document", V2, inputs=[tensor(datatype="INT64")]), 400),
        (sent(reading_of_v2, "parse_document", V2, GZIP, inputs=[tensor()]), 200),
    ],
)
def test_others_are_answered_while_a_large_body_of_an_unusual_form_is_read(
    large: Sent, status: int, service: Application
) -> None:
    with service.client() as client, held(large.module, large.reads) as reader:
        reading = service.post(large.path, content=large.body, headers=large.headers)
        assert reader.begun.wait(PATIENCE_SECONDS)
        assert client.get("/livez").status_code == 200
        assert client.post("/predict", json={"window": WINDOWS[0]}).status_code == 200
        assert not reading.done()
        reader.release()
        assert reading.result(PATIENCE_SECONDS).status_code == status
    assert [name[: len(SIDE_THREAD)] for name in reader.threads] == [SIDE_THREAD]


@pytest.mark.parametrize(("path", "field"), [(BATCH, "windows"), (V1, "instances")])
def test_others_are_answered_while_a_body_of_the_usual_form_is_read_that_is_larger_than_most(
    path: str, field: str, service: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.api.native.QUICK_BYTES", SMALL_BYTES)
    monkeypatch.setattr("app.api.tfserving.QUICK_BYTES", SMALL_BYTES)
    module, reads = (native_payloads, "reader_of") if path == BATCH else (reading_of_v1, "quick_reader")
    with service.client() as client, held(module, reads) as reader:
        reading = service.post(path, json={field: WINDOWS})
        assert reader.begun.wait(PATIENCE_SECONDS)
        assert client.get("/livez").status_code == 200
        reader.release()
        assert reading.result(PATIENCE_SECONDS).status_code == 200


def test_others_are_answered_while_a_body_is_inflated_that_becomes_large(service: Application) -> None:
    small = gzip.compress(json.dumps({"instances": WINDOWS[:1]}).encode())
    large = gzip.compress(json.dumps({"instances": WINDOWS}).encode())

    def inflate_rest(encoding: str, body: bytes, max_bytes: int) -> bytes | None:
        return reader(encoding, body, max_bytes) if max_bytes > SMALL_BYTES else inflate(encoding, body, max_bytes)

    with service.client() as client, pytest.MonkeyPatch.context() as patch:
        reader = HeldFunction(inflate)
        patch.setattr(direct, "inflate", inflate_rest)
        reading = service.post(V1, content=large, headers=GZIP)
        assert reader.begun.wait(PATIENCE_SECONDS)
        assert client.post(V1, content=small, headers=GZIP).status_code == 200
        reader.release()
        assert reading.result(PATIENCE_SECONDS).status_code == 200
    assert len(reader.threads) == 1
    assert reader.threads[0].startswith(SIDE_THREAD)


@pytest.mark.parametrize(
    "body",
    [
        sent(native_payloads, "reader_of", BATCH, windows=WINDOWS),
        sent(native_payloads, "parse_json", BATCH, windows=WINDOWS[:99], more=1),
        Sent(npy, "read_windows", BATCH, npy.write(np.array(WINDOWS, np.float32).repeat(3, 0)), NPY),
        sent(reading_of_v1, "quick_reader", V1, instances=WINDOWS),
        sent(reading_of_v1, "parse_document", V1, inputs={"windows": WINDOWS[:99]}),
    ],
)
def test_small_bodies_and_bodies_of_the_usual_form_are_read_at_once(body: Sent, service: Application) -> None:
    """The way to a thread and back would cost more than it frees."""
    assert len(body.body) < QUICK_BYTES
    with service.client() as client, noted(body.module, body.reads) as threads:
        client.post(body.path, content=body.body, headers=body.headers)
    assert threads
    assert not [name for name in threads if name.startswith(SIDE_THREAD)]


def test_tensors_as_bytes_behind_a_small_document_are_read_at_once(service: Application) -> None:
    numbers = np.array(WINDOWS, "<f8").tobytes() * 2
    described = tensor(shape=[2000, 4, 2], datatype="FP64", parameters={"binary_data_size": len(numbers)})
    del described["data"]
    document = json.dumps({"inputs": [described]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(document))}
    with service.client() as client, noted(reading_of_v2, "parse_document") as threads:
        assert len(numbers) > SMALL_BYTES
        answer = client.post(V2, content=document + numbers, headers=headers)
    assert answer.status_code == 413, "more than 1024 windows"
    assert not [name for name in threads if name.startswith(SIDE_THREAD)]


def test_more_large_bodies_than_fit_are_refused_and_small_ones_are_not(models_dir: Path) -> None:
    body = json.dumps({"instances": WINDOWS, "more": 1}).encode()
    with (
        application(models_dir.parent, max_batch_windows=1024, max_body_bytes=len(body)) as service,
        service.client() as client,
        held(reading_of_v1, "parse_document") as reader,
    ):
        waiting = [service.post(V1, content=body, headers=JSON)]
        assert reader.begun.wait(PATIENCE_SECONDS)
        waiting += [service.post(V1, content=body, headers=JSON) for _ in range(WAITING_BODIES)]
        wait_until(lambda: any(one.done() for one in waiting))
        assert client.post("/predict", json={"window": WINDOWS[0]}).status_code == 200
        [refused] = [one.result() for one in waiting if one.done()]
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        reader.release()
        assert sorted(one.result(PATIENCE_SECONDS).status_code for one in waiting) == [*[200] * WAITING_BODIES, 503]


@pytest.mark.parametrize(("windows", "is_large"), [(1, False), (8, True)])
def test_a_large_answer_is_written_beside_the_event_loop(
    windows: int, is_large: bool, tmp_path: Path, settled_folders: None
) -> None:
    contract = contract_of(horizon=MAX_NUMBERS_AT_ONCE // 4)
    version_folders(tmp_path / "models")
    with application(tmp_path, loader(contract)) as service, service.client() as client:
        with noted(native_payloads, "write_answer") as threads:
            assert client.post(BATCH, json={"windows": WINDOWS[:windows]}).status_code == 200
        assert threads[0].startswith(SIDE_THREAD) == is_large
        accepts = {"Accept-Encoding": "gzip"}
        with noted(open_inference, "deflate") as threads:
            asked = {"inputs": [tensor(shape=[windows, 4, 2], data=WINDOWS[:windows])]}
            assert client.post(V2, json=asked, headers=accepts).status_code == 200
        assert threads[0].startswith(SIDE_THREAD) == is_large


def test_more_large_forecasts_than_fit_are_refused(tmp_path: Path, settled_folders: None) -> None:
    """An engine that is quicker than the side thread cannot fill the memory with forecasts that wait."""
    contract = contract_of(horizon=2 * MAX_NUMBERS_AT_ONCE)
    version_folders(tmp_path / "models")
    body = {"window": WINDOWS[0]}
    with (
        application(tmp_path, loader(contract), max_body_bytes=4 * contract.horizon) as service,
        service.client() as client,
        held(native_payloads, "write_answer") as writer,
    ):
        waiting = [service.post("/predict", json=body)]
        assert writer.begun.wait(PATIENCE_SECONDS)
        waiting += [service.post("/predict", json=body) for _ in range(WAITING_BODIES)]
        wait_until(lambda: any(one.done() for one in waiting))
        [refused] = [one.result() for one in waiting if one.done()]
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert refused.json()["title"] == "Too many large forecasts"
        writer.release()
        assert sorted(one.result(PATIENCE_SECONDS).status_code for one in waiting) == [*[200] * WAITING_BODIES, 503]
        assert client.post("/predict", json=body).status_code == 200
        assert service.front.service.leaving._taken_bytes == 0


def test_bodies_that_arrive_share_a_bound_and_small_ones_pass(models_dir: Path) -> None:
    """Clients that never end their bodies cannot fill the memory."""
    size = 4 * SMALL_BYTES
    head = f"POST {BATCH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n"
    with (
        application(models_dir.parent, max_batch_windows=1024, max_body_bytes=size) as service,
        listening(service.front, service.loop) as port,
        ExitStack() as clients,
    ):
        unfinished = [clients.enter_context(connect(port)) for _ in range(WAITING_BODIES + 1)]
        for sock in unfinished:
            sock.sendall(head.encode() + b" " * (size - 1))
        [refused], _, _ = select.select(unfinished, [], [], PATIENCE_SECONDS)
        answer = read_answer(refused)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        with service.client() as client:
            assert client.post("/predict", json={"window": WINDOWS[0]}).status_code == 200
        for sock in unfinished:
            if sock is not refused:
                sock.sendall(b"!")
                assert read_answer(sock).status == 400
        assert service.front.service.arriving._taken_bytes == 0


@pytest.mark.parametrize("path", [BATCH, V1, V2])
def test_a_request_takes_fewer_windows_where_forecasts_are_large(
    path: str, tmp_path: Path, settled_folders: None
) -> None:
    contract = contract_of(horizon=MAX_ANSWER_NUMBERS // 3)
    version_folders(tmp_path / "models")
    windows = np.zeros((4, 4, 2)).tolist()
    bodies = {
        BATCH: {"windows": windows},
        V1: {"instances": windows},
        V2: {"inputs": [tensor(shape=[4, 4, 2], data=windows)]},
    }
    with application(tmp_path, loader(contract), max_batch_windows=1024) as service, service.client() as client:
        refused = client.post(path, json=bodies[path])
        assert refused.status_code == 413
        assert "at most 3 in one request" in refused.text
        assert client.get("/v2/models/default/config").json()["max_batch_size"] == 3
