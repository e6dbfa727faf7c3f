"""Events written down together a moment after they happened: cheaper, and not before the answers."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

DELAY_SECONDS = 0.01
"""Longest time for which an entry is held back: long enough for many to share the work, short enough for any reader."""

Entry = TypeVar("Entry")


class Journal(Generic[Entry]):
    """Collects entries and hands them on together.

    Args:
        write: Takes the entries, in their order.
    """

    def __init__(self, write: Callable[[list[Entry]], None]) -> None:
        self._write = write
        self._entries: list[Entry] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        """The event loop that will write down the entries."""

    def add(self, entry: Entry) -> None:
        """Takes an entry; must be called on an event loop."""
        loop = asyncio.get_running_loop()
        if not self._entries or loop is not self._loop:  # a loop that has ended writes down nothing
            self._loop = loop
            loop.call_later(DELAY_SECONDS, self.flush)
        self._entries.append(entry)

    @property
    def waiting(self) -> int:
        """How many entries are held back."""
        return len(self._entries)

    def flush(self) -> None:
        """Hands on what is held back."""
        entries, self._entries = self._entries, []
        if entries:
            self._write(entries)
