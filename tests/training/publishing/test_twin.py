"""The fused twin: it computes what Keras does, with one operator a layer, and what cannot be drawn is refused."""

from pathlib import Path
from typing import Any

import keras
import onnx
import pytest

from app.version.manifest import TWIN_FILE, Contract
from tests.training.publishing.models import LARGE, SEASONAL, SMALL, check, model_of
from tests.training.tiny import config_of
from training.config import Cell, Output, Scale
from training.data.windows import Dataset
from training.errors import NotFusable
from training.judging.baselines import fit_baselines, publishable
from training.network.model import linear_model, serving_model
from training.publishing.export import make_contract
from training.publishing.twin import build_twin, write_twin


def edited(model: keras.Model, layer_name: str, **options: Any) -> keras.Model:
    """The model again, with other options of a layer."""
    config = model.get_config()
    layer = next(layer for layer in config["layers"] if layer["name"] == layer_name)
    layer["config"].update(options)
    return keras.Model.from_config(config)


@pytest.fixture
def model() -> keras.Model:
    return model_of(config_of(units=(4, 3)))


@pytest.fixture
def contract() -> Contract:
    return make_contract(SMALL)


@pytest.mark.parametrize(("units", "dataset"), [((5,), SMALL), ((4, 3), LARGE)], ids=["small", "large"])
@pytest.mark.parametrize("scale", ["standard", "window", "last", "none"])
@pytest.mark.parametrize(
    ("output", "bidirectional"),
    [("last", False), ("last", True), ("sequence", False)],
    ids=["last", "both", "sequence"],
)
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_twin_computes_what_keras_does(
    cell: Cell, output: Output, bidirectional: bool, scale: Scale, units: tuple[int, ...], dataset: Dataset
) -> None:
    options = {"cell": cell, "output": output, "bidirectional": bidirectional, "scale": scale, "units": units}
    config = config_of(**options, dropout=0.1 if len(units) > 1 else 0.0)
    model, contract = model_of(config, dataset), make_contract(dataset)

    twin = build_twin(serving_model(model), contract)

    onnx.checker.check_model(twin, full_check=True)
    check(twin, model, contract)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("cell", "operator"), [("lstm", "LSTM"), ("gru", "GRU"), ("rnn", "RNN")])
def test_every_recurrent_layer_is_one_operator(
    cell: Cell, operator: str, bidirectional: bool, contract: Contract
) -> None:
    model = model_of(config_of(cell=cell, bidirectional=bidirectional, units=(4, 3, 2)))

    nodes = build_twin(model, contract).graph.node

    assert [node.name for node in nodes if node.op_type == operator] == ["recurrent_1", "recurrent_2", "recurrent_3"]
    assert not {"Loop", "Scan", "If"} & {node.op_type for node in nodes}


def test_default_scale_costs_few_operators(contract: Contract) -> None:
    nodes = build_twin(model_of(config_of(units=(4,))), contract).graph.node

    operators = "Gather Sub Div Transpose LSTM Squeeze Gemm Reshape Mul Add"
    assert [node.op_type for node in nodes] == operators.split()


@pytest.mark.parametrize(("units", "dataset"), [((5,), SMALL), ((4, 3), LARGE)], ids=["small", "large"])
@pytest.mark.parametrize("scale", ["standard", "window", "last", "none"])
@pytest.mark.parametrize("options", [{"skip": True}, {"noise": 0.1}, {"skip": True, "noise": 0.1}], ids=str)
def test_twin_has_the_linear_path_and_no_noise(
    options: dict[str, Any], scale: Scale, units: tuple[int, ...], dataset: Dataset
) -> None:
    model, contract = model_of(config_of(scale=scale, units=units, **options), dataset), make_contract(dataset)

    check(build_twin(model, contract), model, contract)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("scale", ["standard", "window", "last", "none"])
def test_twin_reads_the_lags_and_the_cells_read_the_last_steps(scale: Scale, cell: Cell, bidirectional: bool) -> None:
    config = config_of(scale=scale, cell=cell, bidirectional=bidirectional, skip=True, window=6)
    model, contract = model_of(config, SEASONAL), make_contract(SEASONAL)

    assert contract.steps == 20
    check(build_twin(model, contract), model, contract)


@pytest.mark.parametrize("dataset", [SMALL, LARGE], ids=["small", "large"])
def test_twin_of_a_model_without_a_network(dataset: Dataset) -> None:
    [*_, linear] = publishable(fit_baselines(dataset))
    contract = make_contract(dataset)
    model = linear_model(linear, contract.window_shape, contract.forecast_shape)

    twin = build_twin(model, contract)

    onnx.checker.check_model(twin, full_check=True)
    check(twin, model, contract)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_twin_of_cells_without_bounds(cell: Cell, bidirectional: bool, contract: Contract) -> None:
    model = model_of(config_of(cell=cell, units=(4, 3), activation="relu", bidirectional=bidirectional))

    check(build_twin(model, contract), model, contract)


@pytest.mark.parametrize("output", ["last", "sequence"])
def test_served_and_trained_model_have_the_same_twin(output: Output, contract: Contract) -> None:
    model = model_of(config_of(output=output))

    assert build_twin(model, contract) == build_twin(serving_model(model), contract)


def test_written_twin_is_read_back(model: keras.Model, contract: Contract, tmp_path: Path) -> None:
    twin = build_twin(model, contract)

    write_twin(twin, tmp_path)

    assert onnx.load(tmp_path / TWIN_FILE) == twin


@pytest.mark.parametrize(
    ("cell", "layer", "options", "reason"),
    [
        ("lstm", "recurrent_1", {"activation": "sigmoid"}, "recurrent_1 has activation='sigmoid'"),
        ("lstm", "recurrent_2", {"go_backwards": True}, "recurrent_2 has go_backwards=True"),
        ("gru", "recurrent_1", {"reset_after": False}, "recurrent_1 has reset_after=False"),
        ("rnn", "recurrent_1", {"use_bias": False}, "recurrent_1 has use_bias=False"),
        ("rnn", "head", {"activation": "tanh"}, "head has activation='tanh'"),
        ("lstm", "skip", {"activation": "tanh"}, "skip has activation='tanh'"),
    ],
)
def test_unknown_option_is_refused(
    cell: Cell, layer: str, options: dict[str, Any], reason: str, contract: Contract
) -> None:
    model = edited(model_of(config_of(cell=cell, units=(4, 3), skip=True)), layer, **options)

    with pytest.raises(NotFusable, match=reason):
        build_twin(model, contract)


def test_directions_that_are_added_up_are_refused(contract: Contract) -> None:
    model = model_of(config_of(bidirectional=True))
    model.get_layer("recurrent_1").merge_mode = "sum"

    with pytest.raises(NotFusable, match="recurrent_1 has merge_mode='sum'"):
        build_twin(model, contract)


def test_both_directions_after_every_step_are_refused(contract: Contract) -> None:
    config = config_of(output="sequence").model_copy(update={"bidirectional": True})

    with pytest.raises(NotFusable, match="recurrent_1 hands on every step of both directions"):
        build_twin(model_of(config), contract)


def test_unknown_layer_is_refused(model: keras.Model, contract: Contract) -> None:
    longer = keras.Model(model.input, keras.layers.LayerNormalization(name="polish")(model.output))

    with pytest.raises(NotFusable, match="it holds polish, a LayerNormalization") as refusal:
        build_twin(longer, contract)

    assert str(refusal.value) == f"The model has no fused twin, because {refusal.value.reason}."


def test_missing_layer_is_refused(contract: Contract) -> None:
    windows = keras.Input((6, 1), name="windows")
    foreign = keras.Model(
        windows, keras.layers.Dense(1, name="head")(keras.layers.LSTM(4, name="recurrent_1")(windows))
    )

    with pytest.raises(NotFusable, match="it holds no layer centre"):
        build_twin(foreign, contract)
