"""TrainingConfig: all settings of a training run.

The same fields are the options of `python -m training train`, the keys of a `--config` file, and the record that a
version's manifest keeps. The docstrings of the fields are the help texts.
"""

import difflib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

import tomlkit
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from tomlkit.exceptions import TOMLKitError

from app.version.manifest import NAME_PATTERN
from training.errors import ConfigError
from training.writing import write_whole

Cell = Literal["lstm", "gru", "rnn"]
Activation = Literal["tanh", "relu"]
Export = Literal["model", "best"]
Loss = Literal["huber", "mae", "mse", "mape", "msle"]
Missing = Literal["error", "forward", "interpolate", "drop"]
Output = Literal["last", "sequence"]
Scale = Literal["standard", "window", "last", "none"]
Series = Literal["co2", "sunspots", "lesson", "exercise", "multiplication"]


def _split_commas(value: object) -> object:
    """Splits a list that is written as one string: `open,close`."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _split_units(value: object) -> object:
    """Splits units of measure that are written as one string: `temp=°C,load=MW`."""
    if isinstance(value, str):
        pairs = [part.partition("=") for part in value.split(",")]
        return {name.strip(): unit.strip() for name, _, unit in pairs}
    return value


Names = Annotated[tuple[str, ...], BeforeValidator(_split_commas)]
Numbers = Annotated[tuple[Annotated[float, Field(ge=0)], ...], BeforeValidator(_split_commas)]
Units = Annotated[int, Field(ge=1, le=2**14)]
Lags = (
    Literal["auto", "none"]
    | Annotated[tuple[Annotated[int, Field(ge=1, le=2**14)], ...], BeforeValidator(_split_commas), Field(min_length=1)]
)
Calendar = Literal["auto", "none"] | Annotated[tuple[str, ...], BeforeValidator(_split_commas), Field(min_length=1)]
Layers = Annotated[tuple[Units, ...], BeforeValidator(_split_commas), Field(min_length=1)]
Rate = Annotated[float, Field(gt=0)] | Literal["auto"]
Budget = Annotated[float, Field(gt=0)] | Literal["none"]
Measures = Annotated[dict[str, Annotated[str, Field(min_length=1)]], BeforeValidator(_split_units)]


ALONE, BESIDE_A_PATH = (64, 64), (32,)
"""Cells of a network, and of a network beside a linear path: docs/decisions/0021-scale-size-and-time-of-a-fit.md."""


class TrainingConfig(BaseModel):
    """What to train on, how, and where the version goes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    # Data
    data: Path | None = None
    """CSV or Parquet file with a header line and a row for each time."""
    series: Series | None = None
    """Built-in series, instead of --data."""
    target: Names = ()
    """Column or columns to forecast."""
    features: Names = ()
    """Columns that the model sees, in this order. Without it, the targets."""
    known: Names = ()
    """Columns whose values of the horizon are known ahead: whoever asks for a forecast brings them."""
    time: str | None = None
    """Column of dates, date-times or whole numbers that orders the rows."""
    missing: Missing = "error"
    """What to do about missing values: stop, carry the last value forward, draw a line between two, drop the row."""
    measured_in: Measures = Field(default={})
    """Units of measure for the contract: COL=UNIT[,COL=UNIT]."""

    # Windows
    window: int = Field(default=30, ge=1)
    """Steps of a window: rows that the model sees."""
    horizon: int = Field(default=1, ge=1)
    """Rows that the model forecasts, directly after the window."""
    stride: int = Field(default=1, ge=1)
    """Rows between the starts of two training windows; validation and test judge every row."""
    period: int | None = Field(default=None, ge=2)
    """Rows in a season, for the seasonal baseline. Without it, found in the training part."""
    lags: Lags = "auto"
    """Seasons before a forecast row whose targets the linear path reads: auto tries those found, none reads none."""
    calendar: Calendar = "auto"
    """Cycles whose phase the model is given: hour, weekday, yearday, month, or none; auto takes all that the rows tell
    if validation wants them. With a calendar, a request says for when it wants a forecast."""
    split: Numbers = (70, 15, 15)
    """Train, validation and test shares, or the two row numbers (from 0) where validation and test start."""

    # Model
    cell: Cell = "lstm"
    """Recurrent cell."""
    units: Layers | Literal["auto"] = "auto"
    """Cells in each layer, first to last. auto is 32 beside a linear path, which leaves less to learn, and 64,64
    without."""
    bidirectional: bool = False
    """Read the window in both directions."""
    activation: Activation = "tanh"
    """Function of a cell's candidate values; relu has no bound and may explode."""
    forget_bias: float = Field(default=1.0, ge=-100, le=100)
    """First value of the bias of an LSTM's forget gate; a higher value remembers longer."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the values between two layers that training switches off at random."""
    noise: float = Field(default=0.0, ge=0, le=1)
    """Standard deviation of the noise that training adds to the scaled inputs."""
    skip: bool | None = None
    """Add a linear path beside the cells that starts as the ridge autoregression. Without the option both networks are
    fitted, and the validation part chooses."""
    output: Output = "last"
    """Learn from the forecast after the last step only, or from a forecast after every step."""
    scale: Scale | Literal["auto"] = "auto"
    """What the graph subtracts from inputs: the training mean, the window's mean, its last row, or nothing. auto tries
    the first three for a linear path, and takes the last row for cells alone."""

    # Fitting
    loss: Loss = "huber"
    """Loss on the scaled values; mape and msle are taken of the raw values."""
    learning_rate: Rate = 3e-3
    """Highest rate of Adam, which falls along a cosine; auto finds it by a sweep."""
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of the whole gradient."""
    batch_size: int = Field(default=32, ge=1)
    """Windows in one training step."""
    epochs: int = Field(default=50, ge=1, le=1_000_000)
    """Most passes over the training windows."""
    epoch_steps: int | None = Field(default=None, ge=1)
    """Most training steps in an epoch, on windows drawn anew. Without it, an epoch is a pass over all windows."""
    budget: Budget = 120.0
    """Seconds that the whole run may take: where the epochs would take longer, there are fewer; none sets no limit."""
    patience: int = Field(default=10, ge=1)
    """Passes without a better validation loss after which training stops; the best weights are kept."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of all random numbers: the same seed gives the same weights."""
    xla: bool = True
    """Compile the training step with XLA."""
    tensorboard: Path | None = None
    """Folder for TensorBoard's logs: each run gets a folder with the losses and norms of every epoch."""

    # Version
    name: Annotated[str, Field(pattern=NAME_PATTERN)] = "default"
    """Name of the model."""
    export: Export = "model"
    """What to publish: `model` is the network, `best` the best baseline unless the network has the lower error."""
    models_dir: Path = Path("models")
    """Folder that holds the models; the version goes to MODELS_DIR/NAME/1, 2, 3 ..."""

    @property
    def chosen_lags(self) -> tuple[int, ...]:
        """The lags that are read; none as long as nothing has settled `auto`."""
        return self.lags if isinstance(self.lags, tuple) else ()

    @property
    def layers(self) -> tuple[int, ...]:
        """Cells in each layer, first to last; more layers than one where values between two of them are dropped."""
        if self.units != "auto":
            return self.units
        return BESIDE_A_PATH if self.skip and not self.dropout else ALONE

    @property
    def chosen_scale(self) -> Scale:
        """The scale; `last` as long as nothing has settled `auto`."""
        return "last" if self.scale == "auto" else self.scale

    @property
    def budget_seconds(self) -> float:
        """The budget as a number, infinite where there is no limit."""
        return math.inf if self.budget == "none" else self.budget

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.data is None) == (self.series is None):
            raise ValueError("give either --data FILE or --series NAME")
        if self.data is not None and not self.target:
            raise ValueError("--data needs --target COL, the column to forecast")
        return self

    @model_validator(mode="after")
    def _dropout_between_layers(self) -> Self:
        if self.dropout and len(self.layers) == 1:
            raise ValueError("--dropout works between two layers; use --units with more than one, such as 64,64")
        return self

    @model_validator(mode="after")
    def _one_linear_path(self) -> Self:
        if self.skip and self.output == "sequence":
            raise ValueError(
                "--skip reads the whole window for one forecast, --output sequence wants one after every step; "
                "use --output last"
            )
        return self

    @model_validator(mode="after")
    def _lags_for_a_linear_path(self) -> Self:
        if isinstance(self.lags, tuple) and (self.skip is False or self.output == "sequence"):
            raise ValueError(
                "--lags are read by the linear path alone, which --no-skip and --output sequence leave out; "
                "use --lags none"
            )
        return self

    @model_validator(mode="after")
    def _one_row_to_know_of(self) -> Self:
        if self.output == "sequence" and (self.known or self.calendar not in {"auto", "none"}):
            raise ValueError(
                "--known and --calendar tell of the rows after the window, --output sequence forecasts after every "
                "step; use --output last"
            )
        return self

    @model_validator(mode="after")
    def _targets_are_not_known(self) -> Self:
        known = next((name for name in self.known if name in self.target), None)
        if known is not None:
            raise ValueError(f"--known names '{known}', which is a target: what is forecast cannot be known ahead")
        return self

    @model_validator(mode="after")
    def _no_look_ahead(self) -> Self:
        if self.bidirectional and self.output == "sequence":
            raise ValueError(
                "--bidirectional with --output sequence would show every step the rows it should forecast; "
                "use --output last"
            )
        return self


NAME_IN_WORDS = (
    "letters, digits, points, dashes and underscores, at most 64, the first a letter or digit, for example default"
)
_EXPECTED = {
    "lags": "expected auto, none, or whole numbers of rows from 1 to 16384, for example 24,168",
    "units": "expected auto, or whole numbers from 1 to 16384, one per layer, for example 64,64",
    "name": f"expected {NAME_IN_WORDS}",
    "learning_rate": "expected a number above 0, or auto, for example 0.003",
    "budget": "expected a number of seconds above 0, or none, for example 120",
    "measured_in": "expected a unit for each column named, for example temp=°C,load=MW",
}
"""What a good value looks like, for fields where pydantic's words are about patterns and types."""


def read_config(file: Path | None, flags: Mapping[str, object]) -> TrainingConfig:
    """Puts a configuration together: an option beats the file, the file beats the defaults.

    Args:
        file: TOML file with any of the fields, or None.
        flags: Fields that are given on the command line.

    Raises:
        ConfigError: The file cannot be read, or a field is unknown or has a value that cannot be used.
    """
    settings = read_toml(file).unwrap() if file else {}
    if {"data", "series"} & flags.keys():  # the one on the command line takes the place of the one in the file
        settings = {name: value for name, value in settings.items() if name not in {"data", "series"}}
    settings |= flags
    try:
        return TrainingConfig.model_validate(settings)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        message = problem["msg"].removeprefix("Value error, ")
        if not problem["loc"]:
            raise ConfigError(f"{message}.") from None
        field = str(problem["loc"][0])
        origin = f"--{field.replace('_', '-')}" if field in flags else f"{file}: {field}"
        raise ConfigError(f"{origin}: {_explain(field, problem['type'], message)}.") from None


def read_toml(file: Path) -> tomlkit.TOMLDocument:
    """Reads a TOML file with its comments and its layout.

    Raises:
        ConfigError: The file cannot be read, or is not TOML.
    """
    try:
        return tomlkit.parse(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}).") from None
    except (TOMLKitError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: is not TOML: {error}.") from None


def write_setting(file: Path, field: str, value: float) -> None:
    """Writes one field into a `--config` file and leaves the rest as it is; makes the file where there is none.

    Raises:
        ConfigError: The file cannot be read or written, or is not TOML.
    """
    settings = read_toml(file) if file.exists() else tomlkit.document()
    settings[field] = value
    write_whole(file, tomlkit.dumps(settings))


def _explain(field: str, kind: str, message: str) -> str:
    """Words what is wrong with a field: gives the nearest name of an unknown field, and a good value for a bad one."""
    if kind == "extra_forbidden":
        nearest = difflib.get_close_matches(field, TrainingConfig.model_fields, n=1, cutoff=0.0)[0]
        return f"there is no such field; the nearest is {nearest}"
    if field in _EXPECTED:
        return _EXPECTED[field]
    default = TrainingConfig.model_fields[field].default
    return f"{message}; for example {shown(default)}" if default not in (None, (), {}) else message


def shown(value: object) -> str:
    """Writes the value of a field as on the command line."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return ",".join(f"{part:g}" if isinstance(part, float) else str(part) for part in _parts(value))


def _parts(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else (value,)
