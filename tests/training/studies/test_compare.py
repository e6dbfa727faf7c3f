"""`compare`: every network is fitted and judged alike, and what is done is kept."""

import csv
import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.training.interrupts import interrupt
from tests.training.network import test_ahead as ahead
from tests.training.tiny import config_of, dataset_of, waves, write_csv
from training.data.windows import Dataset, Part, cut_judged, cut_training
from training.errors import ConfigError, TrainingError
from training.fitting.fit import fit
from training.fitting.learning_rate import settle
from training.fitting.symptoms import Incident
from training.judging.evaluate import evaluate
from training.network.model import Forecaster, build_model
from training.studies import compare as comparing
from training.studies.compare import CSV_FILE, JSON_FILE, PNG_FILE, Candidate, candidates, compare

ROWS = waves().astype(np.float32)
TRAIN = cut_training(ROWS[:80], ROWS[:80, :1], 6, 2)
DATASET: Dataset = replace(
    dataset_of(TRAIN, cut_judged(ROWS[:100], ROWS[:100, :1], 6, 2, 80)),
    test=cut_judged(ROWS, ROWS[:, :1], 6, 2, 100),
    series=ROWS[:80, :1],
)
ENTRANTS = Candidate("rnn", False, (4,)), Candidate("lstm", True, (4, 4))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a comparison of two networks left, and what it printed."""
    folder = tmp_path_factory.mktemp("comparison")
    printed = StringIO()
    console = Console(file=printed, width=200)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparing, "candidates", lambda _: ENTRANTS)
        console.print(compare(config_of(seed=3), DATASET, 2, folder / "results", console))
    (folder / "printed.txt").write_text(printed.getvalue(), encoding="utf-8")
    return folder


def test_the_candidates_are_every_kind_in_one_to_three_layers() -> None:
    names = [candidate.name for candidate in candidates(config_of(units=(8, 4)))]
    assert names[:4] == ["SimpleRNN, 1 layer", "SimpleRNN, 2 layers", "SimpleRNN, 3 layers", "GRU, 1 layer"]
    assert names[-1] == "bidirectional LSTM, 3 layers"
    assert len(names) == 12
    assert candidates(config_of(units=(8, 4)))[2].units == (8, 4, 4)
    assert not any(candidate.bidirectional for candidate in candidates(config_of(output="sequence")))


def test_a_candidate_changes_the_network_and_the_seed_and_nothing_else() -> None:
    config = config_of(units=(4, 4), dropout=0.2, noise=0.1)
    two = Candidate("gru", False, (4, 3)).configured(config, 9)
    assert two == config.model_copy(update={"cell": "gru", "units": (4, 3), "seed": 9})
    assert Candidate("gru", False, (4,)).configured(config, 9).dropout == 0


def test_the_table_has_a_line_for_each_candidate_and_the_best_baseline(folder: Path) -> None:
    printed = (folder / "printed.txt").read_text(encoding="utf-8")
    for name in ("SimpleRNN, 1 layer", "bidirectional LSTM, 2 layers", "best baseline: ", "(2 of 2)"):
        assert name in printed
    with (folder / "results/comparison.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert all(float(row["microseconds_to_predict"]) > 0 and float(row["seconds_to_train"]) > 0 for row in rows)
    assert float(rows[1]["microseconds_to_predict"]) < 5000


def test_an_error_is_that_of_a_fit_by_itself_with_the_same_seed(folder: Path) -> None:
    content = json.loads((folder / "results/comparison.json").read_text(encoding="utf-8"))
    told = content["candidates"][1]
    assert (told["candidate"], told["units"]) == ("bidirectional LSTM, 2 layers", "4,4")
    config = config_of(cell="lstm", bidirectional=True, units=(4, 4), seed=4)
    model = build_model(config, DATASET)
    fit(Forecaster(model), config, DATASET.train, DATASET.validation)
    evaluation = evaluate(Forecaster(model), DATASET)
    assert told["errors"][1] == pytest.approx(evaluation.scores[0].mae, rel=1e-4)
    assert told["parameters"] == model.count_params()
    assert told["error"] == pytest.approx(np.mean(told["errors"]))
    assert told["spread"] == pytest.approx(np.std(told["errors"], ddof=1))
    assert content["baseline"]["name"] == evaluation.verdict.against
    assert content["baseline"]["error"] == pytest.approx(min(score.mae for score in evaluation.scores[1:]))


def test_the_plot_is_a_picture(folder: Path) -> None:
    assert (folder / "results/comparison.png").read_bytes().startswith(b"\x89PNG")
    assert {path.suffix for path in (folder / "results").iterdir()} == {".csv", ".json", ".png"}


def test_the_test_part_decides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights kept, and so the errors on validation rows, are the same whatever the test part holds."""
    monkeypatch.setattr(comparing, "KINDS", (("rnn", False),))
    monkeypatch.setattr(comparing, "DEPTHS", (1,))
    kept = []
    random = np.random.default_rng(0)
    windows, targets, history = (random.normal(size=a.shape).astype(np.float32) for a in _arrays(DATASET.test))
    noise = Part(windows, targets, history)
    for dataset in (DATASET, replace(DATASET, test=noise)):

        def remember(forecaster, *arguments):  # type: ignore[no-untyped-def]
            history = fit(forecaster, *arguments)
            kept.append(forecaster.model.get_weights())
            return history

        with monkeypatch.context() as patch:
            patch.setattr(comparing, "fit", remember)
            compare(config_of(), dataset, 1, tmp_path, Console(file=StringIO()))
    for one, other in zip(*kept, strict=True):
        np.testing.assert_array_equal(one, other)


def _arrays(part: Part) -> tuple[np.ndarray, ...]:
    return part.windows, part.targets, part.history


def test_a_network_whose_fit_fails_is_told_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "KINDS", (("rnn", False), ("lstm", False), ("gru", False)))
    monkeypatch.setattr(comparing, "DEPTHS", (1,))
    incident = Incident(1, 2, "windows 3 to 18, rows 3 to 25", "the rate is too high", "went on with half the rate")

    def fail_for_rnn(forecaster, config, *rest):  # type: ignore[no-untyped-def]
        if config.cell == "rnn":
            raise TrainingError("the loss is no longer a finite number")
        return replace(fit(forecaster, config, *rest), incidents=(incident,))

    def fail_for_lstm(config, dataset):  # type: ignore[no-untyped-def]
        if config.cell == "lstm":
            raise TrainingError("there is no rate to find")
        return settle(config, dataset)

    monkeypatch.setattr(comparing, "fit", fail_for_rnn)
    monkeypatch.setattr(comparing, "settle", fail_for_lstm)
    printed = StringIO()
    console = Console(file=printed, width=200)
    console.print(compare(config_of(), DATASET, 1, tmp_path, console))
    assert "seed 0: the loss is no longer a finite number" in printed.getvalue()
    assert "seed 0: there is no rate to find" in printed.getvalue()
    assert f"seed 0: {incident.sentence}" in printed.getvalue()
    assert printed.getvalue().count("- (1 failed)") == 2
    assert "GRU, 1 layer" in (tmp_path / "comparison.csv").read_text(encoding="utf-8")


def test_a_mistake_is_told_before_anything_is_fitted(tmp_path: Path) -> None:
    printed = StringIO()
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match=r"file: cannot be made .*; choose another --results"):
        compare(config_of(), DATASET, 1, tmp_path / "file", Console(file=printed))
    targets = DATASET.train.targets.copy()
    targets[5] = 0
    with_zeros = replace(DATASET, train=replace(DATASET.train, targets=targets))
    with pytest.raises(ConfigError, match="--loss mape does not go with column 'a' at row 11"):
        compare(config_of(loss="mape"), with_zeros, 1, tmp_path / "results", Console(file=printed))
    assert printed.getvalue() == ""


def test_what_may_spoil_the_fits_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "KINDS", ())
    printed = StringIO()
    with pytest.raises(TrainingError, match="no fit came to an end"):
        compare(config_of(learning_rate=0.5), DATASET, 1, tmp_path, Console(file=printed))
    assert printed.getvalue().startswith("note: --learning-rate 0.5 moves every weight")


def test_ctrl_c_ends_with_130_and_keeps_what_is_done(tmp_path: Path) -> None:
    write_csv(tmp_path / "waves.csv", {"a": ROWS[:, 0], "b": ROWS[:, 1]})
    small = ("--window", 6, "--units", 4, "--epochs", 1, "--no-xla", "--seeds", 1, "--results", "done")
    arguments = ("compare", "--data", "waves.csv", "--target", "a", *small)
    code, _, errors = interrupt(tmp_path, *arguments, once="SimpleRNN, 2 layers (2 of 12)")

    assert code == 130, errors
    assert "Interrupted; 1 of 12 candidates are done, and their results are in done.\n" in errors
    assert "SimpleRNN, 1 layer" in (tmp_path / "done/comparison.csv").read_text(encoding="utf-8")
    assert {path.name for path in (tmp_path / "done").iterdir()} == {CSV_FILE, JSON_FILE, PNG_FILE}


def test_ctrl_c_while_a_network_is_built_says_that_nothing_is_done(tmp_path: Path) -> None:
    """An exception that strikes in a destructor of some library is lost; this is none."""
    write_csv(tmp_path / "waves.csv", {"a": ROWS[:, 0], "b": ROWS[:, 1]})
    arguments = ("compare", "--data", "waves.csv", "--target", "a", "--window", 6)
    code, _, errors = interrupt(tmp_path, *arguments, once="SimpleRNN, 1 layer (1 of 12)")

    assert code == 130, errors
    assert errors.endswith("Interrupted; 0 of 12 candidates are done.\n")


def test_networks_that_are_told_the_calendar_are_compared_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "candidates", lambda _: ENTRANTS[:1])
    dataset = ahead.dataset_of(waves(), known="b", calendar="hour", window=6)

    compare(config_of(epochs=1), dataset, 1, tmp_path, Console(file=StringIO()))

    with (tmp_path / CSV_FILE).open(encoding="utf-8") as file:
        assert float(next(csv.DictReader(file))["microseconds_to_predict"]) > 0
