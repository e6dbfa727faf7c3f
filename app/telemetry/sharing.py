"""Work in a thread whose result many may ask for at once."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Shared(Generic[Result]):
    """Runs a function in a thread, one call at a time. All who ask while a call runs share the next call.

    So everyone's result is newer than the question, and there are at most two calls for however many ask.

    Args:
        work: The function.
    """

    def __init__(self, work: Callable[[], Result]) -> None:
        self._work = work
        self._loop: asyncio.AbstractEventLoop | None = None
        """The event loop that waits for the calls."""

    async def __call__(self) -> Result:
        """Returns a result that is newer than the question."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # a loop that has ended waits for nothing
            self._loop, self._turn = loop, asyncio.Lock()
            self._next: asyncio.Task[Result] | None = None
        if self._next is None:
            self._next = loop.create_task(self._run())
        return await asyncio.shield(self._next)  # a caller who leaves must not end the call for the others

    async def _run(self) -> Result:
        async with self._turn:
            self._next = None
            return await asyncio.to_thread(self._work)
