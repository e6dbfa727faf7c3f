"""What the console shows of a fit: a bar on a terminal, a few lines in a log."""

import math
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from training.console import note
from training.fitting.budget import Plan
from training.fitting.history import Epoch
from training.fitting.listener import Listener

LINES = 10
"""About this many lines of progress go to a log, however many epochs there are."""


def progress(console: Console) -> Listener:
    """Returns a bar for a terminal, plain lines for a log."""
    return ProgressBar(console) if console.is_terminal else ProgressLines(console)


class ProgressBar(Listener):
    """A bar on a terminal: epoch, losses, time left."""

    def __init__(self, console: Console) -> None:
        self._epochs = self._steps = 0
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("{task.fields[losses]}"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task("", total=None, epoch="1", losses="compiling")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def starts(self, plan: Plan) -> None:
        """Prints the plan, and shows an empty bar."""
        self._progress.console.print(_planned(plan), highlight=False)
        self._progress.update(self._task, total=plan.epochs * plan.steps, epoch=f"1/{plan.epochs}")
        self._epochs, self._steps = plan.epochs, plan.steps

    def steps_done(self, steps: int) -> None:
        """Moves the bar."""
        self._progress.advance(self._task, steps)

    def epoch_done(self, epoch: Epoch) -> None:
        """Shows the losses; steps that were taken twice count once."""
        label = f"{min(epoch.number + 1, self._epochs)}/{self._epochs}"
        self._progress.update(self._task, completed=epoch.number * self._steps, epoch=label, losses=_losses(epoch))

    def noticed(self, sentence: str) -> None:
        """Prints the sentence above the bar."""
        note(self._progress.console, sentence)


class ProgressLines(Listener):
    """Plain lines for a log: one for the first epoch, and about `LINES` in all."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._every = 1
        self._epochs = 1

    def starts(self, plan: Plan) -> None:
        """Prints the plan, and decides which epochs get a line."""
        self._epochs = plan.epochs
        self._every = math.ceil(plan.epochs / LINES)
        self._console.print(_planned(plan), highlight=False)

    def epoch_done(self, epoch: Epoch) -> None:
        """Prints a line if the epoch gets one."""
        if epoch.number == 1 or epoch.number % self._every == 0:
            self._console.print(f"epoch {epoch.number}/{self._epochs}  {_losses(epoch)}", highlight=False)

    def noticed(self, sentence: str) -> None:
        """Prints the sentence."""
        note(self._console, sentence)


def _planned(plan: Plan) -> str:
    """Returns the plan in words."""
    time = f", about {max(1, round(plan.epochs * plan.epoch_seconds))} seconds" if plan.epoch_seconds else ""
    return f"fitting: at most {plan.epochs} epochs of {plan.steps} steps{time}"


def _losses(epoch: Epoch) -> str:
    """Returns both losses in words."""
    if math.isnan(epoch.validation_loss):
        return f"loss {epoch.loss:.4f}"
    return f"loss {epoch.loss:.4f}  validation {epoch.validation_loss:.4f}{' (best)' if epoch.best else ''}"
