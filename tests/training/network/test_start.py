"""Where a network starts: the scale that suits the regression best on the validation part."""

from dataclasses import replace

import numpy as np
import pytest

from tests.training.network.test_lags import dataset_of, skipping
from training.config import Scale
from training.data.windows import Float32
from training.network.layers import fit_scaling
from training.network.ridge import validation_error
from training.network.start import LEAST_GAIN, settle_start


def noise_around_a_level(seed: int = 0) -> Float32:
    """Rows that say nothing of the next: counted from the last row, they carry its noise along."""
    return np.random.default_rng(seed).normal(50, 1, (600, 1)).astype(np.float32)


def walk(seed: int = 1) -> Float32:
    """Rows of which the last says all, and the mean of the training part nothing."""
    return np.cumsum(np.random.default_rng(seed).normal(size=(600, 1)), axis=0).astype(np.float32)


@pytest.mark.parametrize(("values", "scale"), [(walk(), "last"), (noise_around_a_level(), "standard")])
def test_scale_is_the_one_that_validation_prefers(values: Float32, scale: str) -> None:
    config, _ = settle_start(skipping(), dataset_of(values))

    assert config.scale == scale


def test_the_usual_scale_stays_where_another_gains_little() -> None:
    dataset = dataset_of(walk(seed=16))
    tried: tuple[Scale, ...] = ("last", "window")
    usual, other = (validation_error(dataset, fit_scaling(dataset, scale, "last")) for scale in tried)

    config, _ = settle_start(skipping(), dataset)

    assert (1 - LEAST_GAIN) * usual < other < usual
    assert config.scale == "last"


@pytest.mark.parametrize("scale", ["none", "standard", "window", "last"])
def test_a_scale_that_is_asked_for_is_kept(scale: str) -> None:
    config, _ = settle_start(skipping(scale=scale), dataset_of(noise_around_a_level()))

    assert config.scale == scale


def test_cells_alone_count_from_the_last_row() -> None:
    config, _ = settle_start(skipping(skip=False), dataset_of(noise_around_a_level()))

    assert config.scale == "last"


def test_test_rows_choose_nothing() -> None:
    dataset = dataset_of(noise_around_a_level())
    noise = np.random.default_rng(1).normal(size=dataset.test.targets.shape).astype(np.float32)
    spoilt = replace(dataset, test=replace(dataset.test, targets=noise))

    assert settle_start(skipping(), spoilt)[0] == settle_start(skipping(), dataset)[0]
