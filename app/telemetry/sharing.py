"""Work in a thread whose result many may ask for at once."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Shared(Generic[Result]):
    """Runs a function in a thread, one call at a time. All who ask while a call runs share the next call.

    So everyone's result is newer than the question, and there are at most two calls for however many ask. Belongs to
    the event loop on which it is asked.

    Args:
        work: The function.
    """

    def __init__(self, work: Callable[[], Result]) -> None:
        self._work = work
        self._turn = asyncio.Lock()
        self._next: asyncio.Task[Result] | None = None

    async def __call__(self) -> Result:
        """Returns a result that is newer than the call."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._run())
        return await asyncio.shield(self._next)  # one of many who leaves must not take the result with him

    async def _run(self) -> Result:
        async with self._turn:
            self._next = None
            return await asyncio.to_thread(self._work)
