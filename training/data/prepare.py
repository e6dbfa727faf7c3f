"""From a configuration to windows: `prepare` reads, checks, cleans, splits and cuts.

Reading is left to `files` and `series`, cleaning to `table`, splitting and cutting to `windows`, all in this folder.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from app.arrays import Times
from app.version.grid import row_numbers
from app.version.manifest import MAX_NUMBERS, Feature, Phase
from training.config import TrainingConfig
from training.data import series
from training.data.calendar import chosen_calendar, possible_calendar
from training.data.files import read_table
from training.data.frequency import counted, iso, places_on_grid
from training.data.period import find_period
from training.data.provenance import Provenance
from training.data.table import Table, check_columns, check_targets_change, fill, note_constant_features, settle
from training.data.windows import Dataset, Edges, Part, Rows, check_rows, slide, split_rows
from training.errors import ConfigError, DataError


def prepare(config: TrainingConfig) -> Dataset:
    """Makes the data set that a configuration asks for.

    Raises:
        DataError: The data cannot be trained on as they are.
        ConfigError: The configuration does not fit the data.
    """
    _check_names(config)
    dataset = _prepare_samples(config) if config.series == "multiplication" else _prepare_table(config)
    _check_units(config, dataset)
    _check_learnable(dataset)
    _check_servable(dataset)
    return replace(dataset, units={**dataset.units, **config.measured_in})


def _check_names(config: TrainingConfig) -> None:
    for flag, names in (("--features", config.features), ("--target", config.target), ("--known", config.known)):
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ConfigError(f"{flag} names '{twice}' twice; expected every column once")


def _check_units(config: TrainingConfig, dataset: Dataset) -> None:
    columns = dataset.provenance.columns
    unknown = next((name for name in config.measured_in if name not in columns), None)
    if unknown:
        raise ConfigError(
            f"--measured-in gives a unit for '{unknown}', which is neither feature nor target; expected some of "
            + ", ".join(columns)
        )


def _check_learnable(dataset: Dataset) -> None:
    """Checks that the rows after the training windows differ: a target that stays the same has a scale of zero."""
    targets = dataset.train.targets
    for name, low, high in zip(dataset.target_names, targets.min((0, 1)), targets.max((0, 1)), strict=True):
        if low == high:
            raise DataError(
                f"{dataset.provenance.source}: target '{name}' is {low:g} after every training window "
                f"({counted(len(targets), 'window')}), so there is nothing to learn; bring more training rows, or "
                "choose a shorter --window, a smaller --stride or another --target"
            )


def _check_servable(dataset: Dataset) -> None:
    """Checks that a service can take the windows and give the forecasts, before there is a model that nobody serves."""
    windows, targets = dataset.train.windows, dataset.train.targets
    for flag, (rows, columns) in (("--window", windows.shape[1:]), ("--horizon", targets.shape[1:])):
        if rows * columns > MAX_NUMBERS:
            raise ConfigError(
                f"{flag} {rows} with {counted(columns, 'column')} makes {rows * columns} numbers, but at most "
                f"{MAX_NUMBERS} can be served; choose a smaller one"
            )
    for name, low, high in zip(dataset.feature_names, windows.min((0, 1)), windows.max((0, 1)), strict=True):
        try:
            Feature(name=name, minimum=float(low), maximum=float(high))
        except ValidationError as error:
            problem = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise DataError(
                f"{dataset.provenance.source}: column {problem}, so no service could check it; choose a larger unit"
            ) from None


def _prepare_table(config: TrainingConfig) -> Dataset:
    table = settle(_load(config), config.missing)
    targets = config.target or tuple(name for name in table.columns if name not in config.known)
    features = _columns(config.features or targets, config.known)
    edges = split_rows(config.split, table.rows)
    check_rows(edges, config.window, config.horizon)
    _, validation, _, _ = edges
    table = fill(table, config.missing, edges)
    check_targets_change(table, targets, validation)
    table = note_constant_features(table, validation)
    inputs = table.select(features).values.astype(np.float32)
    outputs = table.select(targets).values.astype(np.float32)
    places = None if table.times is None else places_on_grid(table.times[:validation], table.frequency)
    period = config.period or find_period(outputs[:validation], table.frequency, places)
    if period and period > validation:
        raise ConfigError(
            f"--period {period} is longer than the training part's {validation} rows; choose a shorter one, or "
            "bring more rows"
        )
    calendar = _calendar(config, table, validation)
    known = tuple(features.index(name) for name in config.known)
    numbers = _row_numbers(table) if calendar else None
    rows = Rows(inputs, outputs, edges, config.horizon, config.stride, known, numbers)
    train, judged, last = rows.cut(config.window)
    return Dataset(
        feature_names=features,
        target_names=targets,
        train=train,
        validation=judged,
        test=last,
        rows=rows,
        series=outputs[:validation],
        period=period,
        units=table.units,
        frequency=table.frequency,
        calendar=calendar,
        provenance=_provenance_of(table, edges),
    )


def _load(config: TrainingConfig) -> Table:
    """Reads the columns that are wanted, features first."""
    if config.data is not None:
        return read_table(
            config.data, _columns(config.features or config.target, config.known, config.target), config.time
        )
    if config.series is None:
        raise ConfigError("there is nothing to read; give either --data FILE or --series NAME")
    if config.time is not None:
        raise ConfigError(
            f"--time is for --data FILE; the series {config.series} brings its own times, so leave it out"
        )
    table = series.load(config.series)
    targets = config.target or table.columns
    return table.select(_columns(config.features or targets, config.known, targets))


def _columns(*names: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for some in names for name in some))


def _calendar(config: TrainingConfig, table: Table, training_rows: int) -> tuple[Phase, ...]:
    """Returns the cycles that the configuration asks for, or those that it leaves to be tried."""
    if config.calendar == "none" or (config.calendar == "auto" and config.output != "last"):
        return ()
    if config.calendar == "auto":
        return possible_calendar(table.frequency, training_rows)
    return chosen_calendar(config.calendar, table.frequency)


def _row_numbers(table: Table) -> Times | None:
    """Returns the number of each row on the grid of times; None for a table without a grid."""
    if table.times is None or table.frequency is None:
        return None
    return row_numbers(table.times, table.frequency)


def _provenance_of(table: Table, edges: Edges) -> Provenance:
    _, validation, test, rows = edges
    return Provenance(
        source=table.source,
        sha256=_sha256(table.values),
        rows=rows,
        columns=table.columns,
        first_time=None if table.times is None else iso(table.times[0]),
        last_time=None if table.times is None else iso(table.times[-1]),
        training_rows=validation,
        validation_rows=test - validation,
        test_rows=rows - test,
        findings=table.findings,
    )


def _prepare_samples(config: TrainingConfig) -> Dataset:
    """Splits windows that stand alone, in order. Each row of the split is a sample."""
    _check_sample_settings(config)
    samples = series.multiplication_samples()
    features = config.features or samples.feature_names
    check_columns(samples.source, samples.feature_names, features)
    check_columns(samples.source, samples.target_names, config.target)
    windows = samples.windows[:, :, [samples.feature_names.index(name) for name in features]]
    steps, rows = windows.shape[1], len(windows)
    # Baselines that only look back see the targets of the samples before; the first samples see the first target.
    padded = np.concatenate([np.repeat(samples.targets[:1], steps, axis=0), samples.targets])
    whole = Part(windows, samples.targets[:, np.newaxis], slide(padded, steps)[:rows])
    _, validation, test, _ = split_rows(config.split, rows)
    return Dataset(
        feature_names=features,
        target_names=samples.target_names,
        train=whole.between(0, validation),
        validation=whole.between(validation, test),
        test=whole.between(test, rows),
        provenance=Provenance(
            source=samples.source,
            sha256=_sha256(np.concatenate([windows.reshape(rows, -1), samples.targets], axis=1)),
            rows=rows,
            columns=(*features, *samples.target_names),
            training_rows=validation,
            validation_rows=test - validation,
            test_rows=rows - test,
        ),
    )


def _check_sample_settings(config: TrainingConfig) -> None:
    """Checks that no setting asks for what samples cannot do.

    The default window passes, so that the configuration in a version's manifest can be trained again.
    """
    window = TrainingConfig.model_fields["window"].default
    misfits = {
        f"--window {config.window}": config.window not in (window, series.SAMPLE_STEPS),
        f"--horizon {config.horizon}": config.horizon != 1,
        f"--stride {config.stride}": config.stride != 1,
        f"--period {config.period}": config.period is not None,
        "--output sequence": config.output == "sequence",
        f"--time {config.time}": config.time is not None,
        f"--known {','.join(config.known)}": bool(config.known),
        "--calendar": config.calendar not in ("auto", "none"),
    }
    for setting, is_misfit in misfits.items():
        if is_misfit:
            raise ConfigError(
                f"{setting} does not go with --series multiplication, whose samples are {series.SAMPLE_STEPS} steps "
                "and one target each; leave it out"
            )


def _sha256(values: NDArray[Any]) -> str:
    return hashlib.sha256(values.astype("<f8", order="C").data).hexdigest()
