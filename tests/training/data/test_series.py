import sys

import numpy as np
import pytest

from training.config import Series
from training.data.series import SAMPLE_STEPS, SAMPLES, load, multiplication_samples


@pytest.mark.parametrize(
    ("name", "rows", "first", "last"),
    [
        ("lesson", 1461, [52.48357, 49.35275, 53.314735, 57.711823], [88.32383, 122.30772]),
        ("exercise", 3651, [49.12849, 50.28806, 53.549213, 45.45324], [24.751186, 66.11884]),
    ],
)
def test_made_series_are_exact(name: Series, rows: int, first: list[float], last: list[float]) -> None:
    table = load(name)

    series = table.values[:, 0].astype(np.float32)
    assert table.columns == (name,)
    assert len(series) == rows
    np.testing.assert_array_equal(series, table.values[:, 0])
    np.testing.assert_array_equal(series[:4], np.array(first, np.float32))
    np.testing.assert_array_equal(series[-2:], np.array(last, np.float32))


def test_co2_is_weekly_with_gaps_in_ppm() -> None:
    table = load("co2")

    assert table.times is not None
    assert (table.columns, table.units) == (("co2",), {"co2": "ppm"})
    assert (table.rows, int(np.isnan(table.values).sum())) == (2284, 59)
    assert (table.times[0], table.values[0, 0]) == (np.datetime64("1958-03-29"), 316.1)


def test_sunspots_are_yearly() -> None:
    table = load("sunspots")

    assert table.times is not None
    assert (table.columns, table.rows) == (("sunspots",), 309)
    assert (table.times[0], table.times[-1]) == (np.datetime64("1700-01-01"), np.datetime64("2008-01-01"))
    assert (table.values[0, 0], table.values[-1, 0]) == (5.0, 2.9)


def test_every_multiplication_sample_tells_the_product_of_its_two_marked_values() -> None:
    samples = multiplication_samples()

    markers, values = samples.windows[..., 0], samples.windows[..., 1]
    assert samples.windows.shape == (SAMPLES, SAMPLE_STEPS, 2)
    assert set(np.unique(markers)) == {0.0, 1.0}
    assert (markers.sum(axis=1) == 2).all()
    product = values[markers == 1].reshape(SAMPLES, 2).prod(axis=1)
    np.testing.assert_allclose(samples.targets[:, 0], product, rtol=1e-6)


def test_multiplication_samples_are_the_same_every_time() -> None:
    np.testing.assert_array_equal(multiplication_samples().windows, multiplication_samples().windows)


def test_multiplication_marks_every_step_and_draws_evenly() -> None:
    samples = multiplication_samples()

    assert (samples.windows[..., 0].sum(axis=0) > 0).all()
    assert samples.windows[..., 1].mean() == pytest.approx(0.5, abs=0.01)
    assert samples.targets.mean() == pytest.approx(0.25, abs=0.01)


def test_made_series_do_not_need_statsmodels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "statsmodels", None)

    assert load("lesson").rows == 1461
