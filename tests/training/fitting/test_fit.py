"""The fit: repeatable, stops in time, keeps the best weights, says what went wrong."""

import math
from types import TracebackType
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tests.training.fitting.fits import SOUND, fitted
from tests.training.network import test_ahead as ahead
from tests.training.tiny import config_of, dataset_of, part_of, waves
from training.config import Cell, Loss, Scale
from training.data.windows import Dataset
from training.errors import TrainingError
from training.fitting.budget import LEAST_EPOCHS, Plan
from training.fitting.fit import fit
from training.fitting.history import Epoch
from training.fitting.listener import Listener
from training.network.model import Forecaster, build_model

# Whoever learns that the next rows are higher gets worse and worse where they are lower.
FALL = part_of(-np.arange(60.0)[:, None])
RISE_THEN_FALL = dataset_of(part_of(np.arange(60.0)[:, None]), validation=FALL)
YARDSTICK = np.sqrt((1**2 + 2**2) / 2)  # of targets one and two above the last row


class Watcher(Listener):
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.steps = 0
        self.planned = (0, 0)
        self.epochs: list[Epoch] = []
        self.left_with: object = "never left"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.left_with = kind

    def starts(self, plan: Plan) -> None:
        self.planned = (plan.epochs, plan.steps)

    def steps_done(self, steps: int) -> None:
        self.steps += steps

    def epoch_done(self, epoch: Epoch) -> None:
        self.epochs.append(epoch)


@pytest.mark.parametrize(
    ("scale", "loss"), [("standard", "huber"), ("window", "mae"), ("last", "mse"), ("none", "huber")]
)
def test_learning_lowers_the_loss(scale: Scale, loss: Loss) -> None:
    _, history = fitted(config_of(scale=scale, loss=loss, epochs=5, learning_rate=0.02))

    assert history.epochs[-1].loss < history.epochs[0].loss
    assert history.best.validation_loss < history.epochs[0].validation_loss


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_sequence_learns_from_every_step(cell: Cell) -> None:
    _, history = fitted(config_of(output="sequence", cell=cell, epochs=5, learning_rate=0.02))

    assert history.epochs[-1].loss < history.epochs[0].loss


@pytest.mark.parametrize("xla", [False, True])
def test_same_seed_gives_bit_identical_weights(xla: bool) -> None:
    config = config_of(seed=3, cell="rnn", dropout=0.2, units=(2, 2), xla=xla)  # compiled faster than other cells

    first, again = (fitted(config)[0].get_weights() for _ in range(2))

    for one, same in zip(first, again, strict=True):
        assert_array_equal(one, same)


def test_other_seed_gives_other_weights() -> None:
    first, other = (fitted(config_of(seed=seed))[0].get_weights() for seed in (3, 4))

    assert not np.array_equal(first[0], other[0])


def test_best_weights_are_restored() -> None:
    config = config_of(epochs=4, learning_rate=0.05)
    model, history = fitted(config, RISE_THEN_FALL)

    errors = Forecaster(model)(FALL.inputs) - FALL.targets

    assert history.best.number == 1
    assert_allclose(errors, np.abs(errors), rtol=0)  # forecasts lie above a fall, so every error is a plain difference
    huber = np.where(errors <= YARDSTICK, (errors / YARDSTICK) ** 2 / 2, errors / YARDSTICK - 0.5)
    assert_allclose(huber.mean(), history.best.validation_loss, rtol=1e-5)


def test_a_linear_start_is_kept_where_every_epoch_is_worse() -> None:
    config = config_of(skip=True, epochs=3, learning_rate=1.0)
    start = build_model(config, SOUND).get_weights()

    model, history = fitted(config, SOUND)

    assert history.best.number == 0
    assert all(epoch.validation_loss > history.start_loss for epoch in history.epochs)
    for kept, first in zip(model.get_weights(), start, strict=True):
        assert_array_equal(kept, first)


def test_stops_when_patience_is_lost() -> None:
    _, history = fitted(config_of(epochs=40, patience=2, learning_rate=0.05), RISE_THEN_FALL)

    assert [epoch.best for epoch in history.epochs] == [True, False, False]


def test_validation_loss_is_over_every_window() -> None:
    config = config_of(epochs=1, batch_size=16, loss="mse")  # 83 validation windows: no multiple of 16
    model, history = fitted(config)

    errors = (np.asarray(model(SOUND.validation.windows)) - SOUND.validation.targets) / (
        model.get_layer("forecast").yardstick
    )

    assert history.epochs[0].validation_loss == pytest.approx(float(np.square(errors).mean()), rel=1e-4)


def test_fewer_windows_than_a_batch_are_one_batch() -> None:
    watcher = Watcher()
    fitted(config_of(batch_size=1000), listener=watcher)

    assert watcher.planned == (2, 1)


def test_listener_hears_every_step_and_epoch() -> None:
    watcher = Watcher()
    _, history = fitted(config_of(epochs=2), listener=watcher)  # 83 windows: 5 batches of 16

    assert watcher.planned == (2, 5)
    assert watcher.steps == 10
    assert tuple(watcher.epochs) == history.epochs
    assert watcher.left_with is None


def test_loss_that_is_not_finite_stops_with_a_sentence_and_leaves_the_listener() -> None:
    watcher = Watcher()
    values = waves(90)
    values[40] = np.nan
    model = build_model(config_of(), SOUND)

    with pytest.raises(TrainingError, match=r"training loss .* not a finite number in epoch 1, batch \d .* try next: "):
        fit(Forecaster(model), config_of(), part_of(values), SOUND.validation, watcher)

    assert watcher.left_with is TrainingError


def test_interrupt_leaves_the_listener_and_passes() -> None:
    class Interrupter(Watcher):
        def steps_done(self, steps: int) -> None:
            raise KeyboardInterrupt(steps)

    watcher = Interrupter()
    with pytest.raises(KeyboardInterrupt):
        fitted(config_of(), listener=watcher)

    assert watcher.left_with is KeyboardInterrupt


def test_augmented_windows_are_the_ones_learnt_from() -> None:
    """Windows of zeros leave nothing to learn from but the bias of the head."""
    config = config_of(epochs=1)
    model = build_model(config, SOUND)
    before = model.get_layer("recurrent_1").get_weights()[0]
    shapes = set()

    def blank(generator: np.random.Generator, windows: Any) -> Any:
        shapes.add(windows.shape)
        return np.full_like(windows, generator.integers(1, 2))

    fit(Forecaster(model), config, SOUND.train, SOUND.validation, augment=blank)

    assert_array_equal(model.get_layer("recurrent_1").get_weights()[0], before)
    assert shapes == {(80, 6, 2)}


def test_a_fit_without_validation_runs_every_epoch_and_keeps_the_last_weights() -> None:
    config = config_of(epochs=4, patience=1, learning_rate=0.5)
    last: list[Any] = []

    class Keeper(Listener):
        def epoch_done(self, epoch: Epoch) -> None:
            assert math.isnan(epoch.validation_loss)
            last[:] = model.get_weights()

    model = build_model(config, SOUND)
    history = fit(Forecaster(model), config, SOUND.train, None, Keeper())

    assert len(history.epochs) == 4
    assert history.best.number == 4
    for kept, ended in zip(model.get_weights(), last, strict=True):
        assert_array_equal(kept, ended)


def test_an_incident_goes_back_to_the_best_weights_and_runs_the_epoch_again() -> None:
    config = config_of(epochs=9, patience=2, learning_rate=0.05, loss="mse")
    model = build_model(config, RISE_THEN_FALL)
    passes: list[int] = []
    seen: dict[int | str, Any] = {}

    class Keeper(Watcher):
        def epoch_done(self, epoch: Epoch) -> None:
            super().epoch_done(epoch)
            seen[epoch.number] = model.get_weights()

        def noticed(self, sentence: str) -> None:
            seen[sentence] = model.get_weights()

    def spoil_the_third(_: np.random.Generator, windows: Any) -> Any:
        passes.append(len(windows))
        return windows * np.float32(1e30) if len(passes) == 3 else windows

    keeper = Keeper()
    history = fit(Forecaster(model), config, RISE_THEN_FALL.train, FALL, keeper, augment=spoil_the_third)

    [incident] = history.incidents
    assert [epoch.best for epoch in history.epochs] == [
        True,
        False,
        False,
        False,
    ]  # patience counts anew after the third
    assert (incident.epoch, incident.batch, len(passes)) == (3, 1, 5)
    assert incident.rows.startswith("windows ")
    assert "went on from the weights of epoch 1 with half the rate (0.025) and half the clip (0.5)" in incident.remedy
    for restored, best in zip(seen[incident.sentence], seen[1], strict=True):
        assert_array_equal(restored, best)


def test_timing_a_fit_changes_nothing_about_it() -> None:
    """Steps are timed and undone, with the seeds of dropout and noise."""
    config = config_of(cell="rnn", units=(2, 2), dropout=0.3, noise=0.1, skip=True, epochs=2)

    untimed, timed = (fitted(config, seconds=seconds) for seconds in (math.inf, 1e6))

    assert timed[1].plan.epoch_seconds > 0
    assert [epoch.loss for epoch in timed[1].epochs] == [epoch.loss for epoch in untimed[1].epochs]
    for one, same in zip(untimed[0].get_weights(), timed[0].get_weights(), strict=True):
        assert_array_equal(one, same)


def test_a_fit_without_time_takes_the_shortest_plan() -> None:
    watcher = Watcher()

    _, history = fitted(config_of(epochs=50), listener=watcher, seconds=0)

    assert watcher.planned == (LEAST_EPOCHS, 1)
    assert len(history.epochs) == LEAST_EPOCHS
    assert watcher.steps == LEAST_EPOCHS


def test_a_planned_fit_can_be_made_again_without_a_budget() -> None:
    model, history = fitted(config_of(epochs=50), seconds=0)

    again, same = fitted(history.plan.settled(config_of(epochs=50)))

    assert (same.plan.epochs, same.plan.steps) == (LEAST_EPOCHS, 1)
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        assert_array_equal(one, other)


@pytest.mark.parametrize(
    "dataset",
    [ahead.dataset_of(ahead.noise().repeat(2, axis=1), known="b"), ahead.dataset_of(ahead.hours(), calendar="hour")],
    ids=["known", "calendar"],
)
def test_windows_keep_what_is_known_ahead_when_they_are_shuffled(dataset: Dataset) -> None:
    """The start makes no error as long as every window comes with its own future and its own time."""
    config = config_of(skip=True, scale="standard", learning_rate=1e-6, epochs=1)
    model = build_model(config, dataset)
    history = fit(Forecaster(model), config, dataset.train, dataset.validation)
    assert history.start_loss < 1e-6
    assert history.epochs[0].loss < 1e-6
    assert history.epochs[0].validation_loss < 1e-6
