"""`python -m app.healthcheck`, as a container runs it."""

import subprocess
import sys
from pathlib import Path

from tests.servers import Server, environment, reserved_port
from tests.waiting import PATIENCE_SECONDS


def healthcheck(port: int, folder: Path) -> int:
    # A proxy in the environment, as Docker puts there, must not come between.
    settings = environment(port=port, HTTP_PROXY="http://127.0.0.1:9", http_proxy="http://127.0.0.1:9")
    command = [sys.executable, "-m", "app.healthcheck"]
    return subprocess.run(command, cwd=folder, env=settings, timeout=PATIENCE_SECONDS, check=False).returncode


def test_a_ready_service_is_healthy(server: Server, tmp_path: Path) -> None:
    assert healthcheck(server.port, tmp_path) == 0


def test_no_service_is_not(tmp_path: Path) -> None:
    with reserved_port() as port:
        assert healthcheck(port, tmp_path) == 1
