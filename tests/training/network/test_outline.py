"""`shapes`: what is told of Keras is what real layers give; of PyTorch, what its documentation says."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.training.tiny import config_of
from training.config import TrainingConfig
from training.network.layers import no_scaling
from training.network.model import assemble_model
from training.network.outline import Shape, Task, keras_layers, torch_layers

TASK = Task(steps=5, features=3, horizon=2, targets=2)
BATCH = 7

STACKS = [
    {"cell": cell, "units": (4, 6), **changes}
    for cell in ("lstm", "gru", "rnn")
    for changes in ({}, {"bidirectional": True}, {"output": "sequence"}, {"skip": True})
]


def sizes(shape: Shape) -> tuple[int, ...]:
    return tuple(BATCH if size == "batch" else size for size in shape)


@pytest.mark.parametrize("options", STACKS)
def test_the_shapes_are_those_of_real_keras_layers(options: dict[str, Any]) -> None:
    config = config_of(**options)
    selection = np.eye(TASK.features, TASK.targets, dtype=np.float32)
    model = assemble_model(config, (TASK.steps, TASK.features), (TASK.horizon, TASK.targets), no_scaling(selection))
    first, second, dense, *linear_path, rows = keras_layers(config, TASK)

    values: Any = np.ones((BATCH, TASK.steps, TASK.features), np.float32)
    for number, told in enumerate((first, second), start=1):
        real = model.get_layer(f"recurrent_{number}")
        assert real.count_params() == told.parameters
        assert values.shape == sizes(told.takes)
        with_states = keras.layers.deserialize(keras.layers.serialize(real))
        for inner in (getattr(with_states, "forward_layer", with_states), getattr(with_states, "backward_layer", None)):
            if inner is not None:
                inner.return_state = True
        with_states.return_state = True
        values, *states = with_states(values)
        assert values.shape == sizes(told.gives)
        assert [state.shape for state in states] == [sizes(shape) for _, shape in told.states]
    head = model.get_layer("head")
    assert (head.count_params(), head(values).shape) == (dense.parameters, sizes(dense.gives))
    for name, told in zip(("flat", "skip", "sum"), linear_path, strict=False):
        assert model.get_layer(name).count_params() == told.parameters
        assert model.get_layer(name).output.shape[1:] == told.gives[1:]
    assert len(linear_path) == (3 if config.skip else 0)
    assert model(np.ones((BATCH, TASK.steps, TASK.features), np.float32)).shape == sizes(rows.gives)
    assert sum(layer.parameters for layer in keras_layers(config, TASK)) == model.count_params()


def test_an_lstm_in_the_words_of_pytorch() -> None:
    first, second, last, linear, rows = torch_layers(config_of(units=(4, 6)), TASK)
    assert first.call == "nn.LSTM(3, 4, batch_first=True)"
    assert (first.takes, first.gives) == (("batch", 5, 3), ("batch", 5, 4))
    assert first.states == (("h_n", (1, "batch", 4)), ("c_n", (1, "batch", 4)))
    assert first.parameters == 4 * 4 * 3 + 4 * 4 * 4 + 2 * 4 * 4  # weight_ih, weight_hh, bias_ih and bias_hh
    assert second.gives == ("batch", 5, 6)  # every step, although Keras would keep the last
    assert (last.call, last.gives) == ("output[:, -1]", ("batch", 6))
    assert (linear.call, linear.parameters) == ("nn.Linear(6, 4)", 28)
    assert rows.gives == ("batch", 2, 2)


def test_two_directions_are_side_by_side_and_have_states_of_their_own() -> None:
    first, second, last, *_ = torch_layers(config_of(cell="gru", units=(4, 6), bidirectional=True), TASK)
    assert first.gives == ("batch", 5, 8)
    assert first.states == (("h_n", (2, "batch", 4)),)  # a GRU has no cell state
    assert first.parameters == 2 * (3 * 4 * 3 + 3 * 4 * 4 + 2 * 3 * 4)
    assert second.call == "nn.GRU(8, 6, batch_first=True, bidirectional=True)"
    assert (last.call, last.gives) == ("torch.cat([h_n[0], h_n[1]], dim=-1)", ("batch", 12))


def test_a_linear_path_starts_from_the_window_and_ends_in_a_sum() -> None:
    *_, linear, flatten, path, add, rows = torch_layers(config_of(units=(4,), skip=True), TASK)
    assert linear.call == "nn.Linear(4, 4)"
    assert (flatten.takes, flatten.gives) == (("batch", 5, 3), ("batch", 15))
    assert (path.call, path.parameters) == ("nn.Linear(15, 4)", 64)
    assert (add.takes, add.gives, rows.takes) == (("batch", 4),) * 3


def test_lags_are_read_by_the_linear_path_alone() -> None:
    config = config_of(
        data="load.csv", series=None, target="load", features="load,temp", window=4, skip=True, lags="10"
    )
    task = Task.of(config)
    assert (task.steps, task.picked) == (10, 4 * 2 + 1)
    for describe, pick in ((keras_layers, "Pick"), (torch_layers, "windows[:, places]")):
        first, *_, flatten, picked, path, _, _ = describe(config, task)
        assert first.takes == ("batch", 4, 2)
        assert (flatten.gives, picked.call, picked.gives) == (("batch", 20), pick, ("batch", 9))
        assert path.parameters == 9 + 1


def test_many_to_many_keeps_every_step() -> None:
    layers = list(torch_layers(config_of(output="sequence"), TASK))
    assert all("[:, -1]" not in layer.call for layer in layers)
    assert layers[-1].gives == ("batch", 5, 2, 2)


def test_a_built_in_series_tells_its_own_sizes_and_a_file_is_not_read() -> None:
    assert Task.of(config_of(series="multiplication")) == Task(100, 2, 1, 1)
    named = TrainingConfig(
        data=Path("nowhere.csv"), target=("load",), features=("load", "temp"), horizon=24, window=168
    )
    assert Task.of(named) == Task(168, 2, 24, 1)


def test_the_command_shows_both(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training", "shapes", "--data", "none.csv", "--target", "load", "--window", "12"]
    command += ["--units", "4", "--cell", "gru"]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "COLUMNS": "200"}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    for fact in ("GRU(4)", "(batch, 12, 1)", "(batch, 4)", "nn.GRU(1, 4, batch_first=True)", "h_n (1, batch, 4)"):
        assert fact in result.stdout, fact
    assert "c_n" not in result.stdout
