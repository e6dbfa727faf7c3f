"""A run over a built-in series, with our own training and with a peer that cannot answer."""

import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.forecasting.contenders import OURS, Desk, Effort, Own, Peer, contenders
from benchmarks.forecasting.tasks import Rows, Task
from benchmarks.forecasts import run
from benchmarks.processes import ContenderFailed
from tests.benchmarks.series import noise, rows_of

TINY = Own(OURS, ("--window=11", "--units=2", "--epochs=1", "--no-xla", "--no-skip"))
SUNSPOTS = Task(series="sunspots", horizon=3, window=11, seasons=(11,))

PROGRAM = """
import sys
import numpy as np
from benchmarks.peers.forecasting import answer
def last_value(order):
    _, values = order.rows()
    {first}
    return np.repeat(order.windows(values)[:, -1:], order.horizon, axis=1)
answer({{"LightGBM": last_value}})
"""
LAST_VALUE = PROGRAM.format(first="")
LIGHTGBM = Peer("LightGBM", "lightgbm", "LightGBM")


def environment_of(peers_dir: Path, library: str, program: str) -> None:
    """Makes an environment whose Python runs a program whatever module it is asked for, with the order as argument."""
    script = peers_dir / library / "program.py"
    python = peers_dir / library / "bin" / "python"
    python.parent.mkdir(parents=True)
    script.write_text(program)
    python.write_text(f'#!/bin/sh\nshift 2\necho asked >> "{script}.log"\nexec "{sys.executable}" "{script}" "$@"\n')
    python.chmod(0o755)


def test_a_run_tells_errors_verdict_and_bars_and_leaves_out_who_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment_of(tmp_path, "lightgbm", LAST_VALUE)
    environment_of(tmp_path, "darts", "raise SystemExit('no memory left')")
    everybody = (TINY, LIGHTGBM, Peer("Darts NLinear", "darts", "NLinear"))
    pages = list(run([Rows.of(SUNSPOTS)], everybody, Desk(tmp_path), Effort(origins=10)))
    series, overview, verdicts, bars = pages
    lines = {line.split(" | ")[0].removeprefix("| "): line.split(" | ")[1:] for line in series.splitlines()}
    assert lines["LightGBM"][:3] == lines["last value, cheap"][:3]
    assert float(lines[OURS][0]) > 0
    assert "NLinear" not in series
    assert "Darts NLinear is left out" in (said := capsys.readouterr().err)
    assert "no memory left" in said
    assert f"| {OURS} | 1 |" in overview
    assert "| sunspots | windowcast | " in verdicts
    assert "| series on which windowcast is better than Darts NLinear | - |" in bars
    assert "| verdicts that are not right | 0 | <= 0 | met |" in bars


def test_answers_that_are_kept_are_not_asked_for_again_unless_the_order_changes(tmp_path: Path) -> None:
    environment_of(tmp_path, "lightgbm", LAST_VALUE)
    desk, peer, rows = Desk(tmp_path, tmp_path / "kept"), LIGHTGBM, rows_of(noise(100))
    log = tmp_path / "lightgbm" / "program.py.log"

    def ask(effort: Effort) -> int:
        desk.ask(peer, rows, effort, tmp_path)
        return log.read_text().count("asked")

    assert [ask(Effort(origins=5)), ask(Effort(origins=5)), ask(Effort(origins=6))] == [1, 1, 2]


def test_peers_get_the_rows_and_origins_of_the_test_part(tmp_path: Path) -> None:
    environment_of(tmp_path, "lightgbm", LAST_VALUE)
    rows = Rows.of(SUNSPOTS)
    told = Desk(tmp_path).ask(LIGHTGBM, rows, Effort(origins=10**6), tmp_path)
    expected = np.repeat(rows.values[rows.origins - 1][:, None], SUNSPOTS.horizon, axis=1)
    np.testing.assert_allclose(told.values, expected, rtol=1e-6)
    assert told.cpu_seconds > 0


def test_who_has_no_environment_is_told_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    environment_of(tmp_path, "lightgbm", LAST_VALUE)
    assert [each.name for each in contenders(tmp_path, [], None)] == [OURS, "LightGBM"]
    assert "Darts NLinear is left out: environment darts is missing" in capsys.readouterr().err
    assert [each.name for each in contenders(tmp_path, ["LightGBM"], None)] == ["LightGBM"]


@pytest.mark.parametrize(
    "event",
    ['"socket.connect", None, ("192.0.2.1", 443)', '"socket.getaddrinfo", "telemetry.invalid", 443, 0, 0, 0'],
)
def test_a_peer_cannot_call_home(tmp_path: Path, event: str) -> None:
    # The audit event alone: if it is not refused, nothing is sent either.
    environment_of(tmp_path, "lightgbm", PROGRAM.format(first=f"sys.audit({event})"))
    with pytest.raises(ContenderFailed, match="talks to this machine only"):
        Desk(tmp_path).ask(LIGHTGBM, rows_of(noise(100)), Effort(origins=5), tmp_path)


@pytest.mark.parametrize(
    "event", ['"socket.connect", None, ("127.0.0.1", 443)', '"socket.connect", None, "/run/socket"']
)
def test_a_peer_may_talk_to_itself(tmp_path: Path, event: str) -> None:
    environment_of(tmp_path, "lightgbm", PROGRAM.format(first=f"sys.audit({event})"))
    told = Desk(tmp_path).ask(LIGHTGBM, rows_of(noise(100)), Effort(origins=5), tmp_path)
    assert told.values.shape == (5, 2)


def test_a_mistake_in_the_tasks_is_told_in_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "tasks.toml"
    file.write_text('[[task]]\ndata = "absent.csv"\ntime = "day"\ntarget = "load"\nhorizon = 1\nwindow = 2\n')
    ended = CliRunner().invoke(app, ["forecasts", "--tasks", str(file)])
    assert ended.exit_code == 2
    told = "".join(ended.stderr.replace("│", "").split())  # lines break anywhere in a long path
    assert "absent.csvcannotberead" in told
