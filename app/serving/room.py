"""Memory for large bodies and forecasts, bounded for all requests in common."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.errors import ServiceError, TooManyLargeBodies


class Room:
    """Counts the bytes that requests keep in memory.

    Args:
        max_bytes: The most bytes that several requests may keep. A request alone may keep more.
        error: Makes the error for a request that finds no room, given `max_bytes`.
    """

    __slots__ = ("_error", "_max_bytes", "_taken_bytes")

    def __init__(self, max_bytes: int, error: Callable[[int], ServiceError] = TooManyLargeBodies) -> None:
        self._max_bytes = max_bytes
        self._error = error
        self._taken_bytes = 0

    def take(self, size: int, own: int = 0) -> None:
        """Counts so many bytes more.

        Args:
            size: How many bytes more a request keeps.
            own: How many bytes it keeps already.

        Raises:
            ServiceError: Other requests keep too many bytes. Nothing is counted.
        """
        taken = self._taken_bytes + size
        if taken > self._max_bytes and self._taken_bytes > own:
            raise self._error(self._max_bytes)
        self._taken_bytes = taken

    def give_back(self, size: int) -> None:
        """Counts so many bytes less."""
        self._taken_bytes -= size

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Counts so many bytes more for the length of a `with` block; see `take`."""
        self.take(size)
        try:
            yield
        finally:
            self.give_back(size)
