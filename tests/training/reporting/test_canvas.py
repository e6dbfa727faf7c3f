"""What all figures share: names that are legible, and files and elements that hold nothing else."""

import re
from dataclasses import replace
from io import BytesIO

import matplotlib as mpl
import numpy as np

from tests.training.reporting.made import evaluation_of, history_of
from training.reporting import canvas, plots

LETTER_HEIGHT = 8.5


def test_names_at_the_ends_of_lines_do_not_overlap() -> None:
    evaluation = evaluation_of(horizon=3)
    same = {f"baseline {number}": evaluation.forecasts["model"] for number in range(7)}
    scores = tuple(
        evaluation.scores[0].model_copy(update={"forecaster": name}) for name in (*evaluation.forecasts, *same)
    )
    crowded = replace(evaluation, forecasts={**evaluation.forecasts, **same}, scores=scores)

    element = canvas.svg(plots.horizon_errors(crowded, ("load",)), "errors", "errors")

    heights = [
        float(re.findall(r"(?:translate\(\S+ |\by=\")(-?[\d.]+)", text)[0])
        for text in re.findall(r"<text [^>]*>(?=(?:baseline|model|last))", element)
    ]
    assert len(heights) == 9
    assert min(np.diff(sorted(heights))) > LETTER_HEIGHT
    assert 0 < min(heights) < max(heights) < 72 * plots.horizon_errors(crowded, ("load",)).get_figheight()


def test_any_name_can_be_drawn() -> None:
    for label in ("$x_1", "a\\b{", "温度", "%s", "\U0001f600", "m" * 300):
        figure = plots.residuals(evaluation_of(), 0, first_row=0, label=label)
        assert canvas.png(figure).startswith(b"\x89PNG")
        element = canvas.svg(figure, "figure", f'"{label}" <b>')
        assert 'aria-label="&quot;' in element
        assert "<b>" not in element
        assert "m" * 40 not in element.partition(">")[2]


def test_a_name_like_the_code_of_a_figure_stays_as_it_is() -> None:
    label = 'a id="b" url(#c) #0072b2'

    element = canvas.svg(plots.residuals(evaluation_of(), 0, first_row=0, label=label), "figure", "figure")

    assert f">{label}<" in element


def test_colours_of_a_page_are_variables_and_those_of_a_file_are_not() -> None:
    figure = plots.losses(history_of(3, 1), clip=1)

    assert not re.search(r"#[0-9a-f]{6}", canvas.svg(figure, "loss", "loss"))
    assert (mpl.image.imread(BytesIO(canvas.png(figure)))[0, 0] == 1).all()


def test_drawing_leaves_matplotlib_as_it_was() -> None:
    before = dict(mpl.rcParams)

    canvas.svg(plots.losses(history_of(3, 1), clip=1), "loss", "loss")

    assert dict(mpl.rcParams) == before
