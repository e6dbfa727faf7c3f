"""How fast an engine is: measured before the version serves, and seen while it serves."""

import math
import time
from collections.abc import Callable

from app.arrays import Inputs
from app.engines.engine import Engine
from app.version.golden import probe_inputs
from app.version.manifest import Contract

MAX_CALL_WINDOWS = 256
"""Most windows of several requests in one call of the engine. More gains nothing and lets the first ones wait."""

INLINE_SECONDS = 0.001
"""Longest call of an engine that may hold up the event loop; see docs/decisions/0006."""

TIMING_ROUNDS = 3
"""Calls of which the quickest counts, so that a busy moment does not make an engine look slow."""

TYPICAL_CALL_WINDOWS = 64
"""Windows of the call that tells, before anybody asks, how fast an engine is when it is busy."""

MEMORY_SECONDS = 1.0
"""Busy seconds after which what was seen of an engine's speed has faded to a third."""

Clock = Callable[[], float]


def inline_windows(engine: Engine, contract: Contract, clock: Clock = time.thread_time) -> int:
    """Returns the most windows, a power of two, that the engine computes within `INLINE_SECONDS`, or 0.

    An engine that is not steady gets 0: its next call may take longer.

    Args:
        engine: The engine, warm.
        contract: What the engine takes.
        clock: Measures seconds. The thread's own time leaves out waits in a busy service, which are not the engine's.
    """
    if not engine.is_steady:
        return 0
    count = 1
    while count <= MAX_CALL_WINDOWS and _call_seconds(engine, probe_inputs(contract, count), clock) <= INLINE_SECONDS:
        count *= 2
    return count // 2


def busy_windows_per_second(engine: Engine, contract: Contract, max_windows: int) -> float:
    """Returns how many windows a second the warm engine computes in calls of many windows, as one call tells.

    Args:
        engine: The engine, warm.
        contract: What the engine takes.
        max_windows: Most windows in one call.
    """
    try:
        return _windows_per_second(engine, probe_inputs(contract, min(TYPICAL_CALL_WINDOWS, max_windows)))
    except Exception:  # noqa: BLE001 (whatever it is, such batches are computed in halves)
        return _windows_per_second(engine, probe_inputs(contract, 1))


def _windows_per_second(engine: Engine, inputs: Inputs) -> float:
    started = time.perf_counter()
    engine.predict(inputs)
    return len(inputs) / max(time.perf_counter() - started, 1e-9)


class Throughput:
    """Windows a second that a queue has been relieved of while windows waited in it, the latest second first.

    Args:
        windows_per_second: What to expect before anything was seen.
    """

    def __init__(self, windows_per_second: float) -> None:
        self._windows = windows_per_second * MEMORY_SECONDS
        self._seconds = MEMORY_SECONDS

    def note(self, windows: int, seconds: float) -> None:
        """Notes that the queue was relieved of windows in some busy seconds."""
        remains = math.exp(-seconds / MEMORY_SECONDS)
        self._windows = self._windows * remains + windows
        self._seconds = self._seconds * remains + seconds

    @property
    def windows_per_second(self) -> float:
        """Windows a second."""
        return self._windows / self._seconds


def _call_seconds(engine: Engine, inputs: Inputs, clock: Clock) -> float:
    seconds = []
    for _ in range(TIMING_ROUNDS):
        started = clock()
        engine.predict(inputs)
        seconds.append(clock() - started)
    return min(seconds)
