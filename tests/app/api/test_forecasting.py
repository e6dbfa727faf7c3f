"""The pipeline, used as a protocol uses it that speaks no HTTP."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from app.api.forecasting import Decoded, Dialect, Forecasting, Gate
from app.arrays import Array, Inputs
from app.errors import DeadlinePassed, InternalError, ModelNotReady, NotFound, ServiceError, TooManyRequests
from app.exchange import Exchange, Stage, record
from app.payloads.sizes import NO_WINDOWS, FindLargest, Largest
from app.serving.catalogue import Catalogue, Miss, ServedVersion
from app.serving.loading import LoadedVersion
from app.serving.service import Service
from app.settings import Settings
from app.telemetry.exposition import registry
from tests.app.fakes import MeanEngine, loader, version_folders
from tests.logs import captured_logs

WINDOW = [[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [6.0, 0.0]]


@dataclass
class Call:
    """A request of a protocol of this module's own: a message that is here as a whole."""

    message: dict[str, Any]
    exchange: Exchange = field(default_factory=lambda: Exchange("telegraph", path="forecast"))

    size = 0

    async def read(self, largest: FindLargest) -> None: ...


@dataclass(frozen=True)
class Sheet:
    """What the encoder is told: the time of the last row, and the step between two."""

    last: int
    step: int


class Telegraph(Dialect[Call, Sheet, list[tuple[int, float]]]):
    """Windows with a time in, forecasts with their times out."""

    def select(self, asked: Call, catalogue: Catalogue) -> ServedVersion:
        try:
            return catalogue.find(asked.message.get("model"))
        except Miss:
            raise NotFound from None

    def largest(self, _: Call, __: ServedVersion) -> Largest:
        return NO_WINDOWS

    def decode(self, asked: Call, _: ServedVersion) -> Decoded[Sheet]:
        windows = np.array([asked.message["rows"]], np.float32)
        return Decoded(Inputs(windows), Sheet(asked.message["last"], 60), timeout_seconds=asked.message.get("timeout"))

    def encode(self, _: ServedVersion, forecasts: Array, context: Sheet) -> list[tuple[int, float]]:
        ahead = range(context.last + context.step, 10**9, context.step)
        return [(time, float(value)) for time, value in zip(ahead, forecasts[0, :, 0], strict=False)]


async def ask(service: Service, call: Call, gates: Sequence[Gate] = ()) -> list[tuple[int, float]]:
    """Does what a servicer does: forecasts, and hands the exchange in."""
    try:
        answer = await Forecasting(service, gates).answer(call, Telegraph())
    except ServiceError as error:
        call.exchange.fail(error)
        raise
    else:
        call.exchange.status = 200
        return answer
    finally:
        call.exchange.end()
        service.exchanges.add(call.exchange)


@pytest.fixture
def service(tmp_path: Path, settled_folders: None) -> Service:
    """A service that is not started."""
    return Service(Settings(models_dir=version_folders(tmp_path)), load_version=loader())


def run(service: Service, call: Call, gates: Sequence[Gate] = ()) -> list[tuple[int, float]]:
    async def serve() -> list[tuple[int, float]]:
        service.start()
        await service.wait_until_loaded()
        try:
            return await ask(service, call, gates)
        finally:
            service.stop()

    return asyncio.run(serve())


def message(**more: Any) -> dict[str, Any]:
    return {"rows": WINDOW, "last": 600, **more}


def test_what_is_decoded_reaches_the_encoder(service: Service) -> None:
    assert run(service, Call(message())) == [(660, 3.0), (720, 4.0)]


def test_an_exchange_made_by_hand_is_logged_and_counted(service: Service) -> None:
    labels = {"route": "none", "protocol": "telegraph", "model": "default", "version": "1", "outcome": "ok"}
    call = Call(message(), Exchange("telegraph", request_id="from-afar", path="forecast"))
    of_version = {name: labels[name] for name in ("protocol", "model", "version")}

    def counted() -> tuple[float, float]:
        requests = registry().get_sample_value("windowcast_requests_total", {**labels, "status": "200"})
        return requests or 0, registry().get_sample_value("windowcast_decoding_seconds_count", of_version) or 0

    requests, timed = counted()
    with captured_logs() as logged:
        run(service, call)
    [line] = [line for line in logged if line["event"] == "request"]
    assert (line["request_id"], line["model"], line["version"], line["status"]) == ("from-afar", "default", 1, 200)
    assert counted() == (requests + 1, timed + 1)


def test_every_stage_has_its_times_and_one_follows_another(service: Service) -> None:
    call = Call(message())
    run(service, call)
    times = [call.exchange.stages[stage] for stage in Stage]
    assert list(Stage) == [Stage.DECODE, Stage.QUEUE, Stage.COMPUTE, Stage.ENCODE]
    flat = [time for began_and_ended in times for time in began_and_ended]
    assert flat == sorted(flat)


def test_a_gate_refuses_before_a_model_is_looked_up_and_the_refusal_is_counted(service: Service) -> None:
    def refuse(exchange: Exchange) -> None:
        seen.append(exchange.protocol)
        raise TooManyRequests(7)

    seen: list[str] = []
    call = Call(message(model="no such model"))
    with pytest.raises(TooManyRequests) as refused:
        run(service, call, [refuse])
    assert seen == ["telegraph"]
    assert refused.value.headers["Retry-After"] == "7"
    labels = {"reason": "too-many-requests", "protocol": "telegraph", "model": ""}
    assert registry().get_sample_value("windowcast_refusals_total", labels) == 1


def test_gates_are_passed_in_their_order(service: Service) -> None:
    passed: list[int] = []
    run(service, Call(message()), [lambda _: passed.append(1), lambda _: passed.append(2)])
    assert passed == [1, 2]


def test_nothing_is_forecast_before_the_models_are_loaded(service: Service) -> None:
    with pytest.raises(ModelNotReady):
        asyncio.run(ask(service, Call(message())))


def test_the_callers_own_limit_of_time_is_kept(service: Service) -> None:
    with pytest.raises(DeadlinePassed, match=r"within 0 seconds"):
        run(service, Call(message(timeout=0)))


def test_a_service_that_cannot_load_tells_on_fatal_and_says_that_it_failed(tmp_path: Path) -> None:
    def fail(folder: Path, _: object) -> Any:
        raise RuntimeError(folder.name)

    told: list[BaseException] = []
    service = Service(Settings(models_dir=version_folders(tmp_path)), told.append, fail)
    with pytest.raises(ModelNotReady, match="could not start"):
        run(service, Call(message()))
    assert len(told) == 1


def test_an_error_counts_as_what_it_is_whatever_the_status_sent_before() -> None:
    def failed() -> float:
        labels = {"route": "none", "protocol": "telegraph", "model": "", "version": "", "outcome": "failed"}
        return registry().get_sample_value("windowcast_requests_total", {**labels, "status": "200"}) or 0

    before = failed()
    exchange = Exchange("telegraph")
    exchange.status = 200
    exchange.fail(InternalError())
    exchange.end()
    record([exchange])
    assert failed() == before + 1


def test_an_error_has_no_status_before_it_is_sent_and_its_own_in_the_end() -> None:
    exchange = Exchange("telegraph")
    exchange.fail(InternalError())
    assert exchange.status == 0
    exchange.end()
    assert exchange.status == 500


def test_windows_that_share_a_batch_get_their_own_forecasts(service: Service) -> None:
    async def serve() -> tuple[list[list[tuple[int, float]]], list[int]]:
        service.start()
        await service.wait_until_loaded()
        engine = service.catalogue.find().loaded.engine
        assert isinstance(engine, MeanEngine)
        engine.batches.clear()
        calls = [Call(message(rows=[[value, 0.0]] * 4)) for value in range(5)]
        answers = await asyncio.gather(*(ask(service, call) for call in calls))
        service.stop()
        return answers, engine.batches

    answers, batches = asyncio.run(serve())
    assert_allclose([answer[0][1] for answer in answers], range(5))
    assert batches == [5]


def test_stages_are_complete_where_a_batch_had_to_be_computed_window_by_window(tmp_path: Path) -> None:
    def fail_on_batches(version: LoadedVersion) -> None:
        def predict(inputs: Inputs) -> Array:
            if len(inputs) > 1:
                raise RuntimeError("one at most")
            return compute(inputs)

        compute = version.engine.predict
        version.engine.predict = predict  # type: ignore[method-assign]
        version.engine.is_steady = False  # type: ignore[misc]

    async def serve() -> list[Call]:
        service.start()
        await service.wait_until_loaded()
        calls = [Call(message()) for _ in range(2)]
        await asyncio.gather(*(ask(service, call) for call in calls))
        service.stop()
        return calls

    service = Service(Settings(models_dir=version_folders(tmp_path)), load_version=loader(made=fail_on_batches))
    assert [set(call.exchange.stages) for call in asyncio.run(serve())] == [set(Stage)] * 2
