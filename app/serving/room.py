"""Memory for large bodies, bounded for all requests in common."""

from app.errors import TooManyLargeBodies


class Room:
    """Counts the bytes that requests keep in memory.

    Args:
        max_bytes: The most bytes that several requests may keep. A request alone may keep more.
    """

    __slots__ = ("_max_bytes", "_taken_bytes")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._taken_bytes = 0

    def take(self, size: int, own: int = 0) -> None:
        """Counts so many bytes more.

        Args:
            size: How many bytes more a request keeps.
            own: How many bytes it keeps already.

        Raises:
            TooManyLargeBodies: Other requests keep too many bytes. Nothing is counted.
        """
        taken = self._taken_bytes + size
        if taken > self._max_bytes and self._taken_bytes > own:
            raise TooManyLargeBodies(self._max_bytes)
        self._taken_bytes = taken

    def give_back(self, size: int) -> None:
        """Counts so many bytes less."""
        self._taken_bytes -= size
