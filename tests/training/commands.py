"""Runs `python -m training` in the process of the test: the same `main`, without seconds of imports."""

import os
import signal
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from training.__main__ import main


class Ran(NamedTuple):
    """What came of a command."""

    code: int
    """Exit code."""
    stdout: str
    stderr: str


def run(*arguments: object, cwd: Path) -> Ran:
    """Runs a command in a folder, with room for wide tables."""
    command = ["training", *map(str, arguments)]
    out, errors, before = StringIO(), StringIO(), signal.getsignal(signal.SIGINT)
    with (
        chdir(cwd),
        mock.patch("sys.argv", command),
        mock.patch.dict(os.environ, COLUMNS="200"),
        redirect_stdout(out),
        redirect_stderr(errors),
    ):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        finally:
            signal.signal(signal.SIGINT, before)  # pytest's own: `main` takes it for the rest of a process
    assert isinstance(code, int)
    return Ran(code, out.getvalue(), errors.getvalue())
