"""A thread beside the event loop, for what would hold up all other requests: large bodies, mostly."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from app.errors import DeadlinePassed
from app.serving.room import Room

ResultT = TypeVar("ResultT")

SIDE_THREAD = "side"
"""What the thread's name begins with."""


class SideThread:
    """Does one piece of work after another. Two threads would only compete for Python's lock.

    Args:
        room: Bounds the bytes that wait.
        seconds: The longest time from `run` to the end of the work.
    """

    def __init__(self, room: Room, seconds: float) -> None:
        self._room = room
        self._seconds = seconds
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=SIDE_THREAD)

    async def run(self, work: Callable[[], ResultT], size: int) -> ResultT:
        """Does the work when all earlier work is done. The caller may leave: then the work is not begun.

        Args:
            work: What to do, in the thread.
            size: How many bytes the work keeps in memory until it is done.

        Raises:
            TooManyLargeBodies: Too many bytes wait.
            DeadlinePassed: The work was not done in time.
        """
        self._room.take(size)
        held = [work]

        def do() -> ResultT:
            return held.pop()()

        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.get_running_loop().run_in_executor(self._thread, do)
        except TimeoutError:
            raise DeadlinePassed(self._seconds) from None
        finally:
            held.clear()  # the thread's own queue would keep the work, and a body with it, after the caller has left
            self._room.give_back(size)

    def stop(self) -> None:
        """Ends the thread. Work that waits is not done."""
        self._thread.shutdown(wait=False, cancel_futures=True)
