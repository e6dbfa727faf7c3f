"""Layers of your own as a stack on windows, or what to do if they do not fit."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras

from training.data.checks import Shape, sizes
from training.errors import ShapeError


def assemble(layers: Iterable[keras.layers.Layer], window_shape: Sequence[int]) -> keras.Sequential:
    """Stacks layers of your own on windows.

    `python -m training fuse` makes a version of an exported stack, if it has recurrent layers of one kind and then one
    Dense layer.

    Args:
        layers: The layers, first to last, not built yet.
        window_shape: (steps, features).

    Returns:
        A model of windows (batch, steps, features).

    Raises:
        ShapeError: The window does not have two sizes, or a layer gets no steps because the layer before it lacks
            return_sequences.
    """
    if len(window_shape) != 2:
        remedy = "windows of one feature have the shape (steps, 1): windows = windows[..., np.newaxis]"
        raise ShapeError("window_shape", "(steps, features)", tuple(window_shape), remedy)
    stack: list[keras.layers.Layer] = []
    shape: Shape = (None, *window_shape)
    for layer in layers:
        if _is_recurrent(layer) and len(shape) != 3:
            raise _lacks_steps(layer, stack, shape)
        shape = keras.Sequential([keras.Input(shape[1:]), layer]).output_shape
        stack.append(layer)
    return keras.Sequential([keras.Input(tuple(window_shape)), *stack])


def _lacks_steps(layer: Any, before: Sequence[Any], shape: Shape) -> ShapeError:
    culprit = next((each for each in reversed(before) if _is_recurrent(each) and not each.return_sequences), None)
    if culprit is None:
        remedy = "leave out the layer before it that drops the steps, such as Flatten"
    else:
        inner = getattr(culprit, "forward_layer", culprit)  # of a Bidirectional
        line = f"{type(inner).__name__}({getattr(inner, 'units', 'cell')}, return_sequences=True)"
        remedy = f"let {culprit.name} hand on every step: {line}"
    came = f"(batch, {sizes(shape[1:])}) from {before[-1].name}"
    return ShapeError(f"layer {len(before) + 1} ({layer.name})", "(batch, steps, features)", came, remedy)


def _is_recurrent(layer: Any) -> bool:
    return hasattr(layer, "return_sequences")
