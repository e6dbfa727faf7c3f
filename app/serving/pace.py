"""How fast an engine is, measured before the version serves: short calls may run on the event loop."""

import time
from collections.abc import Callable

from app.arrays import Array
from app.engines.engine import Engine
from app.version.golden import probe_windows
from app.version.manifest import Contract

MAX_CALL_WINDOWS = 256
"""Most windows of several requests in one call of the engine. More gains nothing and lets the first ones wait."""

INLINE_SECONDS = 0.001
"""Longest call of an engine that may hold up the event loop; see docs/decisions/0006."""

TIMING_ROUNDS = 3
"""Calls of which the quickest counts, so that a busy moment does not make an engine look slow."""


Clock = Callable[[], float]


def inline_windows(engine: Engine, contract: Contract, clock: Clock = time.thread_time) -> int:
    """Returns the most windows, a power of two, that the engine computes within `INLINE_SECONDS`, or 0.

    An engine that is not steady gets 0: its next call may take longer.

    Args:
        engine: The engine, warm.
        contract: What windows the engine takes.
        clock: Measures seconds. The thread's own time leaves out waits in a busy service, which are not the engine's.
    """
    if not engine.is_steady:
        return 0
    count = 1
    while count <= MAX_CALL_WINDOWS and _call_seconds(engine, probe_windows(contract, count), clock) <= INLINE_SECONDS:
        count *= 2
    return count // 2


def _call_seconds(engine: Engine, windows: Array, clock: Clock) -> float:
    seconds = []
    for _ in range(TIMING_ROUNDS):
        started = clock()
        engine.predict(windows)
        seconds.append(clock() - started)
    return min(seconds)
