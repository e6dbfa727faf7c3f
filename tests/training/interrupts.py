"""Ctrl-C, as a terminal sends it to a command that is at work."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple


class Interruption(NamedTuple):
    """How a command took it."""

    code: int
    """It exited with."""
    seen: list[str]
    """Lines of its output up to the one that was waited for."""
    errors: str
    """What it wrote to standard error."""


def interrupt(folder: Path, *arguments: str, once: str) -> Interruption:
    """Starts `python -m training` in a folder, and interrupts it once a line of its output holds these words."""
    process = subprocess.Popen(
        [sys.executable, "-m", "training", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path.cwd()), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        seen: list[str] = []
        for line in process.stdout:
            seen.append(line)
            if once in line:
                break
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    return Interruption(process.returncode, seen, errors)
