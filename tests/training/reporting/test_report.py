"""The report of a version: whole, self-contained, bounded, and in agreement with the manifest."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console

from app.version.manifest import DataFingerprint, Finding, Manifest
from tests.servers import running
from tests.training.reporting.made import evaluation_of
from tests.training.tiny import config_of, waves
from tests.waiting import PATIENCE_SECONDS
from training.config import TrainingConfig
from training.data.prepare import prepare
from training.data.provenance import Provenance
from training.data.windows import Dataset, Part, cut_training
from training.fitting.budget import Plan
from training.fitting.history import Epoch, History
from training.fitting.learning_rate import Sweep
from training.fitting.symptoms import Incident
from training.judging.evaluate import Evaluation
from training.publishing.export import make_contract
from training.reporting.report import write_report
from training.reporting.run import Run
from training.reporting.sections import DRAWN_TARGETS
from training.train import train

HOSTILE = "<script>alert('1')</script> & $x_1$"
VOID = {"meta", "br", "hr", "img", "link", "input"}
ONE_EPOCH = History((Epoch(1, 0.5, 0.4, best=True, gradient_norm=0.3, largest_norm=2.0),), Plan(1, 24), seconds=1.5)


@dataclass
class Page(HTMLParser):
    """What stands in an HTML file."""

    tags: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)
    text: str = ""
    _open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)
        if tag in ("h1", "h2"):
            self.headings.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._open and self._open[-1] in ("h1", "h2"):
            self.headings[-1] += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @classmethod
    def read(cls, version_dir: Path) -> "Page":
        page = cls()
        page.feed((version_dir / "report/report.html").read_text(encoding="utf-8"))
        page.close()
        assert page._open == []
        return page


def metrics_of(version_dir: Path) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    metrics: dict[str, Any] = json.loads((version_dir / "report/metrics.json").read_bytes(), parse_constant=refuse)
    return metrics


def write_table(path: Path, names: list[str], rows: int = 120, *, times: bool) -> None:
    values = waves(rows, len(names))
    days = np.datetime64("2024-01-01") + np.arange(rows)
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    lines = [",".join((["day"] if times else []) + quoted)]
    for day, row in zip(days, values, strict=True):
        lines.append(",".join(([str(day)] if times else []) + [f"{value:.4f}" for value in row]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def trained(config: TrainingConfig) -> Path:
    return train(config, prepare(config), Console(quiet=True)).version_dir


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One target, one step ahead, rows without times."""
    folder = tmp_path_factory.mktemp("single")
    write_table(folder / "load.csv", ["load"], times=False)
    options: dict[str, Any] = {"series": None, "data": folder / "load.csv", "target": ("load",), "window": 6}
    return trained(config_of(models_dir=folder / "models", tensorboard=folder / "logs", **options))


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine targets with names of all kinds, three steps ahead."""
    folder = tmp_path_factory.mktemp("several")
    names = [HOSTILE, "温度", *(f"column {number}" for number in range(7))]
    write_table(folder / "load.csv", names, times=True)
    options: dict[str, Any] = {"series": None, "data": folder / "load.csv", "target": tuple(names), "time": "day"}
    units = {"温度": "°C", "column 0": "<b>MW</b>"}
    return trained(
        config_of(models_dir=folder / "models", window=6, horizon=3, measured_in=units, name="nine", **options)
    )


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Windows that stand alone."""
    models_dir = tmp_path_factory.mktemp("samples")
    return trained(config_of(series="multiplication", models_dir=models_dir, units=(2,), epochs=1, batch_size=256))


@pytest.fixture(scope="module", params=["single", "several", "samples"])
def version_dir(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


def test_every_part_stands_in_order(version_dir: Path) -> None:
    page = Page.read(version_dir)
    manifest = Manifest.read(version_dir)

    errors = "Error by forecaster" if manifest.contract.horizon == 1 else "Error by step of the horizon"
    assert page.headings == [
        manifest.name,
        "What was trained on what",
        "Data checks",
        "Loss",
        "Forecast against actual",
        errors,
        "Residuals",
        "Scores",
        "Contract",
        "How to call it",
    ]
    assert page.text.index(manifest.verdict) < page.text.index("What was trained on what")
    for fact in (manifest.data.sha256, manifest.data.source, *manifest.versions.values(), "--epochs", "LSTM"):
        assert fact is not None
        assert fact in page.text


def test_names_are_shown_as_they_are_and_mean_nothing_to_a_browser(several: Path) -> None:
    page = Page.read(several)

    for name in (HOSTILE, "温度 (°C)", "column 0 (<b>MW</b>)"):
        assert name in page.text
    assert not {"script", "b"} & {tag for tag, _ in page.tags}


def test_one_file_asks_for_nothing_else(version_dir: Path) -> None:
    page = Page.read(version_dir)
    text = (version_dir / "report/report.html").read_text(encoding="utf-8")

    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        for name, value in attributes.items():
            if name.split(":")[-1] in ("src", "href", "srcset", "action", "data"):
                assert value.startswith("#"), value
            assert not name.startswith("on"), name
    assert "@import" not in text
    assert set(re.findall(r"url\((.)", text)) <= {"#"}
    policy = next(each for each in page.all("meta") if each.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"].startswith("default-src 'none'")


def test_whoever_does_not_see_is_told(version_dir: Path) -> None:
    page = Page.read(version_dir)

    assert page.all("html")[0]["lang"] == "en"
    figures = page.all("svg")
    assert len(figures) >= 4
    for figure in figures:
        assert figure["role"] == "img"
        assert re.search(r"\d", figure["aria-label"])
    assert len(page.all("caption")) == len(page.all("table")) == 4
    assert {each.get("scope") for each in page.all("th")} == {"col", "row"}


def test_ids_are_unique_and_references_have_one(version_dir: Path) -> None:
    page = Page.read(version_dir)
    text = (version_dir / "report/report.html").read_text(encoding="utf-8")

    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    references = re.findall(r"(?:href=\"|url\()#([^\")]+)", text)
    assert references
    assert set(references) <= set(ids)


def test_figures_are_there_as_png_too(version_dir: Path) -> None:
    targets = min(DRAWN_TARGETS, len(Manifest.read(version_dir).contract.targets))
    drawn = sorted(path.stem for path in (version_dir / "report").glob("*.png"))

    each = [f"{kind}-{number}" for kind in ("forecast", "residuals") for number in range(1, targets + 1)]
    assert drawn == sorted(["errors", "loss", *each])
    for path in (version_dir / "report").glob("*.png"):
        height, width, _ = imread(path).shape
        assert width == 946
        assert height > 200


def test_targets_that_are_not_drawn_are_counted_and_scored(several: Path) -> None:
    page = Page.read(several)

    assert page.text.count("1 more target is not drawn") == 3
    assert "column 6" in page.text[page.text.index("On the test part, over") :]


def test_numbers_agree_with_the_manifest(version_dir: Path) -> None:
    manifest, metrics = Manifest.read(version_dir), metrics_of(version_dir)

    assert metrics["scores"] == [score.model_dump(mode="json") for score in manifest.scores]
    assert metrics["verdict"]["sentence"] == manifest.verdict
    assert set(metrics["verdict"]) == {"outcome", "against", "difference", "p", "sentence"}
    assert metrics["data"] == manifest.data.model_dump(mode="json")
    epochs = metrics["history"]["epochs"]
    assert len(epochs) == manifest.config["epochs"]
    assert metrics["history"]["best_epoch"] == [0, *(epoch["number"] for epoch in epochs if epoch["best"])][-1]
    assert all(epoch["gradient_norm"] > 0 for epoch in epochs)
    assert (metrics["sweep"], metrics["incidents"]) == (None, [])


def test_the_page_tells_the_errors_of_the_manifest(version_dir: Path) -> None:
    page, manifest = Page.read(version_dir), Manifest.read(version_dir)

    rows = page.text[page.text.index("On the test part, over") : page.text.index("MAE and RMSE in")]
    for each in manifest.scores:
        assert f"{each.mae:.5g}" in rows
        assert f"{each.rmse:.5g}" in rows
    drawn = [figure["aria-label"] for figure in page.all("svg") if "one step ahead" in figure["aria-label"]]
    assert f"{manifest.scores[0].mae_by_step[0]:.4g} for the model" in drawn[0]
    [errors] = [figure["aria-label"] for figure in page.all("svg") if "at step" in figure["aria-label"]]
    assert f"model {manifest.scores[0].mae_by_step[-1]:.4g}" in errors


def test_checksums_cover_the_report(version_dir: Path) -> None:
    manifest = Manifest.read(version_dir)

    manifest.check_files(version_dir)
    assert {f"report/{path.name}" for path in (version_dir / "report").iterdir()} <= set(manifest.files)


def test_training_writes_events_where_it_is_asked_to(single: Path, several: Path) -> None:
    """A folder for each of the two networks that are fitted."""
    logs = single.parents[2] / "logs"
    folders = sorted(logs.iterdir())
    assert [folder.name.startswith("default-linear-path-") for folder in folders] == [False, True]
    for folder in folders:
        [events] = folder.glob("events.out.tfevents.*")
        assert events.stat().st_size
    assert not list(several.parents[2].rglob("*tfevents*"))


def test_calls_work_as_they_stand(several: Path, tmp_path: Path) -> None:
    page = Page.read(several)
    program = page.text[page.text.index("import httpx") : page.text.index('["prediction"])') + len('["prediction"])')]

    with running(several.parents[2], model="nine") as server:
        server.wait_for("/readyz")
        here = program.replace("http://127.0.0.1:8000", server.url)
        ended = subprocess.run(
            [sys.executable, "-c", here], capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS
        )
        assert np.shape(json.loads(ended.stdout)) == (3, 9)

        [array] = re.findall(r"python -c '(import numpy.*)'", page.text)
        subprocess.run([sys.executable, "-c", array], cwd=tmp_path, check=True, timeout=PATIENCE_SECONDS)
        [example] = re.findall(r"curl -s http://127.0.0.1:8000(/\S+) \|", page.text)
        urls = re.findall(r"'http://127.0.0.1:8000(/\S+)'", page.text)
        with server.client() as client:
            bodies = (client.get(example).content, (tmp_path / "window.npy").read_bytes())
            for url, kind, body in zip(urls, ("json", "x-npy"), bodies, strict=True):
                answer = client.post(url, content=body, headers={"content-type": f"application/{kind}"})
                assert np.shape(answer.raise_for_status().json()["prediction"]) == (3, 9)


Report = Callable[..., Path]


@pytest.fixture
def report(tmp_path: Path) -> Report:
    """Writes a report on an evaluation, without any training."""

    def write(evaluation: Evaluation, history: History = ONE_EPOCH, folder: str = "1", **more: Any) -> Path:
        dataset = dataset_for(evaluation)
        manifest = Manifest(
            name="made",
            created=datetime(2026, 1, 2, tzinfo=UTC),
            contract=make_contract(dataset),
            config={},
            data=DataFingerprint(source="load.csv", findings=more.pop("findings", ())),
            versions={},
            scores=evaluation.scores,
            verdict=evaluation.verdict.sentence,
            files={},
        )
        version_dir = tmp_path / folder
        version_dir.mkdir()
        write_report(version_dir, manifest, Run(config_of(), dataset, history, evaluation, **more))
        return version_dir

    return write


def dataset_for(evaluation: Evaluation) -> Dataset:
    horizon, targets = evaluation.actual.shape[1:]
    rows = waves(30, targets).astype(np.float32)
    train = cut_training(rows, rows, 4, horizon)
    count = len(evaluation.actual)
    test = Part(np.zeros((count, 4, targets), np.float32), evaluation.actual, np.zeros((count, 4, targets), np.float32))
    names = evaluation.target_names
    return Dataset(names, names, train, train, test, series=rows, provenance=Provenance(rows=1000, test_rows=count))


def test_same_run_gives_the_same_files(report: Report) -> None:
    first, second = report(evaluation_of()), report(evaluation_of(), folder="2")

    for path in (first / "report").iterdir():
        assert path.read_bytes() == (second / "report" / path.name).read_bytes(), path.name


def test_size_is_bounded(report: Report) -> None:
    """More rows, targets, steps and epochs than anybody would look at."""
    epochs = tuple(Epoch(number, 1 / number, 1 / number, True, 0.5, 2.0) for number in range(1, 5001))
    evaluation = evaluation_of(rows=2500, horizon=4, targets=120)

    version_dir = report(evaluation, History(epochs, Plan(len(epochs), 24), seconds=1.0))

    assert (version_dir / "report/report.html").stat().st_size < 3 * 2**20
    page = Page.read(version_dir)
    assert "the last 300 of 2500 windows" in page.text
    assert "One row in 3 is drawn." in page.text
    assert "One epoch in 5 is drawn." in page.text
    assert "112 more targets are not drawn" in page.text
    assert "40 more are left out here" in page.text
    assert len(metrics_of(version_dir)["history"]["epochs"]) == 5000


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("horizon", [1, 5])
def test_a_test_part_of_a_few_rows_can_be_drawn(report: Report, rows: int, horizon: int) -> None:
    assert Page.read(report(evaluation_of(rows, horizon)))


@pytest.mark.parametrize("error", [0.0, 1e-30, 1e30])
def test_errors_of_any_size_can_be_drawn(report: Report, error: float) -> None:
    assert Page.read(report(evaluation_of(error=error)))


def test_errors_that_are_huge_and_all_alike_can_be_drawn(report: Report) -> None:
    even = evaluation_of()
    forecasts = {name: np.full_like(values, 7.77e20) for name, values in even.forecasts.items()}

    assert Page.read(report(replace(even, forecasts=forecasts)))


def test_what_is_no_number_becomes_null(report: Report) -> None:
    epochs = (Epoch(1, float("inf"), float("nan"), best=True), Epoch(2, 0.5, float("nan"), best=True))

    version_dir = report(evaluation_of(), History(epochs, Plan(len(epochs), 24), seconds=1.0))

    first, second = metrics_of(version_dir)["history"]["epochs"]
    assert first["loss"] is first["validation_loss"] is first["gradient_norm"] is None
    assert second["loss"] == 0.5


def test_incidents_and_findings_are_told_once_each(report: Report) -> None:
    incident = Incident(1, 7, "windows 3 to 9", "the rate is too high", "went on with half the rate")
    gap = Finding(kind="absent_rows", sentence="a gap of 2 rows after row 7")
    findings = (gap, incident.finding)

    version_dir = report(evaluation_of(), replace(ONE_EPOCH, incidents=(incident,)), findings=findings)

    text = Page.read(version_dir).text
    assert text.count("a gap of 2 rows after row 7") == 1
    assert text.count(incident.sentence) == 1
    assert text.index("a gap of 2 rows") < text.index("While fitting") < text.index(incident.sentence)
    assert metrics_of(version_dir)["incidents"][0]["rows"] == "windows 3 to 9"


def test_a_sweep_is_drawn_with_its_reason(report: Report) -> None:
    rates = tuple(10.0 ** np.linspace(-6, 0, 50))
    losses = (*np.linspace(2, 1, 49), float("inf"))
    found = Sweep(rates, losses, losses, 0.003, "the smoothed loss falls fastest there", diverged_at=rates[-1])

    version_dir = report(evaluation_of(), sweep=found)

    page = Page.read(version_dir)
    assert page.headings[4] == "Sweep of learning rates"
    assert found.reason in page.text
    assert (version_dir / "report/sweep.png").stat().st_size
    sweep = metrics_of(version_dir)["sweep"]
    assert (sweep["chosen"], sweep["losses"][-1]) == (0.003, None)


def test_a_baseline_in_the_models_place_is_told(report: Report) -> None:
    evaluation = evaluation_of()
    swapped = replace(evaluation, scores=tuple(reversed(evaluation.scores)))

    assert "the baseline last value, in place of the model" in Page.read(report(swapped)).text
    assert "in place of the model" not in Page.read(report(evaluation, folder="2")).text
