"""A full queue: requests are refused by their head alone, with the answer that the application would give."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPResponse
from typing import Any

import orjson
import pytest

from app.api.admission import Admission
from app.telemetry import tally
from app.telemetry.exposition import registry
from tests.app.in_process import Application
from tests.holding import held_window
from tests.logs import captured_logs
from tests.servers import connect, read_answer
from tests.waiting import wait_until

WINDOW = [[1, 0], [2, 0], [3, 0], [6, 0]]
NATIVE = orjson.dumps({"window": WINDOW})
BATCH = orjson.dumps({"windows": [WINDOW]})
ROWS = orjson.dumps({"instances": [WINDOW]})
TENSORS = orjson.dumps({"inputs": [{"name": "windows", "shape": [1, 4, 2], "datatype": "FP32", "data": [WINDOW]}]})
FORECASTS = {
    "/predict": NATIVE,
    "/predict?model=default&version=2": NATIVE,
    "/predict/batch": BATCH,
    "/v1/models/default:predict": ROWS,
    "/v1/models/default/versions/2:predict": ROWS,
    "/v2/models/default/infer": TENSORS,
    "/v2/models/default/versions/2/infer": TENSORS,
}
"""Paths that ask version 2 of model `default`, and bodies."""


@contextmanager
def full_queue(service: Application) -> Iterator[None]:
    """Fills the queue of model `default`, and has somebody notice."""
    with held_window(service.folder) as held:
        computing = service.post("/predict", json={"window": held.window})
        held.wait_until_reached()
        waiting = [service.post("/predict", json={"window": WINDOW}) for _ in range(4)]
        batcher = service.front.service.catalogue.find().batcher
        wait_until(lambda: batcher.queued_windows == 4)
        assert service.post("/predict", json={"window": WINDOW}).result().status_code == 503
        yield
        held.release()
        assert {answer.result().status_code for answer in [computing, *waiting]} == {200}


def request(path: str, body: bytes, *headers: str) -> bytes:
    """A whole request."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers]
    head = "\r\n".join([*lines, f"Content-Length: {len(body)}"])
    return head.encode() + b"\r\n\r\n" + body


def ask(port: int, path: str, body: bytes, *headers: str) -> tuple[HTTPResponse, bytes]:
    """Asks on a connection of its own; returns the answer and its body."""
    with connect(port) as sock:
        sock.sendall(request(path, body, *headers))
        answer = read_answer(sock)
        return answer, answer.read()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each request that was looked at was refused by its head."""
    verdicts: list[bool] = []
    refusal_of = Admission.refusal_of

    def watched(admission: Admission, method: bytes, target: bytes) -> Any:
        refusal = refusal_of(admission, method, target)
        verdicts.append(refusal is not None)
        return refusal

    monkeypatch.setattr(Admission, "refusal_of", watched)
    return verdicts


@pytest.mark.parametrize("path", FORECASTS)
def test_a_refusal_by_the_head_is_the_answer_of_the_application(
    path: str, strict_service: Application, strict_port: int, asked: list[bool]
) -> None:
    with full_queue(strict_service):
        by_head, body = ask(strict_port, path, FORECASTS[path], "X-Request-Id: mine")
        assert asked == [True]
        headers = {"X-Request-Id": "mine", "Content-Type": "application/json"}
        by_application = strict_service.post(path, content=FORECASTS[path], headers=headers).result()

    assert by_head.status == by_application.status_code == 503
    assert _without_seconds(body) == _without_seconds(by_application.content)
    ours = {name.lower(): value for name, value in by_head.getheaders()}
    assert 1 <= int(ours.pop("retry-after")) <= 3
    assert f"in {by_head.getheader('Retry-After')} s" in body.decode()
    assert ours == {name: value for name, value in by_application.headers.items() if name != "retry-after"}


def _without_seconds(body: bytes) -> bytes:
    before, _, behind = body.partition(b"again in ")
    return before + behind[1:]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/predict?model=flat", 422),
        ("/predict?model=nobody", 404),
        ("/predict?version=2&label=b", 422),
        ("/v1/models/flat:predict", 400),
        ("/v1/models/default:classify", 501),
        ("/v2/models/flat/infer", 400),
        ("/v2/repository/index", 200),
        ("/nothing", 404),
        ("/%70redict", 503),
    ],
)
def test_a_full_queue_refuses_nobody_else(
    path: str, status: int, strict_service: Application, strict_port: int, asked: list[bool]
) -> None:
    with full_queue(strict_service):
        answer, _ = ask(strict_port, path, b"{}")
        assert (answer.status, asked) == (status, [False])


@pytest.mark.parametrize("path", ["/predict", "/%70redict"])  # by the head, and by the application
def test_callers_that_are_refused_together_do_not_come_back_together(
    path: str, strict_service: Application, strict_port: int
) -> None:
    with full_queue(strict_service), ExitStack() as stack:
        sockets = [stack.enter_context(connect(strict_port)) for _ in range(60)]
        for sock in sockets:
            sock.sendall(request(path, NATIVE))
        seconds = {read_answer(sock).headers["Retry-After"] for sock in sockets}
    assert seconds == {"1", "2", "3"}, "one of them is missing once in ten thousand million times"


def test_a_queue_with_room_again_takes_requests(strict_service: Application, strict_port: int) -> None:
    with full_queue(strict_service):
        assert ask(strict_port, "/predict", NATIVE)[0].status == 503
    assert ask(strict_port, "/predict", NATIVE)[0].status == 200


def test_a_request_without_an_id_gets_one_of_its_own(strict_service: Application, strict_port: int) -> None:
    with full_queue(strict_service):
        ids = {ask(strict_port, "/predict", NATIVE)[0].getheader("X-Request-Id") for _ in range(3)}
    assert len(ids) == 3


def test_refusals_by_the_head_are_counted_each_and_logged_together(
    strict_service: Application, strict_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict_service.loop.advance(2)  # what other tests have left is told
    monkeypatch.setattr(tally, "LINE_SECONDS", 100)
    labels = {
        "route": "/predict",
        "protocol": "native",
        "model": "default",
        "version": "2",
        "outcome": "refused",
        "status": "503",
    }

    def counted() -> float:
        strict_service.loop.run(flush())
        return registry().get_sample_value("windowcast_requests_total", labels) or 0

    async def flush() -> None:
        strict_service.front.flush()

    with captured_logs() as lines, full_queue(strict_service):
        before = counted()
        for _ in range(5):
            assert ask(strict_port, "/predict", NATIVE)[0].status == 503
        wait_until(lambda: counted() == before + 5)
        strict_service.loop.advance(100)
        [refused] = [line for line in lines if line["event"] == "requests refused"]
    told = {name: refused[name] for name in ("count", "model", "version", "reason")}
    assert told == {"count": 5, "model": "default", "version": 2, "reason": "queue-full"}
    assert not [line for line in lines if line["event"] == "request" and line["status"] == 503][1:]
