"""Who is told how a fit goes, step by step. `progress` tells the console, `tensorboard` writes files."""

from contextlib import ExitStack
from types import TracebackType
from typing import Self

from training.fitting.budget import Plan
from training.fitting.history import Epoch


class Listener:
    """Is told how a fit goes, and does nothing about it.

    A fit enters its listener before the first step and leaves it however the fit ends.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def starts(self, plan: Plan) -> None:
        """A fit begins."""

    def steps_done(self, steps: int) -> None:
        """So many more steps are done."""

    def epoch_done(self, epoch: Epoch) -> None:
        """An epoch is over."""

    def noticed(self, sentence: str) -> None:
        """Something went wrong, or looks as if it will."""


class Listeners(Listener):
    """Several listeners that are told the same."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = listeners
        self._entered = ExitStack()

    def __enter__(self) -> Self:
        for listener in self._listeners:
            self._entered.enter_context(listener)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._entered.__exit__(kind, error, traceback)

    def starts(self, plan: Plan) -> None:
        """Tells every listener."""
        for listener in self._listeners:
            listener.starts(plan)

    def steps_done(self, steps: int) -> None:
        """Tells every listener."""
        for listener in self._listeners:
            listener.steps_done(steps)

    def epoch_done(self, epoch: Epoch) -> None:
        """Tells every listener."""
        for listener in self._listeners:
            listener.epoch_done(epoch)

    def noticed(self, sentence: str) -> None:
        """Tells every listener."""
        for listener in self._listeners:
            listener.noticed(sentence)
