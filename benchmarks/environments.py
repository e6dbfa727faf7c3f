"""Environments for what is measured beside us: one each, because their requirements do not agree with each other."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.models import ROOT

PEERS_DIR = ROOT / ".cache" / "peers"
"""Where they are unless told otherwise."""

FORECASTING = ("neuralforecast", "darts", "lightgbm", "statsforecast")
"""Those of the libraries that forecast."""

REQUIREMENTS = {
    **{
        name: f"benchmarks/peers/{name}.txt"
        for name in ("raw", "mlserver", "litserve", "bento", "engines", "schemathesis", *FORECASTING)
    },
    "slim": "requirements/onnx.txt",
}
"""What is in each; `slim` is our own service without TensorFlow."""


def python_of(peers_dir: Path, name: str) -> Path | None:
    """The Python of an environment; None where it was not made."""
    python = peers_dir.absolute() / name / "bin" / "python"
    return python if python.exists() else None


def make_environments(peers_dir: Path, only: Sequence[str] = ()) -> None:
    """Makes those that are missing; only some of them if they are named."""
    for name, requirements in REQUIREMENTS.items():
        if name in (only or REQUIREMENTS) and python_of(peers_dir, name) is None:
            print(f"making {peers_dir / name} from {requirements}", flush=True)
            folder = peers_dir / name
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            python = str(folder / "bin" / "python")
            install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*install, "--requirement", str(ROOT / requirements)], check=True)


def releases(python: Path, packages: list[str]) -> dict[str, str]:
    """Installed versions of those of the packages that an environment has."""
    code = (
        "import sys\nfrom importlib.metadata import PackageNotFoundError, version\n"
        "for name in sys.argv[1:]:\n try: print(name, version(name))\n except PackageNotFoundError: pass"
    )
    result = subprocess.run([python, "-c", code, *packages], check=True, capture_output=True, text=True)
    return dict(line.split() for line in result.stdout.splitlines())
