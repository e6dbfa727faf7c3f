"""What computes forecasts: the `Engine` protocol, the choice of an engine, and the proof that it answers right."""

from pathlib import Path
from typing import Protocol

from app.errors import ArtifactError
from app.golden import Array, Golden, deviation
from app.manifest import Contract
from app.settings import EngineName


class Engine(Protocol):
    """A loaded model version that turns windows into forecasts. One thread at a time may use it."""

    @property
    def name(self) -> str:
        """`tensorflow`, ..."""

    @property
    def remark(self) -> str:
        """How it computes, and why, in a few words for metadata."""

    def warm_up(self) -> None:
        """Does everything that would make the first requests slow. Must be called once, before `predict`.

        Raises:
            ArtifactError: The model cannot compute a forecast.
        """

    def predict(self, windows: Array) -> Array:
        """Forecasts a batch of any size from 1.

        Args:
            windows: Shape (batch, steps, features), raw units.

        Returns:
            Shape (batch, horizon, targets), raw units.
        """


def load_engine(choice: EngineName, version_dir: Path, contract: Contract, max_rows: int) -> Engine:
    """Loads a version into the chosen engine; `auto` takes the fastest that the version supports.

    Args:
        choice: Which engine.
        version_dir: The version's folder, whose checksums hold.
        contract: The version's contract.
        max_rows: Largest batch worth preparing for; larger ones are computed in pieces.

    Raises:
        ArtifactError: The version cannot be loaded or does not keep its contract.
        StartupError: What the engine needs is not installed.
    """
    match choice:
        case "auto" | "tensorflow":
            # Imported here because TensorFlow is not part of the serving core.
            from app.engines.tensorflow import TensorFlowEngine  # noqa: PLC0415

            return TensorFlowEngine(version_dir, contract, max_rows)


def replay(engine: Engine, golden: Golden, contract: Contract, version_dir: Path) -> None:
    """Has the engine forecast the golden windows, together and one by one, and compares.

    Raises:
        ArtifactError: A forecast fails, or differs from the recorded one by more than the tolerance.
    """
    rows = len(golden.forecasts)
    shapes = (rows, *contract.window_shape), (rows, *contract.forecast_shape)
    if rows == 0 or (golden.windows.shape, golden.forecasts.shape) != shapes:
        raise ArtifactError(version_dir, "the golden rows do not have the shapes of the contract")
    try:
        together = engine.predict(golden.windows)
        alone = [engine.predict(window[None])[0] for window in golden.windows]
    except Exception as error:
        problem = f"the {engine.name} engine fails on the golden rows ({type(error).__name__})"
        raise ArtifactError(version_dir, problem) from error
    worst = deviation(together, golden.forecasts, contract.target_scales)
    for forecast, recorded in zip(alone, golden.forecasts, strict=True):
        worst = max(worst, deviation(forecast, recorded, contract.target_scales))
    if worst > 1:
        problem = f"the {engine.name} engine does not reproduce the golden rows ({worst:.3g} times the tolerance)"
        raise ArtifactError(version_dir, problem)
