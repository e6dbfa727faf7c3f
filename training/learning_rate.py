"""The learning-rate sweep: a few hundred steps at rates that rise from step to step, and a rate picked from them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep saw and what it makes of it; `rates`, `losses` and `smoothed` go together, step by step."""

    rates: tuple[float, ...]
    """Rate of each step, rising by the same factor."""
    losses: tuple[float, ...]
    """Loss of each step's batch, before the step."""
    smoothed: tuple[float, ...]
    """Exponentially smoothed losses."""
    chosen: float
    """The rate to train with."""
    reason: str
    """Why this one, in a sentence."""
    diverged_at: float | None
    """Rate at which the loss left for good; None where it never did."""
