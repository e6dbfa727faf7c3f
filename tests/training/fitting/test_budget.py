"""The budget: what a run may take is shared out, and epochs are counted before the first of them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.tiny import config_of
from training.fitting.budget import LEAST_EPOCHS, OVERRUN, RESERVED, Budget, Plan

seconds = st.floats(1e-4, 1e4)


class Clock:
    """A clock that the test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_fits_share_what_is_left_of_a_budget() -> None:
    clock = Clock()
    budget = Budget(100, clock)
    ready = 100 * (1 - RESERVED)

    assert budget.share(2) == pytest.approx(ready / 2)
    clock.now += 10
    assert budget.share(1) == pytest.approx(ready - 10)
    clock.now += 1000
    assert budget.share(1) == 0


def test_a_run_without_a_limit_has_time_for_ever() -> None:
    assert Budget(math.inf).share(2) == math.inf


def test_a_plan_that_fits_stays_whole() -> None:
    plan = Plan(50, 20).within(10.2, step_seconds=0.01, validation_seconds=0.002)

    assert (plan.epochs, plan.steps, plan.wanted) == (50, 20, None)
    assert plan.epoch_seconds == pytest.approx(0.202)
    assert plan.findings(120) == []


def test_a_plan_that_takes_too_long_loses_epochs() -> None:
    plan = Plan(50, 20).within(2.1, step_seconds=0.01, validation_seconds=0.002)

    assert (plan.epochs, plan.steps, plan.wanted) == (10, 20, (50, 20))
    assert [finding.sentence for finding in plan.findings(120)] == [
        "--budget 120 left time for 10 of 50 epochs; a larger --budget may find a better network"
    ]


def test_few_epochs_of_many_steps_become_shorter() -> None:
    plan = Plan(50, 2000).within(4, step_seconds=0.01, validation_seconds=0.5)

    assert (plan.epochs, plan.steps) == (LEAST_EPOCHS, 50)
    assert "4 of 50 epochs, each of 50 of 2000 steps" in plan.findings(120)[0].sentence


@given(epochs=st.integers(1, 100), steps=st.integers(1, 5000), limit=seconds, step=seconds, validation=seconds)
def test_a_plan_keeps_its_time_or_is_as_short_as_a_plan_can_be(
    epochs: int, steps: int, limit: float, step: float, validation: float
) -> None:
    plan = Plan(epochs, steps).within(limit, step, validation)

    assert 1 <= plan.epochs <= epochs
    assert 1 <= plan.steps <= steps
    is_shortest = plan.epochs == min(epochs, LEAST_EPOCHS) and plan.steps == 1
    assert is_shortest or plan.epochs * plan.epoch_seconds <= limit * (1 + 1e-9)


def test_a_fit_that_became_slow_begins_no_further_epoch() -> None:
    plan = Plan(10, 20).within(100, step_seconds=0.5, validation_seconds=0)

    assert plan.has_time(LEAST_EPOCHS, OVERRUN * 100 - 10)
    assert not plan.has_time(LEAST_EPOCHS, OVERRUN * 100 - 9)
    assert plan.has_time(LEAST_EPOCHS - 1, 1e9)


def test_settled_configuration_asks_for_the_same_fit() -> None:
    config = config_of(epochs=50)

    assert Plan(50, 20).within(1e9, 1, 1).settled(config) == config
    assert Plan(50, 20).within(200, 1, 0).settled(config) == config.model_copy(update={"epochs": 10})
    cut = Plan(50, 2000).within(200, 1, 0).settled(config)
    assert (cut.epochs, cut.epoch_steps) == (LEAST_EPOCHS, 50)
