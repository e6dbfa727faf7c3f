"""On what a result was measured: the header of every page of tables."""

import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.environments import REQUIREMENTS, python_of, releases
from benchmarks.models import ROOT

KIB_PER_GIB = 2**20
OWN_PACKAGES = ["tensorflow-cpu", "tensorflow", "keras", "onnxruntime", "numpy", "fastapi", "uvicorn", "uvloop"]
PEER_PACKAGES = [
    "mlserver",
    "litserve",
    "bentoml",
    "openvino",
    "torch",
    "onnxruntime",
    "numpy",
    "uvicorn",
    "schemathesis",
    "neuralforecast",
    "darts",
    "pytorch-lightning",
    "lightgbm",
    "statsforecast",
]


def header(peers_dir: Path) -> str:
    """Machine, versions and the command itself, as a Markdown list."""
    lines = {
        "command": f"`python -m benchmarks {' '.join(sys.argv[1:])}`, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "commit": _commit(),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {_memory_gib():.0f} GiB",
        "load before": f"{os.getloadavg()[0]:.2f} processes in the last minute",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "packages": _listing(releases(Path(sys.executable), OWN_PACKAGES)),
        "wrk": _wrk(),
    }
    for name in REQUIREMENTS:
        python = python_of(peers_dir, name)
        lines[f"environment {name}"] = _listing(releases(python, PEER_PACKAGES)) if python else "missing"
    return "\n".join(f"- {name}: {text}" for name, text in lines.items()) + "\n"


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gib() -> float:
    first = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()[0]
    return int(first.split()[1]) / KIB_PER_GIB


def _wrk() -> str:
    if shutil.which("wrk") is None:
        return "missing"
    result = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False)
    return result.stdout.splitlines()[0].partition("[")[0].strip()


def _listing(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
