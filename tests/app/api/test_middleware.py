"""What every exchange gets, whatever its route."""

import asyncio
import re
import time
from contextlib import suppress
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from app.api.direct import Request
from app.api.middleware import ExchangeMiddleware, FrameworkMiddleware
from app.errors import QueueFull
from app.exchange import Stage
from app.process.http.protocol import CLIENT_HAS_LEFT
from app.process.lifecycle import Phase
from app.serving import repository
from app.serving.service import Service
from app.settings import Settings
from app.telemetry.exposition import registry
from app.telemetry.metrics import CLIENT_LEFT
from tests.logs import captured_logs

NEW_ID = re.compile(r"[0-9a-f]{32}")


@pytest.mark.parametrize("sane", ["a", "trace-1.2_3", "x" * 64])
def test_a_sane_request_id_comes_back(sane: str, client: httpx.Client) -> None:
    for path in ("/livez", "/nothing", "/predict"):
        assert client.get(path, headers={"X-Request-ID": sane}).headers["X-Request-ID"] == sane


@pytest.mark.parametrize("odd", ["", "x" * 65, "a b", "a;b", '"', "ä", "{}", "a\tb"])
def test_any_other_request_id_is_replaced(odd: str, client: httpx.Client) -> None:
    answer = client.get("/livez", headers={b"X-Request-ID": odd.encode("latin-1")})
    assert NEW_ID.fullmatch(answer.headers["X-Request-ID"])


def test_every_request_gets_an_id_of_its_own(client: httpx.Client) -> None:
    assert len({client.get("/livez").headers["X-Request-ID"] for _ in range(10)}) == 10


@pytest.mark.parametrize("path", ["/livez", "/docs", "/nothing", "/predict", "/metrics"])
def test_no_answer_is_to_be_sniffed_and_none_names_the_server(path: str, client: httpx.Client) -> None:
    answer = client.get(path)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Server" not in answer.headers


Messages = list[dict[str, Any]]

OWN_ID = (b"x-request-id", b"of-this-test")


def exchange(
    app: Any, path: str = "/predict", phase: Phase = Phase.READY, protocol: str | None = None, **scope: Any
) -> tuple[Messages, list[dict[str, Any]]]:
    """Returns what a wrapped application, or a direct route of a protocol, sends, and what is logged."""

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def handle(request: Request, send: Send) -> None:
        await app(request.scope, request.receive, send)

    async def run() -> None:
        wrapped = (
            FrameworkMiddleware(app, service)
            if protocol is None
            else ExchangeMiddleware(handle, service, protocol=protocol)
        )
        await wrapped({"type": "http", "method": "POST", "path": path, "headers": [OWN_ID], **scope}, receive, send)

    service = Service(Settings())
    service.lifecycle.phase = phase
    sent: Messages = []
    with captured_logs() as logged:
        try:
            asyncio.run(run())
        finally:
            service.flush()
    # Other services of this process may log meanwhile.
    return sent, [line for line in logged if line.get("request_id") == OWN_ID[1].decode()]


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


def test_an_unexpected_error_is_a_problem_and_its_story_stays_in_the_log() -> None:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("the secret reason")

    sent, logged = exchange(fail)
    assert sent[0]["status"] == 500
    assert b'"request_id"' in sent[1]["body"]
    assert b"secret" not in sent[1]["body"]
    assert [line["event"] for line in logged] == ["unexpected error", "request"]
    assert logged[1]["status"] == 500


def test_a_service_error_is_the_problem_it_is() -> None:
    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        raise QueueFull(2)

    sent, [line] = exchange(refuse)
    assert (sent[0]["status"], line["status"]) == (503, 503)
    assert (b"retry-after", b"2") in sent[0]["headers"]
    assert b"urn:windowcast:queue-full" in sent[1]["body"]


def cancelled_with(*words: str, phase: Phase = Phase.READY) -> tuple[Messages, list[dict[str, Any]]]:
    async def wait(scope: Scope, receive: Receive, send: Send) -> None:
        raise asyncio.CancelledError(*words)

    return exchange(wait, phase=phase)


def test_a_request_that_the_server_cancels_had_a_client_that_left() -> None:
    sent, [line] = cancelled_with(CLIENT_HAS_LEFT)
    assert (sent, line["status"]) == ([], CLIENT_LEFT)


def test_a_request_that_is_cancelled_in_the_drain_is_refused() -> None:
    sent, [line] = cancelled_with("timeout graceful shutdown exceeded", phase=Phase.DRAINING)
    assert (sent[0]["status"], line["status"]) == (503, 503)


def test_an_error_after_the_head_breaks_the_connection() -> None:
    async def fail_late(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(scope, receive, send)
        raise RuntimeError("too late")

    with pytest.raises(RuntimeError, match="too late"):
        exchange(fail_late)


def test_a_client_that_leaves_is_no_error() -> None:
    async def leave(scope: Scope, receive: Receive, send: Send) -> None:
        raise ClientDisconnect

    sent, [line] = exchange(leave)
    assert sent == []
    assert (line["event"], line["status"], line["level"]) == ("request", CLIENT_LEFT, "info")


def test_answers_close_the_connection_during_the_drain_only() -> None:
    closing = [
        {(b"connection", b"close")} <= set(exchange(answer, phase=phase)[0][0]["headers"])
        for phase in (Phase.READY, Phase.DRAINING)
    ]
    assert closing == [False, True]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz", "/metrics"])
def test_probes_are_logged_for_debugging_only(path: str) -> None:
    async def find_and_answer(scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = APIRoute(path, lambda: None)
        await answer(scope, receive, send)

    _, [line] = exchange(find_and_answer, f"/published/under{path}")
    assert line["level"] == "debug"


def test_a_long_path_is_logged_in_part() -> None:
    _, [line] = exchange(answer, "/" + "x" * 10_000)
    assert len(line["path"]) == 200


def test_what_is_not_http_is_passed_on() -> None:
    async def note(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    seen: list[str] = []
    exchange(note, type="websocket")
    assert seen == ["websocket"]


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    raise QueueFull(2)


async def fail(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError


async def fail_late(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(scope, receive, send)
    raise RuntimeError


async def leave(scope: Scope, receive: Receive, send: Send) -> None:
    raise ClientDisconnect


@pytest.mark.parametrize(
    ("app", "outcome", "status", "reason"),
    [
        (answer, "ok", "200", None),
        (refuse, "refused", "503", "queue-full"),
        (fail, "failed", "500", "internal-error"),
        (fail_late, "failed", "200", "internal-error"),
        (leave, "left", "499", None),
    ],
)
@pytest.mark.parametrize("protocol", ["native", "tfserving", "inference"])
def test_an_exchange_is_counted_by_its_protocol_and_by_what_became_of_it(
    app: Any, outcome: str, status: str, reason: str | None, protocol: str
) -> None:
    def counted() -> tuple[float, float, float]:
        metrics = registry()
        labels = {"route": "none", "protocol": protocol, "model": "", "version": "", "outcome": outcome}
        refusal = {"reason": reason or "", "protocol": protocol, "model": ""}
        return (
            metrics.get_sample_value("windowcast_requests_total", {**labels, "status": status}) or 0,
            metrics.get_sample_value("windowcast_request_seconds_count", labels) or 0,
            metrics.get_sample_value("windowcast_refusals_total", refusal) or 0,
        )

    requests, timed, refusals = counted()
    with suppress(RuntimeError):
        exchange(app, protocol=protocol)
    assert counted() == (requests + 1, timed + 1, refusals + (reason is not None))


@pytest.mark.parametrize(("app", "counts"), [(answer, True), (leave, False), (fail, False)])
def test_forecasts_that_nobody_got_are_no_prediction(app: Any, counts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # Other services in this process free the series of versions that they do not know.
    monkeypatch.setattr(repository, "remove_ended_series", lambda: None)

    def last() -> float:
        labels = {"model": "counted", "version": "7"}
        return registry().get_sample_value("windowcast_last_prediction_timestamp_seconds", labels) or 0

    async def forecast_and_answer(request: Request, send: Send) -> None:
        request.exchange.answered_by = "counted", 7
        request.exchange.complete(Stage.ENCODE, time.perf_counter())
        await app(request.scope, request.receive, send)

    async def nothing(*_: Any) -> Any: ...

    async def run() -> None:
        scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
        await ExchangeMiddleware(forecast_and_answer, service)(scope, nothing, nothing)

    service = Service(Settings())
    before = last()
    asyncio.run(run())
    service.flush()
    assert (last() > before) == counts
