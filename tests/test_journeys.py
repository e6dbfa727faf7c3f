"""Whole journeys: a table is trained on, the version proved and served, and the answers are the model's forecasts."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose
from typer.testing import CliRunner

from app.version.golden import deviation
from app.version.manifest import Manifest
from tests.servers import Server, running
from training.cli.commands import app

ROWS = 100
WINDOW = 8

JOURNEYS: dict[str, tuple[tuple[str, ...], tuple[int, int]]] = {
    "many-to-one": ((), (1, 1)),
    "many-to-many": (("--output", "sequence", "--horizon", "2", "--units", "4,3"), (2, 1)),
    "direct-multi-step": (("--horizon", "5", "--units", "4,3"), (5, 1)),
    "several-targets": (("--target", "load,temp", "--horizon", "2"), (2, 2)),
    "one-of-two-features": (("--features", "load,temp"), (1, 1)),
    "another-feature": (("--features", "temp", "--horizon", "2"), (2, 1)),
    "bidirectional": (("--bidirectional", "--units", "4,3"), (1, 1)),
    "gru": (("--cell", "gru"), (1, 1)),
    "rnn": (("--cell", "rnn"), (1, 1)),
}
"""By name: what is asked for beside the target load, and the forecast's (horizon, targets)."""


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table of load and temp, and a model of each journey trained on it."""
    folder = tmp_path_factory.mktemp("journeys")
    random, rows = np.random.default_rng(0), np.arange(ROWS)
    temp = 10 + 5 * np.sin(rows / 6) + random.normal(0, 0.2, ROWS)
    load = 900 - 12 * temp + random.normal(0, 5, ROWS)
    lines = ["load,temp", *(f"{one:.2f},{other:.3f}" for one, other in zip(load, temp, strict=True))]
    (folder / "load.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, (options, _) in JOURNEYS.items():
        target = () if "--target" in options else ("--target", "load")
        small = ("--window", WINDOW, "--epochs", 2, "--batch-size", 16, "--no-xla")
        units = () if "--units" in options else ("--units", 4)
        paths = ("--data", folder / "load.csv", "--models-dir", folder / "models", "--name", name)
        output = invoke("train", *paths, *target, *small, *units, *options)
        assert "Version: " in output
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with running(folder, model="many-to-one") as server:
        server.wait_for("/readyz")
        yield server


@pytest.mark.parametrize("name", JOURNEYS)
def test_what_is_served_is_the_forecast_of_the_model_that_was_trained(name: str, folder: Path, server: Server) -> None:
    version_dir, (horizon, targets) = folder / "models" / name / "1", JOURNEYS[name][1]
    assert "is sound" in invoke("verify", version_dir)
    contract = Manifest.read(version_dir).contract
    assert contract.forecast_shape == (horizon, targets)
    low, high = np.array([(feature.minimum, feature.maximum) for feature in contract.features], np.float64).T
    windows = np.random.default_rng(1).uniform(low, high, (3, *contract.window_shape)).astype(np.float32)
    saved = tf.saved_model.load(str(version_dir))  # keeps the variables alive
    expected = saved.signatures["serving_default"](windows=tf.constant(windows))["forecast"].numpy()

    with server.client() as client:
        together = client.post(f"/predict/batch?model={name}", json={"windows": windows.tolist()}).json()
        alone = client.post(f"/predict?model={name}", json={"window": windows[0].tolist()}).json()
        plain = client.post(f"/v1/models/{name}:predict", json={"instances": windows.tolist()}).json()

    assert together["targets"] == ["load", "temp"][:targets]
    assert expected.shape == (3, horizon, targets)
    for answer in (together["predictions"], plain["predictions"], [alone["prediction"]]):
        forecasts = np.array(answer, np.float32)
        assert forecasts.shape[1:] == (horizon, targets)
        assert deviation(forecasts, expected[: len(forecasts)], contract.target_scales) <= 1


def test_a_model_that_learnt_from_every_step_counts_its_forecast_from_the_last(folder: Path, server: Server) -> None:
    version_dir = folder / "models/many-to-many/1"
    assert Manifest.read(version_dir).config["output"] == "sequence"
    window = np.random.default_rng(2).uniform(800, 900, (WINDOW, 1)).astype(np.float32)
    moved = window + 100
    with server.client() as client:
        answers = [
            client.post("/predict?model=many-to-many", json={"window": rows.tolist()}).json()["prediction"]
            for rows in (window, moved)
        ]
    # Counted from the window's own rows, so a window that lies higher is forecast as much higher.
    assert_allclose(np.array(answers[1]) - np.array(answers[0]), 100, atol=0.01)


def test_a_window_of_another_journey_is_refused_with_what_to_do(server: Server) -> None:
    with server.client() as client:
        answer = client.post("/predict?model=one-of-two-features", json={"window": [900.0] * WINDOW})
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert error["pointer"] == "/window"
    assert 'frame[["load", "temp"]].to_numpy()' in error["message"]
