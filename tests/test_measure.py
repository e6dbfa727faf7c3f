"""`make measure` counts what it says it counts, in this checkout and in others."""

import subprocess
import sys
from pathlib import Path

from tests.servers import ROOT
from tests.waiting import PATIENCE_SECONDS

APP = '''"""Answers."""

KEY, OTHER = "key", "other"


def answer(scope):
    scope["state"]["served"] = 1
    state = scope["state"]
    if state.get(KEY):
        return state[OTHER]
    return None
'''
LONG = (
    '''"""Long because this test needs it."""
'''
    + "\n" * 350
)
TIES = """from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.{other} import name

name = ""
"""


def measure(*checkout: Path) -> str:
    command = [sys.executable, "tools/measure.py", *map(str, checkout)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True
    ).stdout


def test_measure_counts_files_functions_circles_and_keys_of_another_checkout(tmp_path: Path) -> None:
    files = {
        "app/__init__.py": "",
        "app/main.py": APP,
        "training/__init__.py": "",
        "training/long.py": LONG,
        "training/silent.py": LONG.replace("Long because", "Whatever"),
        "training/one.py": TIES.format(other="two"),
        "training/two.py": TIES.format(other="one"),
        "README.md": "x" * 1234,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")

    lines = measure(tmp_path).splitlines()

    assert "| files | 2 | 5 |" in lines
    assert "| most files in a folder | 1 (app) | 4 (training) |" in lines
    assert "| files over 350 lines | 0 | 2 |" in lines
    assert "- over 350 lines: training/long.py, 351, gives its reason" in lines
    assert "- over 350 lines: training/silent.py, 351, gives no reason" in lines
    assert "- circles of imports, typing included: 1 (training.one <-> training.two)" in lines
    assert '- string keys of `scope["state"]`: 3 (key; other; served)' in lines
    assert "- README: 1.2 KB" in lines
    assert any(line.startswith("| longest function, lines | 6 (app/main.py:answer) |") for line in lines)


def test_this_checkout_has_no_circle_of_imports() -> None:
    assert "- circles of imports, typing included: 0" in measure().splitlines()
