"""What a running service counts."""

import re

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from app.metrics import SECONDS, _observe

WINDOW = [[1, 0], [2, 0], [3, 0], [6, 0]]


def samples(client: httpx.Client) -> dict[str, float]:
    """Every sample of /metrics, by its name with labels."""
    lines = client.get("/metrics").text.splitlines()
    return {name: float(number) for name, _, number in (line.rpartition(" ") for line in lines if line[0] != "#")}


@pytest.mark.parametrize(
    ("path", "body", "sample"),
    [
        ("/predict", {"window": WINDOW}, 'windowcast_requests_total{route="/predict",status="200"}'),
        ("/predict", {"window": []}, 'windowcast_requests_total{route="/predict",status="422"}'),
        ("/predict/batch", {"windows": [WINDOW]}, 'windowcast_requests_total{route="/predict/batch",status="200"}'),
        ("/nothing", {}, 'windowcast_requests_total{route="none",status="404"}'),
        ("/predict", {"window": WINDOW}, 'windowcast_request_seconds_count{route="/predict"}'),
        ("/predict", {"window": WINDOW}, 'windowcast_engine_seconds_count{model="default",version="2"}'),
        ("/predict/batch", {"windows": [WINDOW]}, 'windowcast_batch_rows_count{model="default",version="2"}'),
    ],
)
def test_a_request_is_counted_once(path: str, body: object, sample: str, client: httpx.Client) -> None:
    before = samples(client).get(sample, 0)
    client.post(path, json=body)
    assert samples(client)[sample] == before + 1


def test_rows_are_counted(client: httpx.Client) -> None:
    before = samples(client)['windowcast_batch_rows_sum{model="default",version="2"}']
    client.post("/predict/batch", json={"windows": [WINDOW] * 5})
    assert samples(client)['windowcast_batch_rows_sum{model="default",version="2"}'] == before + 5


def test_a_ready_service_counts_as_one(client: httpx.Client) -> None:
    assert samples(client)["windowcast_ready"] == 1


def test_callers_cannot_invent_labels(client: httpx.Client) -> None:
    for number in range(5):
        client.get(f"/made-up-{number}")
        client.get(f"/models/made-up-{number}")
        client.post(f"/predict?model=made-up-{number}", json={})
        client.request(f"MADEUP{number}", "/predict")
    text = client.get("/metrics").text
    assert "made-up" not in text
    assert "MADEUP" not in text
    assert 'route="/models/{name}",status="404"' in text


def test_the_format_is_that_of_prometheus(client: httpx.Client) -> None:
    answer = client.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert re.search(r"^# TYPE windowcast_request_seconds histogram$", answer.text, re.MULTILINE)


@given(st.lists(st.floats(0, 100) | st.sampled_from(SECONDS), min_size=1))
def test_many_values_at_once_count_as_each_alone(values: list[float]) -> None:
    registry = CollectorRegistry()
    together, alone = (Histogram(name, "Seconds.", buckets=SECONDS, registry=registry) for name in ("a", "b"))
    _observe(together, values)
    for value in values:
        alone.observe(value)
    [first, second] = registry.collect()
    for one, other in zip(first.samples, second.samples, strict=True):
        if not one.name.endswith("_created"):
            assert (one.name[1:], one.labels) == (other.name[1:], other.labels)
            assert one.value == pytest.approx(other.value)


def test_the_metrics_know_of_every_answer_that_was_given_before(client: httpx.Client) -> None:
    name = 'windowcast_requests_total{route="/livez",status="200"}'
    for _ in range(5):
        before = samples(client).get(name, 0)
        client.get("/livez")
        assert samples(client)[name] == before + 1
