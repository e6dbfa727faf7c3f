"""JSON bodies of the native routes: windows in, forecasts out, as pydantic models and as functions.

The usual bodies are read without a Python object per number: `app.payloads.quick`. All other bodies, right or wrong,
are read by the pydantic models, which say where a body is wrong.
"""

from functools import lru_cache, partial
from typing import Annotated, Any, Self, TypeVar

import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from app.arrays import Array
from app.errors import BatchTooLarge, InvalidRequest, LocatedError
from app.payloads.advice import is_one_window
from app.payloads.parsing import invalid_body, parse_json
from app.payloads.quick import reader_of
from app.payloads.sizes import (
    Largest,
    check_values,
    extent_of_lists,
    extent_of_names,
    extent_of_number,
    in_brackets,
    windows_text,
)
from app.payloads.windows import RecordsWindow, Tensor, Window, Windows
from app.payloads.writing import write_numbers
from app.version.manifest import Contract

Body = TypeVar("Body", bound=BaseModel)

MAX_FIELDS = 16
"""More fields than any body has."""

TAKES_WINDOW = "window or records; several windows go to POST /predict/batch"
TAKES_WINDOWS = "windows; a single window goes to POST /predict"


class WindowRequest(BaseModel):
    """One window, as lists of numbers or as records by feature name."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    window: Window | None = None
    """A row per step with a number per feature; plain numbers where the model has one feature."""
    records: RecordsWindow | None = None
    """A record per step, with the features by name in any order."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.window is None) == (self.records is None):
            raise ValueError("give either window or records")
        return self

    @property
    def windows(self) -> Array:
        """The window as a batch of one, of shape (1, steps, features)."""
        window = self.window if self.window is not None else self.records
        return window[None]  # type: ignore[index]


class BatchRequest(BaseModel):
    """Several windows."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    windows: Windows
    """Each as in a request for one window."""


class ForecastResponse(BaseModel, use_attribute_docstrings=True):
    """The forecast for one window, in the targets' units."""

    model: str
    """The model that answered."""
    version: int
    """The version that answered."""
    targets: tuple[str, ...]
    """Names of the targets, in the order of the last axis."""
    prediction: Annotated[NDArray[Any], Tensor("horizon", "targets")]
    """The rows directly after the window."""


class BatchResponse(BaseModel, use_attribute_docstrings=True):
    """The forecasts for several windows, in their order and in the targets' units."""

    model: str
    """The model that answered."""
    version: int
    """The version that answered."""
    targets: tuple[str, ...]
    """Names of the targets, in the order of the last axis."""
    predictions: Annotated[NDArray[Any], Tensor("batch", "horizon", "targets")]
    """A forecast for each window."""


def largest_window(contract: Contract) -> Largest:
    """Returns the largest body of a `WindowRequest`, which has records: every number has its name there."""
    steps, features = contract.window_shape
    numbers = extent_of_names(contract.feature_names) + extent_of_number(depth=3) * features
    records = in_brackets(in_brackets(numbers, depth=2) * steps, depth=1)
    return Largest(f"{windows_text(1, steps * features)}; several windows go to POST /predict/batch", records)


def largest_batch(contract: Contract, max_windows: int) -> Largest:
    """Returns the largest body of a `BatchRequest`."""
    steps, features = contract.window_shape
    return Largest(
        windows_text(max_windows, steps * features), extent_of_lists((max_windows, steps, features), depth=1)
    )


def read_usual_window(body: bytes, contract: Contract) -> Array | None:
    """Reads the body of a `WindowRequest` of the usual form; returns None for any other body."""
    return reader_of(contract.window_shape).read_window(body)


def read_window(body: bytes, contract: Contract) -> Array:
    """Reads the body of a `WindowRequest`.

    Returns:
        Shape (1, steps, features), float32.

    Raises:
        MalformedBody: The body is not JSON.
        InvalidRequest: The body does not fit the contract.
        TooManyValues: The body has more values than the largest request.
    """
    window = read_usual_window(body, contract)
    if window is None:
        check_values(body, partial(largest_window, contract))
        window = _validate(WindowRequest, parse_json(body), contract, takes=TAKES_WINDOW).windows
    return window


def read_usual_windows(body: bytes, contract: Contract, max_windows: int) -> Array | None:
    """Reads the body of a `BatchRequest` of the usual form; returns None for any other body.

    Raises:
        BatchTooLarge: The body has more than `max_windows` windows.
    """
    windows = reader_of(contract.window_shape).read_windows(body)
    if windows is not None and len(windows) > max_windows:
        raise BatchTooLarge(len(windows), max_windows)
    return windows


def read_windows(body: bytes, contract: Contract, max_windows: int) -> Array:
    """Reads the body of a `BatchRequest`.

    Returns:
        Shape (batch, steps, features), float32.

    Raises:
        MalformedBody: The body is not JSON.
        BatchTooLarge: The body has more than `max_windows` windows.
        InvalidRequest: The body does not fit the contract.
        TooManyValues: The body has more values than the largest request.
    """
    windows = read_usual_windows(body, contract, max_windows)
    if windows is None:
        check_values(body, partial(largest_batch, contract, max_windows))
        content = parse_json(body)
        _check_count(content, max_windows, contract)
        windows = _validate(BatchRequest, content, contract, takes=TAKES_WINDOWS).windows
    return windows


def write_answer(model: str, version: int, targets: tuple[str, ...], field: bytes, forecasts: Array) -> bytes:
    """Writes a `ForecastResponse` or a `BatchResponse`.

    Args:
        model: The model that answers.
        version: The version that answers.
        targets: The names of the targets.
        field: The field that holds the forecasts.
        forecasts: Shape (horizon, targets) or (batch, horizon, targets), raw units.
    """
    return b'%s"%s":%s}' % (_head(model, version, targets), field, write_numbers(forecasts))


@lru_cache
def _head(model: str, version: int, targets: tuple[str, ...]) -> bytes:
    """Returns the start of every answer of a version."""
    return orjson.dumps({"model": model, "version": version, "targets": targets})[:-1] + b","


def _validate(model: type[Body], content: object, contract: Contract, takes: str) -> Body:
    if isinstance(content, dict) and len(content) > MAX_FIELDS:  # pydantic would list all of them
        raise InvalidRequest([LocatedError("", f"unknown fields; this takes {takes}")])
    try:
        return model.model_validate(content, context=contract)
    except ValidationError as error:
        raise invalid_body(error, takes) from None


def _check_count(content: object, max_windows: int, contract: Contract) -> None:
    """Checks the number of windows before anything is done with them. A single window has steps, not windows."""
    windows = content.get("windows") if isinstance(content, dict) else None
    if isinstance(windows, list) and len(windows) > max_windows and not is_one_window(windows, contract.window_shape):
        raise BatchTooLarge(len(windows), max_windows)
