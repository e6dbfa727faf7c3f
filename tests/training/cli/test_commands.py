"""`python -m training`: what a user types, what comes back, and with which exit code."""

import asyncio
import re
import shutil
from pathlib import Path
from typing import Any

import keras
import onnx
import pytest
from httpx import ASGITransport, AsyncClient
from onnx import numpy_helper

from app.main import create_app
from app.settings import Settings
from app.version.manifest import MANIFEST_FILE, TWIN_FILE, Manifest, digest_files
from tests.training.commands import run
from tests.training.tiny import write_csv
from training.config import TrainingConfig

ROWS = 240


WAVE = [round(50 + 0.1 * row + 5 * ((row % 12) - 6) ** 2 / 36, 3) for row in range(ROWS)]
"""12 steps long, with a drift."""

QUICK = ("--target", "load", "--window", 12, "--units", 4, "--epochs", 2, "--no-xla", "--no-skip")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a series and one version trained on it."""
    folder = tmp_path_factory.mktemp("workplace")
    days = [f"2024-{1 + day // 28:02d}-{1 + day % 28:02d}" for day in range(ROWS)]
    write_csv(folder / "load.csv", {"day": days, "load": WAVE})
    result = run("train", "--data", "load.csv", *QUICK, "--measured-in", "load=MW", cwd=folder)
    assert result.code == 0, result.stderr
    (folder / "output.txt").write_text(result.stdout, encoding="utf-8")
    return folder


def test_training_ends_with_errors_beside_the_baselines_the_verdict_and_the_path(workplace: Path) -> None:
    output = (workplace / "output.txt").read_text(encoding="utf-8")

    for error in ("MAE", "RMSE", "MASE", "sMAPE"):
        assert error in output
    baselines = ("last value", "seasonal naive (12)", r"\d+-point average", "exponential smoothing", "Holt")
    for forecaster in ("model", *baselines, "linear autoregression"):
        name = forecaster.replace("(", r"\(").replace(")", r"\)")
        assert re.search(rf"{name}(\W+[\d.e-]+){{4}}", output), output
    assert re.search(
        r"The model ties with the best baseline, (.+): its mean absolute error is \S+% above, .* too few forecasts .*\n"
        r"note: \1 has a lower error than the model: --export best publishes \1 in its place\n",
        output,
    ), output
    assert output.rstrip().endswith("Version: models/default/1")


def test_the_best_baseline_is_published_and_served_where_the_network_loses(workplace: Path) -> None:
    judged = ("--horizon", 2, "--split", "50,25,25")  # enough forecasts to tell skill from luck
    published = ("--name", "best", "--export", "best")
    result = run("train", "--data", "load.csv", *QUICK, *judged, *published, cwd=workplace)
    assert result.code == 0, result.stderr
    version_dir = workplace / "models/best/1"
    assert re.search(r"loses to the best baseline, (.+), by .*; \1 was published in its place\.", result.stdout)
    assert "no fused twin" not in result.stdout

    manifest = Manifest.read(version_dir)
    assert manifest.scores[0].forecaster in manifest.verdict
    assert "model" in [score.forecaster for score in manifest.scores[1:]]
    assert len(manifest.scores[0].mae_by_step) == 2
    assert TrainingConfig.model_validate(manifest.config).units == (4,)
    verified = run("verify", version_dir, cwd=workplace)
    assert verified.code == 0, verified.stderr
    assert "by the engines tensorflow and onnx" in verified.stdout
    assert manifest.verdict in run("inspect", version_dir, cwd=workplace).stdout

    described, forecast = ask_service(workplace, "best", [[value] for value in WAVE[-14:-2]])
    assert described["engine"] == "onnx"
    assert described["verdict"] == manifest.verdict
    assert described["scores"][0] == manifest.scores[0].model_dump(mode="json")
    assert forecast == pytest.approx(WAVE[-2:], abs=0.1)  # a wave that repeats itself is no riddle


def test_a_network_with_a_linear_path_is_published_with_a_twin_and_served(workplace: Path) -> None:
    result = run("train", "--data", "load.csv", *QUICK, "--skip", "--lags", "none", "--name", "skip", cwd=workplace)
    assert result.code == 0, result.stderr
    assert "no fused twin" not in result.stdout
    verified = run("verify", "models/skip/1", cwd=workplace)
    assert verified.code == 0, verified.stderr

    described, forecast = ask_service(workplace, "skip", [[value] for value in WAVE[-13:-1]])

    assert described["engine"] == "onnx"
    assert described["scores"][0]["mae"] < 0.3
    assert forecast == pytest.approx(WAVE[-1:], abs=0.5)


def test_validation_chooses_between_a_network_with_a_linear_path_and_one_without(workplace: Path) -> None:
    both = [option for option in QUICK if option != "--no-skip"]
    result = run("train", "--data", "load.csv", *both, "--name", "chosen", cwd=workplace)
    assert result.code == 0, result.stderr
    errors = re.search(
        r"note: validation error (\S+) with a linear path and (\S+) without, so the network with the path was kept\n",
        result.stdout,
    )
    assert errors is not None, result.stdout
    assert float(errors[1]) < float(errors[2])
    manifest = Manifest.read(workplace / "models/chosen/1")
    assert manifest.config["skip"] is True
    assert manifest.config["lags"] == "none"  # the regression makes no error that lags could mend
    assert "linear_path" in {finding.kind for finding in manifest.data.findings}
    assert run("verify", "models/chosen/1", cwd=workplace).code == 0


def test_a_network_with_lags_takes_windows_that_reach_back_to_the_season(workplace: Path) -> None:
    result = run("train", "--data", "load.csv", *QUICK, "--skip", "--lags", "20,30", "--name", "lags", cwd=workplace)
    assert result.code == 0, result.stderr
    assert "a network beside a linear path with the lags 20 and 30, windows of 30 steps:\n" in result.stdout
    assert "no fused twin" not in result.stdout
    assert run("verify", "models/lags/1", cwd=workplace).code == 0
    described, forecast = ask_service(workplace, "lags", [[value] for value in WAVE[-31:-1]])
    assert described["contract"]["steps"] == 30
    assert forecast == pytest.approx(WAVE[-1:], abs=0.5)


def ask_service(folder: Path, model: str, window: list[list[float]]) -> tuple[dict[str, Any], list[float]]:
    """What the service says of a model in the folder, and the model's forecast, of the only target."""

    async def ask() -> tuple[dict[str, Any], list[float]]:
        app = create_app(Settings(models_dir=folder / "models", model=model))
        async with app.running(), AsyncClient(transport=ASGITransport(app), base_url="http://service") as client:
            await app.service.wait_until_loaded()
            described = (await client.get(f"/models/{model}")).json()
            answer = await client.post("/predict", json={"window": window})
            return described, [row[0] for row in answer.json()["prediction"]]

    return asyncio.run(ask())


def test_progress_is_plain_lines_where_no_terminal_is(workplace: Path) -> None:
    output = (workplace / "output.txt").read_text(encoding="utf-8")

    assert "epoch 1/2" in output
    assert "\x1b" not in output


def test_inspect_reads_the_manifest_aloud(workplace: Path) -> None:
    result = run("inspect", "models/default/1", cwd=workplace)

    assert result.code == 0
    for fact in (
        "load",
        "MW",
        "12 steps",
        "load.csv",
        f"{ROWS} rows",
        "sha256",
        "tensorflow",
        "window=12",
        "seed=0",
        "twin",
    ):
        assert fact in result.stdout, fact


def test_verify_proves_a_sound_version(workplace: Path) -> None:
    result = run("verify", "models/default/1", cwd=workplace)

    assert result.code == 0
    assert "is sound" in result.stdout
    assert "golden rows come out as recorded by the engines tensorflow and onnx" in result.stdout


def test_a_version_without_a_twin_is_told(workplace: Path, tmp_path: Path) -> None:
    version_dir = Path(shutil.copytree(workplace / "models/default/1", tmp_path / "1"))
    (version_dir / TWIN_FILE).unlink()
    manifest = Manifest.read(version_dir)
    without = {"files": digest_files(version_dir), "no_twin": "it holds polish"}
    (version_dir / MANIFEST_FILE).write_text(manifest.model_copy(update=without).model_dump_json(), encoding="utf-8")

    for command in ("inspect", "verify"):
        result = run(command, version_dir, cwd=tmp_path)
        assert result.code == 0, result.stderr
        assert "it holds polish" in result.stdout


def test_verify_exits_with_1_where_the_twin_computes_something_else(workplace: Path, tmp_path: Path) -> None:
    version_dir = Path(shutil.copytree(workplace / "models/default/1", tmp_path / "1"))
    twin = onnx.load(version_dir / TWIN_FILE)
    [bias] = [tensor for tensor in twin.graph.initializer if tensor.name == "head/2"]
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 1, bias.name))
    onnx.save_model(twin, version_dir / TWIN_FILE)
    manifest = Manifest.read(version_dir).model_copy(update={"files": digest_files(version_dir)})
    (version_dir / MANIFEST_FILE).write_text(manifest.model_dump_json(), encoding="utf-8")

    result = run("verify", version_dir, cwd=tmp_path)

    assert result.code == 1
    assert "the onnx engine does not reproduce the golden rows" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "file", ["saved_model.pb", "variables/variables.data-00000-of-00001", "assets.extra/golden.npz", TWIN_FILE]
)
def test_verify_exits_with_1_and_names_the_file_that_changed(workplace: Path, tmp_path: Path, file: str) -> None:
    version_dir = tmp_path / "1"
    shutil.copytree(workplace / "models/default/1", version_dir)
    content = bytearray((version_dir / file).read_bytes())
    content[len(content) // 2] ^= 1
    (version_dir / file).write_bytes(content)

    result = run("verify", version_dir, cwd=tmp_path)

    assert result.code == 1
    assert file in result.stderr
    assert "Traceback" not in result.stderr


def test_a_folder_without_a_version_is_told(tmp_path: Path) -> None:
    for command in ("inspect", "verify"):
        result = run(command, tmp_path / "models/default/9", cwd=tmp_path)

        assert result.code == 1
        assert "manifest" in result.stderr
        assert "Traceback" not in result.stderr


def test_fuse_publishes_a_version_with_a_twin(workplace: Path, tmp_path: Path) -> None:
    windows = keras.Input((12, 1))
    model = keras.Model(windows, keras.layers.Dense(1)(keras.layers.LSTM(4)(windows)))
    model.export(tmp_path / "notebook", verbose=False)

    fused = run("fuse", "notebook", cwd=tmp_path)
    assert (fused.code, fused.stdout) == (0, "Version: models/notebook/1\n"), fused.stderr

    verified = run("verify", "models/notebook/1", cwd=tmp_path)
    assert verified.code == 0, verified.stderr
    inspected = run("inspect", "models/notebook/1", cwd=tmp_path)
    assert inspected.code == 0, inspected.stderr
    for fact in ("12 steps, of x0", "1 steps of y0", "fused, for ONNX Runtime", "nknown: made elsewhere"):
        assert fact in inspected.stdout


def test_fuse_exits_with_2_and_one_sentence_where_it_cannot(workplace: Path) -> None:
    for arguments, fact in ((("nowhere",), "holds no SavedModel"), (("models/default/1",), "has a fused twin already")):
        result = run("fuse", *arguments, cwd=workplace)

        assert result.code == 2
        assert fact in result.stderr
        assert result.stderr.count("\n") == 1
        assert [path.name for path in (workplace / "models/default").iterdir()] == ["1"]


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (("--data", "none.csv", "--target", "load"), "none.csv"),
        (("--data", "load.csv", "--target", "lod"), "load"),
        (("--data", "load.csv", "--target", "load", "--window", "400"), "400"),
        (("--data", "load.csv", "--target", "load", "--epochs", "many"), "--epochs"),
        ((), "--data FILE"),
        (("--sereis", "co2"), "--series"),
    ],
)
def test_a_mistake_is_told_without_a_traceback_and_exits_with_2(
    workplace: Path, arguments: tuple[str, ...], fact: str
) -> None:
    result = run("train", *arguments, cwd=workplace)

    assert result.code == 2
    assert fact in result.stderr
    assert "Traceback" not in result.stderr


def test_help_describes_every_field_of_the_configuration(tmp_path: Path) -> None:
    result = run("train", "--help", cwd=tmp_path)

    assert result.code == 0
    for name in TrainingConfig.model_fields:
        assert f"--{name.replace('_', '-')}" in result.stdout


def test_help_is_there_for_every_command(tmp_path: Path) -> None:
    overview = run("--help", cwd=tmp_path)
    assert overview.code == 0
    for command in ("train", "find-lr", "inspect", "fuse", "verify", "compare", "shapes", "reference"):
        assert command in overview.stdout
        assert run(command, "--help", cwd=tmp_path).code == 0


def test_brackets_in_names_are_shown_as_they_are(workplace: Path, tmp_path: Path) -> None:
    text = (workplace / "models/default/1/manifest.json").read_text(encoding="utf-8")
    (tmp_path / "manifest.json").write_text(text.replace('"load"', '"flow [/min] [red]"'), encoding="utf-8")

    result = run("inspect", tmp_path, cwd=tmp_path)

    assert result.code == 0, result.stderr
    assert "flow [/min] [red]: " in result.stdout


def test_a_folder_that_no_version_can_go_to_is_told_before_the_fit(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")

    result = run("train", "--series", "lesson", "--models-dir", "taken/models", cwd=tmp_path)

    assert result.code == 2
    assert re.search(r"taken/models/default: \S*taken is a file; choose another --models-dir", result.stderr)
    assert "epoch" not in result.stdout
