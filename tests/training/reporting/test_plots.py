"""The figures of a report: what is legible, what is marked, and what may stand in them."""

import re
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

from tests.training.reporting.test_report import evaluation_of
from training.fitting.history import Epoch, History
from training.fitting.symptoms import Incident
from training.reporting import plots

LETTER_HEIGHT = 8.5


def history_of(*losses: float, norm: float = 0.5) -> History:
    """Each loss is the validation's too; the lowest is the best."""
    epochs = (
        Epoch(number, loss, loss, best=loss == min(losses[:number]), gradient_norm=norm, largest_norm=2 * norm)
        for number, loss in enumerate(losses, start=1)
    )
    return History(tuple(epochs), seconds=1)


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


def test_names_at_the_ends_of_lines_do_not_overlap() -> None:
    evaluation = evaluation_of(horizon=3)
    same = {f"baseline {number}": evaluation.forecasts["model"] for number in range(7)}
    scores = tuple(
        evaluation.scores[0].model_copy(update={"forecaster": name}) for name in (*evaluation.forecasts, *same)
    )
    crowded = replace(evaluation, forecasts={**evaluation.forecasts, **same}, scores=scores)

    element = plots.svg(plots.horizon_errors(crowded, ("load",)), "errors", "errors")

    heights = [
        float(re.findall(r"(?:translate\(\S+ |\by=\")(-?[\d.]+)", text)[0])
        for text in re.findall(r"<text [^>]*>(?=(?:baseline|model|last))", element)
    ]
    assert len(heights) == 9
    assert min(np.diff(sorted(heights))) > LETTER_HEIGHT
    assert 0 < min(heights) < max(heights) < 72 * plots.horizon_errors(crowded, ("load",)).get_figheight()


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


def test_any_name_can_be_drawn(tmp_path: Path) -> None:
    for label in ("$x_1", "a\\b{", "温度", "%s", "\U0001f600", "m" * 300):
        figure = plots.residuals(evaluation_of(), 0, first_row=0, label=label)
        plots.png(figure, tmp_path / "figure.png")
        element = plots.svg(figure, "figure", f'"{label}" <b>')
        assert 'aria-label="&quot;' in element
        assert "<b>" not in element
        assert "m" * 40 not in element.partition(">")[2]


def test_a_name_like_the_code_of_a_figure_stays_as_it_is() -> None:
    label = 'a id="b" url(#c) #0072b2'

    element = plots.svg(plots.residuals(evaluation_of(), 0, first_row=0, label=label), "figure", "figure")

    assert f">{label}<" in element


def test_colours_of_a_page_are_variables_and_those_of_a_file_are_not(tmp_path: Path) -> None:
    figure = plots.losses(history_of(3, 1), clip=1)

    assert not re.search(r"#[0-9a-f]{6}", plots.svg(figure, "loss", "loss"))
    plots.png(figure, tmp_path / "loss.png")
    assert (mpl.image.imread(tmp_path / "loss.png")[0, 0] == 1).all()


def test_drawing_leaves_matplotlib_as_it_was() -> None:
    before = dict(mpl.rcParams)

    plots.svg(plots.losses(history_of(3, 1), clip=1), "loss", "loss")

    assert dict(mpl.rcParams) == before
