"""A deadline of a connection."""

import asyncio
from collections.abc import Callable
from math import inf


class Clock:
    """A deadline that moves at next to no cost. Its timer looks, when it goes off, whether the time has come.

    Args:
        loop: The event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due = inf
        self._act: Callable[[], None] = lambda: None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_running(self) -> bool:
        """Whether there is a deadline."""
        return self._due < inf

    def set(self, seconds: float, act: Callable[[], None]) -> None:
        """Calls `act` after that time, in place of what was to be called before."""
        self._due = self._loop.time() + seconds
        self._act = act
        if self._timer is not None and self._timer.when() > self._due:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(self._due, self._look)

    def stop(self) -> None:
        """Removes the deadline."""
        self._due = inf

    def close(self) -> None:
        """Removes the deadline, and drops the timer and all that it refers to."""
        self.stop()
        self._act = lambda: None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._due <= self._loop.time():
            self.stop()
            self._act()
        elif self.is_running:
            self._timer = self._loop.call_at(self._due, self._look)
