"""The closed-loop load generator: wrk, with as many requests under way as it has connections."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Self

from benchmarks.dialects import Request
from benchmarks.processes import ContenderFailed

SCRIPT = Path(__file__).with_name("load.lua")
TIMEOUT_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of a load."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    errors: int
    """Answers other than 2xx, and connections that broke."""

    @classmethod
    def median_of(cls, rounds: list[Self]) -> Self:
        """The median of each figure; errors are added up."""
        return cls(
            median(figures.requests_per_second for figures in rounds),
            median(figures.p50_ms for figures in rounds),
            median(figures.p99_ms for figures in rounds),
            sum(figures.errors for figures in rounds),
        )


def require_wrk() -> None:
    """Ends with a sentence where wrk is missing."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not on PATH; it is a package of most systems, for example: apt-get install wrk")


def drive(url: str, request: Request, connections: int, seconds: float, folder: Path) -> Figures:
    """Sends the same request again and again for a while.

    Args:
        url: Where the server listens.
        request: What it is asked.
        connections: How many requests are under way at once.
        seconds: For how long; wrk takes whole seconds, at least one.
        folder: For the body, which wrk reads from a file.
    """
    body = folder / "body"
    body.write_bytes(request.body)
    variables = {"BODY": str(body), "CONTENT_TYPE": request.content_type, "ACCEPT": request.accept}
    duration = max(1, round(seconds))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{duration}s", f"--timeout={TIMEOUT_SECONDS}s"]
    result = subprocess.run(
        [*command, f"--script={SCRIPT}", f"{url}{request.path}"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=duration + TIMEOUT_SECONDS,
        check=False,
    )
    if result.returncode:
        raise ContenderFailed(f"wrk failed on {url}{request.path}: {result.stderr}{result.stdout}")
    told = json.loads(result.stdout.splitlines()[-1])
    return Figures(
        requests_per_second=told["requests"] / (told["microseconds"] / 1e6),
        p50_ms=told["p50"] / 1e3,
        p99_ms=told["p99"] / 1e3,
        errors=told["refused"] + told["broken"],
    )
