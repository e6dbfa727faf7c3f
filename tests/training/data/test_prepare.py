"""From a configuration to a data set: what is asked for is what comes, and mistakes are told."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.version.manifest import Frequency, Phase
from training.config import Missing, TrainingConfig
from training.data import prepare as preparing
from training.data.prepare import prepare
from training.data.provenance import Provenance
from training.errors import ConfigError, DataError

Write = Callable[[str | bytes], Path]


def days_csv(values: Sequence[object], start: str = "2024-01-01") -> str:
    dates = np.datetime64(start) + np.arange(len(values))
    return "t,a\n" + "".join(f"{day},{value}\n" for day, value in zip(dates, values, strict=True))


# From a configuration to a dataset


def test_a_file_becomes_a_dataset(csv: Write) -> None:
    values = np.arange(40) * 0.5
    config = TrainingConfig(
        data=csv(days_csv(values.tolist())),
        target="a",
        time="t",
        window=3,
        horizon=2,
        split=(20, 30),
        measured_in="a=°C",
    )

    dataset = prepare(config)

    assert (dataset.feature_names, dataset.target_names) == (("a",), ("a",))
    assert (dataset.frequency, dataset.units) == (Frequency(count=1, unit="day"), {"a": "°C"})
    assert dataset.provenance == Provenance(
        source="table.csv",
        sha256=hashlib.sha256(values.astype("<f8").tobytes()).hexdigest(),
        rows=40,
        columns=("a",),
        first_time="2024-01-01",
        last_time="2024-02-09",
        training_rows=20,
        validation_rows=10,
        test_rows=10,
    )
    assert [len(part.windows) for part in (dataset.train, dataset.validation, dataset.test)] == [16, 9, 9]
    for part in (dataset.train, dataset.validation, dataset.test):
        assert {part.windows.dtype, part.targets.dtype, part.history.dtype} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(dataset.test.windows[0, :, 0], values[27:30])
    np.testing.assert_array_equal(dataset.test.targets[-1, :, 0], values[38:])


def test_the_target_need_not_be_a_feature(csv: Write) -> None:
    lines = "".join(f"{row},{row * 10}\n" for row in range(30))

    dataset = prepare(TrainingConfig(data=csv("a,b\n" + lines), target="b", features="a", window=3))

    assert (dataset.feature_names, dataset.target_names) == (("a",), ("b",))
    assert dataset.provenance.columns == ("a", "b")
    np.testing.assert_array_equal(dataset.train.windows[0, :, 0], [0, 1, 2])
    np.testing.assert_array_equal(dataset.train.history[0, :, 0], [0, 10, 20])
    np.testing.assert_array_equal(dataset.train.targets[0, :, 0], [30])


@pytest.mark.parametrize("missing", ["forward", "interpolate"])
@pytest.mark.parametrize("later", [["", "", "7"], ["5", "", ""], ["1e6", "-1e6", "0"]])
def test_later_rows_never_change_a_training_window(csv: Write, missing: Missing, later: list[str]) -> None:
    training = [str(value) for value in range(20)]
    training[4], training[18:] = "", ["", ""]

    def windows(rest: list[str]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        data = csv(days_csv(training + rest * 4))
        config = TrainingConfig(data=data, target="a", time="t", window=3, split=(20, 26), missing=missing)
        train = prepare(config).train
        return train.windows.copy(), train.targets.copy()

    for before, after in zip(windows(["20", "21", "22"]), windows(later), strict=True):
        np.testing.assert_array_equal(before, after)


def test_shuffled_rows_give_the_same_numbers_and_a_finding(csv: Write) -> None:
    header, *lines = days_csv(range(40)).splitlines(keepends=True)
    shuffled = [lines[row] for row in np.random.default_rng(0).permutation(40)]

    def dataset_of(rows: list[str]) -> Any:
        return prepare(TrainingConfig(data=csv(header + "".join(rows)), target="a", time="t", window=3))

    in_order, sorted_back = dataset_of(lines), dataset_of(shuffled)

    assert sorted_back.provenance.sha256 == in_order.provenance.sha256
    assert "have been sorted" in sorted_back.provenance.notices[0]


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"features": "a,b,a"}, "--features names 'a' twice"),
        ({"target": "a,a"}, "--target names 'a' twice"),
        ({"known": "b,b"}, "--known names 'b' twice"),
        ({"calendar": "weekday"}, "--calendar counts rows on a grid of times, but these rows have none"),
        ({"measured_in": "c=m"}, "unit for 'c'"),
        ({"split": "50"}, "--split 50 is neither"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(csv: Write, changes: dict[str, Any], facts: str) -> None:
    data = csv("a,b\n" + "".join(f"{row},{row}\n" for row in range(60)))

    with pytest.raises(ConfigError, match=facts):
        prepare(TrainingConfig.model_validate({"data": data, "target": "a", "window": 3, **changes}))


def test_too_few_rows_are_refused(csv: Write) -> None:
    with pytest.raises(
        DataError, match="31 to train, 1 to validate, 1 to test are needed, but there are 14 in training"
    ):
        prepare(TrainingConfig(data=csv(days_csv(range(20))), target="a", time="t"))


def test_a_constant_target_is_refused(csv: Write) -> None:
    with pytest.raises(DataError, match="target 'a' is 7 in all 28 training rows"):
        prepare(TrainingConfig(data=csv(days_csv([7] * 40)), target="a", time="t", window=3))


@pytest.mark.parametrize(
    ("values", "changes", "kind", "facts"),
    [
        ([-2e38, 2e38] * 20, {"period": 2}, DataError, "column a ranges from -2e.38 to 2e.38, .* choose a larger unit"),
        (range(40), {"window": 12}, ConfigError, "--window 12 with 1 column makes 12 numbers, but at most 10 can be"),
        (range(40), {"horizon": 11}, ConfigError, "--horizon 11 with 1 column makes 11 numbers, but at most 10 can be"),
    ],
)
def test_what_no_service_could_serve_is_refused_before_it_is_trained(
    values: Sequence[float],
    changes: dict[str, int],
    kind: type[Exception],
    facts: str,
    csv: Write,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(preparing, "MAX_NUMBERS", 10)
    data = csv(days_csv(values))
    with pytest.raises(kind, match=facts):
        prepare(TrainingConfig.model_validate({"data": data, "target": "a", "window": 3, "split": "14,27"} | changes))


# What is known ahead


def test_known_columns_are_features_and_rows_are_numbered_by_their_time(csv: Write) -> None:
    """Days of March 1970, of which the fifth is absent."""
    days = [day for day in range(1, 31) if day != 5]
    data = csv("t,a,b,c\n" + "".join(f"1970-03-{day:02d},{day % 4},{day + 0.5},{-day}\n" for day in days))
    told = {"known": "b", "calendar": "weekday"}

    dataset = prepare(TrainingConfig(data=data, target="a", time="t", window=3, horizon=2, split=(15, 22), **told))

    assert (dataset.feature_names, dataset.target_names, dataset.known) == (("a", "b"), ("a",), ("b",))
    assert dataset.calendar == (Phase(name="weekday", rows=7),)
    assert dataset.train.time is not None
    last_of_february = 58  # counted from 0 on the first of January
    np.testing.assert_array_equal(dataset.train.time[:4] - last_of_february, [4, 6, 7, 8])
    assert dataset.test.future is not None
    assert dataset.test.time is not None
    np.testing.assert_array_equal(dataset.test.future[-1, :, 0], [29.5, 30.5])
    np.testing.assert_array_equal(dataset.test.time[-1], last_of_february + 29)


def test_a_known_column_may_be_named_among_the_features_too(csv: Write) -> None:
    data = csv("a,b,c\n" + "".join(f"{row % 4},{row},{-row}\n" for row in range(40)))

    dataset = prepare(TrainingConfig(data=data, target="a", features="c,b,a", known="b,c", window=3))

    assert (dataset.feature_names, dataset.known) == (("c", "b", "a"), ("b", "c"))
    assert dataset.train.future is not None
    np.testing.assert_array_equal(dataset.train.future[0], [[3, -3]])
    assert dataset.train.time is None


@pytest.mark.parametrize(("rows", "names"), [(60, ["weekday"]), (1100, ["weekday", "yearday"])])
def test_all_cycles_that_the_training_part_shows_twice_are_left_to_be_tried(
    rows: int, names: list[str], csv: Write
) -> None:
    config = TrainingConfig(data=csv(days_csv([row % 5 for row in range(rows)])), target="a", time="t", window=3)

    assert [phase.name for phase in prepare(config).calendar] == names
    without = prepare(config.model_copy(update={"calendar": "none"}))
    assert (without.calendar, without.test.time) == ((), None)


def test_a_forecast_after_every_step_has_no_calendar_to_try(csv: Write) -> None:
    data = csv(days_csv([row % 5 for row in range(60)]))
    dataset = prepare(TrainingConfig(data=data, target="a", time="t", window=3, output="sequence"))
    assert (dataset.calendar, dataset.test.time) == ((), None)


# Built-in series


def test_a_built_in_series_needs_no_target() -> None:
    dataset = prepare(TrainingConfig(series="lesson", window=20, split=(1000, 1200)))

    data = dataset.provenance
    assert (data.source, data.columns) == ("lesson", ("lesson",))
    assert dataset.frequency == Frequency(count=1, unit="step")
    assert (data.first_time, data.last_time) == ("0", "1460")
    assert (dataset.train.windows.shape, dataset.test.windows.shape) == ((980, 20, 1), (261, 20, 1))


def test_a_built_in_series_may_be_named_and_measured() -> None:
    dataset = prepare(TrainingConfig(series="co2", target="co2", features="co2", missing="interpolate"))

    assert (dataset.units, dataset.frequency) == ({"co2": "ppm"}, Frequency(count=1, unit="week"))
    assert dataset.provenance.notices == ("59 missing values filled by --missing interpolate: 59 in training",)


def test_a_column_that_a_built_in_series_lacks_is_told() -> None:
    with pytest.raises(DataError, match=r"co2: there is no column 'CO2' \(did you mean 'co2'\?\)"):
        prepare(TrainingConfig(series="co2", target="CO2", missing="forward"))


def test_a_built_in_series_brings_its_own_times() -> None:
    with pytest.raises(ConfigError, match="--time is for --data"):
        prepare(TrainingConfig(series="lesson", time="t"))


@pytest.mark.parametrize("window", [30, 100])
def test_multiplication_samples_are_split_in_order(window: int) -> None:
    dataset = prepare(TrainingConfig(series="multiplication", window=window, split=(2048, 2560)))

    assert (dataset.feature_names, dataset.target_names) == (("marker", "value"), ("product",))
    data = dataset.provenance
    assert (data.rows, data.training_rows, data.validation_rows, data.test_rows) == (3000, 2048, 512, 440)
    assert dataset.test.windows.shape == (440, 100, 2)
    assert dataset.test.targets.shape == (440, 1, 1)


def test_multiplication_history_is_the_answers_before() -> None:
    dataset = prepare(TrainingConfig(series="multiplication"))

    answers = np.concatenate([part.targets[:, 0, 0] for part in (dataset.train, dataset.validation, dataset.test)])
    history = np.concatenate([part.history[:, :, 0] for part in (dataset.train, dataset.validation, dataset.test)])
    np.testing.assert_array_equal(history[500], answers[400:500])
    np.testing.assert_array_equal(history[0], np.repeat(answers[0], 100))


def test_multiplication_features_may_be_chosen() -> None:
    dataset = prepare(TrainingConfig(series="multiplication", features="value", target="product"))

    assert dataset.train.windows.shape == (2100, 100, 1)
    assert dataset.provenance.columns == ("value", "product")


@pytest.mark.parametrize(
    "changes",
    [
        {"window": 50},
        {"horizon": 2},
        {"stride": 2},
        {"period": 7},
        {"output": "sequence"},
        {"time": "t"},
        {"known": "marker"},
        {"calendar": "hour"},
    ],
)
def test_settings_that_samples_cannot_follow_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="does not go with --series multiplication"):
        prepare(TrainingConfig(series="multiplication", **changes))


@pytest.mark.parametrize("changes", [{"features": "marker,product"}, {"target": "value"}])
def test_columns_that_samples_lack_are_told(changes: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="multiplication: there is no column"):
        prepare(TrainingConfig(series="multiplication", **changes))


@pytest.mark.parametrize(
    ("values", "choices"),
    [
        (range(46), {"split": (31, 40)}),  # one training window
        (range(200), {"stride": 5000}),
        ([*range(30), *[7] * 170], {}),  # changes only in the first window
    ],
)
def test_a_target_that_is_the_same_after_every_training_window_is_refused(
    csv: Write, values: Sequence[int], choices: dict[str, Any]
) -> None:
    with pytest.raises(DataError, match=r"target 'a' is \d+ after every training window .* nothing to learn"):
        prepare(TrainingConfig(data=csv(days_csv(values)), target=("a",), **choices))


def test_two_training_windows_are_enough_to_make_a_contract(csv: Write) -> None:
    config = TrainingConfig(data=csv(days_csv(range(46))), target=("a",), split=(32, 40))

    assert prepare(config).train.targets.std() > 0
