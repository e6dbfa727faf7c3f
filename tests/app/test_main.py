"""`python -m app`: what it tells, and how it ends."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.settings import Settings
from tests.app.version.test_folders import (
    cut_short,
    flip,
    promise_other_shapes,
    record_wrong_golden_rows,
    remove_manifest,
)
from tests.servers import Server, environment, run, running
from tests.waiting import PATIENCE_SECONDS, wait_until

WITHOUT_TENSORFLOW = """
import runpy, sys

class Absent:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in {"tensorflow", "keras"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""

SLOW_IMPORT = """
import pathlib, runpy, sys, time

class Slow:
    def find_spec(self, name, *_):
        if name == "uvicorn":
            pathlib.Path("imports").touch()
            time.sleep(600)

sys.meta_path.insert(0, Slow())
sys.argv = ["app"]
runpy.run_module("app", run_name="__main__")
"""

ASK_THE_APPLICATION = """
import asyncio, httpx
from app.main import create_app

async def ask():
    transport = httpx.ASGITransport(create_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        print([int((await client.get(path)).status_code) for path in ("/livez", "/readyz", "/docs", "/openapi.json")])

asyncio.run(ask())
"""


def test_every_setting_is_in_the_help(tmp_path: Path) -> None:
    help_text = run(tmp_path, "--help")
    assert help_text.returncode == 0
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else field.default
        assert f"WINDOWCAST_{name.upper()}={default}\n" in help_text.stdout
        assert field.description
        assert " ".join(field.description.split()) in help_text.stdout


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["--port", "9000"], ": set WINDOWCAST_PORT=9000;"),
        (["--max-batch-windows=8"], ": set WINDOWCAST_MAX_BATCH_WINDOWS=8;"),
        (["--models-dir", "my models"], ": set WINDOWCAST_MODELS_DIR='my models';"),
        (["--docs"], ": set WINDOWCAST_DOCS=...;"),
        (["serve"], ", not from options;"),
        (["--help", "--port"], ", not from options;"),
    ],
)
def test_arguments_are_refused_with_the_setting_to_use(arguments: list[str], advice: str, tmp_path: Path) -> None:
    refused = run(tmp_path, *arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    sentence = f"The settings come from the environment{advice} `python -m app --help` lists them.\n"
    assert refused.stderr == sentence


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_imports_ends_it_without_a_word(number: signal.Signals, tmp_path: Path) -> None:
    with running(tmp_path, "-c", SLOW_IMPORT) as server:
        wait_until((tmp_path / "imports").exists)
        server.signal(number)
        assert server.wait() == 0
        assert server.output.read_text() == ""


def test_an_unknown_variable_is_refused(tmp_path: Path) -> None:
    refused = run(tmp_path, prot=8000)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "WINDOWCAST_PROT is not a setting; did you mean WINDOWCAST_PORT?\n"


def test_an_unknown_variable_in_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("WINDOWCAST_WORKER=2\n")
    refused = run(tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "WINDOWCAST_WORKER is not a setting; did you mean WINDOWCAST_WORKERS?\n"


def test_a_bad_value_is_refused(tmp_path: Path) -> None:
    refused = run(tmp_path, port="http")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("WINDOWCAST_PORT: ")
    assert refused.stderr.endswith("; for example 8000.\n")


def last_words(stopped: subprocess.CompletedProcess[str]) -> str:
    """The one line that tells why a start failed."""
    assert stopped.stderr == ""
    [line] = [line for line in stopped.stdout.splitlines() if '"critical"' in line or '"error"' in line]
    assert "Traceback" not in stopped.stdout
    return line


def test_a_missing_model_ends_the_start(tmp_path: Path) -> None:
    stopped = run(tmp_path, port=0, model="co2")
    assert stopped.returncode == 3
    reason = "models/co2: holds no version of a model; train one with `python -m training train --name co2`"
    assert reason in last_words(stopped)


@pytest.mark.parametrize("damage", [remove_manifest, cut_short, flip, record_wrong_golden_rows, promise_other_shapes])
def test_a_damaged_model_ends_the_start(damage: Callable[[Path], Path], twin_dir: Path, tmp_path: Path) -> None:
    at_fault = damage(twin_dir).relative_to(tmp_path)
    stopped = run(tmp_path, port=0, engine="onnx")
    assert stopped.returncode == 3
    assert f'"reason":"{at_fault}' in last_words(stopped)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_in_use_ends_the_start(workers: int, server: Server, tmp_path: Path) -> None:
    stopped = run(tmp_path, port=server.port, workers=workers)
    assert stopped.returncode == 3
    reason = f"Another process listens on 127.0.0.1:{server.port}; stop it, or set WINDOWCAST_PORT to a free port."
    assert reason in last_words(stopped)


@pytest.mark.parametrize("host", ["192.0.2.1", "name.invalid"])
def test_an_address_of_another_machine_ends_the_start(host: str, tmp_path: Path) -> None:
    stopped = run(tmp_path, host=host)
    assert stopped.returncode == 3
    reason = last_words(stopped)
    assert f"The service cannot listen on {host}:8000: " in reason
    assert "; set WINDOWCAST_HOST and WINDOWCAST_PORT to an address that it may use." in reason


def run_without_tensorflow(folder: Path, script: str, **settings: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW + script],
        cwd=folder,
        env=environment(port=0, **settings),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def test_without_tensorflow_the_start_ends_with_the_extra_to_install(version_dir: Path, tmp_path: Path) -> None:
    stopped = run_without_tensorflow(tmp_path, "sys.argv = ['app']; runpy.run_module('app', run_name='__main__')")
    assert stopped.returncode == 3
    reason = last_words(stopped)
    assert "TensorFlow is not installed" in reason
    assert "pip install -r requirements/tensorflow.txt" in reason


@pytest.mark.parametrize(("docs", "statuses"), [(True, [200, 503, 200, 200]), (False, [200, 503, 404, 404])])
def test_without_tensorflow_the_application_is_made_and_answers(
    docs: bool, statuses: list[int], tmp_path: Path
) -> None:
    made = run_without_tensorflow(tmp_path, ASK_THE_APPLICATION, docs=docs)
    assert str(statuses) in made.stdout.splitlines(), made.stderr
