"""Waits for events: however long they take on a busy machine, but not for ever."""

import time
from collections.abc import Callable

PATIENCE_SECONDS = 120
"""How long a test waits for an event before it fails. It only matters where a test fails."""

LOOK_SECONDS = 0.01


def wait_until(condition: Callable[[], bool]) -> None:
    """Returns once the condition holds; fails where it does not in `PATIENCE_SECONDS`."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(LOOK_SECONDS)
