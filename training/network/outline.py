"""The shapes of a network, layer by layer, in the words of Keras and of PyTorch, without building it.

A recurrent layer of H units turns a window (batch, steps, features) into:

                 Keras                                             PyTorch (batch_first=True)
    output       (batch, steps, H) with return_sequences=True,     (batch, steps, H), always every step;
                 else (batch, H), the last step's                  output[:, -1] is the last step's
    states       (batch, H) each, with return_state=True           h_n and c_n (layers * directions, batch, H)

An LSTM has a hidden and a cell state, a GRU and a simple RNN have a hidden state only. Two directions are put side by
side, 2 * H wide. Each direction keeps its own states; the output of the last step joins the forward direction's last
step and the backward direction's first. Keras counts layers one by one, and so does this module: each layer is an
`nn.LSTM` with num_layers=1.

Parameters (torch.nn.LSTM, GRU, RNN; keras.layers.LSTM, GRU, SimpleRNN), G gates, F inputs:
Keras G * H * (F + H + 1), but 2 biases for a GRU (reset_after); PyTorch G * H * (F + H + 2), always 2 biases.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Self

from rich.table import Table

from training.config import Cell, TrainingConfig
from training.data.prepare import prepare
from training.network.reading import linear_places

Size = int | Literal["batch"]
Shape = tuple[Size, ...]

BATCH: Literal["batch"] = "batch"
GATES: dict[Cell, int] = {"lstm": 4, "gru": 3, "rnn": 1}
KERAS_BIASES: dict[Cell, int] = {"lstm": 1, "gru": 2, "rnn": 1}
TORCH_BIASES = 2
KERAS_NAMES: dict[Cell, str] = {"lstm": "LSTM", "gru": "GRU", "rnn": "SimpleRNN"}
TORCH_NAMES: dict[Cell, str] = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer in the words of one library.

    Attributes:
        call: How the layer is written in the library.
        takes: Shape of its input.
        gives: Shape of its output.
        states: Name and shape of each final state; empty for a layer without memory.
        parameters: How many numbers are trained.
    """

    call: str
    takes: Shape
    gives: Shape
    states: tuple[tuple[str, Shape], ...]
    parameters: int


@dataclass(frozen=True, slots=True)
class Task:
    """The sizes of a network's input and output.

    Attributes:
        steps: Steps of a window.
        features: Features of a window.
        horizon: Rows of a forecast.
        targets: Targets of a forecast.
        picked: How many numbers of a window the linear path reads; None for all of them.
        told: How many numbers are known of the rows to forecast, for both paths.
    """

    steps: int
    features: int
    horizon: int
    targets: int
    picked: int | None = None
    told: int = 0

    @classmethod
    def of(cls, config: TrainingConfig) -> Self:
        """Returns the task of a configuration. A data file need not exist: the configuration names its columns.

        Lags that are still to be chosen are left out, and so is the calendar, which depends on the distance of rows.

        Raises:
            TrainingError: The configuration does not fit the built-in series it names.
        """
        if config.data is not None:
            targets = config.target
            features = tuple(dict.fromkeys([*(config.features or targets), *config.known]))
            sizes = config.window, len(features), config.horizon, len(targets)
        else:
            dataset = prepare(config)
            features, targets = dataset.feature_names, dataset.target_names
            sizes = (*dataset.train.windows.shape[1:], *dataset.train.targets.shape[1:])
        told = config.horizon * len(config.known)
        if not config.chosen_lags:
            return cls(*sizes, told=told)
        steps = max(config.window, *config.chosen_lags)
        selection = [[feature == target for target in targets] for feature in features]
        places = linear_places(steps, config.window, config.chosen_lags, selection, config.horizon)
        return cls(steps, *sizes[1:], picked=len(places), told=told)


def keras_layers(config: TrainingConfig, task: Task) -> Iterator[Layer]:
    """Yields the layers that are trained, first to last, as Keras has them.

    Args:
        config: The fields under Model.
        task: The sizes of input and output.
    """
    steps, width = config.window if task.picked else task.steps, task.features
    directions = 1 + config.bidirectional
    for number, units in enumerate(config.layers, start=1):
        every_step = number < len(config.layers) or config.output == "sequence"
        call = f"{KERAS_NAMES[config.cell]}({units}{', return_sequences=True' if every_step else ''})"
        states = [("h", (BATCH, units))] + ([("c", (BATCH, units))] if config.cell == "lstm" else [])
        if config.bidirectional:
            call = f"Bidirectional({call})"
            states = [(f"{way} {name}", shape) for way in ("forward", "backward") for name, shape in states]
        takes: Shape = (BATCH, steps, width)
        size = _parameters(config.cell, width, units, KERAS_BIASES[config.cell])
        width = directions * units
        yield Layer(
            call, takes, (BATCH, steps, width) if every_step else (BATCH, width), tuple(states), directions * size
        )
    outputs = task.horizon * task.targets
    each: Shape = (BATCH, steps) if config.output == "sequence" else (BATCH,)
    if task.told:
        units = config.layers[-1]
        yield from _mix(task, width, units, (f"Concatenate([..., future ({task.told})])", f'Dense({units}, "relu")'))
        width = units
    yield Layer(f"Dense({outputs})", (*each, width), (*each, outputs), (), (width + 1) * outputs)
    if config.skip:
        yield from _linear_path(task, ("Flatten", "Pick", "Concatenate", f"Dense({outputs})", "Add"))
    yield Layer("Reshape", (*each, outputs), (*each, task.horizon, task.targets), (), 0)


def torch_layers(config: TrainingConfig, task: Task) -> Iterator[Layer]:
    """Yields the same layers as PyTorch has them, with the shapes of its documentation."""
    steps, width = config.window if task.picked else task.steps, task.features
    directions = 1 + config.bidirectional
    for units in config.layers:
        both = ", bidirectional=True" if config.bidirectional else ""
        call = f"nn.{TORCH_NAMES[config.cell]}({width}, {units}, batch_first=True{both})"
        state: Shape = (directions, BATCH, units)
        states = (("h_n", state), ("c_n", state)) if config.cell == "lstm" else (("h_n", state),)
        takes: Shape = (BATCH, steps, width)
        size = _parameters(config.cell, width, units, TORCH_BIASES)
        width = directions * units
        yield Layer(call, takes, (BATCH, steps, width), states, directions * size)
    outputs = task.horizon * task.targets
    each: Shape = (BATCH, steps) if config.output == "sequence" else (BATCH,)
    if config.output == "last":
        yield Layer(_last_step(config), (BATCH, steps, width), (BATCH, width), (), 0)
    if task.told:
        units = config.layers[-1]
        calls = f"torch.cat([..., future ({task.told})], -1)", f"nn.Linear({width + task.told}, {units}), nn.ReLU()"
        yield from _mix(task, width, units, calls)
        width = units
    yield Layer(f"nn.Linear({width}, {outputs})", (*each, width), (*each, outputs), (), (width + 1) * outputs)
    if config.skip:
        numbers = (task.picked or task.steps * task.features) + task.told
        cat, dense = "torch.cat([..., future], -1)", f"nn.Linear({numbers}, {outputs})"
        yield from _linear_path(task, ("nn.Flatten()", "windows[:, places]", cat, dense, "torch.add"))
    yield Layer(
        f"nn.Unflatten(-1, ({task.horizon}, {task.targets}))",
        (*each, outputs),
        (*each, task.horizon, task.targets),
        (),
        0,
    )


def _mix(task: Task, width: int, units: int, calls: tuple[str, str]) -> Iterator[Layer]:
    """Yields the layer in which the last state of the cells meets what is known of the rows to forecast.

    Args:
        task: The sizes of input and output.
        width: Numbers of the last state.
        units: Numbers of the layer.
        calls: What joins the two, and the layer.
    """
    join, dense = calls
    yield Layer(join, (BATCH, width), (BATCH, width + task.told), (), 0)
    yield Layer(dense, (BATCH, width + task.told), (BATCH, units), (), (width + task.told + 1) * units)


def _linear_path(task: Task, calls: tuple[str, str, str, str, str]) -> Iterator[Layer]:
    """Yields the linear path of `--skip` past the cells, and the sum of both paths.

    Args:
        task: The sizes of input and output.
        calls: What flattens a window, picks the numbers that are read, joins what is known ahead, multiplies all, and
            adds both paths.
    """
    flatten, pick, join, dense, add = calls
    numbers, outputs = task.steps * task.features, task.horizon * task.targets
    yield Layer(flatten, (BATCH, task.steps, task.features), (BATCH, numbers), (), 0)
    if task.picked:
        yield Layer(pick, (BATCH, numbers), (BATCH, task.picked), (), 0)
        numbers = task.picked
    if task.told:
        yield Layer(join, (BATCH, numbers), (BATCH, numbers + task.told), (), 0)
        numbers += task.told
    yield Layer(dense, (BATCH, numbers), (BATCH, outputs), (), (numbers + 1) * outputs)
    yield Layer(add, (BATCH, outputs), (BATCH, outputs), (), 0)


def _last_step(config: TrainingConfig) -> str:
    """Returns the output of Keras without return_sequences: each direction has read the whole window."""
    if not config.bidirectional:
        return "output[:, -1]"
    return "torch.cat([h_n[0], h_n[1]], dim=-1)"


def _parameters(cell: Cell, inputs: int, units: int, biases: int) -> int:
    return GATES[cell] * units * (inputs + units + biases)


def shape_table(title: str, layers: Iterator[Layer]) -> Table:
    """Returns a table with a line for each layer and each of its states, and the sum of the parameters."""
    table = Table(title=title, title_justify="left", show_footer=True)
    listed = list(layers)
    table.add_column("layer", "", overflow="fold")
    table.add_column("input")
    table.add_column("output")
    table.add_column("states")
    table.add_column("parameters", str(sum(layer.parameters for layer in listed)), justify="right")
    for layer in listed:
        states = "\n".join(f"{name} {shown(shape)}" for name, shape in layer.states) or "-"
        table.add_row(layer.call, shown(layer.takes), shown(layer.gives), states, str(layer.parameters))
    return table


def shown(shape: Shape) -> str:
    """Returns a shape as one writes it: `(batch, 30, 1)`."""
    return f"({', '.join(map(str, shape))})" if len(shape) > 1 else f"({shape[0]},)"


def table_titles(config: TrainingConfig) -> tuple[str, str]:
    """Returns the titles of the two tables."""
    kind = "one forecast after every step (many to many)" if config.output == "sequence" else "many to one"
    return (
        f"Keras, {kind}; the states are given with return_state=True",
        f"PyTorch, {kind}; the input and output have the batch first, the states have not",
    )
