"""Steps down the loss: Adam, many steps in one compiled call, and what a fit or a sweep can change about them.

A step whose loss or gradient is not finite leaves the weights alone and ends its call, so no step writes a NaN into the
weights.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app.arrays import Inputs
from training.config import Loss, TrainingConfig
from training.fitting.memory import keep_freed_memory
from training.network.model import call, input_specs, tensors

Array = NDArray[np.float32]
Decay = Callable[[Any], Any]
"""Maps a step's number, from 0, to the factor of the rate; takes and returns scalar tensors."""
Losses = Callable[[Any, Any], Any]
"""Maps forecasts and what followed, both raw, to losses, element by element; takes and returns tensors."""


class Steps(NamedTuple):
    """Losses and norms of a call. The last step did not touch the weights if its loss or gradient is not finite."""

    losses: Array
    """(steps,) the mean loss of each batch, before its step."""
    norms: Array
    """(steps,) the norm of each step's whole gradient, before clipping."""

    @property
    def finite(self) -> bool:
        """Whether every step changed the weights."""
        return bool(np.isfinite(self.losses[-1]) and np.isfinite(self.norms[-1]))


class Descent:
    """The training steps of a model.

    Args:
        model: As `training.network.model.build_model` makes it.
        config: The fields under Fitting.
        rate: Adam's rate at a `decay` of 1.
        decay: The factor of the rate, step by step.
    """

    def __init__(self, model: keras.Model, config: TrainingConfig, rate: float, decay: Decay) -> None:
        keep_freed_memory()
        self._model = model
        self._rate = tf.Variable(rate, dtype=tf.float32)
        self._clip = tf.Variable(config.clip, dtype=tf.float32)
        # Adam corrects its memory by its own count of steps, so the count must fit the memory; `decay` may be ahead.
        self._ahead = tf.Variable(0, dtype=tf.int64)
        self._optimizer: Any = keras.optimizers.Adam(
            lambda: self._rate * decay(self._optimizer.iterations.value + self._ahead)
        )
        self._optimizer.build(model.trainable_variables)
        self.losses_of = losses_of(config.loss, model.get_layer("forecast").yardstick)
        self._run = self._compile_loop(self._compile_step(xla=config.xla))

    def run(self, inputs: Inputs, expected: Array) -> Steps:
        """Takes one step per batch, up to the first step whose loss or gradient is not finite.

        Args:
            inputs: Batches, one for each step: windows (steps, batch, steps of a window, features), raw units.
            expected: What follows each window, (steps, batch, ...) with the shape of the model's output.
        """
        done, losses, norms = self._run(tensors(inputs), tf.constant(expected))
        taken = int(done)
        return Steps(losses.numpy()[:taken], norms.numpy()[:taken])

    def probe(self, inputs: Inputs, expected: Array) -> tuple[float, float]:
        """Returns the loss of one batch and the norm of its gradient, without a step."""
        loss, gradients = self._gradients(tensors(inputs), tf.constant(expected))
        return float(loss), float(tf.linalg.global_norm(gradients))

    def halve(self) -> tuple[float, float]:
        """Halves the rate and the largest norm of a gradient, and returns both."""
        for lever in (self._rate, self._clip):
            lever.assign(lever / 2)
        return float(self._rate), float(self._clip)

    def state(self) -> list[Array]:
        """Returns copies of the weights, of the seeds of random layers, and of Adam's memory."""
        return [variable.numpy() for variable in self._variables]

    @property
    def finite(self) -> bool:
        """Whether every weight is finite."""
        return all(np.isfinite(np.asarray(weight)).all() for weight in self._model.weights)

    def restore(self, state: list[Array], next_step: int) -> None:
        """Puts the weights, the seeds and Adam's memory back.

        Args:
            state: As `state` returned it.
            next_step: The number of the next step for `decay`.
        """
        for variable, value in zip(self._variables, state, strict=True):
            variable.assign(value)
        self._ahead.assign(next_step - int(self._optimizer.iterations.value))

    @property
    def _variables(self) -> list[Any]:
        return [*self._model.variables, *self._optimizer.variables]

    def _gradients(self, arrays: dict[str, Any], expected: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(self.losses_of(call(self._model, arrays, training=True), expected))
        return loss, tape.gradient(loss, self._model.trainable_variables)

    def _compile_step(self, *, xla: bool) -> Callable[[Any, Any], tuple[Any, Any]]:
        """Compiles a training step: inputs by name and targets of a batch -> loss and norm of the gradient."""
        variables = self._model.trainable_variables

        # Without autograph, which rewrites Python for nothing here and warns on releases of Python it does not know.
        @tf.function(autograph=False, jit_compile=xla)  # type: ignore[untyped-decorator]
        def step(arrays: dict[str, Any], expected: Any) -> tuple[Any, Any]:
            loss, gradients = self._gradients(arrays, expected)
            norm = tf.linalg.global_norm(gradients)

            def descend() -> Any:
                clipped, _ = tf.clip_by_global_norm(gradients, self._clip, use_norm=norm)
                self._optimizer.apply_gradients(zip(clipped, variables, strict=True))
                return norm

            return loss, tf.cond(_finite(loss, norm), descend, lambda: norm)

        return step  # type: ignore[no-any-return]

    def _compile_loop(self, step: Callable[[Any, Any], tuple[Any, Any]]) -> Callable[[Any, Any], tuple[Any, Any, Any]]:
        """Compiles training steps that follow each other without a return to Python."""
        # The number of steps stays open, so that the last, shorter call of an epoch needs no compilation of its own.
        batches = input_specs(self._model, None)
        after = tf.TensorSpec((None, None, *self._model.output.shape[1:]), tf.float32)

        @tf.function(autograph=False)  # type: ignore[untyped-decorator]
        def run(arrays: dict[str, Any], expected: Any) -> tuple[Any, Any, Any]:
            steps = tf.shape(expected)[0]
            empty = tf.TensorArray(tf.float32, steps, element_shape=())

            def body(number: Any, _: Any, losses: Any, norms: Any) -> tuple[Any, Any, Any, Any]:
                loss, norm = step({name: array[number] for name, array in arrays.items()}, expected[number])
                return number + 1, _finite(loss, norm), losses.write(number, loss), norms.write(number, norm)

            done, _, losses, norms = tf.while_loop(
                lambda number, finite, *_: (number < steps) & finite,
                body,
                (tf.constant(0), tf.constant(True), empty, tf.TensorArray(tf.float32, steps, element_shape=())),
            )
            return done, losses.stack(), norms.stack()

        return run.get_concrete_function(batches, after)  # type: ignore[no-any-return]


def losses_of(name: Loss, yardstick: Array) -> Losses:
    """Returns the loss of forecasts, element by element.

    Args:
        name: `huber` is squared up to one yardstick and straight beyond; `mape` is the error as a share of what
            followed; `msle` is the squared difference of the logarithms of one plus each.
        yardstick: (targets,), raw units: `huber`, `mae` and `mse` divide errors by it.
    """

    def error(forecast: Any, expected: Any) -> Any:
        return (forecast - expected) / yardstick

    def huber(forecast: Any, expected: Any) -> Any:
        size = tf.abs(error(forecast, expected))
        return tf.where(size <= 1, tf.square(size) / 2, size - 0.5)

    match name:
        case "huber":
            return huber
        case "mae":
            return lambda forecast, expected: tf.abs(error(forecast, expected))
        case "mse":
            return lambda forecast, expected: tf.square(error(forecast, expected))
        case "mape":
            return lambda forecast, expected: tf.abs((forecast - expected) / expected)
        case "msle":
            return lambda forecast, expected: tf.square(tf.math.log1p(forecast) - tf.math.log1p(expected))


def _finite(loss: Any, norm: Any) -> Any:
    return tf.math.is_finite(loss) & tf.math.is_finite(norm)
