"""Work that does not end: seen by the watch, told by the probes, and the end of the process."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from app.arrays import Array, Inputs
from app.serving import stalls
from app.serving.stalls import StallError, StallWatch, Work
from tests.app.in_process import Application, application
from tests.holding import held_loading, held_window
from tests.loops import LIMIT_SECONDS
from tests.servers import serving
from tests.waiting import PATIENCE_SECONDS, wait_until

INPUTS = Inputs(np.zeros((1, 4, 2), np.float32))
WINDOW = [[1, 0], [2, 0], [3, 0], [6, 0]]
LIMIT_LOOKS = 3


def watch_of() -> StallWatch:
    """A watch that looks when the test says so."""
    return StallWatch(LIMIT_LOOKS * stalls.LOOK_SECONDS, lambda _: None)


def seen(watch: StallWatch, looks: int = LIMIT_LOOKS + 1) -> Work | None:
    """What the last of some looks finds."""
    found = None
    for _ in range(looks):
        found = watch.look()
    return found


def test_work_that_lasts_too_long_is_found() -> None:
    watch = watch_of()
    with watch.working("a load", "default", 2):
        assert seen(watch, LIMIT_LOOKS) is None
        stalled = watch.look()
    assert stalled is not None
    assert (stalled.what, stalled.model, stalled.version) == ("a load", "default", 2)
    assert seen(watch) is None, "it has ended"


def test_one_call_after_another_is_no_stall() -> None:
    watch = watch_of()

    def look(inputs: Inputs) -> Array:
        assert watch.look() is None
        return inputs.windows

    predict = watch.watched(look, "default", 1)
    for _ in range(10 * LIMIT_LOOKS):
        predict(INPUTS)


def test_a_call_of_the_engine_in_another_thread_is_found() -> None:
    watch, begun, end = watch_of(), threading.Event(), threading.Event()

    def block(inputs: Inputs) -> Array:
        begun.set()
        assert end.wait(PATIENCE_SECONDS)
        return inputs.windows

    thread = threading.Thread(target=watch.watched(block, "slow", 7), args=(INPUTS,))
    thread.start()
    assert begun.wait(PATIENCE_SECONDS)
    with watch.working("a load", "other", 1):
        pass
    stalled = seen(watch)
    end.set()
    thread.join()
    assert stalled is not None
    assert (stalled.model, stalled.version) == ("slow", 7)


def test_many_loads_in_one_look_at_the_models_may_take_their_time_each() -> None:
    watch = watch_of()
    with watch.working("a look at the models"):
        for version in range(5):
            with watch.working("a load", "default", version):
                assert seen(watch, LIMIT_LOOKS) is None
        assert seen(watch, LIMIT_LOOKS) is None
        assert watch.look() is not None, "the look itself"


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of one second passes in no time."""
    monkeypatch.setattr(stalls, "LOOK_SECONDS", 0.6)
    monkeypatch.setattr("app.serving.service.EXIT_SECONDS", 0.01)


@pytest.fixture
def running(models_dir: Path, quick_looks: None) -> Iterator[Application]:
    """The service with a short patience."""
    with application(models_dir.parent, stall_seconds=1) as running:
        yield running


def test_a_service_whose_engine_stalls_says_that_it_is_dead(running: Application) -> None:
    fatal: list[BaseException] = []
    running.front.service._on_fatal = fatal.append
    with held_window(running.folder) as held, running.client() as client:
        assert client.get("/livez").status_code == 200
        waiting = running.post("/predict?model=slow", json={"window": held.window})
        wait_until(lambda: client.get("/livez").status_code == 503)
        assert client.get("/livez").json() == {"status": "stalled"}
        assert client.get("/readyz").status_code == 503
        assert client.get("/v2/health/live").status_code == 503
        refused = client.post("/predict", json={"window": WINDOW})
        assert (refused.status_code, "Retry-After" in refused.headers) == (503, False)
        wait_until(lambda: len(fatal) == 1)
        assert isinstance(fatal[0], StallError)
        held.release()
        waiting.result(PATIENCE_SECONDS)


def test_a_service_that_is_dead_says_so_for_a_while_before_it_ends(
    models_dir: Path, quick_looks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.serving.service.EXIT_SECONDS", LIMIT_SECONDS)
    fatal: list[BaseException] = []
    with application(models_dir.parent, stall_seconds=1) as service, held_window(models_dir.parent) as held:
        service.front.service._on_fatal = fatal.append
        waiting = service.post("/predict?model=slow", json={"window": held.window})
        wait_until(lambda: service.get("/livez").result().status_code == 503)
        held.release()
        waiting.result(PATIENCE_SECONDS)
    assert fatal == [], "it was stopped meanwhile"


@pytest.mark.parametrize("held", ["a call", "a load"])
def test_a_process_whose_work_stalls_ends(held: str, models_dir: Path) -> None:
    folder = models_dir.parent
    if held == "a load":
        with held_loading(folder), serving(folder, stall_seconds=1) as server:
            assert server.wait() == 3
    else:
        with held_window(folder) as window, serving(folder, stall_seconds=1) as server, server.client() as client:
            server.wait_for("/readyz")
            with pytest.raises(httpx.TransportError):
                client.post("/predict", json={"window": window.window})
            assert server.wait() == 3
    [line] = server.log("stalled")
    assert (line["level"], line["model"], line["version"]) == ("critical", "default", 2)
    assert line["work"].startswith(held)


def test_a_stall_on_the_event_loop_itself_is_noticed(quick_looks: None) -> None:
    ended = threading.Event()

    def block(inputs: Inputs) -> Array:
        assert ended.wait(PATIENCE_SECONDS), "the loop stands still until the watch has noticed"
        return inputs.windows

    async def stall() -> None:
        watch = StallWatch(1, lambda _: ended.set())
        watch.start()
        watch.watched(block, "default", 1)(INPUTS)
        watch.stop()

    asyncio.run(stall())
    assert ended.is_set()
