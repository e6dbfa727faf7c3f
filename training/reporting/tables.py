"""The tables and the facts of a report."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from app.version.manifest import Contract, Manifest, Score
from training.config import TrainingConfig, shown
from training.data.frequency import counted
from training.judging.evaluate import MODEL
from training.network.outline import KERAS_NAMES
from training.reporting.run import Run

TABLE_ROWS = 200
"""Most rows of a table on the page."""
LISTED_NAMES = 8
"""Most names that a fact lists."""


@dataclass(frozen=True, slots=True)
class Cells:
    """A table, of which the page shows the first `TABLE_ROWS` rows."""

    caption: str
    columns: tuple[str, ...]
    all_rows: tuple[tuple[str, ...], ...]

    @property
    def rows(self) -> tuple[tuple[str, ...], ...]:
        """The rows on the page."""
        return self.all_rows[:TABLE_ROWS]

    @property
    def left_out(self) -> int:
        """How many rows are not on the page."""
        return len(self.all_rows) - len(self.rows)


def facts(manifest: Manifest, run: Run) -> Iterator[tuple[str, str]]:
    """Yields what was trained on what, as names and values."""
    config, data, contract = run.config, manifest.data, manifest.contract
    yield "model", _network(config)
    if manifest.scores[0].forecaster != MODEL:
        yield "published", f"the baseline {manifest.scores[0].forecaster}, in place of the model that this report is on"
    yield "window", f"{counted(contract.steps, 'step')} of {_some(contract.feature_names)}"
    yield "forecast", f"{counted(contract.horizon, 'step')} of {_some(contract.target_names)}"
    times = f", {data.first_time} to {data.last_time}" if data.first_time else ""
    apart = f", {contract.frequency} apart" if contract.frequency else ""
    yield "data", f"{data.source}: {data.rows} rows{apart}{times}"
    yield "split", f"{data.training_rows} rows to train, {data.validation_rows} to validate, {data.test_rows} to test"
    if run.dataset.period:
        yield "season", f"{run.dataset.period} rows"
    yield "sha256 of the data", data.sha256 or ""
    epochs = f"{len(run.history.epochs)} of at most {config.epochs} epochs in {run.history.seconds:.1f} seconds"
    yield "fitting", f"{epochs}; kept the weights of epoch {run.history.best.number}"
    yield "made with", ", ".join(f"{package} {release}" for package, release in manifest.versions.items())


def settings_table(config: TrainingConfig) -> Cells:
    """Returns the settings that differ from the defaults."""
    rows = tuple(
        (
            f"--{name.replace('_', '-')}",
            _shown(value),
            _shown(field.default),
            " ".join((field.description or "").split()),
        )
        for name, field in TrainingConfig.model_fields.items()
        if (value := getattr(config, name)) != field.default
    )
    return Cells("Settings that differ from the defaults", ("setting", "value", "default", "meaning"), rows)


def score_table(scores: Sequence[Score]) -> Cells:
    """Returns the errors of every forecaster, over all steps of the horizon."""
    several = any(score.target for score in scores)
    rows = tuple(
        (
            score.forecaster,
            *((score.target or "",) if several else ()),
            *(_figure(error) for error in (score.mae, score.rmse, score.mase, score.smape)),
        )
        for score in scores
    )
    columns = ("forecaster", *(("target",) if several else ()), "MAE", "RMSE", "MASE", "sMAPE, %")
    return Cells("On the test part, over all steps of the horizon", columns, rows)


def contract_tables(contract: Contract) -> tuple[Cells, Cells]:
    """Returns the features and the targets of a contract."""
    features = tuple(
        (feature.name, feature.unit or "", _figure(feature.minimum), _figure(feature.maximum))
        for feature in contract.features
    )
    targets = tuple((target.name, target.unit or "", _figure(target.scale)) for target in contract.targets)
    return (
        Cells("Features", ("feature", "unit", "smallest in training", "largest in training"), features),
        Cells("Targets", ("target", "unit", "standard deviation in training"), targets),
    )


def _network(config: TrainingConfig) -> str:
    layers = " and ".join(str(units) for units in config.layers)
    ways = ", both ways" if config.bidirectional else ""
    path = ", beside a linear path" if config.skip else ""
    if config.chosen_lags:
        path += f" that also reads the rows {shown(config.chosen_lags)} before"
    return f"{KERAS_NAMES[config.cell]}, {layers} cells{ways}{path}"


def _some(names: Sequence[str]) -> str:
    """Returns the first names, and how many more there are."""
    more = f" and {len(names) - LISTED_NAMES} more" if len(names) > LISTED_NAMES else ""
    return ", ".join(names[:LISTED_NAMES]) + more


def _shown(value: object) -> str:
    if value in (None, (), {}):
        return "none"
    return ",".join(f"{name}={unit}" for name, unit in value.items()) if isinstance(value, Mapping) else shown(value)


def _figure(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.5g}"
