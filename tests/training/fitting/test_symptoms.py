"""Where the windows of a batch lie, in words."""

import numpy as np

from training.fitting.symptoms import Rows


def test_batches_are_named_by_windows_and_rows() -> None:
    training = Rows(stride=2, first=0, part="training", steps=6)

    assert training.covered(np.arange(96, 128), 8) == "windows 96 to 127, rows 192 to 261"
    assert training.covered(np.array([9, 3, 7]), 8) == "windows 3, 7, 9, rows 6 to 25"
    assert training.covered(np.array([5]), 8) == "windows 5, rows 10 to 17"
    assert (
        Rows(1, None, "validation", 6, alone=True).covered(np.array([1, 2]), 8)
        == "samples 1 to 2 of the validation part"
    )
