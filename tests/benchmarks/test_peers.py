"""What the other libraries are given. The libraries themselves are not in this environment."""

from pathlib import Path

import numpy as np

from benchmarks.peers.forecasting import Order
from benchmarks.peers.lightgbm import calendar_of, examples
from tests.benchmarks.series import noise

ORIGIN, HORIZON = 40, 5


def order_of(folder: Path) -> Order:
    return Order(
        method="LightGBM",
        csv=str(folder / "rows.csv"),
        validation=60,
        test=80,
        window=6,
        horizon=HORIZON,
        seasons=(3, 7),
        origins=(80, 90),
        cpu_seconds=1,
        answer=str(folder / "forecasts.npz"),
    )


def test_windows_end_before_the_origin(tmp_path: Path) -> None:
    np.testing.assert_array_equal(order_of(tmp_path).windows(np.arange(100)), [np.arange(74, 80), np.arange(84, 90)])


def test_lightgbm_sees_no_row_from_the_origin_on(tmp_path: Path) -> None:
    values = noise(100)
    spoilt = np.where(np.arange(100) < ORIGIN, values, np.nan)
    for season in (0, 3, 7):
        columns, base = examples(order_of(tmp_path), spoilt, np.empty((100, 0)), np.array([ORIGIN]), season)
        assert columns.shape == (HORIZON, 6 + 1 + 2)
        assert np.isfinite(columns).all()
        assert np.isfinite(base).all()


def test_lightgbm_counts_from_the_last_row_or_from_the_latest_known_season(tmp_path: Path) -> None:
    values = np.arange(100.0)
    origins, calendar = np.array([ORIGIN]), np.empty((100, 0))
    assert examples(order_of(tmp_path), values, calendar, origins, 0)[1].tolist() == [39] * HORIZON
    assert examples(order_of(tmp_path), values, calendar, origins, 3)[1].tolist() == [37, 38, 39, 37, 38]


def test_the_calendar_is_that_of_the_forecast_row_and_numbers_have_none(tmp_path: Path) -> None:
    calendar = calendar_of(["2024-02-29T23:30:00.000000", "2024-03-01T00:00:00.000000"])
    assert calendar.tolist() == [[23.5, 3, 29, 2, 60], [0, 4, 1, 3, 61]]
    assert calendar_of(["-3", "-2"]).shape == (2, 0)
    columns, _ = examples(order_of(tmp_path), np.arange(100.0), np.arange(100.0)[:, None], np.array([ORIGIN]), 0)
    assert columns[:, -1].tolist() == [40, 41, 42, 43, 44]
