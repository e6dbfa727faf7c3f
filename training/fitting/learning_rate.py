"""The learning-rate sweep: a few hundred steps at rates that rise from step to step, and a rate picked from them.

After Smith, "Cyclical Learning Rates for Training Neural Networks" (2017): a model learns best at rates a little below
those at which its loss, against the logarithm of the rate, stops falling.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app.version.manifest import Finding
from training.config import TrainingConfig
from training.data.windows import Dataset
from training.errors import TrainingError
from training.fitting.descent import Descent
from training.fitting.symptoms import USUAL_RATE
from training.network.model import build_model

LOWEST_RATE, HIGHEST_RATE = 1e-6, 1.0
STEPS = 240
"""Steps from the lowest rate to the highest: 40 from one power of ten to the next."""

STEPS_A_CALL = 20
"""Steps between two looks at whether the loss has left for good."""

SMOOTHING = 0.97
"""Share of the smoothed loss that each step keeps: about thirty batches speak at once."""

SETTLED = 40
"""Steps before the smoothed loss says more than its first few batches do; no rate is picked from them."""

REACH = 20
"""Steps to either side over which the fall of the smoothed loss is measured: a power of ten in all."""

DIVERGED = 4
"""Times the lowest smoothed loss at which the sweep ends."""

LEAST_FALL = 0.02
"""Share by which the smoothed loss must have fallen before its course says more than chance."""

ABOVE_STEEPEST = 2
"""Times the rate where the loss falls fastest that a fit starts from: along a cosine, its mean is half of that."""

BELOW_LOWEST = 3
"""The chosen rate is at least so many times below the one where the smoothed loss was lowest."""


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

    @property
    def finding(self) -> Finding:
        """The chosen rate as a version records it."""
        return Finding(kind="found_rate", sentence=f"--learning-rate auto is {self.chosen:g}: {self.reason}")


def settle(config: TrainingConfig, dataset: Dataset) -> tuple[TrainingConfig, Sweep | None]:
    """Puts a number in the place of `--learning-rate auto`.

    Returns:
        The configuration with its rate, and the sweep that found it; None where the rate was a number already.

    Raises:
        TrainingError: As `sweep` does.
    """
    if config.learning_rate != "auto":
        return config, None
    found = sweep(config, dataset)
    return config.model_copy(update={"learning_rate": found.chosen}), found


def sweep(config: TrainingConfig, dataset: Dataset) -> Sweep:
    """Sweeps the rate over the training batches and picks one.

    The model swept is made for the sweep and dropped after it: weights that have seen high rates are no start. The same
    configuration, data and machine give the same sweep.

    Args:
        config: The fields under Model and Fitting; its rate is not looked at.
        dataset: Its training part is used.

    Raises:
        TrainingError: The loss is not a finite number from the start.
    """
    factor = (HIGHEST_RATE / LOWEST_RATE) ** (1 / (STEPS - 1))
    descent = Descent(
        build_model(config, dataset),
        config,
        LOWEST_RATE,
        lambda step: tf.pow(tf.constant(factor, tf.float32), tf.cast(step, tf.float32)),
    )
    windows = dataset.train.windows
    expected = dataset.train.learnt_targets(config.output)
    order = _batches(config, len(windows))
    losses: list[float] = []
    for start in range(0, STEPS, STEPS_A_CALL):
        chosen = order[start : start + STEPS_A_CALL]
        taken = descent.run(windows[chosen], expected[chosen])
        losses.extend(taken.losses.tolist())
        if not taken.finite or _diverged(smooth(losses)) is not None:
            break
    rates = [LOWEST_RATE * factor**step for step in range(len(losses))]
    return judge(rates, losses)


def judge(rates: Sequence[float], losses: Sequence[float]) -> Sweep:
    """Cuts off what came after the loss left for good, and picks a rate from the rest.

    The rate picked is twice the one where the smoothed loss fell fastest against the logarithm of the rate, but at most
    a third of the one where it was lowest. Five seeds of each of the series co2, lesson and exercise get 0.0017 to
    0.007 this way.

    Args:
        rates: Rising by the same factor from step to step.
        losses: One a rate.

    Raises:
        TrainingError: The first loss is not a finite number.
    """
    smoothed = smooth(losses)
    end = _diverged(smoothed)
    if end == 0:
        raise TrainingError(
            "the training loss is not a finite number before the first step, so there is no rate to find; look for "
            "extreme values in the data, or use --loss huber and --activation tanh"
        )
    diverged_at = None if end is None else rates[end]
    usable = smoothed[:end]
    lowest = int(np.argmin(usable[SETTLED:])) + SETTLED if len(usable) > SETTLED else 0
    falls = [_fall(usable, step) for step in range(SETTLED, lowest + 1)]
    if not falls or usable[lowest] > (1 - LEAST_FALL) * usable[SETTLED]:
        reason = f"the loss hardly fell at any rate, so {USUAL_RATE:g} is the default and not a finding"
        return Sweep(tuple(rates), tuple(losses), tuple(smoothed.tolist()), USUAL_RATE, reason, diverged_at)
    steepest = rates[SETTLED + int(np.argmax(falls))]
    chosen = _rounded(min(ABOVE_STEEPEST * steepest, rates[lowest] / BELOW_LOWEST))
    reason = f"the smoothed loss falls fastest at {steepest:.2g} and is lowest at {rates[lowest]:.2g}; "
    if ABOVE_STEEPEST * steepest <= rates[lowest] / BELOW_LOWEST:
        reason += "twice the first, since the rate falls along a cosine, is well below the second"
    else:
        reason += "twice the first would come too close to the second, so a third of that"
    return Sweep(tuple(rates), tuple(losses), tuple(smoothed.tolist()), chosen, reason, diverged_at)


def smooth(losses: Sequence[float]) -> NDArray[np.float64]:
    """Exponentially smoothed losses, each divided by the share that real losses have in it by then."""
    smoothed = np.empty(len(losses))
    running = 0.0
    for step, loss in enumerate(losses, start=1):
        running = SMOOTHING * running + (1 - SMOOTHING) * loss
        smoothed[step - 1] = running / (1 - SMOOTHING**step)
    return smoothed


def _fall(smoothed: NDArray[np.float64], step: int) -> float:
    """How far the smoothed loss falls around a step, per step."""
    before, after = max(0, step - REACH), min(len(smoothed) - 1, step + REACH)
    return float(smoothed[before] - smoothed[after]) / (after - before)


def _diverged(smoothed: NDArray[np.float64]) -> int | None:
    """The first step whose smoothed loss is not finite, or far above the lowest before it."""
    lowest = np.minimum.accumulate(smoothed)
    gone = np.flatnonzero(~(smoothed <= DIVERGED * lowest))
    return int(gone[0]) if len(gone) else None


def _batches(config: TrainingConfig, windows: int) -> NDArray[np.int64]:
    """(STEPS, batch): window numbers, shuffled pass by pass as a fit does."""
    batch = min(config.batch_size, windows)
    generator = np.random.default_rng(config.seed)
    passes = math.ceil(STEPS / (windows // batch))
    whole = [generator.permutation(windows)[: windows // batch * batch].reshape(-1, batch) for _ in range(passes)]
    return np.concatenate(whole)[:STEPS]


def _rounded(rate: float) -> float:
    """Two digits: a sweep does not tell more."""
    return float(f"{rate:.1e}")
