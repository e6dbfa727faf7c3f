"""Scaling inside the graph: what the layers do, and that only the training part decides how."""

import doctest

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tests.training.tiny import dataset_of, part_of, waves
from training.config import Output, Scale
from training.network import layers
from training.network.layers import SPREAD_FLOOR, Centre, CentreKind, Restore, Scaling, Spread, Standardise, fit_scaling

WINDOWS = np.array([[[1, 10], [2, 10], [6, 10]]], np.float32)  # (batch 1, steps 3, features 2)

SCALES: tuple[Scale, ...] = ("standard", "window", "last", "none")


def restore_of(scaling: Scaling) -> Restore:
    return Restore(
        selection=scaling.selection,
        fixed_centre=scaling.fixed_centre,
        fixed_spread=scaling.fixed_spread,
        ratio=scaling.ratio,
        yardstick=scaling.yardstick,
    )


def test_the_examples_in_docstrings_come_out_as_written() -> None:
    outcome = doctest.testmod(layers)

    assert outcome.attempted > 0
    assert outcome.failed == 0


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("constant", [[7, 8]]),
        ("mean", [[3, 10]]),
        ("last", [[6, 10]]),
        ("first", [[1, 10]]),
        ("running", [[1, 10], [1.5, 10], [3, 10]]),
        ("own", [[1, 10], [2, 10], [6, 10]]),
    ],
)
def test_centre_of_each_kind(kind: CentreKind, expected: list[list[float]]) -> None:
    centre = Centre(kind, [7, 8])(WINDOWS)

    assert_allclose(centre[0], expected, rtol=1e-6)


def test_spread_of_a_window_is_its_standard_deviation_with_a_floor() -> None:
    centre = Centre("mean")(WINDOWS)

    spread = Spread("mean", [2, 5])(WINDOWS, centre)

    # Squared distances of the first feature: 4, 1, 9; the second never leaves its centre.
    assert_allclose(spread[0, 0], [np.sqrt(14 / 3 + (SPREAD_FLOOR * 2) ** 2), SPREAD_FLOOR * 5], rtol=1e-6)


def test_running_spread_does_not_look_ahead() -> None:
    later = WINDOWS.copy()
    later[:, -1] = 1000
    spread, centre = Spread("running", [1, 1]), Centre("running")

    assert_array_equal(spread(WINDOWS, centre(WINDOWS))[:, :-1], spread(later, centre(later))[:, :-1])


@pytest.mark.parametrize("output", ["last", "sequence"])
@pytest.mark.parametrize("scale", SCALES)
def test_restore_undoes_what_was_done_to_a_target(scale: Scale, output: Output) -> None:
    dataset = dataset_of(part_of(waves()))
    windows, targets = dataset.train.windows, dataset.train.targets
    scaling = fit_scaling(dataset, scale, output)
    centre = np.broadcast_to(Centre(scaling.kinds.target_centre, scaling.centre)(windows), (len(windows), 6, 2))[:, -1:]
    inputs_centre = Centre(scaling.kinds.centre, scaling.centre)(windows)
    spread = Spread(scaling.kinds.spread, scaling.spread)(windows, inputs_centre)[:, -1:]

    scaled = (targets - centre[..., :1]) / (np.asarray(spread)[..., :1] * scaling.ratio)
    restored = restore_of(scaling)(scaled, centre, spread)

    assert_allclose(restored, targets, rtol=1e-6)


@pytest.mark.parametrize("scale", ["standard", "last"])
def test_scaled_training_windows_have_unit_root_mean_square(scale: Scale) -> None:
    dataset = dataset_of(part_of(waves()))
    scaling = fit_scaling(dataset, scale, "last")
    windows = dataset.train.windows
    centre = Centre(scaling.kinds.centre, scaling.centre)(windows)

    scaled = Standardise()(windows, centre, Spread(scaling.kinds.spread, scaling.spread)(windows, centre))

    assert_allclose(np.sqrt(np.square(scaled).mean(axis=(0, 1))), 1, rtol=1e-4)


@pytest.mark.parametrize("scale", SCALES)
def test_only_the_training_part_is_looked_at(scale: Scale) -> None:
    train = part_of(waves())

    alone = fit_scaling(dataset_of(train), scale, "last")
    beside_another = fit_scaling(dataset_of(train, validation=part_of(1000 * waves())), scale, "last")

    for name in ("centre", "spread", "fixed_centre", "fixed_spread", "ratio", "yardstick"):
        assert_array_equal(getattr(alone, name), getattr(beside_another, name))


def test_spread_of_last_is_the_distance_from_the_last_row() -> None:
    climb = part_of(np.arange(20.0)[:, None], steps=3, horizon=1)  # windows like 0 1 2, followed by 3

    scaling = fit_scaling(dataset_of(climb), "last", "last")

    assert_allclose(scaling.spread, np.sqrt((4 + 1 + 0) / 3), rtol=1e-6)
    assert_allclose(scaling.yardstick, 1, rtol=1e-6)


def test_target_that_is_no_feature_is_counted_from_its_training_mean() -> None:
    seen, hidden = part_of(waves(), steps=6), part_of(waves() + 7, target=1, steps=6)
    dataset = dataset_of(type(seen)(seen.windows, hidden.targets, hidden.history), targets=("elsewhere",))

    scaling = fit_scaling(dataset, "last", "last")

    assert_allclose(scaling.fixed_centre, hidden.targets.mean(), rtol=1e-5)
    assert_allclose(scaling.fixed_spread, hidden.targets.std(), rtol=1e-3)
    assert_allclose(scaling.ratio, 1, rtol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
@pytest.mark.parametrize("scale", SCALES)
def test_constant_column_divides_by_something_sensible(scale: Scale, value: float) -> None:
    dataset = dataset_of(part_of(np.full((30, 1), value)))

    scaling = fit_scaling(dataset, scale, "last")

    for spread in (scaling.spread, scaling.yardstick):
        assert_allclose(spread, 1 if scale == "none" or value == 0 else value, rtol=1e-5)
    assert (scaling.ratio > 0).all()


def test_layers_survive_saving() -> None:
    windows = keras.Input((3, 2))
    centre = Centre("mean", [1, 2])(windows)
    spread = Spread("mean", [0.1, 3])(windows, centre)
    scaled = Standardise()(windows, centre, spread)
    restore = Restore(selection=np.eye(2), fixed_centre=[0, 0], fixed_spread=[0, 0], ratio=[1, 0.3], yardstick=[1, 1])
    model = keras.Model(windows, restore(scaled, centre, spread))

    again = keras.Model.from_config(model.get_config())

    assert_array_equal(model(WINDOWS), again(WINDOWS))


@pytest.mark.parametrize("kind", ["mean", "running"])
def test_a_flat_window_is_its_own_centre_to_the_last_bit(kind: CentreKind) -> None:
    windows = np.full((1, 49, 1), 353.7, np.float32)

    assert_array_equal(np.broadcast_to(np.asarray(Centre(kind)(windows)), windows.shape), windows)
