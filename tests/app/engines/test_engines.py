"""The choice of an engine, and the proof that it answers right."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import app.engines
from app.arrays import Array, Inputs
from app.engines.choice import load_engine
from app.engines.engine import Engine, EngineName
from app.engines.proof import check_golden_rows
from app.errors import ArtifactError, EngineNotInstalled
from app.version.golden import Golden
from app.version.manifest import TWIN_FILE, Contract, Manifest
from tests.versions import add_twin, expected_forecasts, mean_twin, publish, some_windows, wrong_twin


class Calculator:
    """Answers in the head, `error` beside the truth; with `alone`, for single windows only."""

    name = "calculator"
    is_steady = True
    remark = "in the head"

    def __init__(self, contract: Contract, error: float = 0, *, alone: bool = False) -> None:
        self.contract = contract
        self.error = error
        self.alone = alone

    def warm_up(self) -> None:
        pass

    def predict(self, inputs: Inputs) -> Array:
        wrong = not self.alone or len(inputs) == 1
        return expected_forecasts(inputs.windows, self.contract) + np.float32(self.error * wrong)


def golden_of(contract: Contract, rows: int = 3) -> Golden:
    windows = some_windows(rows, contract)
    return Golden(Inputs(windows), expected_forecasts(windows, contract))


def test_an_engine_that_answers_as_recorded_is_believed(contract: Contract) -> None:
    check_golden_rows(Calculator(contract), golden_of(contract), contract, Path("v"))


@pytest.mark.parametrize("error", [1e-4, -1.0, np.nan, np.inf])
@pytest.mark.parametrize("alone", [False, True])
def test_an_engine_that_answers_otherwise_is_not_believed(error: float, alone: bool, contract: Contract) -> None:
    with pytest.raises(ArtifactError, match=r"^v: the calculator engine does not reproduce the golden rows"):
        check_golden_rows(Calculator(contract, error, alone=alone), golden_of(contract), contract, Path("v"))


def test_golden_rows_must_have_the_shapes_of_the_contract(contract: Contract) -> None:
    sound = golden_of(contract)
    nothing = Golden(sound.inputs[:0], sound.forecasts[:0])
    for odd in (
        nothing,
        Golden(Inputs(sound.inputs.windows[:, 1:]), sound.forecasts),
        Golden(sound.inputs, sound.forecasts[:, 1:]),
        Golden(sound.inputs[1:], sound.forecasts),
        Golden(Inputs(sound.inputs.windows[0]), sound.forecasts),
    ):
        with pytest.raises(ArtifactError, match="the golden rows do not have the shapes of the contract"):
            check_golden_rows(Calculator(contract), odd, contract, Path("v"))


def test_golden_rows_that_are_not_finite_prove_nothing(contract: Contract) -> None:
    sound = golden_of(contract)
    with pytest.raises(ArtifactError, match="does not reproduce the golden rows"):
        check_golden_rows(Calculator(contract), Golden(sound.inputs, sound.forecasts * np.nan), contract, Path("v"))


def load(choice: EngineName, version_dir: Path) -> Engine:
    manifest = Manifest.read(version_dir)
    golden = Golden.load(version_dir, manifest.contract)
    return load_engine(choice, version_dir, manifest, golden, max_windows=2, threads=1)


def uninstall(package: str, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the import of a package fail, and that of the engine that needs it begin anew."""
    monkeypatch.delitem(sys.modules, f"app.engines.{engine}", raising=False)
    monkeypatch.delattr(app.engines, engine, raising=False)
    monkeypatch.setitem(sys.modules, package, None)


@pytest.mark.parametrize("choice", ["auto", "onnx"])
def test_a_version_with_a_twin_is_served_by_it(choice: EngineName, twin_dir: Path) -> None:
    engine = load(choice, twin_dir)

    assert (engine.name, engine.remark) == ("onnx", "fused operators, 1 thread")


def test_a_version_with_a_twin_is_served_without_it_on_request(twin_dir: Path) -> None:
    engine = load("tensorflow", twin_dir)

    assert (engine.name, engine.remark) == ("tensorflow", "XLA, compiled for batches of 1, 2")


def test_auto_serves_a_version_without_a_twin_by_tensorflow_and_says_why(version_dir: Path, contract: Contract) -> None:
    publish(version_dir, contract, no_twin="it holds polish")

    engine = load("auto", version_dir)

    assert engine.name == "tensorflow"
    assert engine.remark == (
        "XLA, compiled for batches of 1, 2; not by a twin: the version has no fused twin, because it holds polish"
    )


def test_onnx_refuses_a_version_without_a_twin_with_what_to_do(version_dir: Path) -> None:
    with pytest.raises(ArtifactError, match=r"1: the version has no fused twin; set WINDOWCAST_ENGINE=tensorflow\.$"):
        load("onnx", version_dir)


def change_a_byte(version_dir: Path, contract: Contract) -> None:
    path = version_dir / TWIN_FILE
    path.write_bytes(path.read_bytes()[:-1])


def remove(version_dir: Path, contract: Contract) -> None:
    (version_dir / TWIN_FILE).unlink()


def compute_something_else(version_dir: Path, contract: Contract) -> None:
    add_twin(version_dir, contract, wrong_twin())


def break_the_contract(version_dir: Path, contract: Contract) -> None:
    add_twin(version_dir, contract, mean_twin(names=("x", "forecast")))


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (change_a_byte, "has changed since the export"),
        (remove, "the file is missing"),
        (compute_something_else, "the onnx engine does not reproduce the golden rows"),
        (break_the_contract, "has the input x "),
    ],
)
def test_a_twin_that_does_not_prove_right_is_not_served(
    damage: Callable[[Path, Contract], None], problem: str, twin_dir: Path, contract: Contract
) -> None:
    damage(twin_dir, contract)

    engine = load("auto", twin_dir)

    assert engine.name == "tensorflow"
    assert f"; not by a twin: {problem}" in engine.remark
    assert str(twin_dir) not in engine.remark
    with pytest.raises(ArtifactError, match=problem):
        load("onnx", twin_dir)


def test_the_bytes_that_were_checked_are_the_bytes_that_run(twin_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Manifest.read_file

    def read_and_swap(self: Manifest, version_dir: Path, name: str, max_bytes: int) -> bytes:
        content = read(self, version_dir, name, max_bytes)
        (version_dir / name).write_bytes(wrong_twin().SerializeToString())
        return content

    monkeypatch.setattr(Manifest, "read_file", read_and_swap)

    assert load("onnx", twin_dir).name == "onnx"


def test_without_onnx_runtime_auto_serves_by_tensorflow_and_says_so(
    twin_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uninstall("onnxruntime", "onnx", monkeypatch)

    assert load("auto", twin_dir).remark.endswith("; not by a twin: ONNX Runtime is not installed")
    with pytest.raises(EngineNotInstalled, match=r"pip install -r requirements/onnx\.txt"):
        load("onnx", twin_dir)


def test_without_tensorflow_a_version_is_served_by_its_twin_or_refused_with_what_to_do(
    twin_dir: Path, contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    uninstall("tensorflow", "tensorflow", monkeypatch)

    assert load("auto", twin_dir).name == "onnx"
    with pytest.raises(EngineNotInstalled, match=r"pip install -r requirements/tensorflow\.txt"):
        load("tensorflow", twin_dir)

    (twin_dir / TWIN_FILE).unlink()
    publish(twin_dir, contract)
    with pytest.raises(ArtifactError) as refusal:
        load("auto", twin_dir)
    assert str(refusal.value) == (
        f"{twin_dir}: the version has no fused twin, and TensorFlow is not installed, so no engine can compute it; "
        f"pip install -r requirements/tensorflow.txt, or make a twin with `python -m training fuse {twin_dir}` "
        "where TensorFlow is installed."
    )


def test_without_any_engine_either_is_named(twin_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uninstall("onnxruntime", "onnx", monkeypatch)
    uninstall("tensorflow", "tensorflow", monkeypatch)

    with pytest.raises(ArtifactError, match=r"requirements/tensorflow\.txt, or pip install -r requirements/onnx\.txt"):
        load("auto", twin_dir)
