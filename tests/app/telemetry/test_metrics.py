"""What a running service counts."""

import asyncio
import importlib.metadata
import os
import platform
import shutil
import signal
import time
from collections import Counter as Counts
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.parser import text_string_to_metric_families

from app import __version__
from app.api import tfserving
from app.errors import ServiceError
from app.serving.repository import LOAD_ATTEMPTS
from app.serving.states import State
from app.telemetry.exposition import registry
from app.telemetry.metrics import (
    CLIENT_LEFT,
    SECONDS,
    Outcome,
    _observe,
    _queues,
    count_queues,
    watch_queue,
)
from tests.app.api.test_problems import concrete_errors
from tests.holding import held_loading, held_window
from tests.servers import Server, serving
from tests.waiting import wait_until

WINDOW = [[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [6.0, 0.0]]


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    """A client of a process that counts nothing else."""
    with server.client() as client:
        yield client


Samples = dict[str, list[tuple[dict[str, str], float]]]


def samples_of(text: str) -> Samples:
    """Every sample of /metrics by its name: labels and value."""
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return samples


def total(client: httpx.Client, name: str, **labels: str) -> float:
    """Sum of a metric over all samples that have these labels."""
    found = samples_of(client.get("/metrics").text).get(name, [])
    return sum(value for given, value in found if labels.items() <= given.items())


DEFAULT = {"protocol": "native", "model": "default", "version": "2"}
SLOW = {"model": "slow", "version": "1"}
VERSION = {"model": "default", "version": "2"}
NOBODY = {"protocol": "native", "model": "", "version": ""}


@pytest.mark.parametrize(
    ("path", "body", "name", "labels"),
    [
        (
            "/predict",
            {"window": WINDOW},
            "windowcast_requests_total",
            {**DEFAULT, "route": "/predict", "outcome": "ok", "status": "200"},
        ),
        (
            "/predict",
            {"window": []},
            "windowcast_requests_total",
            {**DEFAULT, "route": "/predict", "outcome": "invalid", "status": "422"},
        ),
        (
            "/predict/batch",
            {"windows": [WINDOW]},
            "windowcast_requests_total",
            {**DEFAULT, "route": "/predict/batch", "outcome": "ok", "status": "200"},
        ),
        (
            "/predict",
            {"window": [[3e38, 0]] * 4},
            "windowcast_requests_total",
            {**DEFAULT, "route": "/predict", "outcome": "failed", "status": "500"},
        ),
        (
            "/nothing",
            {},
            "windowcast_requests_total",
            {**NOBODY, "route": "none", "outcome": "invalid", "status": "404"},
        ),
        (
            "/livez",
            {},
            "windowcast_requests_total",
            {**NOBODY, "route": "/livez", "outcome": "invalid", "status": "405"},
        ),
        (
            "/predict",
            {"window": WINDOW},
            "windowcast_request_seconds_count",
            {**DEFAULT, "route": "/predict", "outcome": "ok"},
        ),
        ("/predict", {"window": WINDOW}, "windowcast_queue_seconds_count", VERSION),
        ("/predict", {"window": WINDOW}, "windowcast_engine_seconds_count", VERSION),
        ("/predict", {"window": WINDOW}, "windowcast_decoding_seconds_count", DEFAULT),
        ("/predict", {"window": WINDOW}, "windowcast_encoding_seconds_count", DEFAULT),
        ("/predict", {"window": [[3e38, 0]] * 4}, "windowcast_decoding_seconds_count", DEFAULT),
        ("/predict/batch", {"windows": [WINDOW]}, "windowcast_batch_windows_count", VERSION),
        (
            "/predict",
            {"window": []},
            "windowcast_refusals_total",
            {"reason": "invalid-request", "protocol": "native", "model": "default"},
        ),
        (
            "/predict?model=nobody",
            {},
            "windowcast_refusals_total",
            {"reason": "not-found", "protocol": "native", "model": ""},
        ),
        ("/nothing", {}, "windowcast_refusals_total", {"reason": "not-found", "protocol": "native", "model": ""}),
        (
            "/livez",
            {},
            "windowcast_refusals_total",
            {"reason": "method-not-allowed", "protocol": "native", "model": ""},
        ),
    ],
)
def test_a_request_is_counted_once(
    path: str, body: object, name: str, labels: dict[str, str], client: httpx.Client
) -> None:
    before = total(client, name, **labels)
    client.post(path, json=body)
    assert total(client, name, **labels) == before + 1


def test_an_answer_that_is_no_error_is_no_refusal_and_one_that_is_no_forecast_has_no_encoding(
    client: httpx.Client,
) -> None:
    refusals = total(client, "windowcast_refusals_total")
    client.post("/predict", json={"window": WINDOW})
    client.get("/models")
    assert total(client, "windowcast_refusals_total") == refusals
    encoded = total(client, "windowcast_encoding_seconds_count")
    client.post("/predict", json={"window": []})
    client.post("/predict", json={"window": [[3e38, 0]] * 4})
    client.get("/models/default")
    assert total(client, "windowcast_encoding_seconds_count") == encoded


def test_rows_are_counted(client: httpx.Client) -> None:
    before = total(client, "windowcast_batch_windows_sum", **VERSION)
    client.post("/predict/batch", json={"windows": [WINDOW] * 5})
    assert total(client, "windowcast_batch_windows_sum", **VERSION) == before + 5


def test_the_parts_of_a_request_take_no_longer_than_the_whole(client: httpx.Client) -> None:
    parts = [f"windowcast_{part}_seconds_sum" for part in ("decoding", "queue", "engine", "encoding")]
    names = ["windowcast_request_seconds_sum", *parts]
    before = [total(client, name, model="flat") for name in names]
    client.post("/predict?model=flat", json={"window": [1, 2, 3, 6]})
    whole, *stages = (total(client, name, model="flat") - was for name, was in zip(names, before, strict=True))
    assert all(stage > 0 for stage in stages)
    assert sum(stages) < whole


def test_the_last_prediction_is_the_last_that_succeeded(client: httpx.Client) -> None:
    def last() -> float:
        return total(client, "windowcast_last_prediction_timestamp_seconds", **VERSION)

    earliest = time.time()
    client.post("/predict", json={"window": WINDOW})
    first = last()
    assert earliest - 0.1 < first <= time.time()
    client.post("/predict", json={"window": []})
    client.post("/predict", json={"window": [[3e38, 0]] * 4})
    client.get("/models/default")
    assert last() == first
    client.post("/predict/batch", json={"windows": [WINDOW]})
    assert last() > first


def test_a_ready_service_counts_as_one(client: httpx.Client) -> None:
    assert total(client, "windowcast_ready") == 1


def test_the_build_is_told(client: httpx.Client) -> None:
    [(labels, value)] = samples_of(client.get("/metrics").text)["windowcast_build_info"]
    assert value == 1
    assert labels == {
        "version": __version__,
        "python": platform.python_version(),
        "onnxruntime": importlib.metadata.version("onnxruntime"),
        "tensorflow": importlib.metadata.version("tensorflow-cpu"),
    }


def test_loads_and_failures_are_counted_by_model(twin_dir: Path) -> None:
    broken = twin_dir.with_name("2")
    shutil.copytree(twin_dir, broken)
    (broken / "variables" / "variables.index").write_bytes(b"")
    with serving(twin_dir.parents[2], watch_seconds=0.2) as server, server.client() as client:
        server.wait_for("/readyz")
        wait_until(lambda: total(client, "windowcast_load_failures_total", model="default") == LOAD_ATTEMPTS)
        assert total(client, "windowcast_loads_total", model="default") == LOAD_ATTEMPTS + 1
        assert total(client, "windowcast_load_seconds_count", model="default") == 1
        assert total(client, "windowcast_load_seconds_sum", model="default") > 0
        assert total(client, "windowcast_version_state", model="default", version="1", state="available") == 1
        assert total(client, "windowcast_version_state", model="default", version="2", state="failed") == 1


LABELS: dict[str, set[str]] = {
    "protocol": {"native", "tfserving", "inference"},
    "model": {"", "default", "flat", "slow", "broken"},
    "version": {"", "1", "2"},
    "outcome": {outcome.value for outcome in Outcome},
    "status": {str(status.value) for status in HTTPStatus} | {str(CLIENT_LEFT)},
    "state": {state.value for state in State},
}


def ask_for_what_is_not_there(client: httpx.Client, made_up: str, version: int) -> None:
    """Puts words and numbers of the caller's wherever a request has room for them."""
    names = ("X-Request-ID", "Content-Type", "Content-Encoding", "Accept", "User-Agent", "X-Forwarded-Prefix", "Host")
    headers = dict.fromkeys(names, made_up)
    for prefix in ("/", "/predict/", "/models/", "/models/default/versions/", "/v1/models/", "/v2/models/"):
        client.get(f"{prefix}{made_up}")
        client.post(f"{prefix}{made_up}:predict", json={}, headers=headers)
        client.post(f"{prefix}{made_up}/infer", json={}, headers=headers)
    for query in ("model", "version", "label", made_up):
        client.post(f"/predict?{query}={made_up}", json={"window": WINDOW}, headers=headers)
    client.post("/predict", json={"window": WINDOW}, headers=headers)
    client.post("/predict", json={made_up: WINDOW})
    client.request(made_up, "/predict")
    client.request(made_up, f"/{made_up}")
    client.get(f"/models/default/versions/{version}")
    for path in ("/predict", "/v1/models/default", "/v1/models/default/versions", "/v2/models/default/versions"):
        client.post(f"{path}?version={version}", json={"window": WINDOW})
        client.post(f"{path}/{version}:predict", json={})
        client.post(f"{path}/{version}/infer", json={})


def test_callers_cannot_invent_labels(client: httpx.Client) -> None:
    ask_for_what_is_not_there(client, "MADE-UP-1", 123451)
    client.get("/metrics")
    known = samples_of(client.get("/metrics").text)
    for number in range(2, 5):
        ask_for_what_is_not_there(client, f"MADE-UP-{number}", 123450 + number)
    text = client.get("/metrics").text
    assert "made-up" not in text.lower()
    assert "12345" not in text
    for name, samples in samples_of(text).items():
        assert [labels for labels, _ in samples] == [labels for labels, _ in known[name]]
        for labels, _ in samples if name.startswith("windowcast_") and name != "windowcast_build_info" else ():
            assert all(labels[label] in LABELS[label] for label in labels.keys() & LABELS.keys()), (name, labels)


def test_every_reason_is_the_name_of_an_error(client: httpx.Client) -> None:
    client.post("/predict", content=b"{", headers={"Content-Type": "text/plain"})
    client.post("/v1/models/default:predict", content=b"{")
    names = {
        kind.__name__.lower() for kind in [*concrete_errors(), *vars(tfserving).values()] if isinstance(kind, type)
    }
    refusals = samples_of(client.get("/metrics").text)["windowcast_refusals_total"]
    assert {labels["reason"].replace("-", "") for labels, _ in refusals} <= names


def test_the_format_is_that_of_prometheus(client: httpx.Client) -> None:
    answer = client.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    types = {family.name: family.type for family in text_string_to_metric_families(answer.text)}
    assert types["windowcast_request_seconds"] == "histogram"
    assert types["windowcast_requests"] == "counter"
    assert not [name for name in types if name.endswith("_created")]


def test_these_are_the_metrics(client: httpx.Client) -> None:
    client.post("/predict", json={"window": WINDOW})
    client.post("/predict", json={"window": []})
    families = text_string_to_metric_families(client.get("/metrics").text)
    assert {
        family.name.removeprefix("windowcast_"): (family.type, {*family.samples[0].labels} - {"le"})
        for family in families
        if family.name.startswith("windowcast_") and family.samples
    } == {
        "requests": ("counter", {"route", "protocol", "model", "version", "outcome", "status"}),
        "request_seconds": ("histogram", {"route", "protocol", "model", "version", "outcome"}),
        "refusals": ("counter", {"reason", "protocol", "model"}),
        "decoding_seconds": ("histogram", {"protocol", "model", "version"}),
        "queue_seconds": ("histogram", {"model", "version"}),
        "engine_seconds": ("histogram", {"model", "version"}),
        "encoding_seconds": ("histogram", {"protocol", "model", "version"}),
        "batch_windows": ("histogram", {"model", "version"}),
        "queue_windows": ("gauge", {"model", "version"}),
        "last_prediction_timestamp_seconds": ("gauge", {"model", "version"}),
        "version_state": ("gauge", {"model", "version", "state"}),
        "loads": ("counter", {"model"}),
        "load_seconds": ("histogram", {"model"}),
        "log_lines_dropped": ("counter", set()),
        "ready": ("gauge", set()),
        "connections": ("gauge", set()),
        "connections_refused": ("counter", set()),
        "build_info": ("gauge", {"version", "python", "onnxruntime", "tensorflow"}),
    }


@pytest.mark.parametrize("stage", ["request", "queue", "engine", "decoding", "encoding"])
def test_times_are_told_apart_from_a_tenth_of_a_millisecond_on(stage: str, client: httpx.Client) -> None:
    client.post("/predict", json={"window": WINDOW})
    buckets = samples_of(client.get("/metrics").text)[f"windowcast_{stage}_seconds_bucket"]
    bounds = {float(labels["le"]) for labels, _ in buckets}
    assert min(bounds) == 0.0001
    assert len([bound for bound in bounds if bound <= 0.001]) >= 4


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "ok"),
        (204, "ok"),
        (304, "ok"),
        (400, "invalid"),
        (408, "invalid"),
        (413, "invalid"),
        (422, "invalid"),
        (499, "left"),
        (500, "failed"),
        (501, "failed"),
        (503, "refused"),
        (504, "expired"),
        (0, "failed"),
    ],
)
def test_a_status_stands_for_one_outcome(status: int, outcome: str) -> None:
    assert Outcome.of(status) == outcome


@pytest.mark.parametrize("error", concrete_errors())
def test_no_error_counts_as_a_success(error: type[ServiceError]) -> None:
    assert Outcome.of(error.status) is not Outcome.OK


@given(st.lists(st.floats(0, 100) | st.sampled_from(SECONDS), min_size=1))
def test_many_values_at_once_count_as_each_alone(values: list[float]) -> None:
    registry = CollectorRegistry()
    together, alone = (Histogram(name, "Seconds.", buckets=SECONDS, registry=registry) for name in ("a", "b"))
    _observe(together, values)
    for value in values:
        alone.observe(value)
    [first, second] = registry.collect()
    for one, other in zip(first.samples, second.samples, strict=True):
        assert (one.name[1:], one.labels) == (other.name[1:], other.labels)
        assert one.value == pytest.approx(other.value)


def test_the_metrics_know_of_every_answer_that_was_given_before(client: httpx.Client) -> None:
    for _ in range(5):
        before = total(client, "windowcast_requests_total", route="/livez", status="200")
        client.get("/livez")
        assert total(client, "windowcast_requests_total", route="/livez", status="200") == before + 1


def in_background(server: Server, windows: list[list[list[float]]]) -> Future[httpx.Response]:
    """What the model `slow` answers, to be waited for; on a connection of its own."""
    return executor.submit(lambda: server.post("/predict/batch?model=slow", json={"windows": windows}))


executor = ThreadPoolExecutor(32)


def test_rows_that_wait_are_told_as_they_are_at_that_moment(server: Server, client: httpx.Client) -> None:
    assert total(client, "windowcast_queue_windows", **SLOW) == 0
    with held_window(server.folder) as held:
        computed = in_background(server, [held.window])
        held.wait_until_reached()
        waiting = in_background(server, [WINDOW] * 5)
        wait_until(lambda: total(client, "windowcast_queue_windows", **SLOW) == 5)
        assert total(client, "windowcast_queue_windows", **VERSION) == 0
        assert not computed.done()
    assert (computed.result().status_code, waiting.result().status_code) == (200, 200)
    assert total(client, "windowcast_queue_windows", **SLOW) == 0


class Waiting:
    """A queue of some rows."""

    def __init__(self, queued_windows: int) -> None:
        self.queued_windows = queued_windows


def queue_windows(version: int) -> float | None:
    return registry().get_sample_value("windowcast_queue_windows", {"model": "counted", "version": str(version)})


def test_a_queue_that_is_let_go_of_counts_nothing_and_is_not_kept() -> None:
    queue = Waiting(3)
    watch_queue("counted", 1, queue)
    assert queue_windows(1) == 3
    del queue
    assert queue_windows(1) == 0
    assert ("counted", "1") not in _queues.values()


def test_a_version_that_is_replaced_counts_with_what_replaces_it() -> None:
    old, new = Waiting(3), Waiting(4)
    watch_queue("counted", 2, old)
    watch_queue("counted", 2, new)
    assert queue_windows(2) == 7
    del old
    assert queue_windows(2) == 4
    new.queued_windows = 1
    count_queues()
    assert queue_windows(2) == 1


@pytest.fixture
def two_workers(models_dir: Path, tmp_path: Path) -> Iterator[Server]:
    """The service in two processes, with the models `default` and `slow`."""
    for model in ("default/2", "slow/1"):
        shutil.copytree(models_dir / model, tmp_path / "models" / model)
    with serving(tmp_path, workers=2, watch_seconds=0) as server:
        wait_until(lambda: len(server.log("ready")) == 2)
        yield server


def ask_all(
    server: Server, requests: int, ask: Callable[[httpx.AsyncClient, int], Coroutine[None, None, httpx.Response]]
) -> Counts[int]:
    """Many requests over as many connections as workers can share out; their statuses."""

    async def run() -> Counts[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask_one(number)) for number in range(requests)]
        return Counts(task.result() for task in tasks)

    async def ask_one(number: int) -> int:
        async with slots, server.async_client() as client:
            return (await ask(client, number)).status_code

    slots = asyncio.Semaphore(16)
    return asyncio.run(run())


def scraped(server: Server) -> Samples:
    """The metrics as any of the workers tells them."""
    return samples_of(server.get("/metrics").text)


def summed(samples: Samples, name: str, **labels: str) -> float:
    return sum(value for given, value in samples.get(name, []) if labels.items() <= given.items())


def test_two_workers_count_exactly_together_and_what_lives_goes_with_its_worker(two_workers: Server) -> None:
    server = two_workers
    bodies = [{"window": WINDOW}, {"window": WINDOW}, {"window": []}]
    started = time.time()
    statuses = ask_all(server, 300, lambda client, number: client.post("/predict", json=bodies[number % 3]))
    assert statuses == {200: 200, 422: 100}
    predict = {**DEFAULT, "route": "/predict"}
    wait_until(lambda: summed(scraped(server), "windowcast_requests_total", **predict) == 300)
    for _ in range(6):  # whichever worker answers
        samples = scraped(server)
        assert summed(samples, "windowcast_requests_total", **predict, status="200", outcome="ok") == 200
        assert summed(samples, "windowcast_requests_total", **predict, status="422", outcome="invalid") == 100
        assert summed(samples, "windowcast_request_seconds_count", **predict) == 300
        assert summed(samples, "windowcast_request_seconds_bucket", **predict, le="+Inf") == 300
        assert summed(samples, "windowcast_encoding_seconds_count", **DEFAULT) == 200
        assert summed(samples, "windowcast_queue_seconds_count", **VERSION) == 200
        assert summed(samples, "windowcast_batch_windows_sum", **VERSION) == 200
        assert summed(samples, "windowcast_refusals_total", reason="invalid-request", model="default") == 100
        assert started < summed(samples, "windowcast_last_prediction_timestamp_seconds", **VERSION) <= time.time()
        assert summed(samples, "windowcast_ready") == 2
        assert summed(samples, "windowcast_loads_total") == summed(samples, "windowcast_load_seconds_count") == 4
        assert summed(samples, "windowcast_version_state", **VERSION, state="available") == 2
        [(labels, value)] = samples["windowcast_build_info"]
        assert (labels["version"], value) == (__version__, 1)
        assert not any("pid" in labels for name in samples for labels, _ in samples[name])

    with held_loading(server.folder):
        os.kill(server.workers()[0], signal.SIGKILL)
        wait_until(lambda: summed(scraped(server), "windowcast_ready") == 1)
        samples = scraped(server)
        assert summed(samples, "windowcast_version_state", **VERSION, state="available") == 1
        assert summed(samples, "windowcast_requests_total", **predict, status="200") == 200
    wait_until(lambda: summed(scraped(server), "windowcast_ready") == 2)
    assert summed(scraped(server), "windowcast_requests_total", **predict, status="200") == 200


def test_a_worker_knows_of_the_rows_that_wait_in_another_and_they_go_with_it(two_workers: Server) -> None:
    server = two_workers

    def told() -> set[float]:
        return {summed(scraped(server), "windowcast_queue_windows", **SLOW) for _ in range(8)}

    assert told() == {0}
    with held_window(server.folder) as held:
        computed = in_background(server, [held.window])
        held.wait_until_reached()
        while True:  # some connection leads to the worker that is busy
            waiting = in_background(server, [WINDOW] * 5)
            wait_until(lambda: waiting.done() or 5 in told())  # noqa: B023 (it is waited for here)
            if not waiting.done():
                break
        wait_until(lambda: told() == {5})
        assert not computed.done()

        for worker in server.workers():
            os.kill(worker, signal.SIGKILL)
        assert isinstance(waiting.exception(), httpx.TransportError)
    wait_until(lambda: len(server.log("ready")) == 4)
    wait_until(lambda: told() == {0})
