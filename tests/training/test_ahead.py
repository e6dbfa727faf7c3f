"""A journey with what is known ahead: trained by the command, served, and asked for the rows after the table."""

import csv
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose

import training.train
from app.version.golden import Golden, deviation
from app.version.manifest import Manifest, Phase
from tests.servers import running
from tests.training.commands import run
from tests.training.tiny import write_csv
from training.config import TrainingConfig
from training.data.windows import Dataset
from training.network.model import build_model

ROWS, WINDOW, HORIZON = 420, 8, 3
FIRST = datetime.fromisoformat("2026-03-15T00:00:00")

TOLD = ("--time", "hour", "--target", "load", "--known", "temp,holiday", "--calendar", "hour,weekday")
SMALL = ("--window", WINDOW, "--horizon", HORIZON, "--units", 4, "--epochs", 1, "--lags", "none", "--no-xla", "--skip")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with hours of load, temperature and holidays, and a version trained on them."""
    folder = tmp_path_factory.mktemp("ahead")
    random, rows = np.random.default_rng(0), np.arange(ROWS)
    temp, holiday = random.normal(12, 4, ROWS).round(2), (rows // 24 % 9 == 4).astype(int)
    load = 500 - 8 * temp - 60 * holiday + 50 * np.sin(rows * 2 * np.pi / 24) + random.normal(0, 1, ROWS)
    columns = {
        "hour": [(FIRST + timedelta(hours=row)).isoformat() for row in range(ROWS)],
        "load": load.round(2),
        "temp": temp,
        "holiday": holiday,
    }
    write_csv(folder / "load.csv", columns)
    result = run("train", "--data", "load.csv", *TOLD, *SMALL, cwd=folder)
    assert result.code == 0, result.stderr
    return folder


def test_a_forecast_by_time_and_known_columns_is_that_of_the_model_that_was_trained(folder: Path) -> None:
    version_dir = folder / "models/default/1"
    assert run("verify", version_dir, cwd=folder).code == 0
    manifest = Manifest.read(version_dir)
    contract = manifest.contract
    assert (contract.feature_names, contract.known) == (("load", "temp", "holiday"), ("temp", "holiday"))
    assert contract.calendar == (Phase(name="hour", rows=24), Phase(name="weekday", rows=168))
    golden = Golden.load(version_dir, contract)

    with (folder / "load.csv").open(encoding="utf-8") as file:
        table = [*csv.DictReader(file)]
    *_, asked = (table[start:] for start in range(len(table) - WINDOW - HORIZON + 1))
    window = [[float(row[name]) for name in contract.feature_names] for row in asked[:WINDOW]]
    future = [[float(row[name]) for name in contract.known] for row in asked[WINDOW:]]
    body = {"window": window, "future": future, "time": asked[WINDOW]["hour"]}
    with running(folder) as server:
        server.wait_for("/readyz")
        with server.client() as client:
            answer = client.post("/predict", json=body)
            without = client.post("/predict", json={"window": window})

    assert answer.status_code == 200, answer.text
    forecast = np.array([answer.json()["prediction"]], np.float32)
    assert deviation(forecast, golden.forecasts[:1], contract.target_scales) <= 1, "the last window of the test part"
    saved = tf.saved_model.load(str(version_dir))  # keeps the variables alive
    hours = (FIRST - datetime.fromisoformat("1970-01-01T00:00:00")) // timedelta(hours=1) + ROWS - HORIZON
    expected = saved.signatures["serving_default"](
        windows=tf.constant([window], tf.float32),
        future=tf.constant([future], tf.float32),
        time=tf.constant([hours], tf.int64),
    )["forecast"].numpy()
    assert deviation(forecast, expected, contract.target_scales) <= 1
    followed = [[float(row["load"])] for row in asked[WINDOW:]]
    assert_allclose(forecast[0], followed, atol=10)  # a level of 500, with 50 by the hour, 8 by the degree
    assert without.status_code == 422
    assert "future (values of temp, holiday in the rows to forecast)" in without.text
    assert "time (of the first row to forecast)" in without.text


@pytest.mark.parametrize(("target", "names"), [("load", ["hour"]), ("temp", [])], ids=["wanted", "not wanted"])
def test_an_automatic_calendar_is_the_same_for_all_networks_among_which_validation_chooses(
    target: str, names: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []

    def build(config: TrainingConfig, dataset: Dataset) -> Any:
        model = build_model(config, dataset)
        taken.append({each.name for each in model.inputs})
        return model

    monkeypatch.setattr(training.train, "build_model", build)
    options = [option for option in SMALL if option != "--skip"]
    table = ("--data", "load.csv", "--time", "hour", "--target", target)
    result = run("train", *table, *options, "--name", target, cwd=folder)
    assert result.code == 0, result.stderr
    assert taken == 2 * [{"windows", "time"} if names else {"windows"}]
    manifest = Manifest.read(folder / "models" / target / "1")
    assert [phase.name for phase in manifest.contract.calendar] == names
    assert manifest.config["calendar"] == (names or "none")
    told = [finding.sentence for finding in manifest.data.findings if finding.kind == "calendar"]
    assert len(told) == bool(names)
    assert all("--calendar none" in sentence for sentence in told)
    printed = " ".join((result.stdout + result.stderr).split())
    assert all(sentence in printed for sentence in told)
