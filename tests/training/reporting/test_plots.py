"""The figures of a report: what is legible, what is marked, and what may stand in them."""

from dataclasses import replace

import numpy as np
import pytest

from tests.training.reporting.made import evaluation_of, history_of
from training.fitting.symptoms import Incident
from training.reporting import plots


def test_the_epoch_that_was_kept_is_marked() -> None:
    above, _ = plots.losses(history_of(3, 1, 2), clip=1).axes

    dot = next(line for line in above.lines if line.get_marker() == "o" and len(line.get_xdata()) == 1)  # type: ignore[arg-type]
    assert (dot.get_xdata(), dot.get_ydata()) == ([2], [1])
    assert "epoch 2" in above.get_title(loc="left")


@pytest.mark.parametrize(("last", "scale"), [(0.9, "linear"), (0.01, "log")])
def test_an_axis_is_logarithmic_where_the_loss_falls_far(last: float, scale: str) -> None:
    assert plots.losses(history_of(1, last), clip=1).axes[0].get_yscale() == scale


@pytest.mark.parametrize(("norm", "words"), [(0.1, "never above 1"), (0.6, "dashed: clipped to 1")])
def test_it_is_told_whether_gradients_were_clipped(norm: float, words: str) -> None:
    assert words in plots.losses(history_of(3, 1, norm=norm), clip=1).axes[1].get_title(loc="left")


def test_incidents_are_marked() -> None:
    calm = history_of(3, 1)
    incident = Incident(2, 1, "windows 0 to 3", "why", "what")
    calm_lines, lines = (
        [len(axes.lines) for axes in plots.losses(history, clip=1).axes]
        for history in (calm, replace(calm, incidents=(incident,)))
    )

    assert [after - before for before, after in zip(calm_lines, lines, strict=True)] == [1, 1]


def test_a_model_as_good_as_the_best_baseline_is_seen_below_its_dashes() -> None:
    evaluation = evaluation_of(horizon=3)

    model, baseline = plots.horizon_errors(evaluation, ("load",)).axes[0].lines

    assert (model.get_linestyle(), baseline.get_linestyle()) == ("-", "--")
    assert baseline.get_zorder() >= model.get_zorder()


def test_autocorrelation_of_what_repeats_itself() -> None:
    values = np.tile([1.0, -1.0], 200)

    correlations = plots.autocorrelation(values)

    assert len(correlations) == plots.LAGS
    np.testing.assert_allclose(correlations[:4], [-1, 1, -1, 1], atol=0.02)
    assert len(plots.autocorrelation(np.ones(50))) == 0
    assert len(plots.autocorrelation(values[:9])) == 2


def test_curves_are_thinned_to_a_bound() -> None:
    assert [plots.stride(points) for points in (1, 1000, 1001, 20_000)] == [1, 1, 2, 20]
    drawn = plots.losses(history_of(*np.linspace(2, 1, 2500)), clip=1).axes[0].lines[0].get_xdata()
    assert len(drawn) == 834  # type: ignore[arg-type]
