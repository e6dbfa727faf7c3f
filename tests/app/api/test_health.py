"""Probes of a service that is ready; tests/app/process/test_lifecycle.py asks while it is not."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.holding import held_window
from tests.servers import Server


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
    def ask() -> httpx.Response:
        with server.client() as another:
            return another.post("/predict?model=slow", json={"window": held.window})

    with ThreadPoolExecutor() as executor, held_window(server.folder) as held:
        asking = executor.submit(ask)
        held.wait_until_reached()
        assert [client.get(path).status_code for _ in range(5)] == [200] * 5
        assert not asking.done()
        held.release()
        assert asking.result().json()["prediction"] == held.forecast
