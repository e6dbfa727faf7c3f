"""What is published: the network, unless a baseline that a window suffices for has a lower error and was asked for."""

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from app.version.manifest import Score
from tests.training.tiny import config_of, dataset_of, part_of, waves
from training.config import Export
from training.judging.choice import choose
from training.judging.evaluate import Evaluation, compare
from training.network.linear import Linear
from training.network.model import Forecaster, build_model

DATASET = dataset_of(part_of(waves(columns=1)))
NOISE = np.random.default_rng(0).normal(0, 0.1, DATASET.test.targets.shape).astype(np.float32)
LAST, AVERAGE, SEASONAL = "last value", "2-point average", "seasonal naive (20)"


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return build_model(config_of(), DATASET)


def baseline(name: str, *, is_publishable: bool = True) -> Linear:
    """Goes on from the last row; told apart by what it adds."""
    bias = np.full(2, float(len(name)))
    selection = np.ones((1, 1), np.float32)
    return Linear(name, np.zeros((6, 2)), bias, selection, sees="window" if is_publishable else "history")


def evaluation_of(drift: float = 0, **errors: float) -> Evaluation:
    """Forecasts that are off by so much; `own` is the model's error, which may drift from below to above it."""
    names = {"own": "model", "last": LAST, "average": AVERAGE, "seasonal": SEASONAL}
    forecasts = {names[key]: DATASET.test.targets + NOISE + np.float32(error) for key, error in errors.items()}
    forecasts["model"] += np.linspace(-drift, drift, len(NOISE), dtype=np.float32)[:, None, None]
    baselines = tuple(baseline(name, is_publishable=name != SEASONAL) for name in forecasts if name != "model")
    evaluation = Evaluation(
        forecasts=forecasts,
        actual=DATASET.test.targets,
        target_names=("a",),
        scores=tuple(Score(forecaster=names[key], mae=error, rmse=error) for key, error in errors.items()),
        verdict=compare(np.zeros(1), np.ones(1), "nobody", 1),
        baselines=baselines,
    )
    best = min((each.name for each in baselines), key=lambda name: float(evaluation.losses(name).mean()))
    verdict = compare(evaluation.losses("model"), evaluation.losses(best), best, horizon=2)
    return Evaluation(**{name: getattr(evaluation, name) for name in evaluation.__slots__} | {"verdict": verdict})


def test_the_best_baseline_takes_the_place_of_a_network_that_loses(model: keras.Model) -> None:
    evaluation = evaluation_of(own=9, last=5, average=3)

    choice = choose(model, evaluation, "best")

    last_rows = DATASET.test.windows[:, -1:]
    assert_allclose(Forecaster(choice.model)(DATASET.test.inputs), np.repeat(last_rows, 2, 1) + len(AVERAGE))
    assert [score.forecaster for score in choice.scores] == [AVERAGE, "model", LAST]
    assert choice.verdict.startswith(f"The model loses to the best baseline, {AVERAGE}, by ")
    assert choice.verdict.endswith(f"; {AVERAGE} was published in its place.")


def test_the_best_baseline_takes_the_place_of_a_network_that_ties_above_it(model: keras.Model) -> None:
    evaluation = evaluation_of(own=3.093, average=3, drift=1)

    choice = choose(model, evaluation, "best")

    assert evaluation.verdict.outcome == "ties"
    assert choice.scores[0].forecaster == AVERAGE
    assert f"{AVERAGE}: its mean absolute error is 3.1% above, " in choice.verdict
    assert choice.verdict.endswith(f"; {AVERAGE} was published in its place.")
    assert choice.warning is None


@pytest.mark.parametrize("wanted", ["model", "best"])
def test_the_network_stays_where_it_ties_below_the_best_baseline(model: keras.Model, wanted: Export) -> None:
    evaluation = evaluation_of(own=2.907, average=3, drift=1)

    choice = choose(model, evaluation, wanted)

    assert evaluation.verdict.outcome == "ties"
    assert choice.scores[0].forecaster == "model"
    assert (choice.verdict, choice.warning) == (evaluation.verdict.sentence, None)


@pytest.mark.parametrize(("wanted", "own"), [("model", 9.0), ("best", 1.0), ("best", 3.0)])
def test_the_network_is_published_unless_a_baseline_is_better_and_that_was_asked_for(
    model: keras.Model, wanted: Export, own: float
) -> None:
    evaluation = evaluation_of(own=own, last=5, average=3)

    choice = choose(model, evaluation, wanted)

    assert_array_equal(Forecaster(choice.model)(DATASET.test.inputs), model(DATASET.test.windows))
    assert choice.scores == evaluation.scores
    assert choice.verdict == evaluation.verdict.sentence


def test_a_network_that_is_published_above_a_baseline_comes_with_a_warning(model: keras.Model) -> None:
    ties = evaluation_of(own=3.093, average=3, drift=1)
    loses = evaluation_of(own=9, seasonal=1, average=3, last=5)

    warnings = [choose(model, evaluation, "model").warning for evaluation in (ties, loses)]

    assert (ties.verdict.outcome, loses.verdict.outcome) == ("ties", "loses")
    assert warnings == 2 * [
        f"{AVERAGE} has a lower error than the model: --export best publishes {AVERAGE} in its place"
    ]


def test_no_warning_names_a_baseline_that_cannot_be_published(model: keras.Model) -> None:
    assert choose(model, evaluation_of(own=2, seasonal=1, average=3, last=5), "model").warning is None


def test_the_next_best_is_published_where_the_best_needs_more_than_a_window(model: keras.Model) -> None:
    choice = choose(model, evaluation_of(own=9, seasonal=1, average=3, last=5), "best")

    assert choice.scores[0].forecaster == AVERAGE
    assert f"{SEASONAL} needs more than a window, so {AVERAGE} was published in its place." in choice.verdict


def test_the_network_stays_where_only_a_baseline_that_cannot_be_published_has_a_lower_error(model: keras.Model) -> None:
    choice = choose(model, evaluation_of(own=2, seasonal=1, average=3, last=5), "best")

    assert choice.scores[0].forecaster == "model"
    assert choice.verdict.endswith(
        f"; {SEASONAL} needs more than a window and no other baseline has a lower error than the model, which was "
        "published all the same."
    )
    assert_array_equal(Forecaster(choice.model)(DATASET.test.inputs), model(DATASET.test.windows))
