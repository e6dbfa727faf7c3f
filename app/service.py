"""The running service: its models, their queues, the thread that computes, and its lifecycle."""

import asyncio
import gc
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import structlog

from app.batching import Batcher, Limits
from app.engines import Engine
from app.errors import ModelNotReady, StartupError
from app.golden import Array, probe_windows
from app.journal import Journal, flush_all
from app.lifecycle import STARTUP_FAILURE, Lifecycle, Phase, exit_now
from app.manifest import Contract
from app.metrics import count_batches
from app.repository import LoadedVersion, Repository
from app.settings import Settings

log = structlog.get_logger()

MAX_CALL_ROWS = 256
"""Most windows of several requests in one call of the engine; more gains nothing and lets the first ones wait."""

INLINE_SECONDS = 0.001
"""Longest call of an engine that may hold up the event loop; see docs/decisions/0006."""

SWITCH_SECONDS = 0.0005
"""How long the event loop may keep Python's lock when the engine's thread wants it, a tenth of the default. Under load
the loop never rests, and the engine needs the lock twice a call: it would wait for milliseconds each time."""

TIMING_ROUNDS = 3
"""Calls of which the quickest counts, so that a busy moment is not taken for a slow engine."""


class Service:
    """Everything that lives as long as the process does."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lifecycle = Lifecycle(settings.drain_seconds)
        self.repository = Repository(settings)
        self._batchers: dict[str, Batcher] = {}
        self._batching: list[asyncio.Task[None]] = []
        self._batches = Journal(count_batches)
        # One thread: TensorFlow is not promised to be safe in several, and more would only fight for the cores.
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self._loading: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts loading the models; probes are answered meanwhile."""
        self.lifecycle.catch_signals()
        sys.setswitchinterval(SWITCH_SECONDS)
        self._loading = asyncio.get_running_loop().create_task(self._load())

    async def wait_until_ready(self) -> None:
        """Returns when the models are loaded."""
        if self._loading is not None:
            await self._loading

    async def _load(self) -> None:
        started = time.monotonic()
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._executor, self.repository.load)
            for loaded in self.repository.all():
                rows = await loop.run_in_executor(self._executor, _inline_rows, loaded.engine, loaded.contract)
                self._start_batching(loaded, rows)
        except StartupError as error:
            log.critical("cannot start", reason=str(error))
            exit_now(STARTUP_FAILURE)
        except Exception:
            log.critical("cannot start", exc_info=True)
            exit_now(STARTUP_FAILURE)
        # What is there by now stays: the collector need not look at it again, which would stop everything for a while.
        gc.collect()
        gc.freeze()
        self.lifecycle.become_ready()
        log.info("ready", seconds=round(time.monotonic() - started, 2), try_this=try_this(self.settings))

    def _start_batching(self, loaded: LoadedVersion, inline_rows: int) -> None:
        settings = self.settings
        limits = Limits(
            call_rows=min(MAX_CALL_ROWS, settings.max_batch_rows),
            inline_rows=inline_rows,
            queue_rows=settings.max_queue_rows,
            seconds=settings.request_timeout_seconds,
        )
        name = loaded.name
        batcher = Batcher(
            loaded.engine.predict,
            self._executor,
            limits,
            on_batch=lambda rows, seconds: self._batches.add((name, rows, seconds)),
        )
        self._batchers[name] = batcher
        task = asyncio.get_running_loop().create_task(batcher.run(), name=f"batching {name}")
        task.add_done_callback(_stop_process)
        self._batching.append(task)

    def resolve(self, name: str | None, version: int | None) -> LoadedVersion:
        """The version that answers for a model; see `Repository.get`.

        Raises:
            ModelNotReady: The models are still being loaded.
            NotFound: No such model or version serves.
        """
        if self.lifecycle.phase is Phase.LOADING:
            raise ModelNotReady("the models are being loaded")
        return self.repository.get(name, version)

    def refuse_if_full(self, loaded: LoadedVersion) -> None:
        """Refuses a request for a version before its body is even read.

        Raises:
            QueueFull: Too many rows wait already.
        """
        self._batchers[loaded.name].refuse_if_full()

    async def forecast(self, loaded: LoadedVersion, windows: Array) -> Array:
        """Forecasts windows (batch, steps, features) -> (batch, horizon, targets), in company of other requests'.

        Raises:
            ServiceError: As `Batcher.submit`.
        """
        return await self._batchers[loaded.name].submit(windows)

    def stop(self) -> None:
        """Lets go of the engine's thread, and writes down what happened last."""
        if self._loading is not None:
            self._loading.cancel()
        for task in self._batching:
            task.remove_done_callback(_stop_process)
            task.cancel()
        self._executor.shutdown(wait=False, cancel_futures=True)
        flush_all()


def _inline_rows(engine: Engine, contract: Contract) -> int:
    """The most rows, as a power of two, that the engine computes within `INLINE_SECONDS`; 0 if that is not certain."""
    if not engine.is_steady:
        return 0
    rows = 1
    while rows <= MAX_CALL_ROWS and _call_seconds(engine, probe_windows(contract, rows)) <= INLINE_SECONDS:
        rows *= 2
    return rows // 2


def _call_seconds(engine: Engine, windows: Array) -> float:
    seconds = []
    for _ in range(TIMING_ROUNDS):
        started = time.perf_counter()
        engine.predict(windows)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _stop_process(task: asyncio.Task[None]) -> None:
    """Without its batching a model would only collect requests; a process manager can start afresh."""
    log.critical("batching ended", task=task.get_name(), exc_info=None if task.cancelled() else task.exception())
    exit_now(STARTUP_FAILURE)


def try_this(settings: Settings) -> str:
    """A command line that asks the service itself, not a proxy in front, for an example and has it forecast."""
    host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    url = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    return (
        f"curl -s {url}/models/{settings.model}/example | "
        f"curl -s -H content-type:application/json --data-binary @- {url}/predict"
    )
