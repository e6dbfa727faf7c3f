"""Functions of the service that a test holds, or whose threads it notes."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.waiting import PATIENCE_SECONDS


class HeldFunction:
    """A function that goes on when the test says so.

    Attributes:
        threads: The names of the threads that it ran in.
        begun: Whether it has begun.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._may_go_on = threading.Event()
        self.begun = threading.Event()
        self.threads: list[str] = []

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.threads.append(threading.current_thread().name)
        self.begun.set()
        assert self._may_go_on.wait(PATIENCE_SECONDS)
        return self._function(*arguments, **named)

    def release(self) -> None:
        self._may_go_on.set()


@contextmanager
def held(module: Any, name: str) -> Iterator[HeldFunction]:
    """Holds a function of a module, at most to the end of the block."""
    with pytest.MonkeyPatch.context() as patch:
        function = HeldFunction(getattr(module, name))
        patch.setattr(module, name, function)
        try:
            yield function
        finally:
            function.release()


@contextmanager
def noted(module: Any, name: str) -> Iterator[list[str]]:
    """The names of the threads in which a function of a module runs."""
    with held(module, name) as function:
        function.release()
        yield function.threads
