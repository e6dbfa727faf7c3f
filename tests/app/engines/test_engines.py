"""The choice of an engine, and the proof that it answers right."""

from pathlib import Path

import numpy as np
import pytest

from app.engines import Engine, load_engine, replay
from app.errors import ArtifactError
from app.golden import Array, Golden
from app.manifest import Contract
from tests.versions import expected_forecasts, some_windows


class Calculator:
    """Answers in the head, `error` beside the truth; with `alone`, for single windows only."""

    name = "calculator"
    remark = "in the head"

    def __init__(self, contract: Contract, error: float = 0, *, alone: bool = False) -> None:
        self.contract = contract
        self.error = error
        self.alone = alone

    def warm_up(self) -> None:
        pass

    def predict(self, windows: Array) -> Array:
        wrong = not self.alone or len(windows) == 1
        return expected_forecasts(windows, self.contract) + np.float32(self.error * wrong)


def golden_of(contract: Contract, rows: int = 3) -> Golden:
    windows = some_windows(rows, contract)
    return Golden(windows, expected_forecasts(windows, contract))


def test_an_engine_that_answers_as_recorded_is_believed(contract: Contract) -> None:
    replay(Calculator(contract), golden_of(contract), contract, Path("v"))


@pytest.mark.parametrize("error", [1e-4, -1.0, np.nan, np.inf])
@pytest.mark.parametrize("alone", [False, True])
def test_an_engine_that_answers_otherwise_is_not_believed(error: float, alone: bool, contract: Contract) -> None:
    with pytest.raises(ArtifactError, match=r"^v: the calculator engine does not reproduce the golden rows"):
        replay(Calculator(contract, error, alone=alone), golden_of(contract), contract, Path("v"))


def test_golden_rows_must_have_the_shapes_of_the_contract(contract: Contract) -> None:
    sound = golden_of(contract)
    nothing = Golden(sound.windows[:0], sound.forecasts[:0])
    for odd in (
        nothing,
        Golden(sound.windows[:, 1:], sound.forecasts),
        Golden(sound.windows, sound.forecasts[:, 1:]),
        Golden(sound.windows[1:], sound.forecasts),
        Golden(sound.windows[0], sound.forecasts),
    ):
        with pytest.raises(ArtifactError, match="the golden rows do not have the shapes of the contract"):
            replay(Calculator(contract), odd, contract, Path("v"))


def test_golden_rows_that_are_not_finite_prove_nothing(contract: Contract) -> None:
    sound = golden_of(contract)
    with pytest.raises(ArtifactError, match="does not reproduce the golden rows"):
        replay(Calculator(contract), Golden(sound.windows, sound.forecasts * np.nan), contract, Path("v"))


@pytest.mark.parametrize("choice", ["auto", "tensorflow"])
def test_a_saved_model_gets_the_tensorflow_engine(choice: str, version_dir: Path, contract: Contract) -> None:
    engine: Engine = load_engine(choice, version_dir, contract, max_rows=1)  # type: ignore[arg-type]
    assert engine.name == "tensorflow"
