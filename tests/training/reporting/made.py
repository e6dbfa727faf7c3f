"""Made-up evaluations and histories, to report on without any training."""

import numpy as np

from training.fitting.budget import Plan
from training.fitting.history import Epoch, History
from training.judging.evaluate import Evaluation, Verdict, score


def evaluation_of(rows: int = 40, horizon: int = 2, targets: int = 1, error: float = 1.0) -> Evaluation:
    """A model off by so much, up and down by turns, and a baseline off by twice as much."""
    names = tuple(f"target {number}" for number in range(targets))
    actual = np.broadcast_to(np.arange(rows, dtype=np.float32)[:, None, None], (rows, horizon, targets))
    signs = np.where(np.arange(rows) % 2, 1, -1).astype(np.float32)[:, None, None]
    forecasts = {"model": actual + error * signs, "last value": actual + 2 * error * signs}
    scores = (
        score(name, values[..., [column]], actual[..., [column]]).model_copy(update={"target": target})
        for name, values in forecasts.items()
        for column, target in enumerate(names)
    )
    verdict = Verdict("beats", "last value", -0.5, 0.01, "The model beats the best baseline, last value.")
    return Evaluation(forecasts, actual, names, tuple(scores), verdict)


def history_of(*losses: float, norm: float = 0.5) -> History:
    """Each loss is the validation's too; the lowest is the best."""
    epochs = (
        Epoch(number, loss, loss, best=loss == min(losses[:number]), gradient_norm=norm, largest_norm=2 * norm)
        for number, loss in enumerate(losses, start=1)
    )
    return History(tuple(epochs), Plan(50, 24), seconds=1)
