"""Probes of a service that is ready; tests/app/process/test_lifecycle.py asks while it is not."""

import threading
import time

import httpx
import pytest

from tests.servers import Server

LONG_ROUNDS = 200_000
"""Keeps the model `slow` busy for about a second."""


def test_a_ready_service_says_so(client: httpx.Client) -> None:
    assert client.get("/livez").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}


def test_health_names_what_serves_and_what_does_not(client: httpx.Client) -> None:
    health = client.get("/healthz").json()
    assert health["status"] == "ready"
    assert health["models"] == {"default": 2, "flat": 1, "slow": 1}
    assert health["failures"].keys() == {"broken/1"}
    assert health["failures"]["broken/1"].startswith("broken/1/saved_model.pb: "), "no path of the host"
    assert health["trouble"] == []


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz", "/metrics"])
def test_probes_are_answered_while_a_forecast_is_computed(path: str, server: Server, client: httpx.Client) -> None:
    def ask() -> None:
        answers.append(httpx.post(f"{server.url}/predict?model=slow", json=body, timeout=60, trust_env=False))

    body = {"window": [[LONG_ROUNDS, 0]] * 4}
    answers: list[httpx.Response] = []
    asking = threading.Thread(target=ask)
    asking.start()
    seconds = []
    while asking.is_alive():
        started = time.perf_counter()
        assert client.get(path).status_code == 200
        seconds.append(time.perf_counter() - started)
        time.sleep(0.01)
    asking.join()
    assert answers[0].status_code == 200
    assert len(seconds) > 5, "the forecast was not long enough to prove anything"
    assert sorted(seconds)[len(seconds) // 2] < 0.1
    assert max(seconds) < answers[0].elapsed.total_seconds() / 2
