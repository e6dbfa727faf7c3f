"""JSON bodies of the native routes: windows in, forecasts out, as pydantic models and as functions.

The usual bodies are read without a Python object per number: `app.payloads.quick`. All other bodies, right or wrong,
are read by the pydantic models, which say where a body is wrong.
"""

from functools import lru_cache, partial
from typing import Annotated, Any, Self, TypeVar

import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, model_validator

from app.arrays import Array, Inputs, Times
from app.errors import BatchTooLarge, InvalidRequest, LocatedError
from app.payloads.advice import is_one_window
from app.payloads.ahead import FirstTimes, Future, Futures, Time, missing_ahead
from app.payloads.fields import contract_in
from app.payloads.parsing import invalid_body, parse_json
from app.payloads.quick import ahead_reader_of, reader_of
from app.payloads.sizes import (
    Extent,
    Largest,
    check_values,
    extent_of_lists,
    extent_of_names,
    extent_of_number,
    extent_of_time,
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
    future: Future | None = None
    """For each row to forecast, its values of the columns that are known ahead: in their order, or by name."""
    time: Time | None = None
    """The time of the first row to forecast, such as 2026-11-29T13:00:00, or its number."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.window is None) == (self.records is None):
            raise ValueError("give either window or records")
        return self

    @model_validator(mode="after")
    def _is_complete(self, info: ValidationInfo) -> Self:
        _check_complete(info, self.future, self.time)
        return self

    @property
    def inputs(self) -> Inputs:
        """The request as a batch of one."""
        window = self.window if self.window is not None else self.records
        future = None if self.future is None else self.future[None]
        return Inputs(window[None], future, self.time)  # type: ignore[index]


class BatchRequest(BaseModel):
    """Several windows."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    windows: Windows
    """Each as in a request for one window."""
    futures: Futures | None = None
    """A future for each window, as in a request for one window."""
    times: FirstTimes | None = None
    """A time for each window, as in a request for one window."""

    @model_validator(mode="after")
    def _is_complete(self, info: ValidationInfo) -> Self:
        _check_complete(info, self.futures, self.times)
        return self

    @model_validator(mode="after")
    def _are_as_many(self) -> Self:
        count = len(self.windows)
        for name, values in (("futures", self.futures), ("times", self.times)):
            if values is not None and len(values) != count:
                raise ValueError(f"expected {count} {name}, one for each window, got {len(values)}")
        return self

    @property
    def inputs(self) -> Inputs:
        """The request as a batch."""
        return Inputs(self.windows, self.futures, self.times)


def _check_complete(info: ValidationInfo, future: Array | None, time: Times | None) -> None:
    """Checks that a request has all that the model takes."""
    contract = contract_in(info)
    if contract is not None and (missing := missing_ahead(contract, future, time)):
        raise ValueError(missing)


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
    records = in_brackets(in_brackets(numbers, depth=2) * steps, depth=1) + _extent_ahead(contract)
    return Largest(f"{windows_text(1, steps * features)}; several windows go to POST /predict/batch", records)


def largest_batch(contract: Contract, max_windows: int) -> Largest:
    """Returns the largest body of a `BatchRequest`."""
    steps, features = contract.window_shape
    windows = extent_of_lists((max_windows, steps, features), depth=1) + _extent_ahead(contract) * max_windows
    return Largest(windows_text(max_windows, steps * features), windows)


def _extent_ahead(contract: Contract) -> Extent:
    """Returns the extent of what a window needs beside it: a future, which has records, and a time."""
    horizon, known = contract.future_shape
    future, time = Extent(), Extent()
    if known:
        numbers = extent_of_names(contract.known) + extent_of_number(depth=4) * known
        future = in_brackets(in_brackets(numbers, depth=3) * horizon, depth=2)
    if contract.calendar:
        time = extent_of_time(depth=2)
    return future + time


def read_usual_window(body: bytes, contract: Contract) -> Inputs | None:
    """Reads the body of a `WindowRequest` of the usual form; returns None for any other body."""
    if contract.takes_windows_alone:
        window = reader_of(contract.window_shape).read_window(body)
        return None if window is None else Inputs(window)
    future_shape = contract.future_shape if contract.known else None
    reader = ahead_reader_of(contract.window_shape, future_shape, has_time=bool(contract.calendar))
    return reader.read(body, contract.spacing)


def read_window(body: bytes, contract: Contract) -> Inputs:
    """Reads the body of a `WindowRequest`.

    Raises:
        MalformedBody: The body is not JSON.
        InvalidRequest: The body does not fit the contract.
        TooManyValues: The body has more values than the largest request.
    """
    inputs = read_usual_window(body, contract)
    if inputs is None:
        check_values(body, partial(largest_window, contract))
        inputs = _validate(WindowRequest, parse_json(body), contract, _takes(TAKES_WINDOW, contract)).inputs
    return inputs


def read_usual_windows(body: bytes, contract: Contract, max_windows: int) -> Inputs | None:
    """Reads the body of a `BatchRequest` of the usual form, windows alone; returns None for any other body.

    Raises:
        BatchTooLarge: The body has more than `max_windows` windows.
    """
    windows = reader_of(contract.window_shape).read_windows(body) if contract.takes_windows_alone else None
    if windows is None:
        return None
    if len(windows) > max_windows:
        raise BatchTooLarge(len(windows), max_windows)
    return Inputs(windows)


def read_windows(body: bytes, contract: Contract, max_windows: int) -> Inputs:
    """Reads the body of a `BatchRequest`.

    Raises:
        MalformedBody: The body is not JSON.
        BatchTooLarge: The body has more than `max_windows` windows.
        InvalidRequest: The body does not fit the contract.
        TooManyValues: The body has more values than the largest request.
    """
    inputs = read_usual_windows(body, contract, max_windows)
    if inputs is None:
        check_values(body, partial(largest_batch, contract, max_windows))
        content = parse_json(body)
        _check_count(content, max_windows, contract)
        inputs = _validate(BatchRequest, content, contract, _takes(TAKES_WINDOWS, contract, "s")).inputs
    return inputs


def write_request(inputs: Inputs) -> bytes:
    """Writes a `WindowRequest` for the first entry of a batch."""
    fields = [b'"window":%s' % write_numbers(inputs.windows[0])]
    if inputs.future is not None:
        fields.append(b'"future":%s' % write_numbers(inputs.future[0]))
    if inputs.time is not None:
        fields.append(b'"time":%d' % inputs.time[0])
    return b"{%s}" % b",".join(fields)


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


def _takes(text: str, contract: Contract, ending: str = "") -> str:
    """Adds the names of the fields that the contract asks for to the fields of every body."""
    more = [
        f"{name}{ending}" for name, is_taken in (("future", contract.known), ("time", contract.calendar)) if is_taken
    ]
    fields, _, remedy = text.partition(";")
    return f"{', '.join([fields, *more])};{remedy}"


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
