"""Greedy batching: while the engine computes, requests queue; when it is free, it takes everything that waits.

A lone request never waits for company, and there is no timer and no polling. The queue is bounded in rows, and every
job has a deadline: one that passes it in the queue is never computed. A batch that fails is computed once more job by
job, so that one request cannot spoil its neighbours'.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import structlog

from app.errors import DeadlinePassed, PredictionFailed, QueueFull
from app.golden import Array

log = structlog.get_logger()

Predict = Callable[[Array], Array]


@dataclass(slots=True, eq=False)
class Job:
    """Windows of one request (rows, steps, features), and the future of their forecasts."""

    windows: Array
    deadline: float
    forecasts: asyncio.Future[Array]

    @property
    def rows(self) -> int:
        """Number of windows."""
        return len(self.windows)

    @property
    def is_wanted(self) -> bool:
        """Whether somebody still waits for the forecasts."""
        return not self.forecasts.done() and time.monotonic() < self.deadline


class Batcher:
    """Queues jobs and computes them together.

    Args:
        predict: Turns windows (batch, steps, features) into forecasts (batch, horizon, targets).
        executor: The thread that may call `predict`.
        max_call_rows: Most rows in one call of `predict`, unless a single job has more.
        max_queue_rows: Most rows that may wait.
        timeout_seconds: Longest time from `submit` to the forecasts.
        on_batch: Told the rows of every computed batch and the seconds it took.
    """

    def __init__(
        self,
        predict: Predict,
        executor: Executor,
        *,
        max_call_rows: int,
        max_queue_rows: int,
        timeout_seconds: float,
        on_batch: Callable[[int, float], None],
    ) -> None:
        self._predict = predict
        self._executor = executor
        self._max_call_rows = max_call_rows
        self._max_queue_rows = max_queue_rows
        self._timeout_seconds = timeout_seconds
        self._on_batch = on_batch
        self._queue: deque[Job] = deque()
        self._queued_rows = 0
        self._worker: asyncio.Task[None] | None = None

    @property
    def queued_rows(self) -> int:
        """Rows that wait, without those that are being computed."""
        return self._queued_rows

    async def submit(self, windows: Array) -> Array:
        """Waits for the forecasts of these windows.

        Args:
            windows: Shape (rows, steps, features), raw units.

        Returns:
            Shape (rows, horizon, targets), raw units; an array of the caller's own.

        Raises:
            QueueFull: Too many rows wait already.
            DeadlinePassed: The forecasts were not ready in time.
            PredictionFailed: The engine failed on these windows, or its forecasts are not finite.
        """
        if self._queued_rows and self._queued_rows + len(windows) > self._max_queue_rows:
            raise QueueFull(self._max_queue_rows)
        deadline = time.monotonic() + self._timeout_seconds
        job = Job(windows, deadline, asyncio.get_running_loop().create_future())
        self._enqueue(job)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await job.forecasts
        except TimeoutError:
            raise DeadlinePassed(self._timeout_seconds) from None

    def _enqueue(self, job: Job) -> None:
        self._queue.append(job)
        self._queued_rows += job.rows
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        """Computes batch after batch until nothing waits."""
        try:
            while batch := self._take_batch():
                await self._compute(batch)
        finally:
            self._worker = None

    def _take_batch(self) -> list[Job]:
        """Everything that waits and is still wanted, up to the cap; a single job may be larger than the cap."""
        batch: list[Job] = []
        rows = 0
        while self._queue and (not batch or rows + self._queue[0].rows <= self._max_call_rows):
            job = self._queue.popleft()
            self._queued_rows -= job.rows
            if job.is_wanted:
                batch.append(job)
                rows += job.rows
        return batch

    async def _compute(self, batch: list[Job]) -> None:
        try:
            await self._answer(batch)
        except Exception:
            if len(batch) == 1:
                log.exception("prediction failed", rows=batch[0].rows)
                _fail(batch[0])
                return
            log.warning("batch failed; trying each of its requests alone", requests=len(batch))
            for job in filter(lambda job: job.is_wanted, batch):
                await self._compute([job])

    async def _answer(self, batch: list[Job]) -> None:
        wanted, forecasts, seconds = await asyncio.get_running_loop().run_in_executor(
            self._executor, self._predict_wanted, batch
        )
        if not wanted:
            return
        rows = sum(job.rows for job in wanted)
        self._on_batch(rows, seconds)
        if len(forecasts) != rows:
            raise ValueError(f"the engine answered {rows} windows with {len(forecasts)} forecasts")
        start = 0
        for job in wanted:
            _resolve(job, forecasts[start : start + job.rows].copy())
            start += job.rows

    def _predict_wanted(self, batch: list[Job]) -> tuple[list[Job], Array, float]:
        """Runs in the executor, perhaps after a wait behind another model's batch, in which jobs may have expired."""
        wanted = [job for job in batch if job.is_wanted]
        if not wanted:
            return [], np.empty(0, np.float32), 0.0
        windows = wanted[0].windows if len(wanted) == 1 else np.concatenate([job.windows for job in wanted])
        started = time.perf_counter()
        forecasts = self._predict(windows)
        return wanted, forecasts, time.perf_counter() - started


def _resolve(job: Job, forecasts: Array) -> None:
    if not np.isfinite(forecasts).all():
        log.error("forecast is not finite", rows=job.rows)
        _fail(job)
    elif not job.forecasts.done():
        job.forecasts.set_result(forecasts)


def _fail(job: Job) -> None:
    if not job.forecasts.done():
        job.forecasts.set_exception(PredictionFailed())
