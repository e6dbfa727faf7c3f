"""What is forecast: series with their targets and horizons, and the rows and origins on which everybody is judged."""

import csv
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from training.config import Missing, Series, TrainingConfig
from training.data import series
from training.data.files import read_table
from training.data.table import Table, fill, settle
from training.data.windows import check_rows, split_rows

Array: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Origins: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
Whole = Annotated[int, Field(ge=1)]


class TaskError(Exception):
    """The file of tasks cannot be used."""


class Task(BaseModel):
    """A series to forecast. In a file of tasks, a table `[[task]]` with these fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    data: Path | None = None
    """CSV or Parquet file, relative to the folder of data."""
    series: Series | None = None
    """A built-in series, in place of a file."""
    time: str | None = None
    """Column of times; of a file only."""
    target: str | None = None
    """Column to forecast; of a file only."""
    horizon: Whole
    """Rows to forecast."""
    window: Whole
    """Rows before a forecast that the other libraries read. Windowcast chooses for itself, as for any user."""
    seasons: tuple[Whole, ...] = ()
    """Rows in each season, shortest first. The first is the season of seasonal naive."""
    missing: Missing = "error"
    """What is done about missing values, as in `python -m training train --missing`."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.data is None) == (self.series is None):
            raise ValueError("a task needs either data or series")
        if self.data is not None and not (self.time and self.target):
            raise ValueError("a task with data needs time and target")
        return self

    @property
    def name(self) -> str:
        """Name in tables: the file's name, or the series'."""
        return self.data.stem if self.data else str(self.series)

    @property
    def options(self) -> list[str]:
        """Returns what a user types after `python -m training train`: file, time, target and horizon."""
        given = {"data": self.data, "series": self.series, "time": self.time, "target": self.target}
        options = [f"--{name}={value}" for name, value in given.items() if value is not None]
        options.append(f"--horizon={self.horizon}")
        return options if self.missing == "error" else [*options, f"--missing={self.missing}"]


class _Tasks(BaseModel):
    """A file of tasks."""

    model_config = ConfigDict(extra="forbid")

    folder: Path = Path()
    task: Annotated[tuple[Task, ...], Field(min_length=1)]


BUILT_IN = (
    Task(series="co2", horizon=13, window=104, seasons=(52,), missing="interpolate"),
    Task(series="sunspots", horizon=3, window=33, seasons=(11,)),
    Task(series="lesson", horizon=7, window=30, seasons=(365,)),
    Task(series="exercise", horizon=7, window=30, seasons=(365,)),
)
"""Series that everybody has."""


def read_tasks(file: Path) -> tuple[Task, ...]:
    """Reads tasks from a TOML file.

    Args:
        file: The file, with a table `[[task]]` for each. `folder`, before the first, is where the files of data are;
            it is relative to the file, and the folder of the file unless it is given.

    Raises:
        TaskError: The file cannot be read, or a task is not as it should be.
    """
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
        tasks = _Tasks.model_validate(content)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TaskError(f"{file}: cannot be read: {error}") from None
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, problem["loc"]))
        raise TaskError(f"{file}: {place}: {problem['msg'].removeprefix('Value error, ')}") from None
    folder = file.parent / tasks.folder
    return tuple(task.model_copy(update={"data": folder / task.data}) if task.data else task for task in tasks.task)


@dataclass(frozen=True)
class Rows:
    """The rows of a task, clean and in time order, and how they are split.

    Attributes:
        task: The task.
        times: One for each row: ISO 8601, or a whole number.
        values: (rows,) of the target, as training sees them.
        validation: Row number, from 0, where validation starts.
        test: Row number where the test part starts.
    """

    task: Task
    times: tuple[str, ...]
    values: Array
    validation: int
    test: int

    @classmethod
    def of(cls, task: Task) -> "Rows":
        """Reads, orders, cleans and splits the rows as `python -m training train` does.

        Raises:
            TrainingError: The rows cannot be used, or there are too few for the window, the seasons and the horizon.
        """
        table = settle(_read(task), task.missing)
        edges = split_rows(TrainingConfig.model_fields["split"].default, table.rows)
        check_rows(edges, max(task.window, *task.seasons, 1), task.horizon)
        values = fill(table, task.missing, edges).values[:, 0].astype(np.float32).astype(np.float64)
        times = np.arange(table.rows) if table.times is None else table.times
        return cls(task, tuple(map(str, times)), values, edges[1], edges[2])

    @property
    def origins(self) -> Origins:
        """Row numbers of the first row of each forecast: every row of the test part that has a horizon of rows left."""
        return np.arange(self.test, len(self.values) - self.task.horizon + 1)

    def choose(self, most: int) -> Origins:
        """Returns the places of so many origins at most, evenly spaced, the first and the last among them."""
        count = len(self.origins)
        return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.int64))

    def following(self, origins: Origins) -> Array:
        """Returns what really followed: (origins, horizon)."""
        return np.asarray(self.values[origins[:, None] + np.arange(self.task.horizon)])

    def windows(self, origins: Origins, steps: int) -> Array:
        """Returns the rows before each origin: (origins, steps)."""
        return np.asarray(self.values[origins[:, None] - np.arange(steps, 0, -1)])

    def write(self, file: Path) -> None:
        """Writes the rows as CSV with the columns `time` and `value`."""
        with file.open("w", encoding="ascii", newline="") as output:
            writer = csv.writer(output)
            writer.writerow(["time", "value"])
            writer.writerows(zip(self.times, self.values.tolist(), strict=True))


def _read(task: Task) -> Table:
    if task.series:
        return series.load(task.series)
    assert task.data is not None
    assert task.target is not None
    return read_table(task.data, (task.target,), task.time)
