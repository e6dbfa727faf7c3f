"""A twin that does not compute what Keras does is refused, whatever is wrong with it."""

import keras
import pytest
from onnx import ModelProto, numpy_helper

from app.arrays import Array, Inputs
from app.version.golden import Golden, probe_inputs
from app.version.manifest import Contract
from tests.training.publishing.models import SMALL, check, model_of
from tests.training.tiny import config_of
from training.errors import NotFusable
from training.network.model import Forecaster
from training.publishing.export import make_contract
from training.publishing.parity import check_twin
from training.publishing.twin import build_twin


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return model_of(config_of(units=(4, 3)))


@pytest.fixture(scope="module")
def contract() -> Contract:
    return make_contract(SMALL)


@pytest.fixture
def twin(model: keras.Model, contract: Contract) -> ModelProto:
    """A twin to spoil."""
    return build_twin(model, contract)


@pytest.mark.parametrize("constant", ["recurrent_1/1", "recurrent_2/2", "recurrent_2/3", "head/1"])
def test_twin_with_another_weight_is_refused(
    constant: str, twin: ModelProto, model: keras.Model, contract: Contract
) -> None:
    tensor = next(tensor for tensor in twin.graph.initializer if tensor.name == constant)
    weights = numpy_helper.to_array(tensor).copy()
    weights.flat[0] += 0.05
    tensor.CopyFrom(numpy_helper.from_array(weights, constant))

    with pytest.raises(NotFusable, match=r"in batches of 1 the graph is off by .* where 1e-05 is allowed"):
        check(twin, model, contract)


def test_twin_that_misses_the_golden_rows_is_refused(twin: ModelProto, model: keras.Model, contract: Contract) -> None:
    inputs = probe_inputs(contract, 3)

    def forecast(given: Inputs) -> Array:
        return Forecaster(model)(given)

    with pytest.raises(NotFusable, match="in batches of 1 the graph is off"):
        check_twin(twin, forecast, contract, Golden(inputs, forecast(inputs) + 1))


def test_twin_with_another_operator_is_refused(twin: ModelProto, model: keras.Model, contract: Contract) -> None:
    twin.graph.node[0].op_type = "Loop"

    with pytest.raises(NotFusable, match="the graph holds the operator Loop"):
        check(twin, model, contract)


def test_twin_that_does_not_load_is_refused(twin: ModelProto, model: keras.Model, contract: Contract) -> None:
    twin.graph.ClearField("initializer")

    with pytest.raises(NotFusable, match="ONNX Runtime cannot load the graph"):
        check(twin, model, contract)
