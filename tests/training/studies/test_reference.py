"""The reference tasks: what is judged is not learnt from, and the table says what came out."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from rich.console import Console

from tests.training.commands import run
from tests.training.interrupts import interrupt
from tests.training.tiny import write_csv
from training.data import series
from training.data.windows import Dataset
from training.errors import ConfigError, DataError
from training.studies import reference
from training.studies.figures import Figures, Result, score, verdict_of
from training.studies.tasks import TASKS, Bar, Network, ReferenceTask, Task, redraw


def quick(network: Network) -> Network:
    """The same network, but tiny and with a single pass."""
    changes = {"units": (2,), "epochs": 1, "batch_size": 512, "window": min(network.config.window, 30), "xla": False}
    return replace(network, config=network.config.model_copy(update=changes))


def quick_task(name: ReferenceTask) -> Task:
    task = TASKS[name]
    return replace(task, network=quick(task.network), beside=quick(task.beside) if task.beside else None)


def sunspots_file(folder: Path, months: int = 900, judged: float = 0.0) -> Path:
    """Months of a made cycle, the last 235 of them changed by so much noise."""
    generator = np.random.default_rng(0)
    numbers = 60 + 50 * np.sin(np.arange(months) / 20) + generator.normal(0, 5, months)
    numbers[-235:] += judged * generator.normal(0, 50, 235)
    names = [f"{1749 + month // 12}-{1 + month % 12:02d}" for month in range(months)]
    return write_csv(folder / "monthly.csv", {"month": names, "sunspots": numbers.round(1)})


def swapped(values: np.ndarray, judged: int) -> np.ndarray:
    """The same, but the judged rows are noise."""
    noise = np.random.default_rng(1).normal(0, 100, (judged, *values.shape[1:])).astype(values.dtype)
    return np.concatenate([values[:-judged], noise])


def with_noise_for_judged_rows(task: Task, patch: pytest.MonkeyPatch, folder: Path) -> Dataset:
    if task.name == "sunspots":
        return reference.dataset_of(task, sunspots_file(folder, judged=1))
    if task.name == "multiplication":
        samples = series.multiplication_samples()
        noisy = replace(
            samples,
            windows=swapped(samples.windows, task.judged),
            targets=swapped(samples.targets, task.judged),
        )
        patch.setattr(series, "multiplication_samples", lambda: noisy)
    else:
        table = series.load(task.name)
        noisy_table = replace(table, values=swapped(table.values, task.judged))
        patch.setattr(series, "load", lambda _: noisy_table)
    return reference.dataset_of(task)


def console() -> Console:
    return Console(file=io.StringIO(), width=150)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("name", list(TASKS))
def test_judged_rows_reach_no_weight(name: ReferenceTask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    task = quick_task(name)
    data = sunspots_file(tmp_path) if name == "sunspots" else None
    dataset = reference.dataset_of(task, data)
    with_noise = with_noise_for_judged_rows(task, monkeypatch, tmp_path)
    assert len(dataset.test.targets) == task.judged
    assert not np.array_equal(dataset.test.targets, with_noise.test.targets)

    forecasters = [reference.train(task.network, each, seed=3, console=console()) for each in (dataset, with_noise)]

    for one, other in zip(*(each.model.get_weights() for each in forecasters), strict=True):
        assert_array_equal(one, other)
    (baselines, judged), (others, _) = (reference.baselines_of(task, each) for each in (dataset, with_noise))
    for one, other in zip(baselines, others, strict=True):
        assert one.name == other.name
        assert_array_equal(one.forecast(judged), other.forecast(judged))


@pytest.mark.parametrize(("name", "first"), [("lesson", 1000), ("exercise", 3000)])
def test_a_series_is_learnt_from_up_to_the_first_judged_row(name: ReferenceTask, first: int) -> None:
    task = TASKS[name]
    values = series.load("lesson" if name == "lesson" else "exercise").values.astype(np.float32)
    dataset = reference.dataset_of(task)

    assert_array_equal(dataset.series, values[:first])
    assert_array_equal(dataset.train.targets[-1, 0], values[first - 1])
    assert_array_equal(dataset.test.targets[:, 0], values[first:])
    assert_array_equal(dataset.test.windows[0], values[first - task.network.config.window : first])


def test_products_are_learnt_from_the_first_2048_samples_and_judged_on_the_last_440() -> None:
    samples = series.multiplication_samples()
    dataset = reference.dataset_of(TASKS["multiplication"])

    assert_array_equal(dataset.train.windows, samples.windows[:2048])
    assert_array_equal(dataset.validation.windows, samples.windows[2048:2560])
    assert_array_equal(dataset.test.targets[:, 0], samples.targets[2560:])


def test_no_series_network_sees_more_than_its_protocol_allows() -> None:
    assert TASKS["lesson"].network.config.window <= 64
    assert TASKS["lesson"].network.config.features == ()


def test_samples_drawn_again_keep_their_product_and_nothing_else() -> None:
    samples = series.multiplication_samples()
    windows = samples.windows[:500]

    drawn = redraw(np.random.default_rng(0), windows)

    markers, values = drawn[..., 0], drawn[..., 1]
    assert drawn.dtype == np.float32
    assert_array_equal(markers.sum(axis=1), np.full(500, 2, np.float32))
    factors, before = (each[..., 1][each[..., 0] == 1].reshape(500, 2) for each in (drawn, windows))
    assert_array_equal(np.sort(factors, axis=1), np.sort(before, axis=1))
    unmarked = (markers == 0) & (windows[..., 0] == 0)
    assert (values[unmarked] != windows[..., 1][unmarked]).mean() > 0.999
    assert (values.min(), values.max()) == pytest.approx((0, 1), abs=0.001)
    assert (markers.sum(axis=0) > 0).all()  # every step gets its turn
    assert (markers != windows[..., 0]).any(axis=1).mean() > 0.99


def test_samples_are_drawn_from_the_generator_alone() -> None:
    windows = series.multiplication_samples().windows[:5]

    one, same, other = (redraw(np.random.default_rng(seed), windows) for seed in (1, 1, 2))

    assert_array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("name", "floor"), [("lesson", 4.007), ("exercise", 2.435), ("multiplication", None), ("sunspots", None)]
)
def test_floor_is_the_error_of_the_noiseless_signal(name: ReferenceTask, floor: float | None) -> None:
    assert reference.floor_of(TASKS[name]) == (floor if floor is None else pytest.approx(floor, abs=5e-4))


def test_share_of_correct_products_counts_errors_below_the_limit() -> None:
    actual = np.zeros((4, 1, 1), np.float32)
    forecasts = np.array([0, 0.039, -0.039, 0.041], np.float32).reshape(4, 1, 1)

    assert score("correct %", forecasts, actual) == 75
    assert score("MAE", forecasts, actual) == pytest.approx(0.119 / 4)


def figures(*scores: float, higher: bool = False, seconds: float = 10) -> Figures:
    return Figures("network", scores, (seconds,) * len(scores), higher_is_better=higher)


def test_figures_are_taken_over_the_seeds() -> None:
    error, share = figures(4.0, 4.5, 4.1), figures(99.0, 100.0, 98.0, higher=True)

    assert error.mean == pytest.approx(4.2)
    assert (error.median, error.worst) == (4.1, 4.5)
    assert error.deviation == pytest.approx(np.std([4.0, 4.5, 4.1], ddof=1))
    assert (share.mean, share.worst) == (99.0, 98.0)
    assert figures(4.0).deviation is None


@pytest.mark.parametrize(
    ("bar", "ours", "missing"),
    [
        (Bar(mean=4.5, worst=4.6, seconds=60), figures(4.4, 4.6), ()),
        (Bar(mean=4.5, worst=4.6, seconds=60), figures(4.2, 4.7), ("worst seed 4.7",)),
        (Bar(mean=4.5), figures(4.5, 4.6), ("mean 4.55",)),
        (Bar(seconds=60), figures(4.0, seconds=61), ("slowest seed 61 s",)),
        (Bar(median=99.5, worst=98.5), figures(99.6, 99.6, 98.5, higher=True), ()),
        (Bar(median=99.5), figures(99.4, 99.4, 100.0, higher=True), ("median 99.4",)),
        (Bar(worst=98.5), figures(98.4, 100.0, higher=True), ("worst seed 98.4",)),
        (Bar(baselines=("naive",)), figures(4.9), ()),
        (Bar(baselines=("naive",)), figures(5.0), ("mean 5 against 5 of the naive",)),
    ],
)
def test_bar_is_met_or_the_shortfalls_are_named(bar: Bar, ours: Figures, missing: tuple[str, ...]) -> None:
    result = Result(replace(TASKS["lesson"], bar=bar), {"naive": 5.0}, None, ours, None)

    assert result.shortfalls == missing
    told = verdict_of(result)
    assert ("the bar is met" in told) == (not missing)
    assert all(shortfall in told for shortfall in missing)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Result], str, Any]:
    """Results of a task with two seeds and of two with one, what was told, and what was written."""
    folder = tmp_path_factory.mktemp("reference")
    told = console()
    one, two = folder / "one.json", folder / "two.json"
    results = reference.run([quick_task("lesson")], 2, told, output=one)
    others = [quick_task("multiplication"), quick_task("sunspots")]
    results.extend(reference.run(others, 1, told, sunspots_file(folder), two))
    written = [figures for file in (one, two) for figures in json.loads(file.read_text(encoding="utf-8"))]
    return results, text_of(told), written


def test_run_shows_every_figure_and_how_the_network_was_chosen(ran: tuple[list[Result], str, Any]) -> None:
    _, told, _ = ran

    for fact in (
        "5.287",
        "last value",
        "linear autoregression of order 30, ridge",
        "floor",
        "4.007",
        "2 seeds",
        "seed 1: MAE",
    ):
        assert fact in told, fact
    for fact in ("92.95", "SimpleRNN(30), as published, plus clipping and a cosine", "training mean", "correct %"):
        assert fact in told, fact
    assert "1 seed " in told
    assert told.count("Chosen without the judged rows: ") == 3
    assert "Chosen without the judged rows: window, scale" in told


def test_figures_are_written(ran: tuple[list[Result], str, Any]) -> None:
    results, _, (lesson, products, _) = ran

    assert lesson["floor"] == pytest.approx(4.007, abs=5e-4)
    assert lesson["ours"]["scores"] == list(results[0].ours.scores)
    assert lesson["ours"]["mean"] == pytest.approx(np.mean(lesson["ours"]["scores"]))
    assert len(set(lesson["ours"]["scores"])) == 2  # another seed, another network
    assert lesson["baselines"]["last value"] == pytest.approx(5.938, abs=5e-4)
    assert products["baselines"]["training mean"] == pytest.approx(11, abs=2)
    assert (products["ours"]["deviation"], len(products["beside"]["seconds"])) == (None, 1)
    assert lesson["shortfalls"]  # one pass of two cells does not do


def test_sunspots_are_judged_beside_the_autoregression_of_thirty_rows(ran: tuple[list[Result], str, Any]) -> None:
    results, told, _ = ran

    assert set(results[2].task.bar.baselines) <= set(results[2].baselines)
    assert "a better mean than" in told


def test_sunspots_without_a_file_are_told_before_anything_runs() -> None:
    told = console()

    with pytest.raises(ConfigError, match=r"sunspots task needs --data FILE.*columns month .* and sunspots"):
        reference.run([quick_task("lesson"), quick_task("sunspots")], 1, told)

    assert text_of(told) == ""


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("month,sunspots", "Month,sunspots", "no column 'month'"),
        ("month,sunspots", "month,spots", "no column 'sunspots'"),
        ("1749-03,", "1749-03,;", "line 4"),
    ],
)
def test_a_file_of_another_make_is_told(tmp_path: Path, old: str, new: str, problem: str) -> None:
    path = sunspots_file(tmp_path)
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")

    with pytest.raises(DataError, match=problem):
        reference.dataset_of(TASKS["sunspots"], path)


def test_a_missing_month_is_told_with_its_line(tmp_path: Path) -> None:
    path = sunspots_file(tmp_path)
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[4] = lines[4].split(",")[0] + ","
    path.write_text("\n".join(lines), encoding="utf-8")

    with pytest.raises(DataError, match=r"no value on line 5 .*; .* every row"):
        reference.dataset_of(TASKS["sunspots"], path)


def test_a_short_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has 300 rows; .* judges the last 235"):
        reference.dataset_of(TASKS["sunspots"], sunspots_file(tmp_path, months=300))


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"figures.json: there is no folder .*nowhere; make it first"):
        reference.run([quick_task("lesson")], 1, console(), output=tmp_path / "nowhere" / "figures.json")


@pytest.mark.parametrize(
    ("arguments", "code", "fact"),
    [
        (("--help",), 0, "monthly sunspots"),
        (("lessons",), 2, "lesson"),
        (("lesson", "--seeds", "0"), 2, "--seeds"),
        (("sunspots", "--output", "nowhere/figures.json"), 2, "there is no folder nowhere"),
    ],
)
def test_command_tells_what_it_takes(arguments: tuple[str, ...], code: int, fact: str, tmp_path: Path) -> None:
    result = run("reference", *arguments, cwd=tmp_path)

    assert result.code == code
    assert fact in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


def test_ctrl_c_tells_how_many_tasks_are_done(tmp_path: Path) -> None:
    arguments = ("reference", "lesson", "--seeds", "1", "--output", "figures.json")
    code, seen, errors = interrupt(tmp_path, *arguments, once="lesson: 955 windows to train, 461 to judge, 1 seed\n")

    assert len(seen) == 1
    assert code == 130, errors
    assert errors.splitlines()[-1] == "Interrupted; 0 of 1 task is done."
    assert not (tmp_path / "figures.json").exists()
