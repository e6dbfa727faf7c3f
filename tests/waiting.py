"""Waits for what must happen: without a guess of how long it takes, and not for ever."""

import time
from collections.abc import Callable

PATIENCE_SECONDS = 120
"""How long a test waits for anything before it fails. No sound service takes as long on the busiest of machines."""

LOOK_SECONDS = 0.01


def wait_until(condition: Callable[[], bool]) -> None:
    """Returns once the condition holds; fails where it does not in `PATIENCE_SECONDS`."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(LOOK_SECONDS)
