"""Many who ask at once share the next call, and none gets what is older than the question."""

import asyncio
import threading

from app.telemetry.sharing import Shared
from tests.loops import TURNS, HeldLoop, run_in_held_loop
from tests.waiting import wait_until


class Work:
    """Counts its calls, each of which waits for a permission."""

    def __init__(self) -> None:
        self.calls = 0
        self.permissions = threading.Semaphore(0)

    def __call__(self) -> int:
        self.calls += 1
        self.permissions.acquire()
        return self.calls


async def turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


def test_all_who_ask_while_a_call_runs_share_the_next_one() -> None:
    async def ask(_: HeldLoop) -> None:
        work = Work()
        shared = Shared(work)
        first = asyncio.ensure_future(shared())
        await asyncio.to_thread(wait_until, lambda: work.calls == 1)
        others = [asyncio.ensure_future(shared()) for _ in range(5)]
        await turns()
        assert work.calls == 1, "one at a time"
        others[0].cancel()
        await turns()
        work.permissions.release()
        assert await first == 1
        work.permissions.release()
        assert await asyncio.gather(*others[1:]) == [2] * 4, "the caller who left took nothing along"
        work.permissions.release()
        assert await shared() == 3

    run_in_held_loop(ask)


def test_it_goes_on_after_its_loop_has_ended() -> None:
    shared = Shared(lambda: 1)

    async def ask(_: HeldLoop) -> tuple[int, int]:
        one, other = await asyncio.gather(shared(), shared())
        return one, other

    assert [run_in_held_loop(ask) for _ in range(2)] == [(1, 1), (1, 1)]


def test_a_call_that_fails_fails_for_all_who_share_it_and_for_nobody_else() -> None:
    results = iter([ValueError, 2])

    def work() -> int:
        result = next(results)
        if result is ValueError:
            raise ValueError
        return 2

    async def ask(_: HeldLoop) -> None:
        shared = Shared(work)
        failures = await asyncio.gather(shared(), shared(), return_exceptions=True)
        assert [type(failure) for failure in failures] == [ValueError] * 2
        assert await shared() == 2

    run_in_held_loop(ask)
