"""What commands show: the scores of forecasters, the course of a sweep, what a version says about itself."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from app.version.manifest import Manifest, Phase, Score
from training.config import shown

if TYPE_CHECKING:
    from training.fitting.learning_rate import Sweep

SWEEP_LINE = 20
"""Steps of a sweep between two lines of its table."""


def score_table(scores: tuple[Score, ...]) -> Table:
    """Shows the errors of each forecaster on the test part."""
    table = Table(title="Test part", title_justify="left")
    several = any(score.target for score in scores)
    table.add_column("forecaster")
    if several:
        table.add_column("target")
    for error in ("MAE", "RMSE", "MASE", "sMAPE"):
        table.add_column(error, justify="right")
    for score in scores:
        names = (score.forecaster, Text(score.target or "")) if several else (score.forecaster,)
        errors = (score.mae, score.rmse, score.mase, score.smape)
        table.add_row(*names, *("" if error is None else f"{error:.4g}" for error in errors))
    return table


def sweep_table(sweep: "Sweep") -> Table:
    """Shows two lines for every power of ten of the rate, and the last line."""
    table = Table(title="Learning-rate sweep", title_justify="left")
    for heading in ("rate", "loss", "smoothed"):
        table.add_column(heading, justify="right")
    rows = list(zip(sweep.rates, sweep.losses, sweep.smoothed, strict=True))
    for rate, loss, smoothed in [*rows[:-1:SWEEP_LINE], rows[-1]]:
        table.add_row(f"{rate:.1e}", f"{loss:.4g}", f"{smoothed:.4g}")
    if sweep.diverged_at is not None:
        table.caption = f"the loss rose for good at {sweep.diverged_at:.2g}"
    return table


def manifest_table(manifest: Manifest) -> Table:
    """Shows what a version says about itself, without its scores and its verdict."""
    table = Table(show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for rows in (_contract_rows(manifest), _data_rows(manifest), _making_rows(manifest)):
        for name, value in rows:
            table.add_row(name, Text(value))
    return table


def why_no_twin(manifest: Manifest) -> str:
    """Says why a version has no fused twin, or how to make one."""
    return manifest.no_twin or "none was made; `python -m training fuse` makes one"


def _contract_rows(manifest: Manifest) -> Iterator[tuple[str, str]]:
    contract = manifest.contract
    yield "name", manifest.name
    yield "created", f"{manifest.created:%Y-%m-%d %H:%M:%S %Z}"
    apart = f", {contract.frequency} apart" if contract.frequency else ""
    yield "window", f"{contract.steps} steps{apart}, of {', '.join(contract.feature_names)}"
    for feature in contract.features:
        unit = f" {feature.unit}" if feature.unit else ""
        if feature.minimum is not None and feature.maximum is not None:
            yield "  feature", f"{feature.name}: {feature.minimum:g} to {feature.maximum:g}{unit} in training"
    yield "forecast", f"{contract.horizon} steps of {', '.join(contract.target_names)}"
    if contract.known:
        yield "future", f"{', '.join(contract.known)} in the steps of the forecast, with each request"
    if contract.calendar:
        yield "time", f"of the forecast's first step, with each request; tells {', '.join(_names(contract.calendar))}"


def _names(calendar: Iterable[Phase]) -> list[str]:
    return [phase.name for phase in calendar]


def _data_rows(manifest: Manifest) -> Iterator[tuple[str, str]]:
    data = manifest.data
    if data.rows is None:
        yield "data", data.source
    else:
        times = f", {data.first_time} to {data.last_time}" if data.first_time else ""
        yield "data", f"{data.source}: {data.rows} rows{times}"
        yield "", f"{data.training_rows} to train, {data.validation_rows} to validate, {data.test_rows} to test"
    for notice in data.notices:
        yield "", notice


def _making_rows(manifest: Manifest) -> Iterator[tuple[str, str]]:
    yield "versions", ", ".join(f"{package} {release}" for package, release in manifest.versions.items())
    settings = [f"{name}={_plain(value)}" for name, value in manifest.config.items() if not _is_blank(value)]
    if settings:
        yield "config", ", ".join(settings)
    yield "twin", "fused, for ONNX Runtime" if manifest.has_twin else f"none: {why_no_twin(manifest)}"
    yield "files", f"{len(manifest.files)}, sha256 of each recorded"


def _is_blank(value: object) -> bool:
    """Whether a setting says nothing. A zero and an `off` say something."""
    return value is None or value in ("", [], {})


def _plain(value: object) -> str:
    return shown(tuple(value)) if isinstance(value, list) else str(value)
