"""Many requests, few calls of the engine: on a real event loop, with an engine that computes when told to."""

import asyncio
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from app.arrays import Array, Inputs
from app.errors import DeadlinePassed, PredictionFailed, QueueFull
from app.serving import batching, jobs
from app.serving.batching import Batcher, Limits
from app.telemetry.metrics import Batch
from tests.logs import captured_logs
from tests.loops import LIMIT_SECONDS, HeldLoop, run_in_held_loop
from tests.waiting import PATIENCE_SECONDS

POISON = 666.0

FAILURES: list[BaseException] = []
"""How batchers themselves have failed."""


class GatedEngine:
    """Adds one to every number; computes only while its gate is open; fails on windows with `POISON`."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        """Rows of every call so far."""
        self.gate = threading.Event()
        self.gate.set()

    def predict(self, inputs: Inputs) -> Array:
        self.calls.append(len(inputs))
        assert self.gate.wait(PATIENCE_SECONDS)
        if (inputs.windows == POISON).any():
            raise RuntimeError("poisoned")
        return inputs.windows + 1


def batcher_of(
    predict: Callable[[Inputs], Array],
    *,
    max_call_windows: int = 256,
    max_inline_windows: int = 0,
    max_queue_windows: int = 100,
    max_queue_seconds: float = 1,
    windows_per_second: float = 1e6,
    timeout_seconds: float = LIMIT_SECONDS,
    on_batch: Callable[[Batch], None] = lambda _: None,
    executor: ThreadPoolExecutor | None = None,
    crowd: set[Batcher] | None = None,
) -> Batcher:
    """A batcher whose own failure is among the `FAILURES`."""
    limits = Limits(
        call_windows=max_call_windows,
        inline_windows=max_inline_windows,
        queue_windows=max_queue_windows,
        queue_seconds=max_queue_seconds,
        windows_per_second=windows_per_second,
        seconds=timeout_seconds,
    )

    threads = executor or ThreadPoolExecutor(max_workers=1)
    return Batcher(predict, threads, limits, set() if crowd is None else crowd, on_batch, FAILURES.append)


def windows_of(*rows: float) -> Inputs:
    """One window of one step and one feature per number."""
    return Inputs(np.array(rows, np.float32).reshape(-1, 1, 1))


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        await asyncio.sleep(0.001)


async def submitted(batcher: Batcher, *inputs: Inputs) -> list[asyncio.Task[Array]]:
    """Requests that have reached the queue, in order."""
    tasks = [asyncio.create_task(batcher.submit(each)) for each in inputs]
    await asyncio.sleep(0)
    return tasks


async def held_in_a_call(engine: GatedEngine, batcher: Batcher, *rows: float) -> list[asyncio.Task[Array]]:
    """A request whose windows the engine computes, as long as its gate is closed. The next requests have to wait."""
    engine.gate.clear()
    tasks = await submitted(batcher, windows_of(*rows))
    await until(lambda: engine.calls == [len(rows)])
    return tasks


async def outcome(request: Awaitable[Array]) -> list[float] | type[BaseException]:
    """The forecasts as a flat list, or what was raised instead."""
    task = asyncio.ensure_future(request)
    await until(task.done)
    try:
        return [float(number) for number in task.result().ravel()]
    except Exception as error:  # noqa: BLE001 (any of them is an outcome)
        return type(error)


def in_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Runs a test in an event loop of its own, whose clock it can `skip`."""

    def run() -> None:
        FAILURES.clear()
        run_in_held_loop(lambda _: test())
        assert not FAILURES

    run.__name__ = test.__name__
    return run


async def skip(seconds: float) -> None:
    """Lets time pass on the clock of the running loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, HeldLoop)
    await loop.skip(seconds)


@in_loop
async def test_a_lone_request_is_computed_at_once() -> None:
    engine = GatedEngine()
    assert await outcome(batcher_of(engine.predict).submit(windows_of(1, 2))) == [2, 3]
    assert engine.calls == [2]


@in_loop
async def test_requests_that_come_during_a_call_share_the_next_one() -> None:
    engine = GatedEngine()
    batcher = batcher_of(engine.predict)
    first = await held_in_a_call(engine, batcher, 1)
    others = await submitted(batcher, windows_of(10, 20), windows_of(30), windows_of(40, 50, 60))
    assert batcher.queued_windows == 6
    engine.gate.set()
    assert [await outcome(task) for task in first + others] == [[2], [11, 21], [31], [41, 51, 61]]
    assert engine.calls == [1, 6]
    assert batcher.queued_windows == 0


@in_loop
async def test_a_call_takes_no_more_rows_than_its_cap_unless_one_request_has_more() -> None:
    engine = GatedEngine()
    batcher = batcher_of(engine.predict, max_call_windows=4)
    tasks = await held_in_a_call(engine, batcher, 0)
    tasks += await submitted(batcher, windows_of(1, 2), windows_of(3, 4), windows_of(5), windows_of(*range(9)))
    engine.gate.set()
    await asyncio.gather(*tasks)
    assert engine.calls == [1, 4, 1, 9]


@in_loop
async def test_a_full_queue_refuses_at_once() -> None:
    engine = GatedEngine()
    batcher = batcher_of(engine.predict, max_queue_windows=4)
    tasks = await held_in_a_call(engine, batcher, 0)
    tasks += await submitted(batcher, windows_of(1, 2, 3))
    with pytest.raises(QueueFull) as caught:
        await batcher.submit(windows_of(4, 5))
    assert caught.value.headers["Retry-After"] in {"1", "2", "3"}
    tasks += await submitted(batcher, windows_of(4))
    engine.gate.set()
    assert [await outcome(task) for task in tasks] == [[1], [2, 3, 4], [5]]


@in_loop
async def test_an_empty_queue_takes_a_request_of_any_size() -> None:
    batcher = batcher_of(GatedEngine().predict, max_queue_windows=1)
    assert len(await batcher.submit(windows_of(*range(50)))) == 50


@in_loop
async def test_a_queue_holds_what_can_be_computed_in_time() -> None:
    engine = GatedEngine()
    batcher = batcher_of(engine.predict, max_queue_windows=1000, windows_per_second=10, max_queue_seconds=0.5)
    tasks = await held_in_a_call(engine, batcher, 0)
    tasks += await submitted(batcher, windows_of(1, 2, 3, 4, 5))
    assert await outcome(batcher.submit(windows_of(6))) is QueueFull
    engine.gate.set()
    await asyncio.gather(*tasks)


@pytest.mark.parametrize(
    ("seconds_per_window", "room"),
    [
        (0.001, 1000),  # as many as the engine computes in the second that windows may wait
        (0.002, 500),
        (1, 8),  # a call's worth, although even these will wait for longer
    ],
)
def test_the_room_in_a_queue_follows_the_pace_of_its_engine(
    seconds_per_window: float, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    for module in (batching, jobs):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now))
    engine = GatedEngine()

    def predict(inputs: Inputs) -> Array:
        nonlocal now
        forecasts = engine.predict(inputs)
        now += seconds_per_window * len(inputs)
        return forecasts

    async def follow() -> None:
        batcher = batcher_of(predict, max_call_windows=8, max_queue_windows=10**6, windows_per_second=100)
        for _ in range(round(5 / seconds_per_window / 8) + 1):
            engine.calls.clear()
            tasks = await held_in_a_call(engine, batcher, *range(8))
            tasks += await submitted(batcher, windows_of(*range(8)))  # waits until the first call ends
            engine.gate.set()
            await asyncio.gather(*tasks)
        accepted = 0
        while batcher.admit():
            accepted += 1
        assert accepted == pytest.approx(room, rel=0.02)

    in_loop(follow)()


@in_loop
async def test_requests_whose_heads_come_in_one_turn_cannot_overfill_the_queue() -> None:
    engine, crowd = GatedEngine(), set[Batcher]()
    batcher = batcher_of(engine.predict, max_queue_windows=4, crowd=crowd)
    assert [batcher.admit() for _ in range(6)] == [True] * 4 + [False] * 2
    assert crowd == {batcher}
    await asyncio.sleep(0)
    assert not crowd, "none of them came, and nothing would take an idle batcher out"
    assert batcher.admit()


@in_loop
async def test_a_full_queue_is_in_the_crowd_until_its_next_call() -> None:
    engine, crowd = GatedEngine(), set[Batcher]()
    batcher = batcher_of(engine.predict, max_queue_windows=2, crowd=crowd)
    tasks = await held_in_a_call(engine, batcher, 1)
    tasks += await submitted(batcher, windows_of(2), windows_of(3))
    assert not batcher.admit()
    await asyncio.sleep(0)
    assert crowd == {batcher}
    engine.gate.set()
    await asyncio.gather(*tasks)
    assert not crowd


@in_loop
async def test_a_full_queue_whose_call_fails_leaves_the_crowd_too() -> None:
    engine, crowd = GatedEngine(), set[Batcher]()
    batcher = batcher_of(engine.predict, max_queue_windows=2, crowd=crowd)
    tasks = await submitted(batcher, windows_of(POISON), windows_of(3))
    assert not batcher.admit()
    assert [await outcome(task) for task in tasks] == [PredictionFailed, [4]]
    await until(lambda: not crowd)


@in_loop
async def test_a_request_that_expires_in_the_queue_is_never_computed() -> None:
    engine = GatedEngine()
    batcher = batcher_of(engine.predict)
    tasks = await held_in_a_call(engine, batcher, 1)
    tasks += await submitted(batcher, windows_of(2), windows_of(3))
    await skip(LIMIT_SECONDS)
    assert [await outcome(task) for task in tasks] == [DeadlinePassed] * 3
    engine.gate.set()
    assert await outcome(batcher.submit(windows_of(4, 5))) == [5, 6]
    assert engine.calls == [1, 2]


def test_a_request_that_expires_while_the_loop_is_busy_is_never_computed() -> None:
    async def ask(loop: HeldLoop) -> None:
        [task] = await submitted(batcher_of(engine.predict), windows_of(1))
        loop.jump(LIMIT_SECONDS)
        assert await outcome(task) is DeadlinePassed

    engine = GatedEngine()
    run_in_held_loop(ask)
    assert engine.calls == []


@in_loop
async def test_a_request_that_expires_behind_another_models_call_is_never_computed() -> None:
    engine = GatedEngine()
    batches: list[Batch] = []
    with ThreadPoolExecutor(max_workers=1) as executor:
        batcher = batcher_of(engine.predict, executor=executor, on_batch=batches.append)
        other_call = threading.Event()
        executor.submit(other_call.wait, PATIENCE_SECONDS)
        [expiring] = await submitted(batcher, windows_of(1))
        await skip(LIMIT_SECONDS)
        assert await outcome(expiring) is DeadlinePassed
        other_call.set()
        assert_array_equal(
            await batcher_of(engine.predict, executor=executor).submit(windows_of(2)), windows_of(3).windows
        )
        assert (engine.calls, batches) == ([1], [])


@in_loop
async def test_the_time_behind_another_models_call_counts_as_a_wait() -> None:
    batches: list[Batch] = []
    with ThreadPoolExecutor(max_workers=1) as executor:
        batcher = batcher_of(GatedEngine().predict, executor=executor, on_batch=batches.append)
        other_call = threading.Event()
        executor.submit(other_call.wait, PATIENCE_SECONDS)
        [task] = await submitted(batcher, windows_of(4))
        await asyncio.sleep(0.05)
        released = time.perf_counter()
        other_call.set()
        await task
        answered = time.perf_counter()
    [batch] = batches
    assert batch.windows == 1
    assert batch.seconds < answered - released
    assert batch.waits[0] >= 0.05


@in_loop
async def test_a_request_that_is_given_up_in_the_queue_is_never_computed() -> None:
    engine = GatedEngine()
    batcher = batcher_of(engine.predict)
    [first] = await held_in_a_call(engine, batcher, 1)
    given_up, last = await submitted(batcher, windows_of(2, 3), windows_of(4))
    given_up.cancel()
    await asyncio.sleep(0)
    engine.gate.set()
    assert [await outcome(first), await outcome(last)] == [[2], [5]]
    assert engine.calls == [1, 1]


@in_loop
async def test_one_failing_request_does_not_harm_its_neighbours() -> None:
    engine = GatedEngine()
    batcher = batcher_of(engine.predict)
    tasks = await held_in_a_call(engine, batcher, 1)
    tasks += await submitted(batcher, windows_of(2), windows_of(POISON, 3), windows_of(4))
    engine.gate.set()
    with captured_logs() as lines:
        assert [await outcome(task) for task in tasks] == [[2], [3], PredictionFailed, [5]]
    assert [(line["event"], line.get("windows")) for line in lines if line["level"] == "error"] == [
        ("prediction failed", 2)
    ]
    assert await outcome(batcher.submit(windows_of(6))) == [7]


@in_loop
async def test_a_forecast_that_is_not_finite_fails_its_own_request_only() -> None:
    engine = GatedEngine()

    def predict(inputs: Inputs) -> Array:
        forecasts = engine.predict(inputs)
        forecasts[inputs.windows == 7] = np.nan
        forecasts[inputs.windows == 8] = np.inf
        return forecasts

    batcher = batcher_of(predict)
    tasks = await held_in_a_call(engine, batcher, 1)
    tasks += await submitted(batcher, windows_of(7, 2), windows_of(3), windows_of(8))
    engine.gate.set()
    assert [await outcome(task) for task in tasks] == [[2], PredictionFailed, [4], PredictionFailed]
    assert engine.calls == [1, 4]


@in_loop
async def test_every_call_is_reported_with_its_rows_and_seconds() -> None:
    calls: list[tuple[int, float]] = []
    batcher = batcher_of(GatedEngine().predict, on_batch=lambda batch: calls.append((batch.windows, batch.seconds)))
    started = time.perf_counter()
    await batcher.submit(windows_of(1, 2))
    [(rows, seconds)] = calls
    assert rows == 2
    assert 0 <= seconds <= time.perf_counter() - started


@in_loop
async def test_the_event_loop_turns_during_a_call() -> None:
    engine = GatedEngine()
    [task] = await held_in_a_call(engine, batcher_of(engine.predict), 1)
    for _ in range(100):
        await asyncio.sleep(0)
    assert not task.done()
    engine.gate.set()
    assert await outcome(task) == [2]


@in_loop
async def test_the_engine_goes_on_while_the_event_loop_is_busy() -> None:
    engine = GatedEngine()
    batcher = batcher_of(engine.predict)
    tasks = await held_in_a_call(engine, batcher, 1)
    tasks += await submitted(batcher, windows_of(2), windows_of(3))
    engine.gate.set()
    end = time.monotonic() + PATIENCE_SECONDS
    while engine.calls != [1, 2]:  # the loop does not turn meanwhile
        assert time.monotonic() < end, "the engine waits for the event loop"
        time.sleep(0.001)  # noqa: ASYNC251 (on purpose)
    assert [await outcome(task) for task in tasks] == [[2], [3], [4]]


@in_loop
async def test_models_that_share_a_thread_take_turns() -> None:
    order: list[str] = []
    gate = threading.Event()

    def engine_of(name: str) -> Callable[[Inputs], Array]:
        def predict(inputs: Inputs) -> Array:
            assert gate.wait(PATIENCE_SECONDS)
            order.append(name)
            return inputs.windows

        return predict

    with ThreadPoolExecutor(max_workers=1) as executor:
        one, other = (batcher_of(engine_of(name), max_call_windows=1, executor=executor) for name in ("one", "other"))
        tasks = await submitted(one, *(windows_of(number) for number in range(3)))
        tasks += await submitted(other, *(windows_of(number) for number in range(3)))
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*tasks)
    assert order == ["one", "other"] * 3


@in_loop
async def test_a_short_call_is_computed_on_the_event_loop_and_a_long_one_in_the_engines_thread() -> None:
    threads: list[threading.Thread] = []

    def predict(inputs: Inputs) -> Array:
        threads.append(threading.current_thread())
        return inputs.windows

    batcher = batcher_of(predict, max_inline_windows=2)
    await batcher.submit(windows_of(1, 2))
    await batcher.submit(windows_of(1, 2, 3))
    assert [thread is threading.main_thread() for thread in threads] == [True, False]


@pytest.mark.parametrize("max_inline_windows", [0, 256])
def test_requests_of_one_turn_of_the_event_loop_share_a_call(max_inline_windows: int) -> None:
    @in_loop
    async def ask() -> None:
        batcher = batcher_of(engine.predict, max_inline_windows=max_inline_windows)
        await asyncio.sleep(0)
        tasks = await submitted(batcher, *(windows_of(number) for number in range(20)))
        assert [await outcome(task) for task in tasks] == [[number + 1] for number in range(20)]

    engine = GatedEngine()
    ask()
    assert engine.calls == [20]


@in_loop
async def test_the_event_loop_turns_between_short_calls() -> None:
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    batcher = batcher_of(GatedEngine().predict, max_call_windows=1, max_inline_windows=1)
    turning = asyncio.create_task(turn())
    await asyncio.gather(*await submitted(batcher, *(windows_of(number) for number in range(20))))
    turning.cancel()
    assert turns >= 20


@in_loop
async def test_a_request_that_left_makes_room_in_the_queue_at_once() -> None:
    engine = GatedEngine()
    batcher = batcher_of(engine.predict, max_queue_windows=2)
    await held_in_a_call(engine, batcher, 0)
    left, expired = await submitted(batcher, windows_of(1), windows_of(2))
    with pytest.raises(QueueFull):
        batcher.check_room()
    left.cancel()
    await asyncio.sleep(0)
    assert batcher.queued_windows == 1
    batcher.check_room()
    await skip(LIMIT_SECONDS)
    assert await outcome(expired) is DeadlinePassed
    assert batcher.queued_windows == 0
    engine.gate.set()


@in_loop
async def test_every_request_has_a_deadline_of_its_own() -> None:
    engine = GatedEngine()
    batcher = batcher_of(engine.predict)
    engine.gate.clear()
    [first] = await submitted(batcher, windows_of(1))
    await skip(0.5 * LIMIT_SECONDS)
    [second] = await submitted(batcher, windows_of(1))
    await skip(0.4 * LIMIT_SECONDS)
    assert not first.done()
    await skip(0.2 * LIMIT_SECONDS)
    assert await outcome(first) is DeadlinePassed
    assert not second.done()
    await skip(0.5 * LIMIT_SECONDS)
    assert await outcome(second) is DeadlinePassed
    engine.gate.set()


@in_loop
async def test_a_request_that_is_too_large_for_the_engine_is_computed_in_halves() -> None:
    engine = GatedEngine()

    def predict(inputs: Inputs) -> Array:
        if len(inputs) > 2:
            engine.calls.append(len(inputs))
            raise RuntimeError("too many")
        return engine.predict(inputs)

    assert await outcome(batcher_of(predict).submit(windows_of(*range(7)))) == [1, 2, 3, 4, 5, 6, 7]
    assert engine.calls == [7, 3, 1, 2, 4, 2, 2]


@in_loop
async def test_a_window_that_fails_is_found_in_few_calls() -> None:
    engine = GatedEngine()
    assert await outcome(batcher_of(engine.predict).submit(windows_of(*[0] * 63, POISON))) is PredictionFailed
    assert engine.calls == [64, 32, 32, 16, 16, 8, 8, 4, 4, 2, 2, 1, 1]


@in_loop
async def test_a_request_that_fails_among_many_is_found_in_few_calls() -> None:
    engine = GatedEngine()
    batcher = batcher_of(engine.predict)
    tasks = await held_in_a_call(engine, batcher, 0)
    tasks += await submitted(batcher, *(windows_of(number) for number in range(1, 8)), windows_of(POISON))
    engine.gate.set()
    assert [await outcome(task) for task in tasks] == [*([number + 1] for number in range(8)), PredictionFailed]
    assert engine.calls == [1, 8, 4, 4, 2, 2, 1, 1]


@in_loop
async def test_other_models_compute_between_the_calls_for_a_request_that_failed() -> None:
    order: list[int] = []
    gate = threading.Event()

    def predict(inputs: Inputs) -> Array:
        order.append(len(inputs))
        if len(inputs) == 8:
            raise RuntimeError("too many")
        assert gate.wait(PATIENCE_SECONDS)
        return inputs.windows

    with ThreadPoolExecutor(max_workers=1) as executor:
        failing, other = batcher_of(predict, executor=executor), batcher_of(predict, executor=executor)
        tasks = await submitted(failing, windows_of(*range(8)))
        await until(lambda: order == [8, 4])
        tasks += await submitted(other, windows_of(1))
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*tasks)
    assert order == [8, 4, 1, 4]


@in_loop
async def test_no_call_is_made_for_a_failed_request_whose_caller_left() -> None:
    calls: list[int] = []
    loop = asyncio.get_running_loop()

    def predict(inputs: Inputs) -> Array:
        calls.append(len(inputs))
        if len(inputs) == 2:
            loop.call_soon_threadsafe(task.cancel)
        raise RuntimeError("poisoned")

    batcher = batcher_of(predict)
    task = asyncio.create_task(batcher.submit(windows_of(1, 2, 3, 4)))
    await asyncio.gather(task, return_exceptions=True)
    assert await outcome(batcher.submit(windows_of(1))) is PredictionFailed
    assert calls == [4, 2, 1, 1]


@in_loop
async def test_of_a_batch_that_failed_nothing_is_computed_again_for_those_who_left() -> None:
    engine = GatedEngine()
    loop = asyncio.get_running_loop()

    def predict(inputs: Inputs) -> Array:
        if len(inputs) == 4:
            loop.call_soon_threadsafe(tasks[3].cancel)
        return engine.predict(inputs)

    batcher = batcher_of(predict)
    tasks = await held_in_a_call(engine, batcher, 0)
    tasks += await submitted(batcher, windows_of(1), windows_of(2), windows_of(POISON), windows_of(4))
    engine.gate.set()
    assert [await outcome(tasks[number]) for number in (0, 1, 2, 4)] == [[1], [2], [3], [5]]
    assert engine.calls == [1, 4, 2, 1]


@in_loop
async def test_a_failing_row_is_tried_twice_and_no_more() -> None:
    engine = GatedEngine()
    assert await outcome(batcher_of(engine.predict).submit(windows_of(POISON))) is PredictionFailed
    assert engine.calls == [1, 1]


@in_loop
async def test_the_windows_of_those_who_left_are_let_go() -> None:
    engine = GatedEngine()
    batcher = batcher_of(engine.predict)
    await held_in_a_call(engine, batcher, 0)
    [task] = await submitted(batcher, windows_of(*range(50)))
    [job] = batcher._queue
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(job.inputs) == 0
    engine.gate.set()


@in_loop
async def test_forecasts_are_let_go_as_soon_as_their_caller_has_them() -> None:
    batcher = batcher_of(lambda inputs: inputs.windows + 1)
    forecasts = await batcher.submit(windows_of(1))
    kept = weakref.ref(forecasts)
    del forecasts
    await until(lambda: kept() is None)


@in_loop
async def test_large_forecasts_whose_sum_is_too_large_are_sound() -> None:
    assert len(await batcher_of(lambda inputs: inputs.windows).submit(windows_of(3e38, 3e38))) == 2


@in_loop
async def test_what_is_known_ahead_stays_with_its_window_in_a_shared_call_and_in_its_halves() -> None:
    calls: list[int] = []

    def predict(inputs: Inputs) -> Array:
        calls.append(len(inputs))
        if len(inputs) > 5:
            raise RuntimeError("too many")
        assert inputs.future is not None
        assert inputs.time is not None
        return inputs.windows + inputs.future + inputs.time[:, None, None]

    def asked(*rows: int) -> Inputs:
        windows, numbers = windows_of(*rows).windows, np.array(rows)
        return Inputs(windows, 10 * windows, 100 * numbers)

    batcher = batcher_of(predict)
    tasks = await submitted(batcher, asked(1, 2), asked(3), asked(4, 5, 6, 7))
    assert [await outcome(task) for task in tasks] == [[111, 222], [333], [444, 555, 666, 777]]
    assert calls[0] == 7
    assert sorted(calls) == [2, 5, 7]
