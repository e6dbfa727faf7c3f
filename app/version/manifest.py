"""What a model version says about itself: its contract, where it comes from, how well it did, and its checksums.

`training` writes a `Manifest` as the last file of a version. The service trusts a version only if its files match the
manifest. Nothing here needs TensorFlow or FastAPI. One file because a manifest is one record.
"""

import hashlib
import stat
from collections.abc import Collection, Iterator
from datetime import datetime
from functools import cached_property
from math import prod
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from app.errors import ArtifactError
from app.version.files import contents, open_file, read_file, readable

MANIFEST_FILE = "manifest.json"
TWIN_FILE = "assets.extra/model.onnx"
"""The fused twin: the same model as a graph for ONNX Runtime. Not every version has one."""
MAX_TWIN_BYTES = 2**29
"""Most bytes of a twin, which is read whole: about four layers of 1024 cells that read both ways, twice over."""
MAX_MANIFEST_BYTES = 2**23
"""Most bytes of a manifest: the scores of 4000 targets."""
MAX_MANIFEST_PARTS = 2**18
"""Most commas, lists and objects in a manifest: again the scores of 4000 targets.

While they are parsed, nothing else of the service runs. So many take a tenth of a second.
"""
MADE_ELSEWHERE = "unknown: made elsewhere"
"""Source of the data of a foreign model: one that `training` did not make."""
MAX_NUMBERS = 2**21
"""Most numbers of a window, and of a forecast: in JSON they fill the largest body that the service takes by default."""
MAX_COLUMNS = 2**16
"""Most features, and most targets. Each has a name, and a place in the metadata."""
MAX_PHASES = 64
"""Most phases of the calendar. A year of hours has a handful."""
LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""Model names: safe as a folder, in a URL, in a header and as a metric label."""
VERSION_PATTERN = r"^[1-9][0-9]{0,17}$"
"""Version folders: whole numbers from 1, without leading zeros, that fit 64 bits."""


class Record(BaseModel):
    """Base of everything in a manifest: immutable, and open to fields that a later release adds."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="null", use_attribute_docstrings=True)


class Feature(Record):
    """One input column of the window."""

    name: str
    """Name of the column."""
    unit: str | None = None
    """Its unit of measure, if training was told."""
    minimum: float | None = None
    """Smallest value in the training part, in the column's unit; None for a foreign model."""
    maximum: float | None = None
    """Largest value in the training part, in the column's unit; None for a foreign model."""

    @model_validator(mode="after")
    def _range_fits_float32(self) -> Self:
        """Checks that windows as far again below and above the range, which prove a version, are finite."""
        low, high = self.minimum or 0.0, self.maximum or 0.0
        if not max(abs(2 * low - high), abs(2 * high - low)) <= LARGEST_FLOAT32:
            raise ValueError(f"{self.name} ranges from {low:g} to {high:g}, and float32 cannot hold as much again")
        return self


class Target(Record):
    """One output column of the forecast."""

    name: str
    """Name of the column."""
    unit: str | None = None
    """Its unit of measure, if training was told."""
    scale: float = Field(gt=0, allow_inf_nan=False)
    """Standard deviation of the target in the training part, in its unit: the yardstick of numeric agreement.

    For a foreign model, the root mean square of its golden forecasts.
    """


FrequencyUnit = Literal[
    "microsecond",
    "millisecond",
    "second",
    "minute",
    "hour",
    "day",
    "business day",
    "week",
    "month",
    "quarter",
    "year",
    "step",
]
"""Units of the distance between two rows; `step` where rows carry whole numbers instead of times."""


class Frequency(Record):
    """Distance between two rows as a number of units, such as 3 hours."""

    count: int = Field(ge=1)
    """How many of the unit."""
    unit: FrequencyUnit
    """What is counted; `step` where rows carry whole numbers in place of times."""

    @property
    def words(self) -> str:
        """The distance in words: `1 week`, `3 hours`."""
        return f"{self.count} {self.unit}" if self.count == 1 else f"{self.count} {self.unit}s"


class Phase(Record):
    """A cycle of the calendar whose phase the network is given. The cycle lasts `rows / per` rows.

    The graph computes the phase from the number of a row. The record is for people to read.
    """

    name: str
    """Name of the cycle, for example `day`."""
    rows: int = Field(ge=1)
    """Rows of `per` cycles: 24 where a row is an hour, 1461 where a row is a day and the cycle is a year."""
    per: int = Field(default=1, ge=1)
    """How many cycles these rows are: 1461 days are 4 years."""


class Contract(Record):
    """The shape and meaning of a window and of a forecast.

    Windows are (batch, steps, features), forecasts (batch, horizon, targets), both float32 in raw units.

    A model may take more for each window: `future` (batch, horizon, known), float32 in raw units, and `time` (batch,),
    int64, the number of the first row of the forecast, counted from 1970 in `spacing`.
    """

    steps: int = Field(ge=1, le=MAX_NUMBERS)
    """Rows of a window."""
    features: Annotated[tuple[Feature, ...], Field(min_length=1, max_length=MAX_COLUMNS, fail_fast=True)]
    """Columns of a window, in the order of its last axis."""
    horizon: int = Field(ge=1, le=MAX_NUMBERS)
    """Rows of a forecast, directly after the window."""
    targets: Annotated[tuple[Target, ...], Field(min_length=1, max_length=MAX_COLUMNS, fail_fast=True)]
    """Columns of a forecast, in the order of its last axis."""
    frequency: str | None = None
    """Distance between two rows in words, for example `1 week`; None where rows have no regular distance."""
    spacing: Frequency | None = Field(default=None, exclude_if=lambda spacing: spacing is None)
    """The same distance as count and unit; None also in versions that are older than this field."""
    known: Annotated[tuple[str, ...], Field(max_length=MAX_COLUMNS, exclude_if=lambda names: not names)] = ()
    """Features whose values of the horizon the caller brings, in the order of the last axis of `future`."""
    calendar: Annotated[tuple[Phase, ...], Field(max_length=MAX_PHASES, exclude_if=lambda phases: not phases)] = ()
    """Cycles whose phases the network computes from `time`; where there is none, the model takes no `time`."""

    @model_validator(mode="after")
    def _fits_a_request(self) -> Self:
        shapes = {"window": self.window_shape, "forecast": self.forecast_shape, "future": self.future_shape}
        for what, shape in shapes.items():
            if prod(shape) > MAX_NUMBERS:
                raise ValueError(f"a {what} has {shape[0]} x {shape[1]} numbers, but at most {MAX_NUMBERS} are served")
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        for names in (self.feature_names, self.target_names):
            if len({*names}) < len(names):
                raise ValueError("two features or two targets have the same name")
        return self

    @model_validator(mode="after")
    def _known_are_features(self) -> Self:
        if not {*self.known} <= {*self.feature_names} or len({*self.known}) < len(self.known):
            raise ValueError("known names a column twice, or a column that is no feature")
        return self

    @model_validator(mode="after")
    def _calendar_has_a_grid(self) -> Self:
        if self.calendar and self.spacing is None:
            raise ValueError("a calendar needs the spacing, whose rows it counts")
        return self

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features, in the order of the window's last axis."""
        return tuple(feature.name for feature in self.features)

    @cached_property
    def target_names(self) -> tuple[str, ...]:
        """Names of the targets, in the order of the forecast's last axis."""
        return tuple(target.name for target in self.targets)

    @property
    def target_scales(self) -> tuple[float, ...]:
        """Scales of the targets, in the order of the forecast's last axis."""
        return tuple(target.scale for target in self.targets)

    @property
    def window_shape(self) -> tuple[int, int]:
        """(steps, features)."""
        return self.steps, len(self.features)

    @property
    def forecast_shape(self) -> tuple[int, int]:
        """(horizon, targets)."""
        return self.horizon, len(self.targets)

    @property
    def future_shape(self) -> tuple[int, int]:
        """(horizon, known)."""
        return self.horizon, len(self.known)

    @property
    def takes_windows_alone(self) -> bool:
        """Whether the model takes neither `future` nor `time`."""
        return not self.known and not self.calendar


class Finding(Record):
    """What training found in the data, in the settings or in a fit, for the user to know."""

    kind: str
    """What it is, in a word or two for programs, for example `constant_column` or `extreme_value`."""
    sentence: str
    """What was found where, and what was done or can be done about it."""
    column: str | None = Field(default=None, exclude_if=lambda column: column is None)
    """The column that it is about; None where it is about none or several."""


class DataFingerprint(Record):
    """Which table the version was trained on. Of a foreign model only `source` is set, to `MADE_ELSEWHERE`."""

    source: str
    """File name, or the name of a built-in series."""
    sha256: str | None = None
    """Checksum of the numbers of the ordered, cleaned table as little-endian float64, row by row."""
    rows: int | None = None
    """Rows of the cleaned table."""
    columns: tuple[str, ...] = ()
    """Columns that were used."""
    first_time: str | None = None
    """Time of the first row, where a column of times was named."""
    last_time: str | None = None
    """Time of the last row."""
    training_rows: int | None = None
    """Rows that the weights were fitted to."""
    validation_rows: int | None = None
    """Rows that chose the weights to keep."""
    test_rows: int | None = None
    """Rows that only the scores were taken on."""
    notices: tuple[str, ...] = ()
    """Sentences of the findings; versions that are older than `findings` have nothing else."""
    findings: tuple[Finding, ...] = Field(default=(), exclude_if=lambda findings: not findings)
    """What training found: gaps, missing values, rows out of order, risky settings, losses that were not finite."""


class Score(Record):
    """Errors of a forecaster on the test part, over all steps of the horizon."""

    forecaster: str
    """`model`, or the name of a baseline."""
    target: str | None = Field(default=None, exclude_if=lambda target: target is None)
    """Name of the target; None where there is only one."""
    mae: float
    """Mean absolute error, in the target's unit."""
    rmse: float
    """Root mean square error, in the target's unit."""
    mase: float | None = Field(default=None, exclude_if=lambda mase: mase is None)
    """Mean absolute scaled error: 1 is as good as the naive forecast, or the seasonal one, in the training part."""
    smape: float | None = Field(default=None, exclude_if=lambda smape: smape is None)
    """Symmetric mean absolute percentage error, from 0 to 200."""
    mae_by_step: tuple[float, ...] = Field(default=(), exclude_if=lambda errors: not errors)
    """Mean absolute error of each step of the horizon."""
    rmse_by_step: tuple[float, ...] = Field(default=(), exclude_if=lambda errors: not errors)
    """Root mean square error of each step of the horizon."""


class Manifest(Record):
    """Everything that a version says about itself."""

    format: Literal[1] = 1
    """Release of this format."""
    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    """Name of the model."""
    created: datetime
    """When the version was exported."""
    contract: Contract
    """What goes in and what comes out."""
    config: dict[str, JsonValue]
    """The configuration that trained the version, as `--config` reads it."""
    data: DataFingerprint
    """What the version was trained on."""
    versions: dict[str, str]
    """Releases of Python, TensorFlow, Keras, numpy and windowcast that made the version."""
    scores: Annotated[tuple[Score, ...], Field(fail_fast=True)]
    """Scores of the published forecaster first, then of the others: baselines, or a network that was not published."""
    verdict: str
    """One sentence: how the network compares with the best baseline, and what was published in its place, if it was."""
    files: dict[str, str]
    """sha256 of every other file, by its path relative to the version's folder."""
    no_twin: str | None = Field(default=None, exclude_if=lambda reason: reason is None)
    """Why the version has no fused twin; None where it has one, or where nobody tried to make one."""

    @classmethod
    def foreign(
        cls,
        name: str,
        created: datetime,
        contract: Contract,
        *,
        versions: dict[str, str] | None = None,
        files: dict[str, str] | None = None,
    ) -> "Manifest":
        """Makes the manifest of a foreign model: nothing is known about its data and its worth.

        Args:
            name: Name of the model.
            created: When the SavedModel, or the version made from it, was written.
            contract: Read off the signature.
            versions: Releases that made the version; nothing where nobody made one.
            files: Checksums of its files; nothing where they are not recorded.
        """
        return cls(
            name=name,
            created=created,
            contract=contract,
            config={},
            data=DataFingerprint(source=MADE_ELSEWHERE),
            versions=versions or {},
            scores=(),
            verdict=f"{MADE_ELSEWHERE.capitalize()}.",
            files=files or {},
        )

    @property
    def has_twin(self) -> bool:
        """Whether a fused twin belongs to the version."""
        return TWIN_FILE in self.files

    @classmethod
    def read(cls, version_dir: Path) -> "Manifest":
        """Reads the manifest of a version.

        Raises:
            ArtifactError: There is no manifest, or the file is not a manifest.
        """
        path = version_dir / MANIFEST_FILE
        with readable(path, "the manifest is missing, so the export was not finished"):
            content = read_file(path, MAX_MANIFEST_BYTES)
        if sum(map(content.count, (b",", b"[", b"{"))) > MAX_MANIFEST_PARTS:
            raise ArtifactError(path, f"is not a manifest: it has more than {MAX_MANIFEST_PARTS} parts")
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "the file"
            problem = first["msg"].removeprefix("Value error, ")
            raise ArtifactError(path, f"is not a manifest: {place}: {problem}") from None

    def check_files(self, version_dir: Path, but: Collection[str] = ()) -> None:
        """Checks that every file of the version has its recorded sha256.

        Args:
            version_dir: Folder of the version.
            but: Files that the caller checks itself.

        Raises:
            ArtifactError: A file is missing, unreadable, changed or not listed; names the first such file. Or a listed
                file is outside the folder.
        """
        for name in self.files:
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise ArtifactError(version_dir / MANIFEST_FILE, "lists a file outside the version's folder")
        unlisted = [path for path in _files(version_dir) if path.relative_to(version_dir).as_posix() not in self.files]
        if unlisted:
            raise ArtifactError(unlisted[0], f"is not listed in {MANIFEST_FILE}", "remove it, or export again")
        for name in self.files:
            if name not in but:
                with readable(version_dir / name):
                    sha256 = file_sha256(version_dir / name)
                self._check_digest(version_dir, name, sha256)

    def read_file(self, version_dir: Path, name: str, max_bytes: int) -> bytes:
        """Reads one file of the version, and checks what was read against its recorded sha256.

        Args:
            version_dir: The version's folder.
            name: Path of the file, relative to the folder.
            max_bytes: Most bytes that are read.

        Raises:
            ArtifactError: The file is missing, unreadable, changed or too large.
        """
        with readable(version_dir / name):
            content = read_file(version_dir / name, max_bytes)
        self._check_digest(version_dir, name, hashlib.sha256(content).hexdigest())
        return content

    def _check_digest(self, version_dir: Path, name: str, sha256: str) -> None:
        if sha256 != self.files[name]:
            problem = f"has changed since the export (its sha256 is not in {MANIFEST_FILE})"
            raise ArtifactError(version_dir / name, problem)


def file_sha256(path: Path) -> str:
    """Returns the sha256 of a file as 64 hexadecimal digits."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_files(version_dir: Path) -> dict[str, str]:
    """Returns the sha256 of every file of a version except its manifest, by relative path in sorted order."""
    return {path.relative_to(version_dir).as_posix(): file_sha256(path) for path in _files(version_dir)}


def _files(version_dir: Path) -> Iterator[Path]:
    """Lists every file except the manifest and hidden files, which file managers leave behind and nothing loads."""
    return (
        path
        for path, status in contents(version_dir)
        if not (stat.S_ISDIR(status.st_mode) or path.name == MANIFEST_FILE or path.name.startswith("."))
    )
