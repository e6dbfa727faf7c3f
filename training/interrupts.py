"""Ctrl-C: every command ends with a sentence on what it leaves behind, and with exit code 130.

leave_at_once    ends the process on the spot; for work that leaves nothing half done
leaving_at_once  the same while a block runs
clearing_away    ends the command with an exception; for work that has a folder to clear away

Imports nothing that takes time: it is in force before the other imports start.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended."""

NOTHING_EXPORTED = "nothing was exported"

State = Callable[[], str]
"""Says what a command has done so far."""


def leave_at_once(state: State = lambda: NOTHING_EXPORTED) -> None:
    """Lets Ctrl-C end the process on the spot, from now on.

    An exception would not do: libraries swallow or rename one that strikes during their import or in a destructor.
    """

    def leave(_signal: int, _frame: FrameType | None) -> None:
        _tell(state())
        os._exit(INTERRUPTED)

    signal.signal(signal.SIGINT, leave)


@contextmanager
def leaving_at_once(state: State) -> Iterator[None]:
    """Lets Ctrl-C end the process on the spot while the block runs."""
    before = signal.getsignal(signal.SIGINT)
    leave_at_once(state)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def clearing_away() -> Iterator[list[Path]]:
    """Lets Ctrl-C raise `KeyboardInterrupt` in the block, whose handlers clear away, and ends the command after it.

    A library may turn the interrupt into an error of its own, so any exception after Ctrl-C counts as the interrupt.

    Yields:
        A list for the folder of the version that the block publishes.

    Raises:
        SystemExit: After Ctrl-C, with `INTERRUPTED`. The sentence is the interrupt's own where it brings one.
    """
    is_pressed = False

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        nonlocal is_pressed
        is_pressed = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    published: list[Path] = []
    try:
        yield published
    except BaseException as error:
        if not (is_pressed or isinstance(error, KeyboardInterrupt)):
            raise
        own = str(error) if isinstance(error, KeyboardInterrupt) else ""
        _tell(own or (f"the version is {published[0]}" if published else NOTHING_EXPORTED))
        sys.exit(INTERRUPTED)
    finally:
        signal.signal(signal.SIGINT, before)


def done_so_far(done: int, total: int, noun: str, place: Path | None = None) -> str:
    """Says how far a command has come: `2 of 12 candidates are done, and their results are in comparison`."""
    sentence = f"{done} of {total} {noun}{'s are' if total > 1 else ' is'} done"
    return f"{sentence}, and their results are in {place}" if done and place else sentence


def _tell(state: str) -> None:
    """Writes past Python's buffers, which the interrupt may have struck in the middle of a write."""
    os.write(2, f"Interrupted; {state}.\n".encode())
