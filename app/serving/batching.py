"""Greedy batching: requests queue while the engine computes, and a free engine takes everything that waits.

A lone request never waits for company: there is no delay and no polling. Requests of one turn of the event loop share
a call. A short call runs on the event loop itself, because the way to a thread and back would cost more than it frees.
A long call runs in the engine's thread, so that the loop goes on.

The queue is bounded in windows and in time, and every job has a deadline. A job that passes its deadline in the queue,
or whose caller left, is never computed. A batch that fails is computed once more in halves; see `app.serving.recovery`.

Nothing refers to a batcher without jobs, so the last reference to a batcher, perhaps a request's, frees its engine.
"""

import asyncio
import math
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass

from app.arrays import Array, Inputs, concatenate
from app.errors import DeadlinePassed, QueueFull
from app.exchange import Stages
from app.serving.jobs import NO_INPUTS, Computed, Job, share_out
from app.serving.pace import TYPICAL_CALL_WINDOWS, Throughput
from app.serving.recovery import compute_again
from app.telemetry.logs import get_logger
from app.telemetry.metrics import Batch

log = get_logger()

Predict = Callable[[Inputs], Array]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a batcher may do.

    Attributes:
        call_windows: Most windows in one call of the engine, unless a single job has more.
        inline_windows: Most windows that are computed on the event loop.
        queue_windows: Most windows that may wait.
        queue_seconds: Longest time that windows should wait.
        windows_per_second: What the engine computes a second, for all that is known before anybody asks.
        seconds: Longest time from `submit` to the forecasts.
    """

    call_windows: int
    inline_windows: int
    queue_windows: int
    queue_seconds: float
    windows_per_second: float
    seconds: float


class Batcher:
    """Queues jobs and computes them together, on the event loop that submits the first job.

    Args:
        predict: Turns inputs into forecasts (batch, horizon, targets).
        executor: The thread that computes long calls.
        limits: Of windows and time.
        crowd: Holds the batcher from a request for which its queue has no room to the end of a call that made room.
        on_batch: Told of every batch that was computed.
        on_failure: Called where the batcher itself fails. Its jobs would stay without an answer.
    """

    def __init__(
        self,
        predict: Predict,
        executor: Executor,
        limits: Limits,
        crowd: "set[Batcher]",
        on_batch: Callable[[Batch], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._predict = predict
        self._executor = executor
        self._limits = limits
        self._throughput = Throughput(limits.windows_per_second)
        self._crowd = crowd
        self._room = self._room_for(limits.queue_seconds)
        self._least_room = min(TYPICAL_CALL_WINDOWS, limits.call_windows, self._room)
        self._on_batch = on_batch
        self._on_failure = on_failure
        self._lock = threading.Lock()
        """Guards the queue, its size, and whether somebody works: the engine's thread takes its batches itself."""
        self._queue: deque[Job] = deque()
        self._queued_windows = 0
        self._expected_windows = 0
        """Windows of requests whose heads were read in this turn of the event loop: one each, for all that is known."""
        self._last_end = -math.inf
        self._unanswered: deque[tuple[float, asyncio.Future[Array]]] = deque()
        self._alarm: asyncio.TimerHandle | None = None
        self._is_working = False
        """Whether a call is under way, or about to begin."""
        self._task: asyncio.Task[None] | None = None

    @property
    def queued_windows(self) -> int:
        """How many windows wait. Windows that are being computed do not wait."""
        return self._queued_windows

    def admit(self) -> bool:
        """Tells whether the queue has room for a request of which only the head is here, and counts on the request.

        In one turn of the event loop the heads of many requests may be read before the first of them is in the queue.
        """
        waiting = self._queued_windows + self._expected_windows
        if waiting >= self._room:
            self._crowd.add(self)
            return False
        if not self._expected_windows:
            asyncio.get_running_loop().call_soon(self._expect_nobody)
        self._expected_windows += 1
        return True

    def _expect_nobody(self) -> None:
        self._expected_windows = 0
        if not self._queue:  # no call will take it out, and the crowd would keep a version that has ended in memory
            self._crowd.discard(self)

    def check_room(self, count: int = 1) -> None:
        """Checks that the queue has room for that many windows, before anything is done for them.

        Raises:
            QueueFull: The queue has no room.
        """
        if self._queued_windows and self._queued_windows + count > self._room:
            self._crowd.add(self)
            raise QueueFull

    def _room_for(self, seconds: float) -> int:
        """Returns how many windows may wait, at least 1, if the last of them shall wait no longer than that."""
        return max(1, min(self._limits.queue_windows, round(self._throughput.windows_per_second * seconds)))

    async def submit(self, inputs: Inputs, *, allow_nan: bool = False, stages: Stages | None = None) -> Array:
        """Waits for the forecasts of these inputs.

        Args:
            inputs: What the version takes, in raw units.
            allow_nan: Whether forecasts may be given that are not finite.
            stages: Takes the times of the stages `queue` and `compute`.

        Returns:
            Shape (batch, horizon, targets), raw units. Read only: other requests share the memory.

        Raises:
            QueueFull: Too many windows wait.
            DeadlinePassed: The forecasts were not ready in time.
            PredictionFailed: The engine failed on these inputs, or its forecasts are not finite.
        """
        self.check_room(len(inputs))
        loop = asyncio.get_running_loop()
        job = Job(inputs, loop.time() + self._limits.seconds, loop.create_future(), stages, allow_nan=allow_nan)
        self._enqueue(job, loop)
        self._watch(job)
        try:
            return await job.forecasts
        finally:
            if job.is_queued:  # the caller left, or the deadline passed
                self._leave_queue(job)
            self._forget_answered()
            del job  # the traceback of an error would keep the job, and the job would keep the error

    def _enqueue(self, job: Job, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            self._queue.append(job)
            self._queued_windows += job.size
            is_working, self._is_working = self._is_working, True
        if not is_working:
            loop.call_soon(self._work)

    def _leave_queue(self, job: Job) -> None:
        """Counts out a job that nobody wants any more, unless a call has taken it meanwhile."""
        with self._lock:
            if job.is_queued:
                self._count_out(job)
                job.inputs = NO_INPUTS

    def _count_out(self, job: Job) -> None:
        """Notes that a job does not wait any more; must be called with the lock held."""
        job.is_queued = False
        self._queued_windows -= job.size

    def _work(self) -> None:
        """Makes one call of the engine for what waits, or has the engine's thread make it."""
        loop = asyncio.get_running_loop()
        try:
            if self._is_next_call_long():
                self._executor.submit(self._work_elsewhere, loop)
            else:
                self._work_here(loop)
        except Exception as error:  # noqa: BLE001 (whatever it is, somebody has to know)
            self._on_failure(error)

    def _work_here(self, loop: asyncio.AbstractEventLoop) -> None:
        """Makes a call on the event loop. Answers leave and requests come in before the next call."""
        batch = self._take_batch(loop.time())
        try:
            computed = self._predict_wanted(batch)
        except Exception as error:  # noqa: BLE001 (told there)
            self._recover(batch, error)
            return
        self._finish(computed)
        self._go_on(loop)

    def _go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Works on in another turn of the event loop if jobs wait."""
        if self._stays_at_work():
            loop.call_soon(self._work)

    def _work_elsewhere(self, loop: asyncio.AbstractEventLoop) -> None:
        """Makes a call in the engine's thread, and the next one as soon as other models have had their turn.

        The event loop may be busy for as long as a call takes. An engine that waited for it would stand still.
        """
        try:
            batch = self._take_batch(loop.time())
            try:
                computed = self._predict_wanted(batch)
            except Exception as error:  # noqa: BLE001 (told there)
                loop.call_soon_threadsafe(self._recover, batch, error)
                return
            loop.call_soon_threadsafe(self._finish, computed)
            if not self._stays_at_work():
                return
            if self._is_next_call_long():
                self._executor.submit(self._work_elsewhere, loop)
            else:
                loop.call_soon_threadsafe(self._work)
        except Exception as error:  # noqa: BLE001 (whatever it is, somebody has to know)
            with suppress(RuntimeError):  # the loop is closed, so nobody waits
                loop.call_soon_threadsafe(self._on_failure, error)

    def _is_next_call_long(self) -> bool:
        """Whether the next call would hold up the event loop for too long."""
        with self._lock:
            largest = max(self._limits.call_windows, self._queue[0].size if self._queue else 0)
            return min(self._queued_windows, largest) > self._limits.inline_windows

    def _stays_at_work(self) -> bool:
        """Whether jobs wait. If none does, the next job begins a call."""
        with self._lock:
            self._is_working = bool(self._queue)
            return self._is_working

    def _take_batch(self, now: float) -> list[Job]:
        """Takes the jobs that wait and are still wanted, up to the cap. A single job may be larger than the cap.

        Args:
            now: The time on the clock of the event loop. After a busy turn of the loop the alarm may still be due.
        """
        batch: list[Job] = []
        count = 0
        with self._lock:
            while self._queue and (not batch or count + self._queue[0].size <= self._limits.call_windows):
                job = self._queue.popleft()
                if job.is_queued:
                    self._count_out(job)
                if now < job.deadline and job.is_wanted:
                    batch.append(job)
                    count += job.size
        return batch

    def _recover(self, batch: list[Job], error: Exception) -> None:
        """Begins to compute a batch that failed once more; goes on afterwards."""
        self._task = asyncio.get_running_loop().create_task(self._compute_again(batch, error))
        self._task.add_done_callback(self._end_task)

    def _end_task(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            self._on_failure(error)
        else:
            self._go_on(asyncio.get_running_loop())

    async def _compute_again(self, batch: list[Job], error: Exception) -> None:
        loop = asyncio.get_running_loop()
        await compute_again(batch, error, lambda inputs: loop.run_in_executor(self._executor, self._predict, inputs))
        self._leave_crowd()

    def _finish(self, computed: Computed | None) -> None:
        """Hands out what a call has computed."""
        self._leave_crowd()
        if computed is not None:
            self._note_pace(computed)
            self._on_batch(computed.facts)
            share_out(computed)

    def _leave_crowd(self) -> None:
        """Leaves the crowd, unless the queue is full and another call will follow."""
        if self._queued_windows < self._room:
            self._crowd.discard(self)

    def _note_pace(self, computed: Computed) -> None:
        """Fits the room in the queue to the engine's pace.

        The pace shows where windows waited all the time, and a call had many of them: small calls are slow. The room
        never becomes so small that all calls would be.
        """
        count = len(computed.forecasts)
        if computed.jobs[0].submitted < self._last_end and 2 * count >= self._least_room:
            self._throughput.note(count, computed.ended - self._last_end)
            self._room = max(self._least_room, self._room_for(self._limits.queue_seconds))
        self._last_end = computed.ended

    def _predict_wanted(self, batch: list[Job]) -> Computed | None:
        """Computes the jobs that are still wanted: callers may have left while the engine's thread was busy."""
        wanted = [job for job in batch if job.is_wanted]
        if not wanted:
            return None
        inputs = wanted[0].inputs if len(wanted) == 1 else concatenate([job.inputs for job in wanted])
        started = time.perf_counter()
        forecasts = self._predict(inputs)
        return Computed(wanted, forecasts, started, time.perf_counter())

    def _watch(self, job: Job) -> None:
        """Makes the job fail at its deadline. All jobs may wait equally long, so they expire in their order."""
        self._unanswered.append((job.deadline, job.forecasts))
        if self._alarm is None:
            self._set_alarm()

    def _forget_answered(self) -> None:
        """Drops the futures that are done: their forecasts would stay in memory until the alarm."""
        while self._unanswered and self._unanswered[0][1].done():
            self._unanswered.popleft()

    def _set_alarm(self) -> None:
        loop = asyncio.get_running_loop()
        self._alarm = loop.call_at(self._unanswered[0][0], _expire, weakref.ref(self))

    def expire(self) -> None:
        """Fails the jobs whose deadline has passed."""
        now = asyncio.get_running_loop().time()
        self._alarm = None
        while self._unanswered and self._unanswered[0][0] <= now:
            _, forecasts = self._unanswered.popleft()
            if not forecasts.done():
                forecasts.set_exception(DeadlinePassed(self._limits.seconds))
        self._forget_answered()
        if self._unanswered:
            self._set_alarm()


def _expire(batcher: weakref.ref[Batcher]) -> None:
    """Expires a batcher's jobs. A batcher that is gone had none."""
    if (alive := batcher()) is not None:
        alive.expire()
