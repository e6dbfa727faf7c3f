"""The native prediction routes: forecasts for one window or many."""

from abc import abstractmethod
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Self, TypeVar
from urllib.parse import parse_qsl

import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError, from_json

from app.api.body import MediaType, declared_type, wanted_type
from app.api.dependencies import find
from app.api.direct import Answer, Request
from app.api.forecasting import Decoded, Dialect, Forecasting
from app.api.problems import invalid_body, invalid_query
from app.arrays import Array
from app.errors import BatchTooLarge, InvalidRequest, LocatedError, MalformedBody, MethodNotAllowed
from app.payloads import npy
from app.payloads.parsing import collector_paused
from app.payloads.quick import reader_of
from app.payloads.windows import RecordsWindow, Tensor, Window, Windows, is_one_window
from app.serving.catalogue import Catalogue, ServedVersion
from app.serving.policies import LABEL_PATTERN
from app.version.manifest import NAME_PATTERN, Contract

Body = TypeVar("Body", bound=BaseModel)

MAX_FIELDS = 16
"""More fields than any body has."""

TAKES_WINDOW = "window or records; several windows go to POST /predict/batch"
TAKES_WINDOWS = "windows; a single window goes to POST /predict"


class WindowRequest(BaseModel):
    """One window, as rows of numbers or as records by feature name."""

    model_config = ConfigDict(extra="forbid")

    window: Window | None = None
    records: RecordsWindow | None = None

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

    model_config = ConfigDict(extra="forbid")

    windows: Windows


class ForecastResponse(BaseModel):
    """The forecast for one window, in the targets' units."""

    model: str
    version: int
    targets: tuple[str, ...]
    prediction: Annotated[NDArray[Any], Tensor("horizon", "targets")]


class BatchResponse(BaseModel):
    """The forecasts for several windows, in their order and in the targets' units."""

    model: str
    version: int
    targets: tuple[str, ...]
    predictions: Annotated[NDArray[Any], Tensor("batch", "horizon", "targets")]


class Selection(BaseModel):
    """The query of a prediction: which model and version answer."""

    model: Annotated[str | None, Field(pattern=NAME_PATTERN, description="Another model than the default one.")] = None
    version: Annotated[int | None, Field(ge=1, description="The version that must answer.")] = None
    label: Annotated[
        str | None, Field(pattern=LABEL_PATTERN, description="The version with that label must answer.")
    ] = None

    @model_validator(mode="after")
    def _version_or_label(self) -> Self:
        if self.version is not None and self.label is not None:
            raise PydanticCustomError("selection", "give either version or label")
        return self


DEFAULT_MODEL = Selection()


class PredictionRoute(Dialect[Request, MediaType, Answer]):
    """What `/predict` and `/predict/batch` have in common: the dialect of the native routes.

    Args:
        forecasting: The pipeline.
        max_windows: Most windows in one request.
    """

    path: ClassVar[str]
    summary: ClassVar[str]
    body_model: ClassVar[type[BaseModel]]
    answer_model: ClassVar[type[BaseModel]]
    answer_field: ClassVar[bytes]
    """The field of `answer_model` that holds the forecasts."""

    def __init__(self, forecasting: Forecasting, max_windows: int) -> None:
        self._forecasting = forecasting
        self._max_windows = max_windows

    async def answer(self, request: Request) -> Answer:
        """Answers a request.

        Raises:
            ServiceError: The request gets no forecast.
        """
        request.exchange.route = self.path
        if request.scope["method"] != "POST":
            raise MethodNotAllowed("POST")
        return await self._forecasting.answer(request, self)

    def select(self, asked: Request, catalogue: Catalogue) -> ServedVersion:
        """Finds the version that the query names. Refuses a body that is declared to be of another type."""
        query = asked.scope["query_string"]
        selection = _read_query(query) if query else DEFAULT_MODEL
        served = find(catalogue, selection.model, selection.version, selection.label)
        declared_type(asked.headers)
        return served

    def decode(self, asked: Request, served: ServedVersion) -> Decoded[MediaType]:
        """Reads the windows out of a JSON or npy body."""
        read = self._read_npy if declared_type(asked.headers) is MediaType.NPY else self._read_json
        return Decoded(read(asked.body, served.contract), context=wanted_type(asked.headers))

    def encode(self, served: ServedVersion, forecasts: Array, context: MediaType) -> Answer:
        """Writes the forecasts in the media type that the request prefers."""
        part = self._answer_part(forecasts)
        body = npy.write(part) if context is MediaType.NPY else self._write_json(served, part)
        return Answer(body, [(b"content-type", context.value)])

    @abstractmethod
    def _read_json(self, body: bytes, contract: Contract) -> Array:
        """Returns the windows in a JSON body."""

    @abstractmethod
    def _read_npy(self, body: bytes, contract: Contract) -> Array:
        """Returns the windows in an npy body."""

    @abstractmethod
    def _answer_part(self, forecasts: Array) -> Array:
        """Returns the part of the forecasts (batch, horizon, targets) that the answer holds."""

    def _write_json(self, served: ServedVersion, part: Array) -> bytes:
        head = _json_head(served.name, served.version, served.contract.target_names)
        return b'%s"%s":%s}' % (head, self.answer_field, dump(part))


class Predict(PredictionRoute):
    """One window in, its forecast out."""

    path = "/predict"
    summary = "Forecasts the rows that follow one window."
    body_model = WindowRequest
    answer_model = ForecastResponse
    answer_field = b"prediction"

    def _read_json(self, body: bytes, contract: Contract) -> Array:
        windows = reader_of(contract.window_shape).read_window(body)
        if windows is None:
            windows = _validate(WindowRequest, _parse(body), contract, takes=TAKES_WINDOW).windows
        return windows

    def _read_npy(self, body: bytes, contract: Contract) -> Array:
        return npy.read_window(body, contract)

    def _answer_part(self, forecasts: Array) -> Array:
        forecast: Array = forecasts[0]
        return forecast


class PredictBatch(PredictionRoute):
    """Several windows in, a forecast for each out."""

    path = "/predict/batch"
    summary = "Forecasts the rows that follow each of several windows."
    body_model = BatchRequest
    answer_model = BatchResponse
    answer_field = b"predictions"

    def _read_json(self, body: bytes, contract: Contract) -> Array:
        windows = reader_of(contract.window_shape).read_windows(body)
        if windows is None:
            content = _parse(body)
            _check_count(content, self._max_windows, contract)
            return _validate(BatchRequest, content, contract, takes=TAKES_WINDOWS).windows
        if len(windows) > self._max_windows:
            raise BatchTooLarge(len(windows), self._max_windows)
        return windows

    def _read_npy(self, body: bytes, contract: Contract) -> Array:
        return npy.read_windows(body, contract, self._max_windows)

    def _answer_part(self, forecasts: Array) -> Array:
        return forecasts


def _parse(body: bytes) -> object:
    try:
        with collector_paused():
            return from_json(body)
    except ValueError:
        raise MalformedBody from None


def _read_query(query: bytes) -> Selection:
    given = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    if given.keys() - Selection.model_fields.keys():
        raise InvalidRequest([LocatedError("?", "unknown query parameter; this takes model, version and label")])
    try:
        return Selection.model_validate(given)
    except ValidationError as error:
        raise invalid_query(error) from None


def _validate(model: type[Body], content: object, contract: Contract, takes: str) -> Body:
    if isinstance(content, dict) and len(content) > MAX_FIELDS:  # pydantic would list all of them
        raise InvalidRequest([LocatedError("", f"unknown fields; this takes {takes}")])
    try:
        return model.model_validate(content, context=contract)
    except ValidationError as error:
        raise invalid_body(error, takes) from None


def _check_count(content: object, limit_windows: int, contract: Contract) -> None:
    """Checks the number of windows before anything is done with them. A single window has steps, not windows."""
    windows = content.get("windows") if isinstance(content, dict) else None
    if isinstance(windows, list) and len(windows) > limit_windows and not is_one_window(windows, contract.window_shape):
        raise BatchTooLarge(len(windows), limit_windows)


@lru_cache
def _json_head(model: str, version: int, targets: tuple[str, ...]) -> bytes:
    """Returns the start of every JSON answer of a version."""
    return orjson.dumps({"model": model, "version": version, "targets": targets})[:-1] + b","


def dump(content: object) -> bytes:
    """Writes JSON, arrays of NumPy included."""
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
