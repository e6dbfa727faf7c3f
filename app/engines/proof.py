"""The proof that an engine computes a version right: it must reproduce the golden rows."""

from pathlib import Path

from app.engines.engine import Engine
from app.errors import ArtifactError
from app.version.golden import Golden, deviation
from app.version.manifest import Contract
from app.version.signature import Signature


def check_golden_rows(engine: Engine, golden: Golden, contract: Contract, version_dir: Path) -> None:
    """Forecasts the golden inputs, together and one by one, and compares the forecasts with the recorded ones.

    Raises:
        ArtifactError: A forecast fails, or differs from the recorded forecast by more than the tolerance.
    """
    count = len(golden.forecasts)
    signature = Signature.of(contract)
    shapes = {tensor.name: (count, *tensor.shape) for tensor in (*signature.inputs.tensors, *signature.outputs.tensors)}
    arrays = {**golden.inputs.named(), "forecast": golden.forecasts}
    if count == 0 or {name: array.shape for name, array in arrays.items()} != shapes:
        raise ArtifactError(version_dir, "the golden rows do not have the shapes of the contract")
    try:
        together = engine.predict(golden.inputs)
        alone = [engine.predict(golden.inputs[row : row + 1])[0] for row in range(count)]
    except Exception as error:
        problem = f"the {engine.name} engine fails on the golden rows ({type(error).__name__})"
        raise ArtifactError(version_dir, problem) from error
    worst = deviation(together, golden.forecasts, contract.target_scales)
    for forecast, recorded in zip(alone, golden.forecasts, strict=True):
        worst = max(worst, deviation(forecast, recorded, contract.target_scales))
    if worst > 1:
        problem = f"the {engine.name} engine does not reproduce the golden rows ({worst:.3g} times the tolerance)"
        raise ArtifactError(version_dir, problem)
