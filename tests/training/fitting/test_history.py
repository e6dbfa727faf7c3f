"""What a fit leaves behind."""

from training.fitting.budget import Plan
from training.fitting.history import Epoch, History


def test_history_knows_its_best_epoch() -> None:
    epochs = (Epoch(1, 3, 3, best=True), Epoch(2, 2, 1, best=True), Epoch(3, 1, 2, best=False))

    assert History(epochs, Plan(2, 1), seconds=1).best is epochs[1]
