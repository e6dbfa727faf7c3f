"""Ctrl-C ends a block with a sentence on what it leaves behind; `test_main` presses it in real processes."""

import signal
from pathlib import Path

import pytest

from training.interrupts import INTERRUPTED, clearing_away, done_so_far, leaving_at_once


@pytest.mark.parametrize(
    ("published", "message", "sentence"),
    [
        (None, "", "Interrupted; nothing was exported.\n"),
        (Path("models/load/3"), "", "Interrupted; the version is models/load/3.\n"),
        (None, "the version was published in models/load", "Interrupted; the version was published in models/load.\n"),
    ],
)
def test_a_command_that_is_interrupted_says_what_is_published(
    published: Path | None, message: str, sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        with clearing_away() as versions:
            versions.extend([published] if published else [])
            raise KeyboardInterrupt(message)

    with pytest.raises(SystemExit) as ended:
        work()

    assert ended.value.code == INTERRUPTED == 130
    assert capfd.readouterr().err == sentence


def test_ctrl_c_raises_while_there_is_something_to_clear_away() -> None:
    cleared = []

    def work() -> None:
        with clearing_away():
            try:
                signal.raise_signal(signal.SIGINT)
            finally:
                cleared.append("a folder")

    with pytest.raises(SystemExit):
        work()

    assert cleared == ["a folder"]


def test_ctrl_c_is_an_interrupt_although_a_library_turns_it_into_an_error_of_its_own(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def work() -> None:
        with clearing_away():
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt as interrupt:
                raise RuntimeError("the call failed") from interrupt

    with pytest.raises(SystemExit) as ended:
        work()

    assert ended.value.code == INTERRUPTED
    assert capfd.readouterr().err == "Interrupted; nothing was exported.\n"


def test_an_error_without_ctrl_c_stays_the_error() -> None:
    with pytest.raises(RuntimeError, match="the call failed"), clearing_away():
        raise RuntimeError("the call failed")


def test_ctrl_c_is_taken_as_before_after_a_block() -> None:
    before = signal.getsignal(signal.SIGINT)

    with clearing_away(), leaving_at_once(lambda: "nothing is done"):
        assert signal.getsignal(signal.SIGINT) is not before

    assert signal.getsignal(signal.SIGINT) is before


def test_progress_is_told_with_the_place_of_results_where_there_are_any() -> None:
    assert done_so_far(0, 1, "task", Path("figures.json")) == "0 of 1 task is done"
    assert done_so_far(2, 12, "candidate") == "2 of 12 candidates are done"
    assert done_so_far(2, 3, "task", Path("f.json")) == "2 of 3 tasks are done, and their results are in f.json"
