"""Events of which there may be thousands a second: a line a second in the log says how many there were."""

import asyncio
from typing import Any

from app.telemetry.logs import get_logger

log = get_logger()

LINE_SECONDS = 1.0
"""Shortest time between two lines about events of one kind."""


class Tally:
    """Counts events of one kind and logs their number.

    Args:
        event: What the line says.
        facts: What the line tells besides.
    """

    def __init__(self, event: str, **facts: Any) -> None:
        self._event = event
        self._facts = facts
        self._count = 0

    def add(self, count: int = 1) -> None:
        """Counts events; must be called on an event loop."""
        if not self._count:
            asyncio.get_running_loop().call_later(LINE_SECONDS, self._log)
        self._count += count

    def _log(self) -> None:
        count, self._count = self._count, 0
        log.warning(self._event, count=count, **self._facts)
