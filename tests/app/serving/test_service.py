"""The service with the engine that serves by default: a fused twin, short calls on the event loop."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from numpy.testing import assert_allclose

from app.version.manifest import Contract
from tests.servers import Server, running
from tests.versions import expected_forecasts, make_fused_version, some_windows


@pytest.fixture(scope="module")
def twin_server(tmp_path_factory: pytest.TempPathFactory, contract: Contract) -> Iterator[Server]:
    """The service with a model that has a twin, ready."""
    folder = tmp_path_factory.mktemp("twin")
    make_fused_version(folder / "models", contract)
    with running(folder, max_batch_windows=64) as server:
        server.wait_for("/readyz")
        yield server


def test_a_version_with_a_twin_is_served_by_it(twin_server: Server) -> None:
    with twin_server.client() as client:
        assert client.get("/models/default").json()["engine"] == "onnx"


def test_a_twin_answers_the_same_alone_in_a_batch_and_in_any_company(twin_server: Server, contract: Contract) -> None:
    windows = some_windows(64, contract, seed=5)

    async def ask_all() -> tuple[list[Any], Any]:
        async with twin_server.async_client() as client:
            singles = [client.post("/predict", json={"window": window.tolist()}) for window in windows]
            batch = client.post("/predict/batch", json={"windows": windows.tolist()})
            *alone, together = await asyncio.gather(*singles, batch)
            return [answer.json()["prediction"] for answer in alone], together.json()["predictions"]

    alone, together = asyncio.run(ask_all())
    assert_allclose(alone, together, rtol=0, atol=1e-6)
    assert_allclose(together, expected_forecasts(windows, contract), rtol=0, atol=1e-6)
