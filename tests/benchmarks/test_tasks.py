import csv
from pathlib import Path

import numpy as np
import pytest

from benchmarks.forecasting.tasks import BUILT_IN, Rows, Task, TaskError, read_tasks
from training.config import TrainingConfig
from training.data.prepare import prepare
from training.errors import TrainingError

LOAD = 'data = "load.csv"\ntime = "day"\ntarget = "load"\nhorizon = 2\nwindow = 4\n'


def test_tasks_are_read_with_their_files_beside_them_or_where_the_file_says(tmp_path: Path) -> None:
    file = tmp_path / "tasks.toml"
    file.write_text(f"[[task]]\n{LOAD}")
    assert [task.data for task in read_tasks(file)] == [tmp_path / "load.csv"]
    file.write_text(f'folder = "data"\n[[task]]\n{LOAD}')
    assert [task.data for task in read_tasks(file)] == [tmp_path / "data" / "load.csv"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"[[task]]\n{LOAD}horizont = 3\n", "task.0.horizont"),
        ('[[task]]\ndata = "load.csv"\nhorizon = 2\nwindow = 4\n', "needs time and target"),
        ("[[task]]\nhorizon = 2\nwindow = 4\n", "either data or series"),
        ("", "task: "),
        ("task = [", "cannot be read"),
    ],
)
def test_a_file_of_tasks_that_cannot_be_used_is_refused_with_the_place(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "tasks.toml"
    file.write_text(content)
    with pytest.raises(TaskError, match=said):
        read_tasks(file)


@pytest.mark.parametrize("task", BUILT_IN, ids=lambda task: task.name)
def test_rows_and_origins_are_those_of_training(task: Task) -> None:
    rows = Rows.of(task)
    config = TrainingConfig(series=task.series, horizon=task.horizon, missing=task.missing)
    dataset = prepare(config)
    assert (rows.validation, rows.test) == (
        dataset.provenance.training_rows,
        len(rows.values) - (dataset.provenance.test_rows or 0),
    )
    np.testing.assert_array_equal(rows.following(rows.origins), dataset.test.targets[:, :, 0])
    np.testing.assert_array_equal(rows.windows(rows.origins, config.window), dataset.test.windows[:, :, 0])


def test_chosen_origins_are_spread_over_the_whole_test_part() -> None:
    rows = Rows.of(BUILT_IN[2])
    chosen = rows.choose(5)
    assert len(chosen) == 5
    assert (chosen[0], chosen[-1]) == (0, len(rows.origins) - 1)
    assert np.ptp(np.diff(chosen)) <= 1
    assert len(rows.choose(10**6)) == len(rows.origins)


def test_written_rows_are_read_back_exactly(tmp_path: Path) -> None:
    rows = Rows.of(BUILT_IN[0])
    rows.write(tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open() as file:
        head, *lines = csv.reader(file)
    assert head == ["time", "value"]
    assert lines[0][0].startswith("1958-03-29")
    np.testing.assert_array_equal([float(line[1]) for line in lines], rows.values)


def test_too_few_rows_for_a_season_are_told_before_anything_is_fitted() -> None:
    with pytest.raises(TrainingError, match="too few rows"):
        Rows.of(Task(series="sunspots", horizon=3, window=11, seasons=(300,)))
