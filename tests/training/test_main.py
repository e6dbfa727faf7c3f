"""`python -m training` as a process: its exit codes, and Ctrl-C at any moment."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.interrupts import interrupt, start

INTERRUPTED_AT_IMPORT = """
import importlib.abc, os, runpy, signal, sys

class Impatient(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "{module}":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Impatient())
sys.argv = ["training", "train", "--series", "lesson"]
runpy.run_module("training", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("shapes", "--series", "lesson"), 0, ""),
        (("inspect", "models/default/9"), 1, "manifest"),
        (("train", "--data", "none.csv", "--target", "load"), 2, "none.csv cannot be read"),
    ],
)
def test_the_exit_code_says_how_a_command_ended(
    arguments: tuple[str, ...], code: int, sentence: str, tmp_path: Path
) -> None:
    process = start(tmp_path, *arguments)
    _, errors = process.communicate()

    assert process.returncode == code, errors
    assert sentence in errors
    assert errors.count("\n") == bool(sentence)


@pytest.mark.parametrize("module", ["app.errors", "typer", "pydantic", "polars", "training.cli.options"])
def test_ctrl_c_while_python_still_imports_stops_with_130_and_no_traceback(module: str, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_AT_IMPORT.format(module=module)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 130
    assert ended.stderr == "Interrupted; nothing was exported.\n"


def test_ctrl_c_while_tensorflow_is_imported_stops_with_130_too(tmp_path: Path) -> None:
    code, seen, errors = interrupt(tmp_path, "train", "--series", "lesson", once="to train")

    assert len(seen) == 1
    assert code == 130
    assert errors == "Interrupted; nothing was exported.\n"


def test_ctrl_c_in_a_fit_stops_with_130_and_exports_nothing(tmp_path: Path) -> None:
    long = ("--epochs", "100000", "--patience", "99999", "--no-xla", "--units", "2")
    code, _, errors = interrupt(tmp_path, "train", "--series", "lesson", *long, once="epoch 1/")

    assert code == 130
    assert "nothing was exported" in errors
    assert "Traceback" not in errors
    assert list(tmp_path.rglob("saved_model.pb")) == []


def test_ctrl_c_ends_find_lr_with_130_too(tmp_path: Path) -> None:
    code, seen, errors = interrupt(tmp_path, "find-lr", "--series", "lesson", once="to train")

    assert len(seen) == 1
    assert code == 130
    assert errors.endswith("Interrupted; nothing was exported.\n")
    assert "Traceback" not in errors
