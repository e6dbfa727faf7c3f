"""Steps down the loss: what is divided by what, and what is put back."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_array_equal

from app.arrays import Inputs
from tests.servers import ROOT, environment
from tests.training.fitting.fits import SOUND, fitted
from tests.training.tiny import config_of
from training.fitting.descent import Descent
from training.network.model import build_model


@pytest.mark.parametrize("loss", ["mape", "msle"])
def test_losses_on_raw_values_are_what_their_names_say(loss: Any) -> None:
    model, history = fitted(config_of(loss=loss, epochs=1))
    forecasts = np.asarray(model(SOUND.validation.windows), np.float64)
    actual = SOUND.validation.targets.astype(np.float64)

    shares = np.abs((forecasts - actual) / actual)
    logarithms = np.square(np.log1p(forecasts) - np.log1p(actual))

    by_hand = shares.mean() if loss == "mape" else logarithms.mean()
    assert history.epochs[0].validation_loss == pytest.approx(by_hand, rel=1e-3)


def test_a_descent_that_is_put_back_goes_on_as_if_nothing_had_happened() -> None:
    """Adam's count goes back with its memory, wherever on its way the rate goes on."""
    model = build_model(config_of(), SOUND)
    descent = Descent(model, config_of(), 0.01, lambda step: tf.cast(step < 100, tf.float32))
    inputs = Inputs(SOUND.train.windows[:80].reshape(5, 16, 6, 2))
    expected = SOUND.train.targets[:80].reshape(5, 16, 2, 1)
    descent.run(inputs, expected)
    good, weights = descent.state(), model.get_weights()

    after = []
    for next_step in (5, 45, 100):
        descent.run(inputs, expected)
        descent.restore(good, next_step)
        descent.run(inputs[:1], expected[:1])
        after.append(model.get_weights())

    for one, same, before, still in zip(after[0], after[1], weights, after[2], strict=True):
        assert_array_equal(one, same)
        assert_array_equal(before, still)  # the rate has come to its end
        assert not np.array_equal(one, before)


COUNT_PAGES = """
import resource
import tensorflow as tf
from app.arrays import Inputs
from tests.training.tiny import config_of, dataset_of, part_of, waves
from training.fitting.descent import Descent
from training.network.model import build_model

config = config_of(window=168, units=(64, 64), horizon=24, xla=True)
part = part_of(waves(400), steps=168, horizon=24)
descent = Descent(build_model(config, dataset_of(part)), config, 0.01, lambda step: tf.ones_like(step, tf.float32))
inputs, expected = Inputs(part.windows[:160].reshape(5, 32, 168, 2)), part.targets[:160].reshape(5, 32, 24, 1)
for _ in range(6):  # each thread takes memory once, and a step may run on any thread
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    descent.run(inputs, expected)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts the pages that Linux hands out")
def test_a_step_takes_the_memory_of_the_step_before() -> None:
    """Memory that goes back to the kernel after every step comes anew, page by page: a third of the time of a fit.

    In a process of its own: what other tests have allocated changes what the allocator gives back.
    """
    counted = subprocess.run(
        [sys.executable, "-c", COUNT_PAGES], cwd=ROOT, env=environment(), capture_output=True, text=True, check=True
    )

    assert min(map(int, counted.stdout.split())) < 5 * 2000  # else there are 14 000 a step
