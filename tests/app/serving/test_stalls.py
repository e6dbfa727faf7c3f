"""A model whose loop never ends, and a load that never does."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import Queue

import pytest

from app.arrays import Array
from app.errors import WorkStalled
from app.main import create_app
from app.serving import service, stalls
from app.serving.loading import LoadedVersion, LoadVersion
from app.serving.stalls import Watch, Work
from app.settings import Settings
from app.version.manifest import Manifest
from tests.app.fakes import MeanEngine, loader, version_folders
from tests.app.in_process import application
from tests.holding import held_loading, held_window
from tests.logs import captured_logs
from tests.servers import serving
from tests.versions import contract_of
from tests.waiting import PATIENCE_SECONDS, wait_until

WINDOW = [[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [6.0, 0.0]]
WORK = Work("a call of the engine", "default", 1)
LIMIT_SECONDS = 10.0
SHORT_SECONDS = 1.0
"""A limit that passes in a test, and that nothing else in the test comes near to."""


class Clock:
    """A clock that the test moves."""

    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@contextmanager
def running(watch: Watch, *works: Work) -> Iterator[None]:
    """Runs pieces of work, each in a thread, to the end of the block."""
    end = threading.Event()
    begun = threading.Barrier(len(works) + 1)

    def work() -> None:
        begun.wait(PATIENCE_SECONDS)
        end.wait(PATIENCE_SECONDS)

    threads = [threading.Thread(target=watch.run, args=(each, work)) for each in works]
    for thread in threads:
        thread.start()
    begun.wait(PATIENCE_SECONDS)
    try:
        yield
    finally:
        end.set()
        for thread in threads:
            thread.join()


def test_work_stalls_when_its_limit_is_over_and_not_before() -> None:
    clock = Clock()
    watch = Watch(LIMIT_SECONDS, lambda *_: None, clock)
    with running(watch, WORK):
        clock.seconds += LIMIT_SECONDS
        assert watch.stalled() is None
        clock.seconds += 1
        assert watch.stalled() == WORK
    assert watch.stalled() is None


def test_work_after_work_does_not_stall_however_long_it_all_takes() -> None:
    clock = Clock()
    watch = Watch(LIMIT_SECONDS, lambda *_: None, clock)
    for _ in range(5):
        with running(watch, WORK, WORK._replace(model="another")):
            clock.seconds += LIMIT_SECONDS
            assert watch.stalled() is None


def test_work_that_fails_has_ended() -> None:
    clock = Clock()
    watch = Watch(LIMIT_SECONDS, lambda *_: None, clock)
    with pytest.raises(ZeroDivisionError):
        watch.run(WORK, lambda: 1 / 0)
    clock.seconds += 2 * LIMIT_SECONDS
    assert watch.stalled() is None


def test_a_stall_is_told_once_with_what_stalls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stalls, "LOOK_SECONDS", 0.001)
    told: Queue[tuple[Work, WorkStalled]] = Queue()
    clock = Clock()
    watch = Watch(LIMIT_SECONDS, lambda *stall: told.put(stall), clock)
    watch.start()
    with running(watch, WORK):
        clock.seconds += 2 * LIMIT_SECONDS
        work, error = told.get(timeout=PATIENCE_SECONDS)
        assert work == WORK
        assert str(error) == "default/1: a call of the engine has not ended within 10 s."
    watch.stop()
    assert told.empty()


@pytest.fixture
def _quick_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stalls, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(service, "STALL_NOTICE_SECONDS", 0)


@pytest.mark.usefixtures("_quick_to_look", "settled_folders")
def test_a_call_that_does_not_end_turns_all_probes(tmp_path: Path) -> None:
    version_folders(tmp_path / "models")
    with (
        held_window(tmp_path) as held,
        captured_logs() as lines,
        application(tmp_path, loader(), stall_seconds=SHORT_SECONDS) as running,
        running.client() as client,
    ):
        assert client.get("/livez").json() == {"status": "alive"}
        asked = running.post("/predict", json={"window": held.window})
        wait_until(lambda: client.get("/livez").status_code == 503)
        for path in ("/livez", "/readyz", "/healthz"):
            answer = client.get(path)
            assert (answer.status_code, answer.json()["status"]) == (503, "stalled")
        for path in ("/v2/health/live", "/v2/health/ready", "/models"):
            assert client.get(path).status_code == 503
        refusal = client.post("/predict", json={"window": WINDOW})
        assert (refusal.status_code, refusal.headers["Retry-After"]) == (503, "1")
        assert refusal.json()["detail"] == "Not ready: a model has stalled; the log says which."
        held.release()
        assert asked.result(PATIENCE_SECONDS).status_code == 200
    [line] = [line for line in lines if line["event"] == "stalled"]
    assert (line["level"], line["model"], line["version"]) == ("critical", "default", 1)
    assert line["reason"] == "default/1: a call of the engine has not ended within 1 s."


class StuckEngine(MeanEngine):
    """An engine whose calls end when the test says so, once it serves."""

    def __init__(self, end: threading.Event) -> None:
        super().__init__(contract_of())
        self.serves = False
        self._end = end

    def predict(self, windows: Array) -> Array:
        """Forecasts in the end."""
        if self.serves:
            assert self._end.wait(PATIENCE_SECONDS)
        return super().predict(windows)


@pytest.mark.usefixtures("_quick_to_look", "settled_folders")
def test_a_call_on_the_event_loop_that_does_not_end_is_told_all_the_same(tmp_path: Path) -> None:
    def load(folder: Path, manifest: Manifest | None) -> LoadedVersion:
        return replace(loader()(folder, manifest), engine=engine)

    def tell(error: BaseException) -> None:
        told.append(error)
        end.set()

    async def ask() -> None:
        app = create_app(settings, on_fatal=tell, load_version=load, free_memory=lambda: None)
        async with app.running():
            await app.service.wait_until_loaded()
            engine.serves = True
            batcher = app.service.catalogue.models()["default"].latest.batcher
            await batcher.submit(engine_windows)

    engine_windows = loader()(tmp_path / "default" / "1", None).golden.windows
    settings = Settings(models_dir=version_folders(tmp_path / "models"), stall_seconds=SHORT_SECONDS)
    told: list[BaseException] = []
    end = threading.Event()
    engine = StuckEngine(end)
    asyncio.run(ask())  # its loop turns no more until the stall is told
    assert [type(error) for error in told] == [WorkStalled]


@pytest.mark.usefixtures("_quick_to_look", "settled_folders")
@pytest.mark.parametrize("place", ["load", "timing"])
def test_a_load_that_does_not_end_is_told(place: str, tmp_path: Path) -> None:
    def stuck_loader() -> LoadVersion:
        def load(folder: Path, manifest: Manifest | None) -> LoadedVersion:
            if place == "load":
                assert end.wait(PATIENCE_SECONDS)
            engine.serves = True  # its calls block from now on
            return replace(loader()(folder, manifest), engine=engine)

        return load

    def tell(error: BaseException) -> None:
        told.append(error)
        end.set()

    async def start() -> None:
        app = create_app(settings, on_fatal=tell, load_version=stuck_loader(), free_memory=lambda: None)
        async with app.running():
            await app.service.wait_until_loaded()
            assert app.lifecycle.phase == "stalled"

    settings = Settings(models_dir=version_folders(tmp_path / "models"), stall_seconds=SHORT_SECONDS)
    told: list[BaseException] = []
    end = threading.Event()
    engine = StuckEngine(end)
    asyncio.run(start())
    assert [str(error) for error in told] == ["default/1: a load has not ended within 1 s."]


@pytest.fixture
def folder(twin_dir: Path) -> Path:
    """Where a server with one model can be started."""
    return twin_dir.parents[2]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_process_whose_load_does_not_end_ends(workers: int, folder: Path) -> None:
    with held_loading(folder), serving(folder, workers=workers, stall_seconds=SHORT_SECONDS) as server:
        assert server.wait() == 3
        assert "default/1: a load has not ended within 1 s." in server.output.read_text()


def test_a_worker_whose_call_does_not_end_is_replaced_and_the_others_stay(folder: Path) -> None:
    with held_window(folder) as held, serving(folder, workers=2, stall_seconds=5, watch_seconds=0) as server:
        wait_until(lambda: len(server.log("ready")) == 2)
        with server.connect() as sock:
            body = f'{{"window": {held.window}}}'
            head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
            wait_until(lambda: bool(server.log("worker ended")))
        assert [line["exit_code"] for line in server.log("worker ended")] == [3]
        assert len(server.log("stalled")) == 1
        wait_until(lambda: len(server.log("ready")) == 3)
        assert server.post("/predict", json={"window": WINDOW}).status_code == 200
