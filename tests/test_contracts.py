"""The contracts on imports in pyproject.toml hold, and each of them is broken by an import that it should forbid."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.servers import ROOT

CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]

FORBIDDEN = {
    "app knows nothing of training": ("app/serving/pace.py", "training.errors"),
    "Imports in app point one way": ("app/payloads/npy.py", "app.serving.batching"),
    "Imports in training point one way": ("training/data/table.py", "training.network.layers"),
    "No circles inside a wing": ("app/payloads/advice.py", "app.payloads.windows"),
    "training borrows what lies on disk and the engines, and nothing else": (
        "training/console.py",
        "app.telemetry.logs",
    ),
    "The web framework stays at the edge": ("app/exchange.py", "starlette.types"),
    "One file of app imports TensorFlow": ("app/engines/choice.py", "tensorflow"),
    "One file of app imports ONNX Runtime": ("app/version/golden.py", "onnxruntime"),
}
"""For each contract a file, and the import that the contract should forbid there."""

BORROWED = {"app.arrays", "app.engines", "app.errors", "app.version"}
"""What training may import of app."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the code, to break."""
    for package in ("app", "training"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def broken_in(tree: Path) -> set[str]:
    """The contracts that do not hold in a tree."""
    program = Path(sys.executable).with_name("lint-imports")
    checked = subprocess.run([program, "--no-cache"], cwd=tree, capture_output=True, text=True, check=False)
    assert "Contracts: " in checked.stdout, checked.stdout + checked.stderr
    return set(re.findall(r"^(.*?) ?BROKEN", checked.stdout, flags=re.MULTILINE))


def test_each_contract_is_broken_by_what_it_forbids(tree: Path) -> None:
    assert {contract["name"] for contract in CONTRACTS} == FORBIDDEN.keys()
    for file, module in FORBIDDEN.values():
        path = tree / file
        path.write_text(f"import {module}\n{path.read_text(encoding='utf-8')}", encoding="utf-8")
    assert broken_in(tree) == FORBIDDEN.keys()


def test_a_module_without_a_place_breaks_the_layers(tree: Path) -> None:
    for package in ("app", "training"):
        (tree / package / "newcomer.py").touch()
    assert broken_in(tree) == {"Imports in app point one way", "Imports in training point one way"}


def test_every_module_of_app_is_either_lent_to_training_or_kept_from_it() -> None:
    [contract] = [contract for contract in CONTRACTS if contract["name"].startswith("training borrows")]
    modules = {f"app.{path.stem}" for path in (ROOT / "app").iterdir() if not path.name.startswith("__init__")}
    assert {*contract["forbidden_modules"], *BORROWED} == modules - {"app.__pycache__"}
