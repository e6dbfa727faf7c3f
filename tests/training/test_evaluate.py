"""Scores and verdicts on numbers that one can work out in the head."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from app.manifest import Score
from tests.training.tiny import config_of, dataset_of, part_of, waves
from training.baselines import last_value, moving_average
from training.evaluate import evaluate, scaled, score, verdict
from training.model import FORECAST_WINDOWS, build_model

CLIMB = np.arange(1, 7, dtype=np.float32).reshape(1, 6, 1)  # (n 1, steps 6, targets 1)


def scores_of(model_mae: float, *baseline_maes: float) -> tuple[Score, ...]:
    baselines = (Score(forecaster=f"baseline {n}", mae=mae, rmse=mae) for n, mae in enumerate(baseline_maes, start=1))
    return (Score(forecaster="model", mae=model_mae, rmse=model_mae), *baselines)


def test_last_value_stays() -> None:
    assert_array_equal(last_value(CLIMB, horizon=2), [[[6], [6]]])


def test_moving_average_is_the_mean_of_the_last_points() -> None:
    assert_array_equal(moving_average(CLIMB, horizon=2, points=5), [[[4], [4]]])


def test_score_of_known_errors() -> None:
    targets = np.array([[[1], [2]], [[3], [4]]], np.float32)
    forecasts = np.array([[[1], [2]], [[3], [8]]], np.float32)

    assert score("guess", forecasts, targets) == Score(forecaster="guess", mae=1, rmse=2)


def test_score_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"\(2, 1, 1\).*\(2, 2, 1\)"):
        score("guess", np.zeros((2, 1, 1), np.float32), np.zeros((2, 2, 1), np.float32))


def test_every_window_is_judged() -> None:
    part = part_of(waves(FORECAST_WINDOWS + 50, columns=1))  # one full call and a remainder
    model = build_model(config_of(), dataset_of(part))

    own, last, average = evaluate(model, part)

    errors = np.asarray(model(part.windows), np.float64) - part.targets
    assert len(errors) == FORECAST_WINDOWS + 43
    assert own.mae == pytest.approx(np.abs(errors).mean(), rel=1e-5)
    assert own.rmse == pytest.approx(np.sqrt(np.square(errors).mean()), rel=1e-5)
    assert (own.forecaster, last.forecaster, average.forecaster) == ("model", "last value", "5-point average")


def test_baselines_on_a_climb() -> None:
    part = part_of(np.arange(50.0)[:, None], steps=6, horizon=1)
    _, last, average = evaluate(build_model(config_of(), dataset_of(part)), part)

    assert (last.mae, last.rmse) == (1, 1)
    assert (average.mae, average.rmse) == (3, 3)


def test_short_windows_average_what_they_have() -> None:
    part = part_of(np.arange(50.0)[:, None], steps=3, horizon=1)

    assert evaluate(build_model(config_of(), dataset_of(part)), part)[2].forecaster == "3-point average"


@pytest.mark.parametrize(
    ("scores", "sentence"),
    [
        (scores_of(8, 12, 10), "The model beats the best baseline, the baseline 2, by 20.0%: "),
        (scores_of(12, 10, 20), "The model loses to the best baseline, the baseline 1, by 20.0%: "),
        (scores_of(10.05, 10, 20), "The model ties with the best baseline, the baseline 1: "),
        (scores_of(1, 0), "The model loses to the best baseline, the baseline 1, which makes no error: "),
    ],
)
def test_verdict_names_the_best_baseline(scores: tuple[Score, ...], sentence: str) -> None:
    said = verdict(scores)

    assert said.startswith(sentence)
    assert said.endswith(f"mean absolute error {scores[0].mae:.4g} against {min(s.mae for s in scores[1:]):.4g}.")


def test_targets_of_different_units_count_alike() -> None:
    scores = (
        Score(forecaster="model", target="a", mae=100, rmse=200),
        Score(forecaster="model", target="b", mae=3, rmse=4),
    )

    assert scaled(scores, {"a": 100, "b": 1}) == (Score(forecaster="model", mae=2, rmse=3),)
