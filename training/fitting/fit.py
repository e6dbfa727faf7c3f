"""Fits a model: Adam along a cosine, early stopping on the validation part, the best weights kept.

The loop is our own. Keras' `fit` goes back to Python after every batch, which costs more than a step of a small LSTM;
here one call runs the steps of many batches (docs/decisions/0002). A loss that
is not a finite number is diagnosed, undone and tried again with smaller steps.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from training.config import TrainingConfig
from training.console import note
from training.data.checks import check_fit
from training.data.windows import Part
from training.errors import ConfigError, TrainingError
from training.fitting.descent import Descent
from training.fitting.doctor import Incident, Trouble, covered, diagnose
from training.network.model import compile_forecast

Array = NDArray[np.float32]
Augment = Callable[[np.random.Generator, Array], Array]
"""Takes windows (n, steps, features), gives others with the same targets; the generator is the fit's own."""

CHUNK_BYTES = 2**25
"""Windows copied from the part for one call of the compiled loop, unless a single batch is larger."""

RETRIES = 3
"""Times that a fit goes back to its last good weights and on with smaller steps, before it gives up."""

GROWTH = 10
"""Times its shortest that the gradient of an epoch must be for the growth to be told."""

LINES = 10
"""About this many lines of progress go to a log, however many epochs there are."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the training windows."""

    number: int
    """From 1."""
    loss: float
    """Mean over the training windows, while the weights were changing; errors count in units of the yardstick."""
    validation_loss: float
    """Of the served forecast at the end of the pass, in the same units; NaN in a fit without validation."""
    best: bool
    """Whether no pass before had a lower validation loss; every pass is the best so far where there is none."""
    gradient_norm: float = math.nan
    """Norm of the whole gradient before clipping, mean over the steps."""
    largest_norm: float = math.nan
    """The largest of these norms."""


@dataclass(frozen=True, slots=True)
class History:
    """How a fit went."""

    epochs: tuple[Epoch, ...]
    seconds: float
    """From the first line of `fit` to the last, compilation included."""
    incidents: tuple[Incident, ...] = ()
    """Losses and gradients that were not finite, and what was done about them."""

    @property
    def best(self) -> Epoch:
        """The pass whose weights the model has kept."""
        return [epoch for epoch in self.epochs if epoch.best][-1]


class Listener:
    """Hears how a fit goes; this one keeps it to itself. Entered before the first step, left however the fit ends."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def starts(self, epochs: int, steps: int) -> None:
        """A fit of at most so many epochs begins, each of so many steps."""

    def steps_done(self, steps: int) -> None:
        """So many more steps are done."""

    def epoch_done(self, epoch: Epoch) -> None:
        """An epoch is over."""

    def noticed(self, sentence: str) -> None:
        """Something went wrong, or looks as if it will."""


class Listeners(Listener):
    """Several who hear the same."""

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

    def starts(self, epochs: int, steps: int) -> None:
        """Tells them all."""
        for listener in self._listeners:
            listener.starts(epochs, steps)

    def steps_done(self, steps: int) -> None:
        """Tells them all."""
        for listener in self._listeners:
            listener.steps_done(steps)

    def epoch_done(self, epoch: Epoch) -> None:
        """Tells them all."""
        for listener in self._listeners:
            listener.epoch_done(epoch)

    def noticed(self, sentence: str) -> None:
        """Tells them all."""
        for listener in self._listeners:
            listener.noticed(sentence)


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

    def starts(self, epochs: int, steps: int) -> None:
        """Shows an empty bar."""
        self._progress.update(self._task, total=epochs * steps, epoch=f"1/{epochs}")
        self._epochs, self._steps = epochs, steps

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
    """A handful of plain lines for a log: about `LINES` of them, the first epoch's always."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._every = 1
        self._epochs = 1

    def starts(self, epochs: int, steps: int) -> None:
        """Decides which epochs are told."""
        self._epochs = epochs
        self._every = math.ceil(epochs / LINES)
        self._console.print(f"fitting: at most {epochs} epochs of {steps} steps", highlight=False)

    def epoch_done(self, epoch: Epoch) -> None:
        """Prints a line, if it is this epoch's turn."""
        if epoch.number == 1 or epoch.number % self._every == 0:
            self._console.print(f"epoch {epoch.number}/{self._epochs}  {_losses(epoch)}", highlight=False)

    def noticed(self, sentence: str) -> None:
        """Prints the sentence."""
        note(self._console, sentence)


def progress(console: Console) -> Listener:
    """A bar where somebody watches, plain lines where a log is written."""
    return ProgressBar(console) if console.is_terminal else ProgressLines(console)


def fit(
    model: keras.Model,
    config: TrainingConfig,
    train: Part,
    validation: Part | None,
    listener: Listener | None = None,
    augment: Augment | None = None,
) -> History:
    """Fits the model in place and leaves it with the weights of its best epoch.

    Every epoch shuffles the windows and takes as many full batches as there are; the few left out differ from epoch to
    epoch. The validation loss is taken over every window. The same configuration, data and machine give the same
    weights.

    An epoch that meets a loss or a gradient that is not a finite number is run again, in another order, from the
    weights of the best epoch so far, with half the rate, half the clip and patience anew, at most `RETRIES` times in a
    fit.

    Args:
        model: As `build_model` makes it with the same configuration.
        config: The fields under Fitting.
        train: What is learnt from.
        validation: What decides when to stop and which weights are kept; None runs every epoch and keeps the last.
        listener: Hears how it goes.
        augment: Changes the windows of every batch, if given; not with the output `sequence`.

    Returns:
        The losses of every epoch, and what went wrong.

    Raises:
        ConfigError: The rate is still to be found.
        ShapeError: The windows are not those that the model was built for.
        TrainingError: A loss or a gradient is not a finite number, and smaller steps cannot help or did not.
    """
    started = time.perf_counter()
    for part in (train, validation):
        if part is not None:
            check_fit(part.windows.shape, part.targets.shape, model.input.shape[1:], model.output.shape[-2:])
    passes = _Passes(model, config, train, validation, augment)
    epochs: list[Epoch] = []
    incidents: list[Incident] = []
    good = passes.descent.state()
    resumed = 0
    with listener or Listener() as told:
        told.starts(config.epochs, passes.steps)
        while len(epochs) < config.epochs and not _patience_lost(epochs[resumed:], config.patience):
            outcome = passes.run(len(epochs) + 1, _lowest(epochs), told)
            if isinstance(outcome, Trouble):
                passes.descent.restore(good, next_step=len(epochs) * passes.steps)
                incidents.append(_treat(outcome, passes, epochs, len(incidents)))
                told.noticed(incidents[-1].sentence)
                resumed = len(epochs)
                continue
            epochs.append(outcome)
            if outcome.best:
                good = passes.descent.state()
            told.epoch_done(outcome)
            if _grows(epochs, config.clip) and not _grows(epochs[:-1], config.clip):
                told.noticed(_growth(epochs))
    passes.descent.restore(good, next_step=0)
    return History(tuple(epochs), time.perf_counter() - started, tuple(incidents))


class _Passes:
    """Passes over the training windows, each followed by the validation."""

    def __init__(
        self, model: keras.Model, config: TrainingConfig, train: Part, validation: Part | None, augment: Augment | None
    ) -> None:
        self.model = model
        self.config = config
        self._windows = train.windows
        self._expected = train.learnt_targets(config.output)
        self._validation = validation
        self._augment = augment
        self._generator = np.random.default_rng(config.seed)
        self._batch = min(config.batch_size, len(train.windows))
        self.steps = len(train.windows) // self._batch
        cosine = keras.optimizers.schedules.CosineDecay(1.0, decay_steps=config.epochs * self.steps)
        self.descent = Descent(model, config, _peak_rate(config), cosine)
        self._forecast = compile_forecast(model)

    def run(self, number: int, lowest: float, told: Listener) -> Epoch | Trouble:
        """One pass, up to the first loss or gradient that is not finite.

        Args:
            number: The pass, from 1.
            lowest: Validation loss so far.
            told: Hears of the steps.
        """
        order = self._generator.permutation(len(self._windows))[: self.steps * self._batch]
        losses: list[float] = []
        norms: list[float] = []
        for chosen in _calls(order.reshape(self.steps, self._batch), self._windows):
            windows, expected = self._windows[chosen], self._expected[chosen]
            if self._augment:
                windows = self._augment(self._generator, windows.reshape(-1, *windows.shape[2:])).reshape(windows.shape)
            taken = self.descent.run(windows, expected)
            losses.extend(taken.losses.tolist())
            norms.extend(taken.norms.tolist())
            if not taken.finite or not self.descent.finite:
                last = len(taken.losses) - 1
                return Trouble(
                    epoch=number,
                    batch=len(losses),
                    numbers=chosen[last],
                    windows=windows[last],
                    expected=expected[last],
                    forecasts=np.asarray(self.model(windows[last], training=False)),
                    loss=losses[-1],
                    norm=norms[-1],
                    usual_norm=float(np.mean(norms[:-1])) if len(norms) > 1 else math.nan,
                )
            told.steps_done(len(chosen))
        norm = {"gradient_norm": float(np.mean(norms)), "largest_norm": max(norms)}
        if self._validation is None:
            return Epoch(number, float(np.mean(losses)), math.nan, best=True, **norm)
        loss, forecasts = self._validate(self._validation)
        if not math.isfinite(loss):
            return self._validation_trouble(number, self._validation, loss, forecasts)
        return Epoch(number, float(np.mean(losses)), loss, best=loss < lowest, **norm)

    def is_sound(self, trouble: Trouble) -> bool:
        """Whether the windows of a trouble give a finite loss and gradient with the weights as they are."""
        if trouble.part == "validation" and self._validation:
            return math.isfinite(self._validate(self._validation)[0])
        return all(map(math.isfinite, self.descent.probe(trouble.windows, trouble.expected)))

    def _validate(self, part: Part) -> tuple[float, Array]:
        """The mean loss of the served forecasts over every window of a part, and the forecasts."""
        forecasts = self._forecast(part.windows)
        losses = self.descent.losses_of(tf.constant(forecasts), tf.constant(part.targets))
        return float(tf.reduce_mean(losses)), forecasts

    def _validation_trouble(self, number: int, part: Part, loss: float, forecasts: Array) -> Trouble:
        """Of a pass: the first windows without a finite loss, a batch at most; the worst if only their sum is none."""
        losses = np.asarray(self.descent.losses_of(tf.constant(forecasts), tf.constant(part.targets))).mean(axis=(1, 2))
        numbers = np.flatnonzero(~np.isfinite(losses))[: self._batch]
        if not len(numbers):
            numbers = np.array([losses.argmax()])
        return Trouble(
            epoch=number,
            batch=None,
            numbers=numbers,
            windows=part.windows[numbers],
            expected=part.targets[numbers],
            forecasts=forecasts[numbers],
            loss=loss,
            norm=math.nan,
            usual_norm=math.nan,
        )


def _treat(trouble: Trouble, passes: _Passes, epochs: list[Epoch], treated: int) -> Incident:
    """Says why, and takes smaller steps from here on; the last good weights are back already.

    Args:
        trouble: What was seen.
        passes: Where.
        epochs: The passes done.
        treated: Number of troubles before this one.

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


def _calls(order: NDArray[np.int64], windows: Array) -> Iterator[NDArray[np.int64]]:
    """Cuts an epoch's batches (steps, batch) into the pieces that one call of the compiled loop takes."""
    steps = max(1, CHUNK_BYTES // (order.shape[1] * windows[:1].nbytes))
    return (order[start : start + steps] for start in range(0, len(order), steps))


def _patience_lost(epochs: list[Epoch], patience: int) -> bool:
    """Whether the last `patience` epochs all failed to better the validation loss."""
    return len(epochs) >= patience and not any(epoch.best for epoch in epochs[-patience:])


def _lowest(epochs: list[Epoch]) -> float:
    """The lowest validation loss so far."""
    return min((epoch.validation_loss for epoch in epochs), default=math.inf)


def _grows(epochs: list[Epoch], clip: float) -> bool:
    """Whether the gradient of the last epoch was clipped as a rule and far longer than it was at its shortest."""
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


def _losses(epoch: Epoch) -> str:
    """Both losses in words."""
    if math.isnan(epoch.validation_loss):
        return f"loss {epoch.loss:.4f}"
    return f"loss {epoch.loss:.4f}  validation {epoch.validation_loss:.4f}{' (best)' if epoch.best else ''}"
