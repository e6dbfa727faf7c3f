"""The learning-rate sweep: takes a few hundred steps at rates that rise from step to step, and picks a rate.

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
"""Steps between two checks whether the loss has left for good."""

SMOOTHING = 0.97
"""Share of the smoothed loss that each step keeps: it is a mean over about thirty batches."""

SETTLED = 40
"""Steps at the start whose smoothed loss depends on a few batches; no rate is picked from them."""

REACH = 20
"""Steps to each side over which the fall of the smoothed loss is measured: a power of ten in all."""

DIVERGED = 4
"""The sweep ends when the smoothed loss is this many times its lowest value."""

LEAST_FALL = 0.02
"""Share by which the smoothed loss must have fallen before its course is more than chance."""

ABOVE_STEEPEST = 2
"""A fit starts at so many times the rate where the loss falls fastest; along a cosine, its mean rate is half of it."""

BELOW_LOWEST = 3
"""The chosen rate is at least so many times below the rate where the smoothed loss was lowest."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep saw, and the rate that it chose; `rates`, `losses` and `smoothed` have one value a step."""

    rates: tuple[float, ...]
    """Rate of each step; each is the same factor above the rate before."""
    losses: tuple[float, ...]
    """Loss of each step's batch, before the step."""
    smoothed: tuple[float, ...]
    """Exponentially smoothed losses."""
    chosen: float
    """The rate to train with."""
    reason: str
    """Why this rate was chosen, as a clause."""
    diverged_at: float | None
    """Rate at which the loss left for good; None where it never did."""

    @property
    def finding(self) -> Finding:
        """The chosen rate as a version records it."""
        return Finding(kind="found_rate", sentence=f"--learning-rate auto is {self.chosen:g}: {self.reason}")


def settle(config: TrainingConfig, dataset: Dataset) -> tuple[TrainingConfig, Sweep | None]:
    """Replaces `--learning-rate auto` by a number.

    Returns:
        The configuration with its rate, and the sweep that found the rate; None if the rate is a number already.

    Raises:
        TrainingError: As `sweep` does.
    """
    if config.learning_rate != "auto":
        return config, None
    found = sweep(config, dataset)
    return config.model_copy(update={"learning_rate": found.chosen}), found


def sweep(config: TrainingConfig, dataset: Dataset) -> Sweep:
    """Sweeps the rate over the training batches and picks a rate.

    The sweep makes a model of its own and drops it: weights that have seen high rates are a bad start. The same
    configuration, data and machine give the same sweep.

    Args:
        config: The fields under Model and Fitting; its learning rate is ignored.
        dataset: The data set; its training part is used.

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
    inputs = dataset.train.inputs
    expected = dataset.train.learnt_targets(config.output)
    order = _batches(config, len(inputs))
    losses: list[float] = []
    for start in range(0, STEPS, STEPS_A_CALL):
        chosen = order[start : start + STEPS_A_CALL]
        taken = descent.run(inputs.map(lambda array: array[chosen]), expected[chosen])  # noqa: B023 - called at once
        losses.extend(taken.losses.tolist())
        if not taken.finite or _diverged(smooth(losses)) is not None:
            break
    rates = [LOWEST_RATE * factor**step for step in range(len(losses))]
    return judge(rates, losses)


def judge(rates: Sequence[float], losses: Sequence[float]) -> Sweep:
    """Cuts off what came after the loss left for good, and picks a rate from the rest.

    The rate is twice the rate where the smoothed loss fell fastest against the logarithm of the rate, but at most a
    third of the rate where the smoothed loss was lowest. Five seeds of each of the series co2, lesson and exercise get
    0.0017 to 0.007.

    Args:
        rates: Rate of each step; each is the same factor above the rate before.
        losses: Loss of each step.

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
    chosen, reason = _choose(rates, smoothed[:end])
    diverged_at = None if end is None else rates[end]
    return Sweep(tuple(rates), tuple(losses), tuple(smoothed.tolist()), chosen, reason, diverged_at)


def _choose(rates: Sequence[float], smoothed: NDArray[np.float64]) -> tuple[float, str]:
    """Returns a rate, and why it was chosen, from the smoothed losses before the loss left for good."""
    lowest = int(np.argmin(smoothed[SETTLED:])) + SETTLED if len(smoothed) > SETTLED else 0
    falls = [_fall(smoothed, step) for step in range(SETTLED, lowest + 1)]
    if not falls or smoothed[lowest] > (1 - LEAST_FALL) * smoothed[SETTLED]:
        return USUAL_RATE, f"the loss hardly fell at any rate, so {USUAL_RATE:g} is the default and not a finding"
    steepest = rates[SETTLED + int(np.argmax(falls))]
    wanted, limit = ABOVE_STEEPEST * steepest, rates[lowest] / BELOW_LOWEST
    reason = f"the smoothed loss falls fastest at {steepest:.2g} and is lowest at {rates[lowest]:.2g}; "
    if wanted <= limit:
        reason += "twice the first, since the rate falls along a cosine, is well below the second"
    else:
        reason += "twice the first would come too close to the second, so it is a third of the second"
    return _rounded(min(wanted, limit)), reason


def smooth(losses: Sequence[float]) -> NDArray[np.float64]:
    """Smoothes losses exponentially; each value is divided by the share that real losses have in it."""
    smoothed = np.empty(len(losses))
    running = 0.0
    for step, loss in enumerate(losses, start=1):
        running = SMOOTHING * running + (1 - SMOOTHING) * loss
        smoothed[step - 1] = running / (1 - SMOOTHING**step)
    return smoothed


def _fall(smoothed: NDArray[np.float64], step: int) -> float:
    """Returns how far the smoothed loss falls around a step, per step."""
    before, after = max(0, step - REACH), min(len(smoothed) - 1, step + REACH)
    return float(smoothed[before] - smoothed[after]) / (after - before)


def _diverged(smoothed: NDArray[np.float64]) -> int | None:
    """Returns the first step whose smoothed loss is not finite, or far above the lowest before it."""
    lowest = np.minimum.accumulate(smoothed)
    gone = np.flatnonzero(~(smoothed <= DIVERGED * lowest))
    return int(gone[0]) if len(gone) else None


def _batches(config: TrainingConfig, windows: int) -> NDArray[np.int64]:
    """Returns window numbers (STEPS, batch), shuffled pass by pass as in a fit."""
    batch = min(config.batch_size, windows)
    generator = np.random.default_rng(config.seed)
    passes = math.ceil(STEPS / (windows // batch))
    whole = [generator.permutation(windows)[: windows // batch * batch].reshape(-1, batch) for _ in range(passes)]
    return np.concatenate(whole)[:STEPS]


def _rounded(rate: float) -> float:
    """Rounds to two digits: a sweep does not tell more."""
    return float(f"{rate:.1e}")
