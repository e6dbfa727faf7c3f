"""The running service: its models, their queues, the thread that computes, and what is told of it all.

The service has no effect on its process. What ends the process, the caller hands in as `on_fatal`.
"""

import asyncio
import gc
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

from app.errors import ModelNotReady, TooManyLargeForecasts, VersionError
from app.exchange import Exchange, record
from app.process.cores import yield_to_event_loop
from app.process.lifecycle import Lifecycle, Phase
from app.serving.batching import Batcher, Limits
from app.serving.catalogue import Catalogue
from app.serving.loading import LoadedVersion, LoadVersion, loader_of
from app.serving.pace import MAX_CALL_WINDOWS, busy_windows_per_second, inline_windows
from app.serving.repository import Repository
from app.serving.room import Room
from app.serving.side import SideThread
from app.serving.stalls import EXIT_SECONDS, StallError, StallWatch, Work
from app.settings import Settings
from app.telemetry.exposition import exposition
from app.telemetry.figures import figures_by_version
from app.telemetry.journal import Journal
from app.telemetry.logs import get_logger
from app.telemetry.metrics import QUEUES_SECONDS, count_batches, count_build, count_queues, watch_queue
from app.telemetry.sharing import Shared
from app.version.manifest import Manifest

log = get_logger()

HOUSEKEEPING_SECONDS = QUEUES_SECONDS
"""How often to do what is not urgent."""

WAITING_BODIES = 8
"""How many bodies of the largest size may arrive at once, and how many may wait for the side thread; or as many smaller
ones as have the same size."""

TENSORFLOW = "tensorflow"

OnFatal = Callable[[BaseException], None]
"""Told of an error after which the service cannot go on. Of a stall it is told in another thread than the loop's."""


def stay(_: BaseException) -> None:
    """Leaves a service that cannot go on as it is: alive, and not ready."""


class Service:
    """Everything that lives from the start to the stop of the application.

    Args:
        settings: The service's settings.
        on_fatal: Told of an error after which the service cannot go on. The error is in the log already.
        load_version: Turns a version's folder into a version that can forecast; by default as the settings say.
        free_memory: Frees the memory of objects that refer to each other.
    """

    def __init__(
        self,
        settings: Settings,
        on_fatal: OnFatal = stay,
        load_version: LoadVersion | None = None,
        free_memory: Callable[[], object] = gc.collect,
    ) -> None:
        self.settings = settings
        self.lifecycle = Lifecycle()
        self.exchanges: Journal[Exchange] = Journal(record)
        self.exposition = Shared(exposition)
        self.figures = Shared(figures_by_version)
        self.crowd: set[Batcher] = set()
        """The queues that were full when somebody last asked."""
        self._batches = Journal(count_batches)
        self._on_fatal = on_fatal
        self._free_memory = free_memory
        self._load_version = load_version or loader_of(settings)
        self._stalls = StallWatch(settings.stall_seconds, self._end_stalled)
        self._tasks: list[asyncio.Task[None]] = []
        self._threads: list[ThreadPoolExecutor] = []
        self.repository = self._new_repository()
        self.arriving = Room(self._body_room)
        """The memory of bodies that clients are sending."""
        self.leaving = Room(self._body_room, TooManyLargeForecasts)
        """The memory of large forecasts, from the queue to the answer."""
        self.side = self._new_side_thread()

    def _new_repository(self) -> Repository:
        return Repository(self.settings, self._make_batcher, self._load_watched)

    def _load_watched(self, folder: Path, manifest: Manifest | None) -> LoadedVersion:
        with self._stalls.working("a load", folder.parent.name, int(folder.name)):
            return self._load_version(folder, manifest)

    def _new_side_thread(self) -> SideThread:
        return SideThread(Room(self._body_room), self.settings.request_timeout_seconds)

    @property
    def _body_room(self) -> int:
        return WAITING_BODIES * self.settings.max_body_bytes

    @property
    def catalogue(self) -> Catalogue:
        """What serves right now."""
        return self.repository.catalogue

    def start(self) -> None:
        """Starts loading the models. Probes are answered meanwhile. May be called again after a stop.

        Raises:
            RuntimeError: The service runs already.
        """
        if self._tasks:
            raise RuntimeError("the service runs already")
        # One thread: TensorFlow is not promised to be safe in several, and more would only fight for the cores.
        self._executor = _thread("engine")
        self._loader = _thread("loader")
        self._threads = [self._executor, self._loader]
        self.lifecycle.start()
        self._stalls.start()
        count_build()
        loop = asyncio.get_running_loop()
        self._loading = loop.create_task(self._load())
        self._tasks = [self._loading, loop.create_task(self._keep_house())]

    async def wait_until_loaded(self) -> None:
        """Returns when the load has ended, well or not."""
        await asyncio.shield(self._loading)

    async def _load(self) -> None:
        started = time.monotonic()
        try:
            await self._in_loader(self.repository.load)
        except VersionError as error:
            log.critical("cannot start", reason=str(error))
            self._give_up(error)
            return
        except Exception as error:
            log.critical("cannot start", exc_info=True)
            self._give_up(error)
            return
        self._free_memory()
        self.lifecycle.become_ready()
        log.info("ready", seconds=round(time.monotonic() - started, 2), try_this=try_this(self.settings))
        if self.settings.watch_seconds:
            self._tasks.append(asyncio.get_running_loop().create_task(self._watch()))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self.settings.watch_seconds)
            try:
                await self.refresh()
            except Exception:
                log.exception("models not looked at")

    async def _keep_house(self) -> None:
        """Tells the other workers of this worker's queues, and cleans up after versions that are gone."""
        while True:
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
            count_queues()
            self.repository.note_endings()
            if self.repository.has_garbage and TENSORFLOW in sys.modules:
                self.repository.has_garbage = False
                await asyncio.to_thread(self._free_memory)

    async def refresh(self, *, at_once: bool = False) -> None:
        """Looks at policies and folders, and returns when all that is new is loaded; see `Repository.refresh`."""
        await self._in_loader(partial(self.repository.refresh, at_once=at_once))

    async def _in_loader(self, work: Callable[[], None]) -> None:
        """Does work in the loader's thread, and watches it: folders may lie on a dead network mount."""

        def do() -> None:
            with self._stalls.working("a look at the models"):
                work()

        await asyncio.get_running_loop().run_in_executor(self._loader, do)

    async def look_now(self) -> None:
        """Follows policies and folders at once, and waits for the end as long as a request may take."""
        looking = asyncio.ensure_future(self.refresh(at_once=True))
        await asyncio.wait([looking], timeout=self.settings.request_timeout_seconds)

    def _make_batcher(self, loaded: LoadedVersion) -> Batcher:
        settings, engine, contract = self.settings, loaded.engine, loaded.contract
        name, version, batches = loaded.name, loaded.version, self._batches
        call_windows = min(MAX_CALL_WINDOWS, settings.max_batch_windows)
        with self._stalls.working("a measurement of the engine", name, version):
            limits = Limits(
                call_windows=call_windows,
                inline_windows=inline_windows(engine, contract),
                queue_windows=settings.max_queue_windows,
                queue_seconds=settings.max_queue_seconds,
                windows_per_second=busy_windows_per_second(engine, contract, call_windows),
                seconds=settings.request_timeout_seconds,
            )
        batcher = Batcher(
            self._stalls.watched(engine.predict, name, version),
            self._executor,
            limits,
            self.crowd,
            on_batch=lambda batch: batches.add((name, version, batch)),
            on_failure=self._end_batching,
        )
        watch_queue(name, version, batcher)
        return batcher

    def check_ready(self) -> None:
        """Checks that the models are loaded.

        Raises:
            ModelNotReady: The models are still being loaded, could not be loaded, or are gone after a stop.
        """
        match self.lifecycle.phase:
            case Phase.LOADING:
                raise ModelNotReady("the models are being loaded")
            case Phase.FAILED:
                raise ModelNotReady("the service could not start, or go on; its log says why", may_pass=False)
            case Phase.STALLED:
                raise ModelNotReady("some work of the service does not end; its log says which", may_pass=False)
            case Phase.STOPPED:
                raise ModelNotReady("the service has stopped", may_pass=False)

    def stop(self) -> None:
        """Ends the threads, releases the models, and writes down what happened last."""
        self.lifecycle.stop()
        self._stalls.stop()
        for task in self._tasks:
            task.cancel()
        self._tasks = []
        for thread in self._threads:
            thread.shutdown(wait=False, cancel_futures=True)
        self.side.stop()
        self.side = self._new_side_thread()
        self.repository.statuses.clear()
        self.repository = self._new_repository()
        self.flush()

    def flush(self) -> None:
        """Logs and counts what the journals hold back."""
        self.exchanges.flush()
        self._batches.flush()

    def _end_batching(self, error: BaseException) -> None:
        """Gives up: without its batching a model would only collect requests."""
        log.critical("batching ended", exc_info=error)
        self._give_up(error)

    def _end_stalled(self, work: Work) -> None:
        """Says that the service is dead, and gives up a moment later. The event loop may stand still.

        A service that drains ends by itself.
        """
        if self.lifecycle.phase is Phase.DRAINING:
            return
        seconds = self.settings.stall_seconds
        log.critical("stalled", work=work.what, model=work.model, version=work.version, seconds=seconds)
        self.lifecycle.stall()
        if not self._stalls.wait(EXIT_SECONDS):
            self._end_by(StallError(f"{work.what} has not ended within {seconds:g} seconds"))

    def _give_up(self, error: BaseException) -> None:
        self.lifecycle.fail()
        self._end_by(error)

    def _end_by(self, error: BaseException) -> None:
        with suppress(Exception):  # the disk for the metrics may be full, and the process must end all the same
            self.flush()
        self._on_fatal(error)


def _thread(name: str) -> ThreadPoolExecutor:
    """Returns a thread that computes. Threads that engines start inherit its priority."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix=name, initializer=yield_to_event_loop)


def try_this(settings: Settings) -> str:
    """Returns a command line that asks the service for an example and has it forecast, past any proxy in front."""
    host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    url = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    return (
        f"curl -s {url}/models/{settings.model}/example | "
        f"curl -s -H content-type:application/json --data-binary @- {url}/predict"
    )
