"""`python -m training`: runs a command, and tells a user's mistake in one sentence without a traceback."""

# ruff: noqa: PLC0415

import sys

from training.interrupts import leave_at_once

UNSOUND = 1
USAGE_ERROR = 2


def main() -> None:
    """Runs the command that the arguments of the process name.

    Exit codes:
        0: done
        1: a version is not sound
        2: a mistake in the options or the data
        130: interrupted by Ctrl-C
    """
    leave_at_once()  # before the other imports, which take a second
    from app.errors import VersionError
    from training.cli.commands import app
    from training.errors import TrainingError

    try:
        app()
    except TrainingError as error:
        sys.exit(_told(error, USAGE_ERROR))
    except VersionError as error:
        sys.exit(_told(error, UNSOUND))


def _told(error: Exception, code: int) -> int:
    from rich.console import Console

    Console(stderr=True).print(str(error), style="red", highlight=False, markup=False, soft_wrap=True)
    return code


if __name__ == "__main__":
    main()
