"""The running service: its models, their queues, the thread that computes, and its lifecycle."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import structlog

from app.batching import Batcher
from app.errors import ModelNotReady, StartupError
from app.golden import Array
from app.lifecycle import STARTUP_FAILURE, Lifecycle, Phase, exit_now
from app.metrics import BATCH_ROWS, ENGINE_SECONDS
from app.repository import LoadedVersion, Repository
from app.settings import Settings

log = structlog.get_logger()

MAX_CALL_ROWS = 256
"""Most windows of several requests in one call of the engine; more gains nothing and lets the first ones wait."""


class Service:
    """Everything that lives as long as the process does."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lifecycle = Lifecycle(settings.drain_seconds)
        self.repository = Repository(settings)
        self._batchers: dict[str, Batcher] = {}
        # One thread: TensorFlow is not promised to be safe in several, and more would only fight for the cores.
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self._loading: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts loading the models; probes are answered meanwhile."""
        self.lifecycle.catch_signals()
        self._loading = asyncio.get_running_loop().create_task(self._load())

    async def wait_until_ready(self) -> None:
        """Returns when the models are loaded."""
        if self._loading is not None:
            await self._loading

    async def _load(self) -> None:
        started = time.monotonic()
        try:
            await asyncio.get_running_loop().run_in_executor(self._executor, self.repository.load)
        except StartupError as error:
            log.critical("cannot start", reason=str(error))
            exit_now(STARTUP_FAILURE)
        except Exception:
            log.critical("cannot start", exc_info=True)
            exit_now(STARTUP_FAILURE)
        self._batchers = {loaded.name: self._batcher(loaded) for loaded in self.repository.all()}
        self.lifecycle.become_ready()
        log.info("ready", seconds=round(time.monotonic() - started, 2), try_this=try_this(self.settings))

    def _batcher(self, loaded: LoadedVersion) -> Batcher:
        return Batcher(
            loaded.engine.predict,
            self._executor,
            max_call_rows=min(MAX_CALL_ROWS, self.settings.max_batch_rows),
            max_queue_rows=self.settings.max_queue_rows,
            timeout_seconds=self.settings.request_timeout_seconds,
            on_batch=partial(_count_batch, loaded.name),
        )

    def resolve(self, name: str | None, version: int | None) -> LoadedVersion:
        """The version that answers for a model; see `Repository.get`.

        Raises:
            ModelNotReady: The models are still being loaded.
            NotFound: No such model or version serves.
        """
        if self.lifecycle.phase is Phase.LOADING:
            raise ModelNotReady("the models are being loaded")
        return self.repository.get(name, version)

    async def forecast(self, loaded: LoadedVersion, windows: Array) -> Array:
        """Forecasts windows (batch, steps, features) -> (batch, horizon, targets), in company of other requests'.

        Raises:
            ServiceError: As `Batcher.submit`.
        """
        return await self._batchers[loaded.name].submit(windows)

    def stop(self) -> None:
        """Lets go of the engine's thread."""
        if self._loading is not None:
            self._loading.cancel()
        self._executor.shutdown(wait=False, cancel_futures=True)


def _count_batch(model: str, rows: int, seconds: float) -> None:
    BATCH_ROWS.labels(model).observe(rows)
    ENGINE_SECONDS.labels(model).observe(seconds)


def try_this(settings: Settings) -> str:
    """A command line that asks the service itself, not a proxy in front, for an example and has it forecast."""
    host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    url = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    return (
        f"curl -s {url}/models/{settings.model}/example | "
        f"curl -s -H content-type:application/json --data-binary @- {url}/predict"
    )
