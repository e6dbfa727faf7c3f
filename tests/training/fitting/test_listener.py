"""Who is told how a fit goes."""

from typing import Self

import pytest

from training.fitting.budget import Plan
from training.fitting.history import Epoch
from training.fitting.listener import Listener, Listeners


def test_several_listeners_hear_the_same() -> None:
    class Diary(Listener):
        def __init__(self) -> None:
            self.heard: list[object] = []

        def __enter__(self) -> Self:
            self.heard.append("entered")
            return self

        def __exit__(self, *error: object) -> None:
            self.heard.append(error[0])

        def starts(self, plan: Plan) -> None:
            self.heard.append(plan)

        def steps_done(self, steps: int) -> None:
            self.heard.append(steps)

        def epoch_done(self, epoch: Epoch) -> None:
            self.heard.append(epoch)

        def noticed(self, sentence: str) -> None:
            self.heard.append(sentence)

    epoch = Epoch(1, 0.5, 0.4, best=True)
    diaries = Diary(), Diary()

    def interrupted() -> None:
        with Listeners(*diaries) as told:
            told.starts(Plan(3, 5))
            told.steps_done(5)
            told.epoch_done(epoch)
            told.noticed("it grows")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    for diary in diaries:
        assert diary.heard == ["entered", Plan(3, 5), 5, epoch, "it grows", KeyboardInterrupt]
