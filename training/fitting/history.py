"""How a fit went: its epochs, and what went wrong in them."""

import math
from dataclasses import dataclass

from training.fitting.budget import Plan
from training.fitting.symptoms import Incident


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the training windows."""

    number: int
    """From 1; 0 stands for the weights that the fit began with."""
    loss: float
    """Mean over the training windows, while the weights were changing; errors are divided by the yardstick."""
    validation_loss: float
    """Loss of the served forecast at the end of the pass, in the same units; NaN in a fit without validation."""
    best: bool
    """Whether neither the start nor an earlier pass had a validation loss as low; without validation every pass is."""
    gradient_norm: float = math.nan
    """Norm of the whole gradient before clipping, mean over the steps."""
    largest_norm: float = math.nan
    """The largest of these norms."""


@dataclass(frozen=True, slots=True)
class History:
    """How a fit went."""

    epochs: tuple[Epoch, ...]
    plan: Plan
    """How long the fit was to run."""
    seconds: float
    """Of the whole fit, compilation included."""
    incidents: tuple[Incident, ...] = ()
    """Losses and gradients that were not finite, and what was done about them."""
    start_loss: float = math.nan
    """Validation loss of the first weights, with a linear path; otherwise NaN: they forecast nothing."""

    @property
    def best(self) -> Epoch:
        """The pass whose weights the model has kept; the pass 0 is the start."""
        start = Epoch(0, math.nan, self.start_loss, best=True)
        return [start, *(epoch for epoch in self.epochs if epoch.best)][-1]
