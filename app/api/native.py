"""The native prediction routes: forecasts for one window or many."""

from abc import abstractmethod
from collections.abc import Awaitable
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, ClassVar, Self
from urllib.parse import parse_qsl

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from app.api.admission import Asked
from app.api.body import QUICK_BYTES, SMALL_BYTES, MediaType, declared_type, wanted_type
from app.api.dependencies import find
from app.api.direct import Answer, Request
from app.api.forecasting import Decoded, Dialect, Forecasting
from app.api.problems import invalid_query, problem_answer
from app.arrays import Array, Inputs
from app.errors import InvalidRequest, LocatedError, MethodNotAllowed, UnsupportedMediaType
from app.payloads import native, npy
from app.payloads.sizes import Largest
from app.serving.catalogue import Catalogue, ServedVersion
from app.serving.policies import LABEL_PATTERN
from app.version.manifest import NAME_PATTERN


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


MAX_PARAMETERS = 16
"""More parameters than any query has."""

KNOWN_QUERIES = 256
"""How many different queries are remembered with their meaning."""

MAX_QUERY_BYTES = 1024
"""Longest query that is remembered."""


@dataclass(frozen=True, slots=True)
class Query:
    """A query as it was read.

    Attributes:
        selection: Which model and version answer.
        is_known: Whether the query has no other parameters.
    """

    selection: Selection
    is_known: bool

    @classmethod
    def of(cls, query: bytes) -> Self:
        """Reads a query.

        Raises:
            InvalidRequest: A parameter has a wrong value, or there are far too many.
        """
        try:
            pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
        except ValueError:
            raise _unknown_parameter() from None
        parameters = dict(pairs)
        try:
            selection = Selection.model_validate(parameters)
        except ValidationError as error:
            raise invalid_query(error) from None
        return cls(selection, is_known=parameters.keys() <= Selection.model_fields.keys())


def _read_query(query: bytes) -> Query:
    """Reads a query, and remembers the meaning of a short one: most requests have the same query."""
    return _short_query(query) if len(query) <= MAX_QUERY_BYTES else Query.of(query)


@lru_cache(KNOWN_QUERIES)
def _short_query(query: bytes) -> Query:
    return Query.of(query)


def _unknown_parameter() -> InvalidRequest:
    return InvalidRequest([LocatedError("?", "unknown query parameter; this takes model, version and label")])


class PredictionRoute(Dialect[Request, MediaType, Answer]):
    """What `/predict` and `/predict/batch` have in common: the dialect of the native routes.

    Args:
        forecasting: The pipeline.
    """

    path: ClassVar[str]
    summary: ClassVar[str]
    body_model: ClassVar[type[BaseModel]]
    answer_model: ClassVar[type[BaseModel]]
    answer_field: ClassVar[bytes]
    """The field of `answer_model` that holds the forecasts."""

    def __init__(self, forecasting: Forecasting) -> None:
        self._forecasting = forecasting

    def answer(self, request: Request) -> Awaitable[Answer]:
        """Answers a request.

        Raises:
            ServiceError: The request gets no forecast; raised at once, or when the answer is awaited.
        """
        request.exchange.route = self.path
        if request.scope["method"] != "POST":
            raise MethodNotAllowed("POST")
        return self._forecasting.answer(request, self)

    def asked_by(self, path: str, query: bytes) -> Asked | None:
        """Returns what a path and a query ask for; None for another path."""
        if path != self.path:
            return None
        selection = _read_query(query).selection
        return Asked("native", self.path, problem_answer, selection.model, selection.version, selection.label)

    def select(self, asked: Request, catalogue: Catalogue) -> ServedVersion:
        """Finds the version that the query names."""
        selection = _read_query(asked.scope["query_string"]).selection
        return find(catalogue, selection.model, selection.version, selection.label)

    def check(self, asked: Request, served: ServedVersion) -> None:
        """Checks that the query has no other parameters, and that the declared type of the body fits the model."""
        if not _read_query(asked.scope["query_string"]).is_known:
            raise _unknown_parameter()
        is_npy = declared_type(asked.headers) is MediaType.NPY
        if is_npy and not served.contract.takes_windows_alone:
            more = [tensor.name for tensor in served.loaded.signature.inputs.more]
            raise UnsupportedMediaType(f"An array holds windows alone, and this model takes {' and '.join(more)} too.")

    def largest(self, asked: Request, served: ServedVersion) -> Largest:
        """Works out the largest array, or the largest JSON body."""
        is_npy = declared_type(asked.headers) is MediaType.NPY
        return (self._largest_npy if is_npy else self._largest_json)(served)

    def decode_at_once(self, asked: Request, served: ServedVersion) -> Decoded[MediaType] | None:
        """Reads a small body, an array, or JSON of the usual form."""
        if asked.size <= SMALL_BYTES:
            return self.decode(asked, served)
        if asked.size > QUICK_BYTES:
            return None
        if declared_type(asked.headers) is MediaType.NPY:
            return self.decode(asked, served)
        inputs = self._read_usual(asked.body, served)
        return None if inputs is None else Decoded(inputs, context=wanted_type(asked.headers))

    def decode(self, asked: Request, served: ServedVersion) -> Decoded[MediaType]:
        """Reads the inputs out of a JSON or npy body."""
        if declared_type(asked.headers) is MediaType.NPY:
            inputs = Inputs(self._read_npy(asked.body, served))
        else:
            inputs = self._read_json(asked.body, served)
        return Decoded(inputs, context=wanted_type(asked.headers))

    def encode(self, served: ServedVersion, forecasts: Array, context: MediaType) -> Answer:
        """Writes the forecasts in the media type that the request prefers."""
        part = self._answer_part(forecasts)
        if context is MediaType.NPY:
            body = npy.write(part)
        else:
            targets = served.contract.target_names
            body = native.write_answer(served.name, served.version, targets, self.answer_field, part)
        return Answer(body, [(b"content-type", context.value)])

    @abstractmethod
    def _largest_json(self, served: ServedVersion) -> Largest:
        """Returns the largest JSON body."""

    @abstractmethod
    def _largest_npy(self, served: ServedVersion) -> Largest:
        """Returns the largest npy body."""

    @abstractmethod
    def _read_usual(self, body: bytes, served: ServedVersion) -> Inputs | None:
        """Returns the inputs in a JSON body of the usual form."""

    @abstractmethod
    def _read_json(self, body: bytes, served: ServedVersion) -> Inputs:
        """Returns the inputs in a JSON body."""

    @abstractmethod
    def _read_npy(self, body: bytes, served: ServedVersion) -> Array:
        """Returns the windows in an npy body."""

    @abstractmethod
    def _answer_part(self, forecasts: Array) -> Array:
        """Returns the part of the forecasts (batch, horizon, targets) that the answer holds."""


class Predict(PredictionRoute):
    """One window in, its forecast out."""

    path = "/predict"
    summary = "Forecasts the rows that follow one window."
    body_model = native.WindowRequest
    answer_model = native.ForecastResponse
    answer_field = b"prediction"

    def _largest_json(self, served: ServedVersion) -> Largest:
        return native.largest_window(served.contract)

    def _largest_npy(self, served: ServedVersion) -> Largest:
        return npy.largest(served.contract, 1)

    def _read_usual(self, body: bytes, served: ServedVersion) -> Inputs | None:
        return native.read_usual_window(body, served.contract)

    def _read_json(self, body: bytes, served: ServedVersion) -> Inputs:
        return native.read_window(body, served.contract)

    def _read_npy(self, body: bytes, served: ServedVersion) -> Array:
        return npy.read_window(body, served.contract)

    def _answer_part(self, forecasts: Array) -> Array:
        forecast: Array = forecasts[0]
        return forecast


class PredictBatch(PredictionRoute):
    """Several windows in, a forecast for each out."""

    path = "/predict/batch"
    summary = "Forecasts the rows that follow each of several windows."
    body_model = native.BatchRequest
    answer_model = native.BatchResponse
    answer_field = b"predictions"

    def _largest_json(self, served: ServedVersion) -> Largest:
        return native.largest_batch(served.contract, served.max_windows)

    def _largest_npy(self, served: ServedVersion) -> Largest:
        return npy.largest(served.contract, served.max_windows)

    def _read_usual(self, body: bytes, served: ServedVersion) -> Inputs | None:
        return native.read_usual_windows(body, served.contract, served.max_windows)

    def _read_json(self, body: bytes, served: ServedVersion) -> Inputs:
        return native.read_windows(body, served.contract, served.max_windows)

    def _read_npy(self, body: bytes, served: ServedVersion) -> Array:
        return npy.read_windows(body, served.contract, served.max_windows)

    def _answer_part(self, forecasts: Array) -> Array:
        return forecasts
