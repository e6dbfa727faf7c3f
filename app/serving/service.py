"""The running service: its models, their queues, the thread that computes, and its lifecycle."""

import asyncio
import gc
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import structlog

from app.arrays import Array
from app.engines.engine import Engine
from app.errors import ModelNotReady, StartupError
from app.process.lifecycle import STARTUP_FAILURE, Lifecycle, Phase, exit_now
from app.serving.batching import Batcher, Limits
from app.serving.loading import LoadedVersion
from app.serving.policies import Policy
from app.serving.repository import Repository, ServedVersion
from app.settings import Settings
from app.telemetry.journal import Journal, flush_all
from app.telemetry.metrics import QUEUES_SECONDS, count_batches, count_build, count_queues, watch_queue
from app.version.golden import probe_windows
from app.version.manifest import Contract

log = structlog.get_logger()

MAX_CALL_WINDOWS = 256
"""Most windows of several requests in one call of the engine; more gains nothing and lets the first ones wait."""

INLINE_SECONDS = 0.001
"""Longest call of an engine that may hold up the event loop; see docs/decisions/0006."""

SWITCH_SECONDS = 0.0005
"""How long the event loop may keep Python's lock when the engine's thread wants it, a tenth of the default. Under load
the loop never rests, and the engine needs the lock twice a call: it would wait for milliseconds each time."""

HOUSEKEEPING_SECONDS = QUEUES_SECONDS
"""How often to do what need not be done at once."""

TENSORFLOW = "tensorflow"

TIMING_ROUNDS = 3
"""Calls of which the quickest counts, so that a busy moment is not taken for a slow engine."""


class Service:
    """Everything that lives as long as the process does."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lifecycle = Lifecycle(settings.drain_seconds)
        self.repository = Repository(settings, self._make_batcher)
        self._batches = Journal(count_batches)
        # One thread: TensorFlow is not promised to be safe in several, and more would only fight for the cores.
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loader")
        self._loading: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts loading the models; probes are answered meanwhile."""
        self.lifecycle.catch_signals()
        sys.setswitchinterval(SWITCH_SECONDS)
        count_build()
        self._keeping = asyncio.get_running_loop().create_task(self._keep_house())
        self._loading = asyncio.get_running_loop().create_task(self._load())

    async def wait_until_ready(self) -> None:
        """Returns when the models are loaded."""
        if self._loading is not None:
            await self._loading

    async def _load(self) -> None:
        started = time.monotonic()
        try:
            await asyncio.get_running_loop().run_in_executor(self._loader, self.repository.load)
        except StartupError as error:
            log.critical("cannot start", reason=str(error))
            exit_now(STARTUP_FAILURE)
        except Exception:
            log.critical("cannot start", exc_info=True)
            exit_now(STARTUP_FAILURE)
        _collect_garbage()
        self.lifecycle.become_ready()
        log.info("ready", seconds=round(time.monotonic() - started, 2), try_this=try_this(self.settings))
        if self.settings.watch_seconds:
            self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self.settings.watch_seconds)
            try:
                await self.refresh()
            except Exception:
                log.exception("models not looked at")

    async def _keep_house(self) -> None:
        """Tells the other workers of this one's queues, and cleans up after versions that are gone."""
        while True:
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
            count_queues()
            self.repository.note_endings()
            if self.repository.has_garbage and TENSORFLOW in sys.modules:
                self.repository.has_garbage = False
                await asyncio.to_thread(_collect_garbage)

    async def refresh(self, *, at_once: bool = False) -> None:
        """Looks at policies and folders, and returns when all that is new is loaded; see `Repository.refresh`."""
        look = partial(self.repository.refresh, at_once=at_once)
        await asyncio.get_running_loop().run_in_executor(self._loader, look)

    async def change_policy(self, name: str, edit: Callable[[Policy], Policy]) -> None:
        """Changes a model's policy, and returns when it is followed as far as it can be; see `PolicyFile.change`.

        A version that takes longer to load than a request may take is not waited for.

        Raises:
            ArtifactError: It cannot be written; nothing has changed.
        """
        await asyncio.to_thread(self.repository.policies.change, name, edit)
        await self.look_now()

    async def look_now(self) -> None:
        """Follows policies and folders at once, and waits for that as long as a request may take."""
        looking = asyncio.ensure_future(self.refresh(at_once=True))
        await asyncio.wait([looking], timeout=self.settings.request_timeout_seconds)

    def _make_batcher(self, loaded: LoadedVersion) -> Batcher:
        settings = self.settings
        limits = Limits(
            call_windows=min(MAX_CALL_WINDOWS, settings.max_batch_windows),
            inline_windows=_inline_windows(loaded.engine, loaded.contract),
            queue_windows=settings.max_queue_windows,
            seconds=settings.request_timeout_seconds,
        )
        name, version, batches = loaded.name, loaded.version, self._batches
        batcher = Batcher(
            loaded.engine.predict,
            self._executor,
            limits,
            on_batch=lambda batch: batches.add((name, version, batch)),
            on_failure=_stop_process,
        )
        watch_queue(name, version, batcher)
        return batcher

    def check_ready(self) -> None:
        """Refuses a request for a model as long as none is there.

        Raises:
            ModelNotReady: The models are still being loaded.
        """
        if self.lifecycle.phase is Phase.LOADING:
            raise ModelNotReady("the models are being loaded")

    def resolve(self, name: str | None, version: int | None, label: str | None = None) -> ServedVersion:
        """The version that answers for a model; see `Repository.get`.

        Raises:
            ModelNotReady: The models are still being loaded.
            NotFound: No such model, version or label serves.
        """
        self.check_ready()
        return self.repository.get(name, version, label)

    def stop(self) -> None:
        """Lets go of the threads, and writes down what happened last."""
        for task in (self._loading, self._watching, self._keeping):
            if task is not None:
                task.cancel()
        self._loader.shutdown(wait=False, cancel_futures=True)
        self._executor.shutdown(wait=False, cancel_futures=True)
        flush_all()


def _collect_garbage() -> None:
    """Gives back the memory of versions that are gone, and sets aside what stays.

    Models of TensorFlow go in circles that only the collector finds. It stops everything meanwhile, so what is there
    after it need not be looked at again by the collections that come by themselves.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _inline_windows(engine: Engine, contract: Contract) -> int:
    """The most windows, a power of two, that the engine computes within `INLINE_SECONDS`; 0 if there are none."""
    if not engine.is_steady:
        return 0
    count = 1
    while count <= MAX_CALL_WINDOWS and _call_seconds(engine, probe_windows(contract, count)) <= INLINE_SECONDS:
        count *= 2
    return count // 2


def _call_seconds(engine: Engine, windows: Array) -> float:
    seconds = []
    for _ in range(TIMING_ROUNDS):
        started = time.thread_time()  # a busy service keeps this thread waiting, which is not the engine's fault
        engine.predict(windows)
        seconds.append(time.thread_time() - started)
    return min(seconds)


def _stop_process(error: BaseException) -> None:
    """Without its batching a model would only collect requests; a process manager can start afresh."""
    log.critical("batching ended", exc_info=error)
    exit_now(STARTUP_FAILURE)


def try_this(settings: Settings) -> str:
    """A command line that asks the service itself, not a proxy in front, for an example and has it forecast."""
    host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    url = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    return (
        f"curl -s {url}/models/{settings.model}/example | "
        f"curl -s -H content-type:application/json --data-binary @- {url}/predict"
    )
