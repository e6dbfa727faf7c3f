"""The service with the engine that serves by default: a fused twin, short calls on the event loop."""

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from numpy.testing import assert_allclose

from app.process.cores import NICENESS
from app.version.manifest import Contract
from tests.app.in_process import Application, application
from tests.holding import held_window
from tests.servers import Server, running
from tests.versions import expected_forecasts, make_fused_version, some_windows
from tests.waiting import wait_until

WINDOW = [[1, 0], [2, 0], [3, 0], [6, 0]]


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


@pytest.mark.skipif(sys.platform != "linux", reason="needs priorities of threads")
def test_threads_that_load_and_compute_are_nicer_than_the_event_loop(service: Application) -> None:
    async def own_niceness() -> int:
        return niceness_of(threading.current_thread())

    def niceness_of(thread: threading.Thread) -> int:
        assert thread.native_id is not None
        return os.getpriority(os.PRIO_PROCESS, thread.native_id)

    assert service.post("/predict", json={"window": WINDOW}).result().status_code == 200
    threads = {
        name: thread for thread in threading.enumerate() if (name := thread.name).startswith(("engine_", "loader_"))
    }
    assert {name.partition("_")[0] for name in threads} == {"engine", "loader"}
    nicer = min(service.loop.run(own_niceness()) + NICENESS, 19)
    assert {niceness_of(thread) for thread in threads.values()} == {nicer}


def test_a_queue_holds_what_is_computed_in_the_time_that_the_settings_say(models_dir: Path) -> None:
    with application(models_dir.parent, max_queue_seconds=1e-9) as service, held_window(service.folder) as held:
        batcher = service.front.service.catalogue.find().batcher
        asked = [service.post("/predict", json={"window": held.window})]
        held.wait_until_reached()
        asked += [service.post("/predict", json={"window": WINDOW}) for _ in range(2)]
        wait_until(lambda: asked[-1].done() or batcher.queued_windows == 2)
        held.release()
        assert [answer.result().status_code for answer in asked] == [200, 200, 503]
