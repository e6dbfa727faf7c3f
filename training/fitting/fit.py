"""Fits a model: Adam along a cosine, early stopping on the validation part, the best weights kept.

The loop is our own. Keras' `fit` goes back to Python after every batch, which costs more than a step of a small LSTM;
here one call runs the steps of many batches (docs/decisions/0002). A loss that is not a finite number is diagnosed,
undone and tried again with smaller steps.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app.arrays import Inputs
from training.config import TrainingConfig
from training.data.checks import check_fit
from training.data.windows import Part
from training.errors import ConfigError, TrainingError
from training.fitting.budget import Plan
from training.fitting.descent import Descent
from training.fitting.diagnosis import covered, diagnose
from training.fitting.history import Epoch, History
from training.fitting.listener import Listener
from training.fitting.symptoms import Incident, Trouble
from training.network.model import FORECAST_WINDOWS, Forecaster, call, window_shape

Array = NDArray[np.float32]
Augment = Callable[[np.random.Generator, Array], Array]
"""Maps windows (n, steps, features) to others with the same targets; the generator is the fit's own."""

CHUNK_BYTES = 2**25
"""Windows copied from the part for one call of the compiled loop, unless a single batch is larger."""

RETRIES = 3
"""Times that a fit goes back to its last good weights and on with smaller steps, before it gives up."""

TIMED_STEPS = 8
"""Steps that are timed to plan a fit."""

GROWTH = 10
"""The gradient grows if the norm of an epoch is this many times the smallest norm of an epoch."""


def fit(  # noqa: PLR0913 - those with defaults are seldom needed together
    forecaster: Forecaster,
    config: TrainingConfig,
    train: Part,
    validation: Part | None,
    listener: Listener | None = None,
    *,
    augment: Augment | None = None,
    seconds: float = math.inf,
) -> History:
    """Fits a model in place and leaves it with the weights of its best epoch.

    With a linear path the first weights count as an epoch: the model starts as a good forecaster, and may get worse.

    Every epoch shuffles the windows and takes as many full batches as there are; the few left out differ from epoch to
    epoch. The validation loss is taken over every window. The same configuration, data and machine give the same
    weights.

    An epoch that meets a loss or a gradient that is not a finite number is run again, in another order: from the
    weights of the best epoch so far, with half the rate, half the clip and new patience. A fit does so at most
    `RETRIES` times.

    Args:
        forecaster: The model, as `build_model` makes it with the same configuration, and its compiled forecast.
        config: The fields under Fitting.
        train: What is learnt from.
        validation: What decides when to stop and which weights are kept; None runs every epoch and keeps the last.
        listener: Is told how the fit goes.
        augment: Changes the windows of every batch, if given; not with the output `sequence`.
        seconds: How long the fit may take. Where the epochs would take longer, there are fewer; see `budget`.

    Returns:
        The losses of every epoch, and what went wrong.

    Raises:
        ConfigError: The learning rate is `auto`.
        ShapeError: The windows are not those that the model was built for.
        TrainingError: A loss or a gradient is not a finite number, and smaller steps cannot help or did not.
    """
    started = time.perf_counter()
    model = forecaster.model
    for part in (train, validation):
        if part is not None:
            check_fit(part.windows.shape, part.targets.shape, window_shape(model), model.output.shape[-2:])
    passes = _Passes(forecaster, config, train, validation, augment)
    start_loss = passes.validation_loss() if config.skip else math.nan
    with listener or Listener() as told:
        passes.plan_for(seconds - (time.perf_counter() - started))
        epochs, incidents = _run_passes(passes, start_loss, told)
    return History(tuple(epochs), passes.plan, time.perf_counter() - started, tuple(incidents), start_loss)


def _run_passes(passes: "_Passes", start_loss: float, told: Listener) -> tuple[list[Epoch], list[Incident]]:
    """Runs passes until patience is lost or there are no more, and puts the best weights back."""
    config, plan, descent = passes.config, passes.plan, passes.descent
    epochs: list[Epoch] = []
    incidents: list[Incident] = []
    good = descent.state()
    resumed = 0
    told.starts(plan)
    started = time.perf_counter()
    while len(epochs) < plan.epochs and not _patience_lost(epochs[resumed:], config.patience):
        if not plan.has_time(len(epochs), time.perf_counter() - started):
            told.noticed(f"the time is up after {len(epochs)} of {plan.epochs} epochs: the steps have become slower")
            break
        outcome = passes.run(len(epochs) + 1, _lowest(start_loss, epochs), told)
        if isinstance(outcome, Trouble):
            descent.restore(good, next_step=len(epochs) * plan.steps)
            incidents.append(_treat(outcome, passes, epochs, len(incidents)))
            told.noticed(incidents[-1].sentence)
            resumed = len(epochs)
            continue
        epochs.append(outcome)
        if outcome.best:
            good = descent.state()
        told.epoch_done(outcome)
        if _grows(epochs, config.clip) and not _grows(epochs[:-1], config.clip):
            told.noticed(_growth(epochs))
    descent.restore(good, next_step=0)
    return epochs, incidents


class _Batches(NamedTuple):
    """The batches of one call."""

    numbers: NDArray[np.int64]
    """(steps, batch): numbers of the windows."""
    inputs: Inputs
    """Windows are (steps, batch, steps of a window, features)."""
    expected: Array
    """(steps, batch, ..., horizon, targets): what follows the windows."""


class _Passes:
    """Passes over the training windows, each followed by the validation."""

    def __init__(
        self,
        forecaster: Forecaster,
        config: TrainingConfig,
        train: Part,
        validation: Part | None,
        augment: Augment | None,
    ) -> None:
        self.model = forecaster.model
        self.config = config
        self._inputs = train.inputs
        self._expected = train.learnt_targets(config.output)
        self._validation = validation
        self._augment = augment
        self._generator = np.random.default_rng(config.seed)
        self._batch = min(config.batch_size, len(train.windows))
        steps = len(train.windows) // self._batch
        self.plan = Plan(config.epochs, min(steps, config.epoch_steps or steps))
        self._length = tf.Variable(0.0, dtype=tf.float32)
        """Steps over which the rate falls to zero."""
        self.descent = Descent(self.model, config, _peak_rate(config), self._cosine)
        self._forecast = forecaster

    def plan_for(self, seconds: float) -> None:
        """Settles the plan, with fewer epochs where they would take longer than some seconds."""
        if seconds < math.inf:
            started = time.perf_counter()
            step, validation = self._step_seconds(), self._validation_seconds()
            self.plan = self.plan.within(seconds - (time.perf_counter() - started), step, validation)
        self._length.assign(self.plan.epochs * self.plan.steps)

    def _cosine(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the factor of the rate, which falls along half a wave of a cosine to zero."""
        return (1 + tf.cos(math.pi * tf.minimum(tf.cast(step, tf.float32) / self._length, 1))) / 2

    def _step_seconds(self) -> float:
        """Times a few training steps, once they are compiled, and undoes them."""
        numbers = np.arange(TIMED_STEPS * self._batch).reshape(TIMED_STEPS, -1) % len(self._inputs)
        inputs, expected = self._inputs.map(lambda array: array[numbers]), self._expected[numbers]
        state = self.descent.state()
        self.descent.run(inputs[:1], expected[:1])
        started = time.perf_counter()
        taken = self.descent.run(inputs, expected)
        seconds = time.perf_counter() - started
        self.descent.restore(state, next_step=0)
        return seconds / len(taken.losses)

    def _validation_seconds(self) -> float:
        """Times a part of the validation, once it is compiled."""
        if self._validation is None:
            return 0.0
        inputs = self._validation.inputs
        self._forecast(inputs[:1])
        started = time.perf_counter()
        timed = len(self._forecast(inputs[:FORECAST_WINDOWS]))
        return (time.perf_counter() - started) * len(inputs) / timed

    def run(self, number: int, lowest: float, told: Listener) -> Epoch | Trouble:
        """Runs one pass, up to the first loss or gradient that is not finite.

        Args:
            number: The pass, from 1.
            lowest: Lowest validation loss so far.
            told: Is told of the steps.
        """
        losses: list[float] = []
        norms: list[float] = []
        for batches in self._calls():
            taken = self.descent.run(batches.inputs, batches.expected)
            losses.extend(taken.losses.tolist())
            norms.extend(taken.norms.tolist())
            if not taken.finite or not self.descent.finite:
                return self._training_trouble(number, batches, losses, norms, last=len(taken.losses) - 1)
            told.steps_done(len(batches.numbers))
        norm = {"gradient_norm": float(np.mean(norms)), "largest_norm": max(norms)}
        if self._validation is None:
            return Epoch(number, float(np.mean(losses)), math.nan, best=True, **norm)
        loss, forecasts = self._validate(self._validation)
        if not math.isfinite(loss):
            return self._validation_trouble(number, self._validation, loss, forecasts)
        return Epoch(number, float(np.mean(losses)), loss, best=loss < lowest, **norm)

    def is_sound(self, trouble: Trouble) -> bool:
        """Returns whether the windows of a trouble give a finite loss and gradient with the weights as they are."""
        if trouble.part == "validation" and self._validation:
            return math.isfinite(self._validate(self._validation)[0])
        return all(map(math.isfinite, self.descent.probe(trouble.inputs, trouble.expected)))

    def validation_loss(self) -> float:
        """Returns the validation loss of the weights as they are; NaN in a fit without validation."""
        return math.nan if self._validation is None else self._validate(self._validation)[0]

    def _calls(self) -> Iterator[_Batches]:
        """Shuffles the windows into batches and yields as many batches at a time as one call takes."""
        order = self._generator.permutation(len(self._inputs))[: self.plan.steps * self._batch]
        batches = order.reshape(self.plan.steps, self._batch)
        steps = max(1, CHUNK_BYTES // (self._batch * self._inputs.windows[:1].nbytes))
        for start in range(0, self.plan.steps, steps):
            numbers = batches[start : start + steps]
            inputs = self._inputs.map(lambda array: array[numbers])  # noqa: B023 - called at once
            if self._augment:
                windows = inputs.windows
                windows = self._augment(self._generator, windows.reshape(-1, *windows.shape[2:])).reshape(windows.shape)
                inputs = Inputs(windows, inputs.future, inputs.time)
            yield _Batches(numbers, inputs, self._expected[numbers])

    def _validate(self, part: Part) -> tuple[float, Array]:
        """Returns the mean loss of the served forecasts over every window of a part, and the forecasts."""
        forecasts = self._forecast(part.inputs)
        return float(tf.reduce_mean(self._losses(forecasts, part))), forecasts

    def _losses(self, forecasts: Array, part: Part) -> tf.Tensor:
        """Returns the loss of every number of the forecasts: (n, horizon, targets)."""
        return self.descent.losses_of(tf.constant(forecasts), tf.constant(part.targets))

    def _training_trouble(
        self, number: int, batches: _Batches, losses: Sequence[float], norms: Sequence[float], last: int
    ) -> Trouble:
        """Describes the last step of a pass, which was the step `last` of its call."""
        inputs = batches.inputs.map(lambda array: array[last])
        return Trouble(
            epoch=number,
            batch=len(losses),
            numbers=batches.numbers[last],
            inputs=inputs,
            expected=batches.expected[last],
            forecasts=np.asarray(call(self.model, inputs.named())),
            loss=losses[-1],
            norm=norms[-1],
            usual_norm=float(np.mean(norms[:-1])) if len(norms) > 1 else math.nan,
        )

    def _validation_trouble(self, number: int, part: Part, loss: float, forecasts: Array) -> Trouble:
        """Describes a validation by its windows without a finite loss, at most a batch of them.

        If the loss of every window is finite and only their sum is not, the window with the largest loss stands for it.
        """
        losses = np.asarray(self._losses(forecasts, part)).mean(axis=(1, 2))
        numbers = np.flatnonzero(~np.isfinite(losses))[: self._batch]
        if not len(numbers):
            numbers = np.array([losses.argmax()])
        return Trouble(
            epoch=number,
            batch=None,
            numbers=numbers,
            inputs=part.inputs.map(lambda array: array[numbers]),
            expected=part.targets[numbers],
            forecasts=forecasts[numbers],
            loss=loss,
            norm=math.nan,
            usual_norm=math.nan,
        )


def _treat(trouble: Trouble, passes: _Passes, epochs: list[Epoch], treated: int) -> Incident:
    """Finds the cause, and takes smaller steps from here on. The last good weights are back already.

    Args:
        trouble: What the fit saw.
        passes: The fit.
        epochs: Its epochs so far.
        treated: How many troubles it had before.

    Raises:
        TrainingError: Smaller steps cannot help, or did not.
    """
    config = passes.config
    diagnosis = diagnose(trouble, config, passes.model, sound_again=passes.is_sound(trouble))
    rows = covered(trouble, config)
    if not diagnosis.curable or treated == RETRIES:
        place = f"epoch {trouble.epoch}" + (f", batch {trouble.batch}" if trouble.batch else "")
        done = f"; half the rate and half the clip did not help, {RETRIES} times over" if diagnosis.curable else ""
        first, second, third = diagnosis.next_things
        raise TrainingError(
            f"the {trouble.what} is not a finite number in {place} ({rows}): {diagnosis.cause}{done}; "
            f"try next: (1) {first}; (2) {second}; (3) {third}"
        )
    rate, clip = passes.descent.halve()
    best = [epoch.number for epoch in epochs if epoch.best]
    weights = f"the weights of epoch {best[-1]}" if best else "the first weights"
    remedy = f"went on from {weights} with half the rate ({rate:.2g}) and half the clip ({clip:.2g})"
    return Incident(trouble.epoch, trouble.batch, rows, diagnosis.cause, remedy)


def _peak_rate(config: TrainingConfig) -> float:
    if config.learning_rate == "auto":
        raise ConfigError(
            "--learning-rate auto is not a rate yet; "
            "expected the number that training.fitting.learning_rate.settle finds"
        )
    return config.learning_rate


def _patience_lost(epochs: list[Epoch], patience: int) -> bool:
    """Returns whether none of the last `patience` epochs had the lowest validation loss so far."""
    return len(epochs) >= patience and not any(epoch.best for epoch in epochs[-patience:])


def _lowest(start_loss: float, epochs: list[Epoch]) -> float:
    """Returns the lowest validation loss so far. A start whose loss is not finite is worse than every pass."""
    return min([start_loss if math.isfinite(start_loss) else math.inf, *(epoch.validation_loss for epoch in epochs)])


def _grows(epochs: list[Epoch], clip: float) -> bool:
    """Returns whether the last epoch's gradient was clipped as a rule, and `GROWTH` times as long as the shortest."""
    if len(epochs) < 2:
        return False
    norm = epochs[-1].gradient_norm
    return norm > clip and norm > GROWTH * min(epoch.gradient_norm for epoch in epochs)


def _growth(epochs: list[Epoch]) -> str:
    shortest, last = min(epochs, key=lambda epoch: epoch.gradient_norm), epochs[-1]
    return (
        f"the gradient grows: its norm is {last.gradient_norm:.3g} on average in epoch {last.number} (largest "
        f"{last.largest_norm:.3g}), {shortest.gradient_norm:.3g} in epoch {shortest.number}; a lower --learning-rate "
        "or --clip may keep it from exploding"
    )
