"""How a fit went: its epochs, and what went wrong in them."""

import math
from dataclasses import dataclass

from training.fitting.symptoms import Incident


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the training windows."""

    number: int
    """From 1."""
    loss: float
    """Mean over the training windows, while the weights were changing; errors are divided by the yardstick."""
    validation_loss: float
    """Loss of the served forecast at the end of the pass, in the same units; NaN in a fit without validation."""
    best: bool
    """Whether no earlier pass had a lower validation loss; without validation every pass is the best so far."""
    gradient_norm: float = math.nan
    """Norm of the whole gradient before clipping, mean over the steps."""
    largest_norm: float = math.nan
    """The largest of these norms."""


@dataclass(frozen=True, slots=True)
class History:
    """How a fit went."""

    epochs: tuple[Epoch, ...]
    seconds: float
    """Of the whole fit, compilation included."""
    incidents: tuple[Incident, ...] = ()
    """Losses and gradients that were not finite, and what was done about them."""

    @property
    def best(self) -> Epoch:
        """The pass whose weights the model has kept."""
        return [epoch for epoch in self.epochs if epoch.best][-1]
