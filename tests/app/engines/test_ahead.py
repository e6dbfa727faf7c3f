"""Models that take more than windows, by either engine: right, alone and together, or refused."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from app.arrays import Inputs, concatenate
from app.engines.choice import load_engine
from app.engines.engine import Engine, EngineName
from app.engines.tensorflow import TensorFlowEngine
from app.errors import ArtifactError
from app.version.golden import Golden, deviation, probe_inputs
from app.version.manifest import Contract, Manifest
from tests.ahead import DAY, ahead_contract, ahead_twin, expected_ahead, make_ahead_version, save_ahead
from tests.versions import add_twin

CONTRACTS = {
    "known and calendar": ahead_contract(),
    "known": ahead_contract(known=("temp", "load"), calendar=()),
    "calendar": ahead_contract(known=()),
}
ENGINES: list[EngineName] = ["onnx", "tensorflow"]
LARGEST = 64
"""More than a piece of either engine."""


@pytest.fixture(scope="module", params=CONTRACTS)
def contract(request: pytest.FixtureRequest) -> Contract:
    return CONTRACTS[request.param]


@pytest.fixture(scope="module")
def version_dir(contract: Contract, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version with a twin."""
    return make_ahead_version(tmp_path_factory.mktemp("ahead"), contract)


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, version_dir: Path) -> Engine:
    """Warm, for pieces that are smaller than the largest batch."""
    return load(request.param, version_dir)


def load(choice: EngineName, version_dir: Path) -> Engine:
    manifest = Manifest.read(version_dir)
    golden = Golden.load(version_dir, manifest.contract)
    return load_engine(choice, version_dir, manifest, golden, max_windows=8, threads=2)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, LARGEST])
def test_every_input_counts_whatever_the_batch(count: int, engine: Engine, contract: Contract) -> None:
    inputs = probe_inputs(contract, count)
    assert deviation(engine.predict(inputs), expected_ahead(inputs, contract), contract.target_scales) <= 1


def test_batched_equals_single(engine: Engine, contract: Contract) -> None:
    entries = [probe_inputs(contract, LARGEST)[row : row + 1] for row in range(LARGEST)]
    together = engine.predict(concatenate(entries))
    alone = np.concatenate([engine.predict(entry) for entry in entries])
    assert_allclose(together, alone, rtol=0, atol=1e-6)


def test_both_engines_agree(version_dir: Path, contract: Contract) -> None:
    inputs = probe_inputs(contract, LARGEST)
    one, other = (load(name, version_dir).predict(inputs) for name in ENGINES)
    assert deviation(one, other, contract.target_scales) <= 1


def test_golden_rows_hold_every_input(version_dir: Path, contract: Contract) -> None:
    golden = Golden.load(version_dir, contract)
    recorded = probe_inputs(contract, len(golden.inputs)).named()
    assert {name: array.tolist() for name, array in golden.inputs.named().items()} == {
        name: array.tolist() for name, array in recorded.items()
    }


@pytest.mark.parametrize("choice", ENGINES)
@pytest.mark.parametrize("changed", ["future", "time"])
def test_golden_rows_with_another_future_or_time_prove_nothing(
    changed: str, choice: EngineName, tmp_path: Path
) -> None:
    contract = CONTRACTS["known and calendar"]
    version_dir = make_ahead_version(tmp_path, contract)
    manifest, golden = Manifest.read(version_dir), Golden.load(version_dir, contract)
    arrays = golden.inputs.named()
    arrays[changed] = arrays[changed] + 1

    with pytest.raises(ArtifactError, match=f"the {choice} engine does not reproduce the golden rows"):
        load_engine(choice, version_dir, manifest, Golden(Inputs(**arrays), golden.forecasts), 8, threads=1)


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (ahead_contract(known=()), "has for future no such input, but the contract needs float32 .any, 3, 1."),
        (ahead_contract(calendar=()), "has for time no such input, but the contract needs int64 .any."),
        (ahead_contract(known=("temp", "load")), "has for future float32 .any, 3, 2., but the contract needs"),
    ],
)
def test_a_saved_model_with_other_inputs_than_its_contract_is_refused(
    wrong: Contract, problem: str, tmp_path: Path
) -> None:
    save_ahead(tmp_path, wrong)
    with pytest.raises(ArtifactError, match=problem):
        TensorFlowEngine(tmp_path, CONTRACTS["known and calendar"], 1)


@pytest.mark.parametrize("name", ["known", "calendar"])
def test_a_twin_with_other_inputs_than_its_contract_is_refused(name: str, tmp_path: Path) -> None:
    contract = CONTRACTS["known and calendar"]
    version_dir = make_ahead_version(tmp_path, contract, has_twin=False)
    add_twin(version_dir, contract, ahead_twin(CONTRACTS[name]))
    with pytest.raises(
        ArtifactError, match=r"but the contract needs windows .* and future .* and time tensor\(int64\)"
    ):
        load("onnx", version_dir)


def test_a_foreign_model_that_takes_a_time_is_refused(tmp_path: Path) -> None:
    save_ahead(tmp_path, CONTRACTS["calendar"])
    with pytest.raises(ArtifactError, match=r"serving_default has time int64 .any., but only float32"):
        TensorFlowEngine(tmp_path, None, 1)


@pytest.mark.parametrize("choice", ENGINES)
def test_a_large_time_is_exact(choice: EngineName, tmp_path: Path) -> None:
    """A number of minutes since 1970 is beyond what float32 counts."""
    contract = CONTRACTS["calendar"]
    inputs = probe_inputs(contract, DAY.rows)
    inputs.time = 2**40 + np.arange(DAY.rows)
    engine = load(choice, make_ahead_version(tmp_path, contract))
    assert deviation(engine.predict(inputs), expected_ahead(inputs, contract), contract.target_scales) <= 1
