"""Event loops for tests: in a thread of their own, and with a clock that the test moves.

A deadline under test is `LIMIT_SECONDS` away. It passes when the test says so, and not when a machine is slow.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

from tests.waiting import PATIENCE_SECONDS

LIMIT_SECONDS = 10_000.0
"""A limit that is reached by moving the clock, and never by waiting."""

TURNS = 20
"""Turns of a loop in which whatever is ready is surely done."""

T = TypeVar("T")


class HeldLoop(asyncio.SelectorEventLoop):
    """A loop whose clock runs as usual, and jumps ahead when the test says so."""

    _ahead_seconds = 0.0

    def time(self) -> float:
        """Returns the seconds on the clock of every deadline on this loop."""
        return super().time() + self._ahead_seconds

    def jump(self, seconds: float = LIMIT_SECONDS) -> None:
        """Moves the clock within a turn of the loop, as if something kept the loop busy."""
        self._ahead_seconds += seconds

    async def skip(self, seconds: float = LIMIT_SECONDS) -> None:
        """Moves the clock, once all that has arrived is handled; returns when all that is due is done."""
        for ahead in (0, seconds):
            self.jump(ahead)
            for _ in range(TURNS):
                await asyncio.sleep(0)

    def advance(self, seconds: float = LIMIT_SECONDS) -> None:
        """Moves the clock of a loop in another thread; see `skip`."""
        self.run(self.skip(seconds))

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Runs a coroutine on a loop in another thread; returns the future of its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on a loop in another thread; returns its result."""
        return self.start(coroutine).result(PATIENCE_SECONDS)


@contextmanager
def loop_in_thread() -> Iterator[HeldLoop]:
    """A loop that turns in a thread until the block ends."""
    with asyncio.Runner(loop_factory=HeldLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, HeldLoop)
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            yield loop
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()


def run_in_held_loop(test: Callable[[HeldLoop], Coroutine[Any, Any, T]]) -> T:
    """Runs a coroutine that moves the clock of its own loop."""
    loop = HeldLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(test(loop))
