"""What the console shows of a fit."""

import io

from rich.console import Console

from tests.training.fitting.fits import fitted
from tests.training.tiny import config_of
from training.fitting.budget import Plan
from training.fitting.history import Epoch
from training.fitting.progress import ProgressBar, ProgressLines, progress


def test_log_gets_a_few_lines() -> None:
    text = io.StringIO()
    listener = progress(Console(file=text, width=100))
    assert isinstance(listener, ProgressLines)

    with listener:
        listener.starts(Plan(epochs=50, steps=24))
        for number in range(1, 51):
            listener.epoch_done(Epoch(number, 0.5, 0.25, best=number < 3))

    lines = text.getvalue().splitlines()
    assert lines[:2] == [
        "fitting: at most 50 epochs of 24 steps",
        "epoch 1/50  loss 0.5000  validation 0.2500 (best)",
    ]
    assert len(lines) == 12


def test_terminal_gets_a_bar() -> None:
    text = io.StringIO()
    listener = progress(Console(file=text, width=100, force_terminal=True))
    assert isinstance(listener, ProgressBar)

    fitted(config_of(epochs=2), listener=listener)

    assert "validation" in text.getvalue()
