"""The verdict of a version, worked out again: other baselines, another test of luck, plain numpy.

The version's own verdict comes from `training.judging`. This one shares no code with it: the baselines are those of
`cheap`, and the test is a moving-block bootstrap. Near the level two sound tests may decide differently, so verdicts
differ only where this test is clearly on the other side, or where the errors themselves are not what the version says.
"""

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from app.version.manifest import Manifest
from benchmarks.forecasting.tasks import Array

Outcome = Literal["beats", "ties", "loses"]

LEVEL = 0.05
CLEARLY, HARDLY = 0.01, 0.10
"""Below the first luck is ruled out by any sound test, above the second by none."""
RESAMPLES = 2000
LEAST_BLOCKS = 10
"""With fewer blocks a bootstrap finds too many differences."""
SAME_ERROR = 1e-3
"""Share by which two computations of the same error may differ."""
_SAID = re.compile(r"[Tt]he model (beats|ties with|loses to) the best baseline, ([^,:]+)")


@dataclass(frozen=True, slots=True)
class Verdict:
    """A network beside the best of the baselines."""

    outcome: Outcome
    against: str
    difference: float
    """Mean absolute error of the network less that of the baseline, as a share of the latter."""
    p: float | None
    """How often luck alone would make a difference as large; None where there are too few origins to tell."""


@dataclass(frozen=True, slots=True)
class Check:
    """What a version says beside what was worked out."""

    said: str
    """The outcome and the baseline that the version names."""
    recomputed: Verdict
    problem: str | None
    """What is wrong with the version's verdict; None if nothing is."""


def check_verdict(manifest: Manifest, forecasts: Array, cheap: dict[str, Array], actual: Array) -> Check:
    """Compares a version's verdict with one that is worked out from its forecasts.

    Args:
        manifest: What the version says.
        forecasts: (origins, horizon) by the version, from every origin of the test part.
        cheap: The same of each baseline, by name.
        actual: What really followed.
    """
    losses = {name: np.abs(each - actual).mean(axis=1) for name, each in cheap.items()}
    verdict = judge(np.abs(forecasts - actual).mean(axis=1), losses, actual.shape[1])
    match = _SAID.search(manifest.verdict)
    if match is None:
        return Check("cannot be read", verdict, "the verdict's sentence has another form")
    outcome, against = match[1].split()[0], match[2]
    return Check(f"{outcome}: {against}", verdict, _problem(manifest, outcome, forecasts, actual, losses, verdict))


def judge(own: Array, losses: dict[str, Array], horizon: int) -> Verdict:
    """Compares losses (origins,) with those of the baseline that has the lowest mean."""
    best = min(losses, key=lambda name: float(losses[name].mean()))
    mean, other = float(own.mean()), float(losses[best].mean())
    p = luck(own - losses[best], horizon)
    outcome: Outcome = "ties" if p is None or p >= LEVEL else "beats" if mean < other else "loses"
    return Verdict(outcome, best, (mean - other) / other if other else float(np.sign(mean)), p)


def luck(differences: Array, horizon: int) -> float | None:
    """Returns how often luck alone would make a mean difference as large; None if there are too few origins to tell.

    Blocks of neighbouring differences are drawn with replacement, long enough to hold the luck that forecasts share
    whose horizons overlap (Künsch 1989, The Annals of Statistics 17, 1217-1241; in a circle, Politis and Romano 1992).
    """
    count = len(differences)
    length = max(2 * horizon, round(count ** (1 / 3)))
    blocks = count // length
    if blocks < LEAST_BLOCKS:
        return None
    mean = differences.mean()
    circle = np.concatenate([[0.0], np.concatenate([differences, differences[: length - 1]]).cumsum()])
    sums = circle[length:] - circle[:-length]  # of the block that starts at each origin
    drawn = np.random.default_rng(0).integers(0, count, (RESAMPLES, blocks))
    means = sums[drawn].mean(axis=1) / length
    return float((np.abs(means - mean) >= abs(mean)).mean())


def _problem(
    manifest: Manifest, outcome: str, forecasts: Array, actual: Array, losses: dict[str, Array], verdict: Verdict
) -> str | None:
    """Says what is wrong with a verdict that was read off a manifest."""
    errors = {score.forecaster: score.mae for score in manifest.scores}
    own = float(np.abs(forecasts - actual).mean())
    if manifest.scores[0].forecaster == "model" and not np.isclose(own, errors["model"], rtol=SAME_ERROR):
        return f"the version's error is {own:.4g}, not {errors['model']:.4g}"
    for name in errors.keys() & losses.keys() & _without_fit(losses):
        error = float(losses[name].mean())
        if not np.isclose(error, errors[name], rtol=SAME_ERROR):
            return f"the error of {name} is {error:.4g}, not {errors[name]:.4g}"
    is_near = verdict.p is None or (CLEARLY <= verdict.p <= HARDLY and "ties" in (outcome, verdict.outcome))
    return None if is_near or outcome == verdict.outcome else f"{verdict.outcome}, not {outcome}"


def _without_fit(losses: dict[str, Array]) -> set[str]:
    """Returns the baselines that leave nothing to fit, so that everybody has the same errors."""
    return {name for name in losses if name == "last value" or name.startswith("seasonal naive") or "point" in name}
