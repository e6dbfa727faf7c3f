"""The thread beside the event loop: what it does, what it refuses, and what it forgets."""

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from app.errors import DeadlinePassed, TooManyLargeBodies
from app.serving.room import Room
from app.serving.side import SIDE_THREAD, SideThread
from tests.loops import LIMIT_SECONDS, HeldLoop, run_in_held_loop
from tests.waiting import PATIENCE_SECONDS


class Body:
    """Something large that work refers to."""


def nothing() -> None: ...


@asynccontextmanager
async def busy(side: SideThread, size: int = 10) -> AsyncIterator[None]:
    """Keeps the thread busy for the length of the block."""
    begun, end = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        end.wait(PATIENCE_SECONDS)

    running = asyncio.ensure_future(side.run(work, size))
    try:
        await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
        yield
    finally:
        end.set()
        await running


def test_work_is_done_one_after_another_in_one_thread_and_its_errors_are_the_callers() -> None:
    async def test() -> None:
        def fail() -> None:
            names.append(threading.current_thread().name)
            raise LookupError

        names: list[str] = []
        side = SideThread(Room(100), PATIENCE_SECONDS)
        note: Callable[[], None] = lambda: names.append(threading.current_thread().name)  # noqa: E731
        results = await asyncio.gather(side.run(note, 1), side.run(fail, 1), side.run(note, 1), return_exceptions=True)
        assert [type(result) for result in results] == [type(None), LookupError, type(None)]
        assert len(names) == 3
        assert len(set(names)) == 1
        assert names[0].startswith(SIDE_THREAD)
        side.stop()

    asyncio.run(test())


def test_more_bytes_than_may_wait_are_refused_and_a_single_piece_never() -> None:
    async def test() -> None:
        side = SideThread(Room(100), PATIENCE_SECONDS)
        async with busy(side, size=1000):
            with pytest.raises(TooManyLargeBodies) as refused:
                await side.run(nothing, 1)
            assert refused.value.headers == {"Retry-After": "1"}
        async with busy(side, size=60):
            waiting = asyncio.ensure_future(side.run(nothing, 40))
            await asyncio.sleep(0)
            with pytest.raises(TooManyLargeBodies):
                await side.run(nothing, 1)
            answer = asyncio.ensure_future(side.run(nothing, 0))
        await asyncio.gather(waiting, answer)
        side.stop()

    asyncio.run(test())


def test_work_whose_caller_leaves_is_not_done_and_forgotten_at_once() -> None:
    async def test() -> None:
        done: list[Body] = []
        side = SideThread(Room(100), PATIENCE_SECONDS)
        async with busy(side):
            body = Body()
            forgotten = weakref.ref(body)
            waiting = asyncio.ensure_future(side.run(lambda body=body: done.append(body), 90))  # type: ignore[misc]
            del body
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            assert waiting.cancelled()
            del waiting
            gc.collect()
            assert forgotten() is None, "although the thread has not come to it"
            again = asyncio.ensure_future(side.run(nothing, 90))
            await asyncio.sleep(0)
        await again
        assert not done
        side.stop()

    asyncio.run(test())


def test_work_that_waits_too_long_is_given_up() -> None:
    async def test(loop: HeldLoop) -> None:
        side = SideThread(Room(100), LIMIT_SECONDS / 2)
        begun, end = threading.Event(), threading.Event()

        def work() -> None:
            begun.set()
            end.wait(PATIENCE_SECONDS)

        running = asyncio.ensure_future(side.run(work, 1))
        await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
        await loop.skip()
        end.set()
        with pytest.raises(DeadlinePassed):
            await running
        side.stop()

    run_in_held_loop(test)
