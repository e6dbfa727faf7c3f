import numpy as np

from benchmarks.forecasting.cheap import cheap_forecasts
from benchmarks.forecasting.tasks import Array
from tests.benchmarks.series import noise, rows_of

WEEKS, WINDOW = 60, 8


def errors(values: Array, *, horizon: int, seasons: tuple[int, ...]) -> dict[str, float]:
    rows = rows_of(values, horizon=horizon, seasons=seasons)
    actual = rows.following(rows.origins)
    return {name: float(np.abs(each - actual).mean()) for name, each in cheap_forecasts(rows, WINDOW).items()}


def test_seasonal_naive_repeats_the_season_also_beyond_one_season_ahead() -> None:
    values = np.tile(noise(7), WEEKS)
    assert errors(values, horizon=10, seasons=(7,))["seasonal naive (7)"] == 0


def test_a_regression_finds_a_linear_rule_and_needs_the_season_where_the_season_is_longer_than_the_window() -> None:
    values = np.tile(noise(21), WEEKS // 3) + np.arange(7 * WEEKS)
    found = errors(values, horizon=3, seasons=(21,))
    assert found["ridge with seasons"] < 0.01
    assert found["ridge"] > 0.2


def test_averages_and_smoothing_find_a_level_in_noise() -> None:
    found = errors(noise(1000), horizon=2, seasons=())
    ideal = float(np.abs(noise(1000, seed=1)).mean())
    assert found["exponential smoothing"] < 1.1 * ideal < found["last value"]
    assert min(error for name, error in found.items() if "point" in name) < 1.1 * ideal


def test_no_cheap_method_sees_a_row_that_it_forecasts() -> None:
    values = noise(400).cumsum()
    rows = rows_of(values, horizon=5, seasons=(2, 7))
    spoilt = rows_of(np.where(np.arange(400) < rows.test, values, 1e6), horizon=5, seasons=(2, 7))
    before, after = cheap_forecasts(rows, WINDOW), cheap_forecasts(spoilt, WINDOW)
    assert before.keys() == after.keys()
    for name, forecasts in before.items():
        np.testing.assert_array_equal(forecasts[0], after[name][0], err_msg=name)
