"""Runs `python -m training` in a process of its own, and presses Ctrl-C as a terminal does."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple


class Interruption(NamedTuple):
    """How a command took it."""

    code: int
    """Exit code."""
    seen: list[str]
    """Lines of its output up to the line that was waited for."""
    errors: str
    """What it wrote to standard error."""


def start(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    """Starts a command in a folder, with room for wide tables."""
    return subprocess.Popen(
        [sys.executable, "-m", "training", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path.cwd()), "PYTHONUNBUFFERED": "1", "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def interrupt(folder: Path, *arguments: object, once: str) -> Interruption:
    """Starts a command in a folder, and presses Ctrl-C once a line of its output holds these words."""
    process = start(folder, *arguments)
    try:
        assert process.stdout is not None
        seen: list[str] = []
        for line in process.stdout:
            seen.append(line)
            if once in line:
                break
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=600)
    finally:
        process.kill()
    return Interruption(process.returncode, seen, errors)
