"""The time that a training run may take, and how many epochs fit into it.

Epochs are counted before the first of them, from a few steps that are timed and undone. So a budget decides how long a
fit is and nothing else: the rate falls to zero in any number of epochs, and the same number gives the same weights.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from app.version.manifest import Finding
from training.config import TrainingConfig

RESERVED = 0.15
"""Share of a budget that is kept for the scores, the report and the export."""

LEAST_EPOCHS = 4
"""Fewer epochs choose badly among weights. Where fewer would fit, each epoch takes fewer steps."""

OVERRUN = 1.2
"""A fit ends early where it would take more than this many times its share, because steps became slower."""

Clock = Callable[[], float]


class Budget:
    """The time of a training run, which starts now.

    Args:
        seconds: How long the run may take; infinite for a run without a limit.
        clock: Counts seconds.
    """

    def __init__(self, seconds: float, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + (1 - RESERVED) * seconds

    def share(self, fits: int) -> float:
        """Returns the seconds for the next of some fits that share what is left."""
        return max(0.0, self._end - self._clock()) / fits


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a fit runs.

    Attributes:
        epochs: Most passes.
        steps: Training steps of a pass.
        epoch_seconds: What a pass with its validation takes; 0 where nothing was timed.
        limit_seconds: What the fit may take in all.
        wanted: Epochs and steps that there would be with more time; None where there is time for all of them.
    """

    epochs: int
    steps: int
    epoch_seconds: float = 0.0
    limit_seconds: float = math.inf
    wanted: tuple[int, int] | None = None

    def within(self, seconds: float, step_seconds: float, validation_seconds: float) -> Self:
        """Returns the longest plan, at most this one, that takes no more than some seconds.

        At least `LEAST_EPOCHS` epochs of one step are left, whatever they take.

        Args:
            seconds: What the fit may take.
            step_seconds: What a step takes.
            validation_seconds: What the validation after an epoch takes.
        """
        epoch_seconds = self.steps * step_seconds + validation_seconds
        if self.epochs * epoch_seconds <= seconds:
            return type(self)(self.epochs, self.steps, epoch_seconds, seconds)
        epochs = min(self.epochs, max(LEAST_EPOCHS, int(seconds / epoch_seconds)))
        steps = max(1, min(self.steps, int((seconds / epochs - validation_seconds) / step_seconds)))
        epoch_seconds = steps * step_seconds + validation_seconds
        return type(self)(epochs, steps, epoch_seconds, seconds, (self.epochs, self.steps))

    def has_time(self, done: int, elapsed: float) -> bool:
        """Whether the fit may begin another epoch after so many epochs and seconds. `LEAST_EPOCHS` are never cut."""
        return done < LEAST_EPOCHS or elapsed + self.epoch_seconds <= OVERRUN * self.limit_seconds

    def settled(self, config: TrainingConfig) -> TrainingConfig:
        """Returns the configuration that makes the same fit, however long it takes."""
        if self.wanted is None:
            return config
        _, steps = self.wanted
        epoch_steps = self.steps if self.steps < steps else config.epoch_steps
        return config.model_copy(update={"epochs": self.epochs, "epoch_steps": epoch_steps})

    def findings(self, budget: float) -> list[Finding]:
        """Says what a budget of so many seconds took away; nothing where there is time for all epochs."""
        if self.wanted is None:
            return []
        epochs, steps = self.wanted
        each = f", each of {self.steps} of {steps} steps" if self.steps < steps else ""
        left = f"--budget {budget:g} left time for {self.epochs} of {epochs} epochs{each}"
        return [Finding(kind="budget", sentence=f"{left}; a larger --budget may find a better network")]
