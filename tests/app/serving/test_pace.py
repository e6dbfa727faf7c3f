"""How many windows an engine computes on the event loop, and in a second."""

import numpy as np

from app.arrays import Array, Inputs
from app.serving.pace import INLINE_SECONDS, Throughput, inline_windows
from app.version.manifest import Contract


class TimedEngine:
    """Takes as long as it is told to, by a clock of its own."""

    name, remark = "timed", ""

    def __init__(self, seconds_per_window: float, *, is_steady: bool = True) -> None:
        self.is_steady = is_steady
        self.now = 0.0
        self._seconds_per_window = seconds_per_window

    def clock(self) -> float:
        return self.now

    def warm_up(self) -> None: ...

    def predict(self, inputs: Inputs) -> Array:
        self.now += self._seconds_per_window * len(inputs)
        return np.zeros((len(inputs), 2, 1), np.float32)


def inline(engine: TimedEngine, contract: Contract) -> int:
    return inline_windows(engine, contract, engine.clock)


def test_batches_are_computed_on_the_event_loop_up_to_the_largest_short_one(contract: Contract) -> None:
    assert inline(TimedEngine(INLINE_SECONDS / 10), contract) == 8
    assert inline(TimedEngine(2 * INLINE_SECONDS), contract) == 0
    assert inline(TimedEngine(0), contract) == 256


def test_an_engine_that_may_take_longer_another_time_never_holds_up_the_event_loop(contract: Contract) -> None:
    assert inline(TimedEngine(0, is_steady=False), contract) == 0


def test_what_was_seen_last_counts_most() -> None:
    throughput = Throughput(100)
    assert throughput.windows_per_second == 100
    for _ in range(10):
        throughput.note(50, 0.1)
    assert 300 < throughput.windows_per_second < 500
    for _ in range(100):
        throughput.note(50, 0.1)
    assert round(throughput.windows_per_second) == 500
