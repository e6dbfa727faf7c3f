"""Notices work that never ends: a call of an engine, or a load of a version.

Neither can be interrupted, and everything behind it waits for ever. A thread of its own watches, because the work may
run on the event loop itself.
"""

import threading
import time
from collections.abc import Callable
from typing import NamedTuple, ParamSpec, TypeVar

from app.errors import WorkStalled

LOOK_SECONDS = 1.0
"""How often the watch looks at what runs."""

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Work(NamedTuple):
    """Something that a model's version may never end.

    Attributes:
        kind: In words: `a load`, `a call of the engine`.
        model: The model's name.
        version: The number of the version.
    """

    kind: str
    model: str
    version: int


class Watch:
    """Watches what runs in each thread.

    Args:
        limit_seconds: Longest time for a piece of work.
        on_stall: Told once, in the watch's thread, of the work that has taken longer.
        clock: Tells the time in seconds.
    """

    def __init__(
        self,
        limit_seconds: float,
        on_stall: Callable[[Work, WorkStalled], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit_seconds = limit_seconds
        self._on_stall = on_stall
        self._clock = clock
        self._running: dict[int, tuple[Work, float]] = {}
        """What runs, and since when, by the number of the thread."""
        self._end = threading.Event()

    def run(
        self, work: Work, function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result:
        """Calls a function, which does the work. Costs less than a microsecond."""
        thread = threading.get_ident()
        self._running[thread] = work, self._clock()
        try:
            return function(*args, **kwargs)
        finally:
            del self._running[thread]

    def start(self) -> None:
        """Begins to look."""
        self._end = threading.Event()
        threading.Thread(target=self._look_until, args=(self._end,), name="stalls", daemon=True).start()

    def stop(self) -> None:
        """Looks no more."""
        self._end.set()

    def stalled(self) -> Work | None:
        """Returns work that has taken too long, if there is any."""
        latest = self._clock() - self._limit_seconds
        return next((work for work, since in list(self._running.values()) if since < latest), None)

    def _look_until(self, end: threading.Event) -> None:
        while not end.wait(LOOK_SECONDS):
            if (work := self.stalled()) is not None:
                self._on_stall(work, WorkStalled(*work, self._limit_seconds))
                return
