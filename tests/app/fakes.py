"""Versions without model files, and an engine whose answers one can work out in the head."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from app.arrays import Array, Inputs
from app.serving.loading import LoadedVersion, LoadVersion
from app.version.golden import Golden
from app.version.manifest import Contract, DataFingerprint, Manifest
from app.version.signature import Signature
from tests.versions import contract_of, expected_forecasts, some_windows


class MeanEngine:
    """Forecasts the mean of each target over the window, plus the number of the step ahead."""

    name, remark, is_steady = "mean", "in the head", True

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self.batches: list[int] = []

    def warm_up(self) -> None:
        """Nothing is slow."""

    def predict(self, inputs: Inputs) -> Array:
        """Forecasts, and remembers the size of the batch."""
        self.batches.append(len(inputs))
        return expected_forecasts(inputs.windows, self._contract)


def version_folders(models_dir: Path, *names: str) -> Path:
    """Makes folders that look like versions, `default/1` unless others are named."""
    for name in names or ("default/1",):
        folder = models_dir / name
        (folder / "variables").mkdir(parents=True)
        for file in ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"):
            (folder / file).touch()
    return models_dir


def loader(contract: Contract | None = None, made: Callable[[LoadedVersion], None] = lambda _: None) -> LoadVersion:
    """Returns a `load_version` that looks at no file; `made` is told of every version that it makes."""
    contract = contract or contract_of()

    def load(folder: Path, _: Manifest | None) -> LoadedVersion:
        windows = some_windows(3, contract)
        version = LoadedVersion(
            name=folder.parent.name,
            version=int(folder.name),
            manifest=manifest_of(folder.parent.name, contract),
            signature=Signature.of(contract),
            signatures={},
            engine=MeanEngine(contract),
            golden=Golden(Inputs(windows), expected_forecasts(windows, contract)),
            load_seconds=0.0,
            is_foreign=False,
        )
        made(version)
        return version

    return load


def manifest_of(name: str, contract: Contract, notices: Sequence[str] = ()) -> Manifest:
    """A manifest with nothing but a contract."""
    return Manifest(
        name=name,
        created=datetime(2026, 1, 1, tzinfo=UTC),
        contract=contract,
        config={},
        data=DataFingerprint(source="nowhere", notices=tuple(notices)),
        versions={},
        scores=(),
        verdict="Not judged.",
        files={},
    )
