"""What the pages have their readers type works as it stands, and the journey that README promises is whole.

A reader goes through every page from top to bottom, in a checkout of their own with a model trained before: types every
command, leaves a service running for the commands below it, and compares what comes out with what the page shows. Only
numbers may differ, and lines that the page leaves out.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from app.version.golden import deviation
from app.version.manifest import Manifest
from tests.pages import PAGES, README, Block, Command, blocks_of, commands_of, name_of
from tests.servers import ROOT, Server, environment, reserved_port
from tests.waiting import PATIENCE_SECONDS
from training.config import TrainingConfig

NEEDS = {"docker", "kubectl", "minutes"}
"""What the machine that runs the tests may lack, or the tests themselves."""
NOT_LINKED = {".cache", ".env", ".git", ".venv", "models"}
ADDRESS = "127.0.0.1:8000"
SERVES = re.compile(r"(make serve|-m app)$")
TRAINS = ".venv/bin/python -m training train"
SECONDS = 600
BATCH_SIZES = (1, 7)


@dataclass
class Checkout:
    """A checkout in which a reader types commands.

    Attributes:
        folder: Where it is.
        trained: What came of the commands that train, by their text: pages repeat them, and once is enough.
        ports: Reserves the ports of its services.
    """

    folder: Path
    trained: dict[str, str] = field(default_factory=dict)
    ports: ExitStack = field(default_factory=ExitStack)

    def type(self, commands: list[Command], port: int | None = None) -> list[tuple[str, int]]:
        """Runs commands in one shell; returns what each wrote and its exit code."""
        if len(commands) == 1 and commands[0].text in self.trained:
            return [(self.trained[commands[0].text], 0)]
        script = "".join(f"{{\n{_typed(command.text, port)}\n}} 2>&1\necho '=== '$?\n" for command in commands)
        output = self.run(["bash", "-c", script])
        parts = re.findall(r"(.*?)=== (\d+)\n", output, flags=re.DOTALL)
        assert len(parts) == len(commands), output
        if commands[0].text.startswith(TRAINS):
            self.trained[commands[0].text] = parts[0][0]
        return [(text, int(code)) for text, code in parts]

    def run(self, command: list[str], text: str = "") -> str:
        """Runs a program; returns what it wrote to standard output."""
        result = subprocess.run(
            command,
            cwd=self.folder,
            env=environment(COLUMNS=200),
            input=text,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def serve(self, command: str) -> Server:
        """Starts a service and waits until it is ready."""
        port = self.ports.enter_context(reserved_port())
        output = self.folder / f"output-{port}.txt"
        with output.open("wb") as file:
            process = subprocess.Popen(
                ["bash", "-c", command],
                cwd=self.folder,
                env=environment(port=port, drain_seconds=0),
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        server = Server(process, port, output)
        server.wait_for("/readyz")
        return server


@dataclass
class Reader:
    """Somebody who goes through a page."""

    checkout: Checkout
    server: Server | None = None

    def follow(self, block: Block) -> None:
        """Does what a block says."""
        if block.language == "python":
            self.checkout.run([".venv/bin/python", "-"], _typed(block.text, self._port_for(block.text)))
            return
        commands = block.commands
        if SERVES.search(commands[-1].text):
            assert len(commands) == 1, "a service keeps running, so it has a block of its own"
            self.leave()
            self.server = self.checkout.serve(commands[0].text)
            return
        results = self.checkout.type(commands, self._port_for(block.text))
        exit_codes = [0] * (len(commands) - 1) + [block.exit_code]
        for command, (output, code), expected in zip(commands, results, exit_codes, strict=True):
            assert code == expected, output
            check_shown(command, output)

    def leave(self) -> None:
        """Stops the service, if one runs."""
        if self.server is not None:
            stop(self.server)
        self.server = None

    def _port_for(self, text: str) -> int | None:
        if ADDRESS in text and self.server is None:
            self.server = self.checkout.serve("make serve")
        return self.server.port if self.server else None


def stop(server: Server) -> None:
    """Stops a service and what started it."""
    try:
        os.killpg(server.process.pid, signal.SIGTERM)
        server.process.wait(PATIENCE_SECONDS)
    finally:
        server.process.kill()


def _typed(text: str, port: int | None) -> str:
    """What is run: `make` says what it would do, and the service is asked where it is."""
    text = re.sub(r"^make\b", "make --dry-run", text)
    return text.replace(ADDRESS, f"127.0.0.1:{port}") if port else text


def check_shown(command: Command, output: str) -> None:
    """Compares what a page shows with what came, line by line, without numbers; other lines may stand between."""
    came = iter([without_numbers(line) for line in output.splitlines()])
    for line in command.shown:
        if line != "..." and without_numbers(line):
            assert without_numbers(line) in came, f"{command.text}\ndoes not show\n{line}\nbut\n{output}"


def without_numbers(line: str) -> str:
    line = re.sub(r"[┏┳┓━┡╇┩└┴┘─]+", "", line)
    line = re.sub(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?", "#", line)
    return re.sub(r"\s+", " ", line.replace("p < #", "p = #")).strip()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout with an environment, a default model trained for one epoch, and the model that README trains."""
    folder = tmp_path_factory.mktemp("checkout")
    for path in ROOT.iterdir():
        if path.name not in NOT_LINKED:
            (folder / path.name).symlink_to(path)
    (folder / ".venv").mkdir()
    for path in Path(sys.prefix).iterdir():
        (folder / ".venv" / path.name).symlink_to(path)
    for stamp in ("training", "development"):
        (folder / ".venv" / stamp).unlink(missing_ok=True)
        (folder / ".venv" / stamp).touch()
    checkout = Checkout(folder)
    checkout.run([*TRAINS.split(), "--config", "training/default.toml", "--epochs", "1", "--units", "8"])
    checkout.type([Command(own_data_command(), ())])
    return checkout


def own_data_command() -> str:
    """The command with which README trains on a table."""
    [command] = [text for text in commands_of(README) if text.startswith(TRAINS)]
    return command


@pytest.fixture(scope="module")
def served(checkout: Checkout) -> Iterator[Server]:
    """The service of README's own model."""
    server = checkout.serve("WINDOWCAST_MODEL=load make serve")
    yield server
    stop(server)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_a_page_says_works_as_it_stands(page: Path, checkout: Checkout) -> None:
    reader = Reader(checkout)
    try:
        for block in blocks_of(page):
            if block.language in {"console", "python"} and block.needs is None:
                reader.follow(block)
    finally:
        reader.leave()


def test_what_is_not_run_says_what_it_needs() -> None:
    marks = {(name_of(page), block.needs) for page in PAGES for block in blocks_of(page) if block.needs}

    assert {needs for _, needs in marks} <= NEEDS, marks


def test_a_console_block_has_nothing_but_commands_and_what_comes_of_them() -> None:
    for page in PAGES:
        for block in blocks_of(page):
            assert block.language != "console" or block.text.startswith("$ "), f"{name_of(page)}:\n{block.text}"


def test_what_is_shown_is_compared_line_by_line() -> None:
    output = "first 12.5\n┏━━━┓\nsecond  -3\n"

    check_shown(Command("try", ("first 1", "...", "second 4")), output)
    for wrong in [("third 1",), ("second 4", "first 1"), ("first one",)]:
        with pytest.raises(AssertionError, match="does not show"):
            check_shown(Command("try", wrong), output)


def test_commands_that_take_minutes_have_options_that_exist() -> None:
    options = {f"--{name.replace('_', '-')}" for name in TrainingConfig.model_fields} | {"--seeds", "--results"}
    slow = [block for page in PAGES for block in blocks_of(page) if block.needs == "minutes"]
    assert slow
    for block in slow:
        assert set(re.findall(r"--[a-z-]+", block.text)) <= options, block.text


@pytest.mark.parametrize("batch", BATCH_SIZES)
def test_the_served_forecast_is_that_of_the_saved_model(checkout: Checkout, served: Server, batch: int) -> None:
    version_dir = checkout.folder / "models/load/1"
    contract = Manifest.read(version_dir).contract
    generator = np.random.default_rng(batch)
    windows = np.stack(
        [generator.uniform(450, 750, (batch, 72)), generator.uniform(5, 26, (batch, 72))], axis=-1
    ).astype(np.float32)
    signature = tf.saved_model.load(str(version_dir)).signatures["serving_default"]
    times = generator.integers(400_000, 500_000, batch)
    expected = signature(windows=tf.constant(windows), time=tf.constant(times))["forecast"].numpy()

    with served.client() as client:
        answer = client.post("/predict/batch", json={"windows": windows.tolist(), "times": times.tolist()}).json()
        bodies = [{"window": window.tolist(), "time": int(time)} for window, time in zip(windows, times, strict=True)]
        alone = [client.post("/predict", json=body).json()["prediction"] for body in bodies]

    assert expected.shape == (batch, 6, 1)
    for forecasts in (answer["predictions"], alone):
        assert deviation(np.array(forecasts, np.float32), expected, contract.target_scales) <= 1


def test_the_contract_of_training_is_enforced_in_the_service(served: Server) -> None:
    records = [{"temp": 12.5, "load": 510.6}] * 72
    with served.client() as client:
        assert client.get("/models/load").json()["contract"]["frequency"] == "1 hour"
        time = {"time": "2024-05-13T00:00:00"}
        assert client.post("/predict", json={"records": records, **time}).status_code == 200
        refused = client.post("/predict", json={"records": [{"temp": 12.5}, *records[1:]], **time})

    assert refused.status_code == 422
    assert refused.json()["errors"] == [{"pointer": "/records/0", "message": "expected load, temp; load missing"}]


def test_the_command_that_the_service_names_when_it_is_ready_works_as_it_stands(served: Server) -> None:
    (ready,) = served.log("ready")

    answer = subprocess.run(
        ["sh", "-c", ready["try_this"]], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True
    )

    assert re.match(r'\{"model":"load","version":1,"targets":\["load"\],"prediction":\[\[', answer.stdout)


def test_a_command_that_fails_as_shown_leaves_no_version(checkout: Checkout) -> None:
    [block] = [block for page in PAGES for block in blocks_of(page) if block.exit_code]

    Reader(checkout).follow(block)

    [name] = re.findall(r"--name (\S+)", block.text)
    assert not (checkout.folder / "models" / name).exists()
