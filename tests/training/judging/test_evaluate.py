"""Scores and verdicts on numbers that one can work out in the head."""

from dataclasses import replace
from itertools import cycle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from app.version.manifest import Score
from tests.training.tiny import config_of, dataset_of, part_of, waves
from training.data.windows import Part, cut_training
from training.judging.evaluate import Evaluation, LinearStart, compare, evaluate, naive_error, score
from training.network.model import FORECAST_WINDOWS, Forecaster, build_model

TABLES = arrays(np.float32, (5, 3, 1), elements=st.floats(-1e6, 1e6, width=32))


def evaluated(part: Part) -> Evaluation:
    """An untrained model and the baselines on the part they were fitted on."""
    dataset = replace(dataset_of(part), series=np.arange(20, dtype=np.float32)[:, None])
    return evaluate(Forecaster(build_model(config_of(), dataset)), dataset)


def score_of(evaluation: Evaluation, forecaster: str) -> Score:
    return next(score for score in evaluation.scores if score.forecaster == forecaster)


def test_score_of_known_errors() -> None:
    actual = np.array([[[1], [2]], [[3], [4]]], np.float32)
    forecasts = np.array([[[1], [2]], [[3], [8]]], np.float32)

    known = score("guess", forecasts, actual, naive_error=0.5)

    assert (known.forecaster, known.mae, known.rmse, known.mase) == ("guess", 1, 2, 2)
    assert known.smape == pytest.approx(200 * 4 / 12 / 4)
    assert known.mae_by_step == pytest.approx((0, 2))
    assert known.rmse_by_step == pytest.approx((0, 8**0.5))


@given(TABLES, TABLES)
def test_errors_agree_with_each_other(forecasts: np.ndarray, actual: np.ndarray) -> None:
    errors = score("guess", forecasts, actual)
    mirrored = score("guess", actual, forecasts)

    assert 0 <= errors.mae <= errors.rmse * (1 + 1e-9)
    assert errors.smape is not None
    assert 0 <= errors.smape <= 200 * (1 + 1e-9)
    assert (mirrored.mae, mirrored.rmse, mirrored.smape) == (errors.mae, errors.rmse, errors.smape)
    assert np.mean(errors.mae_by_step) == pytest.approx(errors.mae)
    assert np.mean(np.square(errors.rmse_by_step)) == pytest.approx(errors.rmse**2)
    assert score("guess", forecasts, forecasts).smape == 0


def test_nothing_forecast_as_nothing_is_no_error() -> None:
    nothing = np.zeros((2, 1, 1), np.float32)

    assert score("guess", nothing, nothing).smape == 0


def test_naive_error_is_of_the_season_before() -> None:
    series = np.array([1, 5, 2, 7, 2, 9], np.float32)

    assert naive_error(series, None) == pytest.approx((4 + 3 + 5 + 5 + 7) / 5)
    assert naive_error(series, 2) == pytest.approx((1 + 2 + 0 + 2) / 4)
    assert naive_error(series, 6) is None
    assert naive_error(np.ones(4, np.float32), None) is None


def test_score_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"\(2, 1, 1\).*\(2, 2, 1\)"):
        score("guess", np.zeros((2, 1, 1), np.float32), np.zeros((2, 2, 1), np.float32))


def test_every_window_is_judged() -> None:
    part = part_of(waves(FORECAST_WINDOWS + 50, columns=1))  # one full call and a remainder
    dataset = dataset_of(part)
    model = build_model(config_of(), dataset)

    evaluation = evaluate(Forecaster(model), dataset)

    own = evaluation.scores[0]
    forecasts = np.asarray(model(part.windows), np.float64)
    errors = forecasts - part.targets
    assert len(errors) == FORECAST_WINDOWS + 43
    assert own.forecaster == "model"
    assert own.mae == pytest.approx(np.abs(errors).mean(), rel=1e-5)
    assert own.rmse == pytest.approx(np.sqrt(np.square(errors).mean()), rel=1e-5)
    assert own.mae_by_step == pytest.approx(np.abs(errors).mean(axis=(0, 2)), rel=1e-5)
    assert next(iter(evaluation.forecasts)) == "model"
    assert {values.shape for values in evaluation.forecasts.values()} == {part.targets.shape}
    np.testing.assert_allclose(evaluation.forecasts["model"], forecasts, rtol=1e-5)
    assert_array_equal(evaluation.actual, part.targets)
    assert evaluation.losses("model") == pytest.approx(np.abs(errors).mean(axis=(1, 2)), rel=1e-4)


def test_baselines_on_a_climb() -> None:
    evaluation = evaluated(part_of(np.arange(50.0)[:, None], steps=6, horizon=1))

    last = score_of(evaluation, "last value")
    assert (last.mae, last.rmse, last.mase) == (1, 1, 1)
    assert last.mae_by_step == (1,)


@pytest.mark.parametrize(
    ("own", "outcome", "sentence"),
    [
        (8, "beats", "The model beats the best baseline, Holt, by 20.0%: mean absolute error 8 against 10, p < 0.001."),
        (12, "loses", "The model loses to the best baseline, Holt, by 20.0%: mean absolute error 12 against 10, p < "),
        (
            10.01,
            "ties",
            "The model ties with the best baseline, Holt: its mean absolute error is 0.1% above, 10.01 against 10, p",
        ),
        (
            9.99,
            "ties",
            "The model ties with the best baseline, Holt: its mean absolute error is 0.1% below, 9.99 against 10, p",
        ),
    ],
)
def test_verdict_is_one_sentence(own: float, outcome: str, sentence: str) -> None:
    noise = np.random.default_rng(0).normal(0, 1, 100)
    verdict = compare(own + noise - noise.mean(), np.full(100, 10.0), "Holt", horizon=1)

    assert verdict.outcome == outcome
    assert verdict.sentence.startswith(sentence)
    assert verdict.difference == pytest.approx(own / 10 - 1)
    assert (verdict.p < 0.05) == (outcome != "ties")


def test_too_few_forecasts_for_a_test_are_told() -> None:
    verdict = compare(np.full(40, 1.0), np.full(40, 9.0), "Holt", horizon=3)

    assert verdict.outcome == "ties"
    assert verdict.sentence == (
        "The model ties with the best baseline, Holt: its mean absolute error is 88.9% below, 1 against 9, "
        "too few forecasts to tell skill from luck (40, at least 50 are needed)."
    )


def test_a_baseline_that_makes_no_error_is_told() -> None:
    losses = np.array([1.0, 2, 1, 2, 1] * 10)

    loss = compare(losses, np.zeros(50), "Holt", horizon=1)
    tie = compare(losses[:5], np.zeros(5), "Holt", horizon=1)
    equal = compare(np.zeros(50), np.zeros(50), "Holt", horizon=1)

    assert loss.sentence.startswith("The model loses to the best baseline, Holt, which makes no error: mean absolute ")
    assert "its mean absolute error is above, 1.4 against 0, too few forecasts" in tie.sentence
    assert "its mean absolute error is the same, 0 against 0, p = 1.000." in equal.sentence


def test_verdict_is_on_the_best_baseline() -> None:
    # Rising lines: the line goes on for whoever knows of trends.
    evaluation = evaluated(part_of(np.arange(50.0)[:, None] + waves(50, columns=1), steps=6, horizon=1))

    errors = {score.forecaster: score.mae for score in evaluation.scores[1:]}
    assert evaluation.verdict.against == min(errors, key=lambda name: errors[name])


def test_errors_of_several_targets_count_by_their_own_spread() -> None:
    values = waves(columns=2).astype(np.float32) * np.array([1, 1000], np.float32)
    part = cut_training(values, values, 6, 2)
    dataset = dataset_of(part, targets=("a", "b"))

    evaluation = evaluate(Forecaster(build_model(config_of(), dataset)), dataset)

    assert [score.target for score in evaluation.scores[:4]] == ["a", "b", "a", "b"]
    scales = part.targets.std(axis=(0, 1), dtype=np.float64)
    share = np.mean([score.mae / scale for score, scale in zip(evaluation.scores[:2], scales, strict=True)])
    assert evaluation.losses("model").mean() == pytest.approx(share)
    assert evaluation.verdict.sentence.startswith("In units of each target's standard deviation: The model ")


def test_scaled_errors_of_several_targets_are_each_by_its_own_season() -> None:
    values = waves(columns=2).astype(np.float32) * np.array([1, 1000], np.float32)
    dataset = replace(dataset_of(cut_training(values, values, 6, 2), targets=("a", "b")), series=values, period=5)

    scores = evaluate(Forecaster(build_model(config_of(), dataset)), dataset).scores

    seasons = np.abs(values[5:].astype(np.float64) - values[:-5]).mean(axis=0)
    for each, season in zip(scores, cycle(seasons), strict=False):
        assert each.mase == pytest.approx(each.mae / season)
    assert {each.forecaster for each in scores} > {"model", "seasonal naive (5)"}


def judged_beside_its_start(change: float) -> tuple[Evaluation, Evaluation]:
    """A network with a linear path, judged beside its start, before and after its path's bias has changed."""
    dataset = replace(dataset_of(part_of(waves())), series=np.arange(20, dtype=np.float32)[:, None])
    forecaster = Forecaster(build_model(config_of(skip=True), dataset))
    start = LinearStart(dataset, "last", forecaster(dataset.test.inputs))
    before = evaluate(forecaster, dataset, start)
    path = forecaster.model.get_layer("skip")
    kernel, bias = path.get_weights()
    path.set_weights([kernel, bias + change])
    return before, evaluate(forecaster, dataset, start)


def test_verdict_says_what_the_cells_add_to_the_linear_start() -> None:
    before, after = judged_beside_its_start(change=0.5)

    start, own = (float(evaluation.losses("model").mean()) for evaluation in (before, after))
    assert own > start
    unchanged = f"The model is its linear start, which makes {start:.4g}: the cells add nothing."
    assert before.verdict.sentence.endswith(unchanged)
    changed = f"The linear start alone makes {start:.4g}, {(own - start) / own:.1%} less, p < 0.001."
    assert after.verdict.sentence.endswith(changed)


def test_the_regression_of_the_verdict_is_the_linear_start() -> None:
    before, _ = judged_beside_its_start(change=0)

    assert_allclose(before.forecasts["linear autoregression"], before.forecasts["model"], rtol=1e-4)
