"""What happened, written down a moment later and all at once: cheaper, and off the way of the answers."""

import asyncio
from collections.abc import Callable
from typing import Any, Generic, TypeVar

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
        _journals.append(self)

    def add(self, entry: Entry) -> None:
        """Takes an entry; must be called on an event loop."""
        if not self._entries:
            asyncio.get_running_loop().call_later(DELAY_SECONDS, self.flush)
        self._entries.append(entry)

    def flush(self) -> None:
        """Hands on what is held back."""
        entries, self._entries = self._entries, []
        if entries:
            self._write(entries)


_journals: list[Journal[Any]] = []


def flush_all() -> None:
    """Hands on what is held back anywhere, before it is read or the process ends."""
    for journal in _journals:
        journal.flush()
