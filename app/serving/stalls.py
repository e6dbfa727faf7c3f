"""Notices work that does not end: a call of an engine, a load of a version, a look at the models' folder.

A call that runs for ever takes the engine's only thread, and with it every model that computes there. Nothing in Python
can interrupt the call. So the service says that it is dead, and its process ends; whoever started it starts another.

Whoever works leaves a record of it. A thread looks at all records once a second, and counts how often it sees the same
record. So the time in which the whole process stands still does not count.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from app.arrays import Array, Inputs

LOOK_SECONDS = 1.0
"""Time between two looks."""

EXIT_SECONDS = 1.0
"""Time from the moment that the service says that it is dead to the end of its process: orchestrators may look once."""


@dataclass(slots=True, eq=False)
class Work:
    """Work that has begun, and has not ended. Every piece of work is an object of its own.

    Attributes:
        what: What is done, in words.
        model: For which model, if it is for one.
        version: For which version.
    """

    what: str
    model: str | None = None
    version: int | None = None


class StallError(Exception):
    """Work that has not ended in time."""


class StallWatch:
    """Watches the work of a service.

    Args:
        limit_seconds: Longest time that a piece of work may take.
        on_stall: Told of the first work that takes longer, in the thread that watches.
    """

    def __init__(self, limit_seconds: float, on_stall: Callable[[Work], None]) -> None:
        self._limit_seconds = limit_seconds
        self._on_stall = on_stall
        self._works: dict[int, Work] = {}
        """The work of each thread."""
        self._looks: dict[Work, int] = {}
        self._stop = threading.Event()

    def start(self) -> None:
        """Begins to watch."""
        self._stop.clear()
        self._looks = {}
        threading.Thread(target=self._watch, name="stalls", daemon=True).start()

    def stop(self) -> None:
        """Ends the watch."""
        self._stop.set()

    @contextmanager
    def working(self, what: str, model: str | None = None, version: int | None = None) -> Iterator[None]:
        """Records the work of a `with` block. For work around it, the time begins anew when the block ends."""
        thread = threading.get_ident()
        around = self._works.get(thread)
        self._works[thread] = Work(what, model, version)
        try:
            yield
        finally:
            if around is None:
                del self._works[thread]
            else:
                self._works[thread] = Work(around.what, around.model, around.version)

    def watched(self, predict: Callable[[Inputs], Array], model: str, version: int) -> Callable[[Inputs], Array]:
        """Returns an engine's `predict` with a record of every call."""
        works = self._works

        def predict_watched(inputs: Inputs) -> Array:
            thread = threading.get_ident()
            works[thread] = Work("a call of the engine", model, version)
            try:
                return predict(inputs)
            finally:
                del works[thread]

        return predict_watched

    def look(self) -> Work | None:
        """Looks at all work once, and returns the work that takes too long."""
        self._looks = {work: self._looks.get(work, 0) + 1 for work in list(self._works.values())}
        return next((work for work, looks in self._looks.items() if looks * LOOK_SECONDS > self._limit_seconds), None)

    def wait(self, seconds: float) -> bool:
        """Waits for the end of the watch, at most some seconds, and tells whether the watch has ended."""
        return self._stop.wait(seconds)

    def _watch(self) -> None:
        while not self.wait(LOOK_SECONDS):
            stalled = self.look()
            if stalled is not None:
                self._on_stall(stalled)
                return
