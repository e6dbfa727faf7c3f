"""The learning-rate sweep: what it picks and why, that it stops in time, and that its weights are never seen again."""

import io
import math
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from rich.console import Console

from app.version.manifest import Manifest
from tests.training.commands import run as run_command
from tests.training.network import test_ahead as ahead
from tests.training.tiny import config_of, dataset_of, part_of, waves
from training.config import TrainingConfig, read_config
from training.errors import ConfigError, TrainingError
from training.fitting import learning_rate
from training.fitting.fit import fit
from training.fitting.learning_rate import STEPS, Sweep, judge, settle, smooth, sweep
from training.network.model import Forecaster, build_model
from training.reporting import plots
from training.train import train

DATASET = dataset_of(part_of(waves(90)), validation=part_of(waves(40)))
RATES: Any = np.geomspace(1e-6, 1, STEPS)
PNG = b"\x89PNG\r\n\x1a\n"


def valley(steepest: float, lowest: float) -> Any:
    """Losses that fall around one rate and rise again beyond another."""
    fall = 1 / (1 + (RATES / steepest) ** 2)
    rise = np.log10(np.maximum(RATES / lowest, 1))
    return 0.2 + fall + rise


def test_the_rate_is_twice_the_one_where_the_loss_falls_fastest() -> None:
    found = judge(RATES, valley(1e-3, 0.3))

    # Smoothing drags the fall behind by less than a power of ten.
    assert 1e-3 <= found.chosen / 2 <= 5e-3
    assert "twice the first" in found.reason


def test_the_rate_keeps_away_from_the_lowest_loss() -> None:
    losses: Any = np.where(RATES < 0.03, 1 - 0.9 * (RATES / 0.03), 1.0)

    found = judge(RATES, losses)

    lowest = found.rates[int(np.argmin(found.smoothed))]
    assert found.chosen == pytest.approx(lowest / 3, rel=0.05)
    assert "too close" in found.reason


def test_a_steeper_fall_elsewhere_moves_the_choice() -> None:
    early, late = (judge(RATES, valley(steepest, 0.9)).chosen for steepest in (1e-4, 1e-2))

    assert late > 30 * early


@pytest.mark.parametrize("end", [0.99, 2])
def test_a_loss_that_hardly_falls_gives_the_default_and_says_so(end: float) -> None:
    found = judge(RATES, np.linspace(1, end, STEPS).tolist())

    assert found.chosen == TrainingConfig.model_fields["learning_rate"].default
    assert "hardly fell" in found.reason


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e9])
def test_what_comes_after_the_loss_left_for_good_is_not_looked_at(bad: float) -> None:
    losses = valley(1e-3, 0.3)
    losses[200:] = bad
    losses[220:] = 0  # a bargain nobody should fall for

    found = judge(RATES, losses)

    assert found.diverged_at == pytest.approx(RATES[200])
    assert found.chosen == judge(RATES[:200], losses[:200]).chosen


def test_a_loss_that_is_not_finite_from_the_start_is_told() -> None:
    with pytest.raises(TrainingError, match="before the first step"):
        judge(RATES, [math.nan] * STEPS)


def test_smoothing_is_not_biased_towards_zero() -> None:
    np.testing.assert_allclose(smooth([3.0] * 50), 3)


@pytest.fixture(scope="module")
def found() -> Sweep:
    """What a sweep finds."""
    return sweep(config_of(), DATASET)


def test_a_sweep_rises_from_the_lowest_rate_to_the_highest(found: Sweep) -> None:
    assert len(found.rates) == len(found.losses) == len(found.smoothed) == STEPS
    assert found.rates[0] == pytest.approx(1e-6)
    assert found.rates[-1] == pytest.approx(1)
    np.testing.assert_allclose(np.diff(np.log(found.rates)), np.log(1e6) / (STEPS - 1))
    assert 1e-4 < found.chosen < 0.5


def test_the_loss_falls_only_once_the_rates_are_worth_a_step() -> None:
    """The loss starts where an untrained model's is, stays there while rates are tiny, and falls."""
    config = config_of(batch_size=83)
    before = build_model(config, DATASET)
    seen = sweep(config, DATASET).losses
    expected = float(
        np.mean(_huber((np.asarray(before(DATASET.train.windows)) - DATASET.train.targets) / _yardstick(before)))
    )

    assert seen[0] == pytest.approx(expected, rel=1e-5)
    assert seen[20] == pytest.approx(expected, rel=1e-3)  # rates of 1e-6 change next to nothing
    assert min(seen) < 0.9 * expected


def _yardstick(model: Any) -> Any:
    return model.get_layer("forecast").yardstick


def _huber(errors: Any) -> Any:
    return np.where(np.abs(errors) <= 1, errors**2 / 2, np.abs(errors) - 0.5)


def test_a_sweep_that_diverges_ends_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning_rate, "HIGHEST_RATE", 1e20)

    found = sweep(config_of(loss="mse"), DATASET)

    assert found.diverged_at is not None
    assert len(found.rates) < STEPS
    assert found.chosen < found.diverged_at


def test_swept_weights_are_never_reused(found: Sweep) -> None:
    """The same seed sweeps alike, and what `auto` trains is bit for bit what the number it found trains."""
    config, again = settle(config_of(learning_rate="auto"), DATASET)
    assert again == found
    assert config.learning_rate == found.chosen

    weights = []
    for each in (config, config_of(learning_rate=found.chosen)):
        model = build_model(each, DATASET)
        fit(Forecaster(model), each, DATASET.train, DATASET.validation)
        weights.append(model.get_weights())

    for one, same in zip(*weights, strict=True):
        assert_array_equal(one, same)


def test_a_sweep_sees_neither_validation_nor_test(found: Sweep) -> None:
    noise = part_of(np.random.default_rng(1).normal(0, 1e6, (60, 2)))
    other = dataset_of(DATASET.train, validation=noise)

    assert sweep(config_of(), other) == found


def test_a_sweep_hands_windows_over_with_what_is_known_ahead() -> None:
    """The start makes no error as long as every window comes with its own future, and the lowest rates keep it."""
    dataset = ahead.dataset_of(ahead.noise().repeat(2, axis=1), known="b")
    assert max(sweep(config_of(skip=True, scale="standard"), dataset).losses[:10]) < 1e-6


def test_a_number_is_left_alone() -> None:
    config = config_of(learning_rate=0.01)

    assert settle(config, DATASET) == (config, None)


def test_a_fit_refuses_a_rate_that_is_still_to_be_found() -> None:
    config = config_of(learning_rate="auto")

    with pytest.raises(ConfigError, match="auto is not a rate yet"):
        fit(Forecaster(build_model(config, DATASET)), config, DATASET.train, None)


@pytest.mark.parametrize("rate", ["0", "-1", "fast", "nan", "inf"])
def test_a_rate_that_is_none_is_told(rate: str) -> None:
    with pytest.raises(ConfigError, match=r"--learning-rate: expected a number above 0, or auto, for example 0\.003"):
        read_config(None, {"series": "lesson", "learning_rate": rate})


def test_train_with_auto_records_the_number_and_the_reason(tmp_path: Path) -> None:
    text = io.StringIO()
    config = config_of(learning_rate="auto", models_dir=tmp_path, epochs=1)

    outcome = train(config, DATASET, Console(file=text, width=300))

    manifest = Manifest.read(outcome.version_dir)
    assert isinstance(outcome.sweep, Sweep)
    assert manifest.config["learning_rate"] == outcome.sweep.chosen
    notice = f"--learning-rate auto is {outcome.sweep.chosen:g}: {outcome.sweep.reason}"
    assert notice in manifest.data.notices
    assert f"note: {notice}" in text.getvalue()
    assert (outcome.version_dir / "report/sweep.png").exists()


def test_incidents_are_recorded_in_the_version(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(-0.9, 0.03, (90, 1)).clip(-0.98, -0.8)
    config = config_of(loss="msle", scale="standard", learning_rate=1.0, epochs=4, models_dir=tmp_path)

    outcome = train(config, dataset_of(part_of(rows)), Console(file=io.StringIO()))

    assert outcome.history.incidents
    data = Manifest.read(outcome.version_dir).data
    assert "--learning-rate 1 moves every weight" in data.findings[0].sentence
    assert data.findings[1] == outcome.history.incidents[0].finding
    assert [finding.kind for finding in data.findings[:2]] == ["high_rate", "incident"]
    assert data.notices == tuple(finding.sentence for finding in data.findings)


def test_the_plot_is_a_png_with_a_logarithmic_axis_and_the_choice() -> None:
    found = judge(RATES, valley(1e-3, 0.3))
    drawing = plots.sweep(found)
    [axes] = drawing.axes
    legend = axes.get_legend()
    image = io.BytesIO()
    drawing.savefig(image, format="png")

    assert axes.get_xscale() == "log"
    assert legend is not None
    assert f"chosen: {found.chosen:g}" in [text.get_text() for text in legend.get_texts()]
    assert image.getvalue().startswith(PNG)


def test_find_lr_prints_plots_writes_and_publishes_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('series = "lesson" # mine\nunits = [4]\n')

    options = ("--config", "mine.toml", "--plot", "sweep.png", "--write", "mine.toml", "--no-xla", "--window", 6)
    result = run_command("find-lr", *options, cwd=tmp_path)

    assert result.code == 0, result.stderr
    last = result.stdout.splitlines()[-1]
    written = tomllib.loads((tmp_path / "mine.toml").read_text())
    assert last.startswith(f"--learning-rate {written['learning_rate']:g}: the smoothed loss falls fastest at ")
    assert "1.0e-06" in result.stdout
    assert (tmp_path / "sweep.png").read_bytes().startswith(PNG)
    assert {path.name for path in tmp_path.iterdir()} == {"mine.toml", "sweep.png"}


def test_find_lr_tells_a_mistake_before_the_work(tmp_path: Path) -> None:
    for options, fact in (
        (("--write", "no/mine.toml"), "there is no folder no"),
        (("--plot", "no/sweep.png"), "there is no folder no"),
        (("--loss", "msle"), "--loss msle does not go with column 'lesson'"),
    ):
        result = run_command("find-lr", "--series", "lesson", *options, cwd=tmp_path)

        assert result.code == 2
        assert fact in result.stderr
        assert result.stderr.count("\n") == 1
        assert "Learning-rate sweep" not in result.stdout


def test_help_shows_what_a_rate_looks_like(tmp_path: Path) -> None:
    text = run_command("find-lr", "--help", cwd=tmp_path).stdout

    for fact in ("--learning-rate", "NUMBER|auto", "FILE.png", "FILE.toml"):
        assert fact in text
