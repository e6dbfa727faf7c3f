from datetime import UTC, datetime

import numpy as np
import pytest

from app.version.manifest import Manifest, Score
from benchmarks.forecasting.tasks import Array
from benchmarks.forecasting.verdicts import check_verdict, judge, luck
from tests.benchmarks.series import noise
from tests.versions import contract_of

ORIGINS, HORIZON = 400, 4


def chance(differences: Array) -> float:
    p = luck(differences, HORIZON)
    assert p is not None
    return p


def test_the_test_of_luck_keeps_its_level_where_neighbours_share_their_luck() -> None:
    shared = [np.convolve(noise(ORIGINS, seed), np.ones(HORIZON), "same") for seed in range(200)]
    assert sum(chance(each) < 0.05 for each in shared) <= 20


def test_a_clear_difference_is_no_luck_and_few_origins_are_too_few() -> None:
    assert chance(noise(ORIGINS) + 0.5) < 0.01
    assert luck(noise(30) + 5, HORIZON) is None


def test_the_best_baseline_is_what_a_network_is_compared_with() -> None:
    verdict = judge(np.full(ORIGINS, 2.0) + noise(ORIGINS) / 10, {"a": np.ones(ORIGINS), "b": np.full(ORIGINS, 4.0)}, 2)
    assert (verdict.outcome, verdict.against) == ("loses", "a")
    assert verdict.difference == pytest.approx(1, abs=0.02)


def saying(outcome: str, own: float, last: float) -> Manifest:
    """Returns the manifest of a version that says how its network compares with the last value."""
    made_elsewhere = Manifest.foreign("default", datetime(2026, 1, 1, tzinfo=UTC), contract_of())
    scores = tuple(Score(forecaster=name, mae=mae, rmse=mae) for name, mae in (("model", own), ("last value", last)))
    sentence = (
        f"The model {outcome} the best baseline, last value, by 50.0%: mean absolute error 1 against 2, p < 0.001."
    )
    return made_elsewhere.model_copy(update={"scores": scores, "verdict": sentence})


ACTUAL: Array = np.zeros((ORIGINS, HORIZON))
OWN, LAST = np.full_like(ACTUAL, 1.0), np.full_like(ACTUAL, 2.0)
SEASONAL = np.full_like(ACTUAL, 0.5)


@pytest.mark.parametrize(
    ("manifest", "cheap", "problem"),
    [
        (saying("beats", 1, 2), {"last value": LAST}, None),
        (saying("loses to", 1, 2), {"last value": LAST}, "beats, not loses"),
        (saying("ties with", 1, 2), {"last value": LAST}, "beats, not ties"),
        # A baseline that the version does not know is better: a season that was not found makes false verdicts.
        (saying("beats", 1, 2), {"last value": LAST, "seasonal naive (24)": SEASONAL}, "loses, not beats"),
        (saying("beats", 0.9, 2), {"last value": LAST}, "the version's error is 1, not 0.9"),
        (saying("beats", 1, 1.9), {"last value": LAST}, "the error of last value is 2, not 1.9"),
        (saying("flatters", 1, 2), {"last value": LAST}, "the verdict's sentence has another form"),
    ],
)
def test_a_verdict_is_right_if_its_errors_and_its_outcome_are(
    manifest: Manifest, cheap: dict[str, Array], problem: str | None
) -> None:
    assert check_verdict(manifest, OWN, cheap, ACTUAL).problem == problem


def test_with_too_few_origins_no_verdict_can_be_contradicted() -> None:
    few = slice(30)
    for outcome in ("beats", "ties with"):
        checked = check_verdict(saying(outcome, 1, 2), OWN[few], {"last value": LAST[few]}, ACTUAL[few])
        assert (checked.recomputed.p, checked.problem) == (None, None)


def test_near_the_level_a_tie_and_a_difference_are_both_right() -> None:
    losses = noise(ORIGINS)
    shift = next(shift for shift in np.linspace(0, 1, 500) if chance(losses + shift) < 0.05)
    own = 10 + (losses + shift)[:, None] + ACTUAL
    baseline = np.full_like(ACTUAL, 10.0)
    last = float(np.abs(own).mean())
    for outcome in ("loses to", "ties with"):
        assert check_verdict(saying(outcome, last, 10), own, {"last value": baseline}, ACTUAL).problem is None
    assert check_verdict(saying("beats", last, 10), own, {"last value": baseline}, ACTUAL).problem is not None
