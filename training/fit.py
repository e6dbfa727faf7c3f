"""Fits a model: Adam along a cosine, early stopping on the validation part, the best weights kept.

The loop is our own. Keras' `fit` goes back to Python after every batch, which costs more than a step of a small LSTM;
here one call runs the steps of many batches (docs/decisions/0002).
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from training.config import Loss, TrainingConfig
from training.errors import TrainingError
from training.mistakes import check_fit
from training.model import compile_forecast
from training.windows import Part

Array = NDArray[np.float32]
Augment = Callable[[np.random.Generator, Array], Array]
"""Takes windows (n, steps, features), gives others with the same targets; the generator is the fit's own."""
Error = Callable[[Any], Any]
"""Maps errors, in units of the yardstick, to losses, element by element; takes and gives tensors."""
TrainSteps = Callable[[Array, Array], Any]
"""Takes windows (calls, batch, steps, features) and what follows them, gives the mean loss of the batches."""

CHUNK_BYTES = 2**25
"""Windows copied from the part for one call of the compiled loop, unless a single batch is larger."""

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


@dataclass(frozen=True, slots=True)
class History:
    """How a fit went."""

    epochs: tuple[Epoch, ...]
    seconds: float
    """From the first line of `fit` to the last, compilation included."""

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


class ProgressBar(Listener):
    """A bar on a terminal: epoch, losses, time left."""

    def __init__(self, console: Console) -> None:
        self._steps = 0
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
        self._epochs = epochs

    def steps_done(self, steps: int) -> None:
        """Moves the bar."""
        self._progress.advance(self._task, steps)

    def epoch_done(self, epoch: Epoch) -> None:
        """Shows the losses."""
        label = f"{min(epoch.number + 1, self._epochs)}/{self._epochs}"
        self._progress.update(self._task, epoch=label, losses=_losses(epoch))


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

    Args:
        model: As `build_model` makes it with the same configuration.
        config: The fields under Fitting.
        train: What is learnt from.
        validation: What decides when to stop and which weights are kept; None runs every epoch and keeps the last.
        listener: Hears how it goes.
        augment: Changes the windows of every batch, if given; not with the output `sequence`.

    Returns:
        The losses of every epoch.

    Raises:
        TrainingError: A loss is not a finite number, or the windows are not those that the model was built for.
    """
    started = time.perf_counter()
    for part in (train, validation):
        if part is not None:
            check_fit(model, part)
    batch = min(config.batch_size, len(train.windows))
    steps = len(train.windows) // batch
    generator = np.random.default_rng(config.seed)
    yardstick = model.get_layer("forecast").yardstick
    train_steps = _compile_steps(model, _adam(model, config, steps), config, yardstick)
    validation_loss = _compile_validation(model, config.loss, validation, yardstick) if validation else None
    expected = train.step_targets if config.output == "sequence" else train.targets

    epochs: list[Epoch] = []
    best = math.inf
    best_weights = model.get_weights()
    with listener or Listener() as told:
        told.starts(config.epochs, steps)
        for number in range(1, config.epochs + 1):
            order = generator.permutation(len(train.windows))[: steps * batch].reshape(steps, batch)
            total = 0.0
            for chosen in _calls(order, train.windows):
                windows = train.windows[chosen]
                if augment:
                    windows = augment(generator, windows.reshape(-1, *windows.shape[2:])).reshape(windows.shape)
                total += len(chosen) * float(train_steps(windows, expected[chosen]))
                _require_finite(total, "training", number, config)
                told.steps_done(len(chosen))
            loss = math.nan
            if validation_loss:
                loss = validation_loss()
                _require_finite(loss, "validation", number, config)
            is_best = not validation_loss or loss < best
            epochs.append(Epoch(number, total / steps, loss, best=is_best))
            if is_best and validation_loss:
                best, best_weights = loss, model.get_weights()
            told.epoch_done(epochs[-1])
            if _patience_lost(epochs, config.patience):
                break
    if validation:
        model.set_weights(best_weights)
    return History(tuple(epochs), time.perf_counter() - started)


def _adam(model: keras.Model, config: TrainingConfig, steps: int) -> keras.optimizers.Optimizer:
    """Adam, its rate falling along a cosine to zero at the last planned step."""
    rate = keras.optimizers.schedules.CosineDecay(config.learning_rate, decay_steps=config.epochs * steps)
    optimizer = keras.optimizers.Adam(rate, global_clipnorm=config.clip)
    optimizer.build(model.trainable_variables)
    return optimizer


def _compile_steps(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, config: TrainingConfig, yardstick: Array
) -> TrainSteps:
    """Compiles training steps that follow each other without a return to Python."""
    loss_of = _loss(config.loss)
    variables = model.trainable_variables

    # Without autograph, which rewrites Python for nothing here and warns on releases of Python it does not know.
    @tf.function(autograph=False, jit_compile=config.xla)  # type: ignore[untyped-decorator]
    def step(windows: Any, expected: Any) -> Any:
        with tf.GradientTape() as tape:
            errors = (model(windows, training=True) - expected) / yardstick
            loss = tf.reduce_mean(loss_of(errors))
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    # The number of steps stays open, so that the last, shorter call of an epoch needs no compilation of its own.
    window = tf.TensorSpec((None, None, *model.input.shape[1:]), tf.float32)
    after = tf.TensorSpec((None, None, *model.output.shape[1:]), tf.float32)

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def run(windows: Any, expected: Any) -> Any:
        steps = tf.shape(windows)[0]
        _, total = tf.while_loop(
            lambda number, _: number < steps,
            lambda number, total: (number + 1, total + step(windows[number], expected[number])),
            (tf.constant(0), tf.constant(0.0)),
        )
        return total / tf.cast(steps, tf.float32)

    call = run.get_concrete_function(window, after)
    return lambda windows, expected: call(tf.constant(windows), tf.constant(expected))


def _compile_validation(model: keras.Model, loss: Loss, part: Part, yardstick: Array) -> Callable[[], float]:
    """Compiles the mean loss of the served forecasts over every window of a part."""
    forecast = compile_forecast(model)
    loss_of = _loss(loss)

    def validate() -> float:
        errors = (forecast(part.windows) - part.targets) / yardstick
        return float(tf.reduce_mean(loss_of(tf.constant(errors))))

    return validate


def _loss(name: Loss) -> Error:
    """The loss of an error; Huber's is squared up to one yardstick and straight beyond."""
    match name:
        case "huber":
            return lambda error: tf.where(tf.abs(error) <= 1, tf.square(error) / 2, tf.abs(error) - 0.5)
        case "mae":
            return tf.abs  # type: ignore[no-any-return]
        case "mse":
            return tf.square  # type: ignore[no-any-return]


def _calls(order: NDArray[np.int64], windows: Array) -> Iterator[NDArray[np.int64]]:
    """Cuts an epoch's batches (steps, batch) into the pieces that one call of the compiled loop takes."""
    steps = max(1, CHUNK_BYTES // (order.shape[1] * windows[:1].nbytes))
    return (order[start : start + steps] for start in range(0, len(order), steps))


def _patience_lost(epochs: list[Epoch], patience: int) -> bool:
    """Whether the last `patience` epochs all failed to better the validation loss."""
    return len(epochs) > patience and not any(epoch.best for epoch in epochs[-patience:])


def _require_finite(loss: float, which: str, epoch: int, config: TrainingConfig) -> None:
    if not math.isfinite(loss):
        raise TrainingError(
            f"the {which} loss is no longer a finite number in epoch {epoch}: look for extreme values in the data, "
            f"or try --learning-rate {config.learning_rate / 10:g} (it is {config.learning_rate:g})"
        )


def _losses(epoch: Epoch) -> str:
    """Both losses in words."""
    if math.isnan(epoch.validation_loss):
        return f"loss {epoch.loss:.4f}"
    return f"loss {epoch.loss:.4f}  validation {epoch.validation_loss:.4f}{' (best)' if epoch.best else ''}"
