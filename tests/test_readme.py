"""README: its commands run as written, its settings are the real ones, and the journey it promises is whole."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from app.settings import PREFIX, Settings
from app.version.golden import deviation
from app.version.manifest import Manifest
from tests.servers import ROOT, Server, environment, running
from training.config import TrainingConfig

README = (ROOT / "README.md").read_text(encoding="utf-8")
HOURS = 700
MISSING_HOURS = (6, 7, 30)
BATCH_SIZES = (1, 7)


def readme_commands(start: str) -> list[list[str]]:
    """The commands of README's console blocks that start so, as words; Python is the one that runs the test."""
    lines = re.findall(rf"^\$ ({re.escape(start)}.*)$", README, flags=re.MULTILINE)
    assert lines, f"README has no command that starts with {start}"
    return [[sys.executable, *shlex.split(line)[1:]] for line in lines]


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environment(COLUMNS=200), capture_output=True, text=True, timeout=240, check=False
    )


def write_load_csv(folder: Path, *, gaps: bool = False) -> None:
    """Hourly load that follows the hour of the day and the temperature."""
    hours = np.arange(HOURS)
    random = np.random.default_rng(0)
    temp = 10 + 8 * np.sin(hours / 24 * 2 * np.pi) + random.normal(0, 0.5, HOURS)
    load = 900 - 12 * temp + random.normal(0, 5, HOURS)
    times = np.datetime64("2024-01-01T00:00:00") + hours.astype("timedelta64[h]")
    cells = ["" if gaps and hour in MISSING_HOURS else f"{value:.2f}" for hour, value in enumerate(temp)]
    rows = [
        f"{str(time).replace('T', ' ')},{value:.1f},{cell}"
        for time, value, cell in zip(times, load, cells, strict=True)
    ]
    (folder / "load.csv").write_text("\n".join(["timestamp,load,temp", *rows]) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which README's training command ran, only shorter."""
    folder = tmp_path_factory.mktemp("readme")
    write_load_csv(folder)
    (command,) = readme_commands(".venv/bin/python -m training train")
    result = run([*command, "--epochs", "2", "--units", "8,8"], folder)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def served(trained: Path) -> Iterator[Server]:
    with running(trained, model="load") as server:
        server.wait_for("/readyz")
        yield server


@pytest.mark.parametrize("batch", BATCH_SIZES)
def test_the_served_forecast_is_that_of_the_saved_model(trained: Path, served: Server, batch: int) -> None:
    version_dir = trained / "models/load/1"
    contract = Manifest.read(version_dir).contract
    generator = np.random.default_rng(batch)
    windows = np.stack(
        [generator.uniform(700, 1100, (batch, 168)), generator.uniform(0, 20, (batch, 168))], axis=-1
    ).astype(np.float32)
    signature = tf.saved_model.load(str(version_dir)).signatures["serving_default"]
    expected = signature(windows=tf.constant(windows))["forecast"].numpy()

    with served.client() as client:
        answer = client.post("/predict/batch", json={"windows": windows.tolist()}).json()
        alone = [client.post("/predict", json={"window": window.tolist()}).json()["prediction"] for window in windows]

    assert expected.shape == (batch, 24, 1)
    for forecasts in (answer["predictions"], alone):
        assert deviation(np.array(forecasts, np.float32), expected, contract.target_scales) <= 1


def test_the_contract_of_training_is_enforced_in_the_service(served: Server) -> None:
    records = [{"temp": 10.0, "load": 900.0}] * 168
    with served.client() as client:
        assert client.get("/models/load").json()["contract"]["frequency"] == "1 hour"
        assert client.post("/predict", json={"records": records}).status_code == 200
        refused = client.post("/predict", json={"records": [{"temp": 10.0}, *records[1:]]})

    assert refused.status_code == 422
    assert refused.json()["errors"] == [{"pointer": "/records/0", "message": "expected load, temp; load missing"}]


def test_the_command_that_the_service_names_when_it_is_ready_works_as_it_stands(served: Server) -> None:
    (ready,) = served.log("ready")

    answer = subprocess.run(["sh", "-c", ready["try_this"]], capture_output=True, text=True, timeout=30, check=True)

    assert re.match(r'\{"model":"load","version":1,"targets":\["load"\],"prediction":\[\[', answer.stdout)


def test_inspect_and_verify_run_as_written(trained: Path) -> None:
    for command in (
        *readme_commands(".venv/bin/python -m training inspect"),
        *readme_commands(".venv/bin/python -m training verify"),
    ):
        result = run(command, trained)

        assert result.returncode == 0, result.stderr


def test_fuse_makes_a_version_of_a_saved_model_from_elsewhere_as_shown(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((5, 2)), keras.layers.LSTM(4), keras.layers.Dense(1)])
    (command,) = readme_commands(".venv/bin/python -m training fuse")
    model.export(tmp_path / command[-1], verbose=False)

    result = run(command, tmp_path)

    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() in README
    assert (tmp_path / result.stdout.split()[-1] / "manifest.json").is_file()


def test_every_docker_target_that_is_named_exists() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    stages = re.findall(r"^FROM \S+ AS (\S+)$", dockerfile, flags=re.MULTILINE)

    assert stages[-1] == "full"
    assert set(re.findall(r"docker build --target (\S+)", README)) == {"slim"} < set(stages)


def test_missing_values_are_told_as_shown(tmp_path: Path) -> None:
    write_load_csv(tmp_path, gaps=True)
    (command,) = readme_commands(".venv/bin/python -m training train")

    result = run(command, tmp_path)

    assert result.returncode == 2
    assert result.stderr.strip() in README
    assert not (tmp_path / "models").exists()


def test_every_setting_is_in_the_table_with_its_default_and_its_description() -> None:
    for name, field in Settings.model_fields.items():
        default = f"`{field.default}`" if field.default not in {"", None} else ""
        row = f"| `{PREFIX}{name.upper()}` | {default} | {' '.join((field.description or '').split())} |"
        assert row in README, row


def test_no_variable_is_named_that_is_no_setting() -> None:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}

    assert set(re.findall(rf"{PREFIX}[A-Z_]+", README)) <= known


def test_every_training_option_that_is_named_exists() -> None:
    options = {f"--{name.replace('_', '-')}" for name in TrainingConfig.model_fields} | {"--config", "--help"}
    (command,) = readme_commands(".venv/bin/python -m training train")

    assert {word for word in command if word.startswith("--")} <= options


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"^\$ (?:\w+=\S+ )*make (\w+)", README, flags=re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_every_file_in_the_tree_exists() -> None:
    tree = README.split("## What is where")[1].split("```")[1]
    folder = ROOT
    for line in tree.strip().splitlines():
        names = re.findall(r"[\w.]+(?:\.py|/)", line)
        if not line.startswith(" "):
            folder = ROOT / names[0]
            assert folder.is_dir(), line
        else:
            for name in names:
                assert any(folder.rglob(name.rstrip("/"))), f"{name} in {line}"
