"""What our server offers to the application beyond ASGI."""

from collections.abc import Sequence
from typing import Protocol

AT_ONCE = "windowcast.at_once"
"""The key of an `AtOnce` under `extensions` in the scope of a request."""


class AtOnce(Protocol):
    """Takes a body and sends an answer in a call each, where ASGI needs a coroutine for each part of them."""

    def take_body(self) -> bytes | None:
        """Returns the body if all of it is here. The application then receives nothing more."""

    def send_whole(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
        """Sends an answer. Returns False, and sends nothing, where the answer must take the usual way.

        Args:
            status: The status.
            headers: The headers, but for the length of the body.
            body: The whole body.

        Raises:
            ValueError: A header holds a line break.
        """
