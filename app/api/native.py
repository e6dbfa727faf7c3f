"""The native routes: forecasts for one window or many, and what the models say about themselves."""

import time
from abc import abstractmethod
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Self, TypeVar
from urllib.parse import parse_qsl

import orjson
from fastapi import APIRouter, Depends, Path
from fastapi import Request as FrameworkRequest
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError, from_json
from starlette.responses import Response

from app.api.body import MediaType, declared_type, wanted_type
from app.api.direct import DECODING, ENCODING, DirectRoute, Request
from app.api.problems import invalid_body, invalid_query
from app.arrays import Array
from app.errors import BatchTooLarge, InvalidRequest, LocatedError, MalformedBody
from app.payloads import npy
from app.payloads.parsing import collector_paused
from app.payloads.quick import reader_of
from app.payloads.windows import RecordsWindow, Tensor, Window, Windows, is_one_window
from app.serving.policies import LABEL_PATTERN
from app.serving.repository import ServedModel, ServedVersion
from app.serving.service import Service
from app.version.manifest import NAME_PATTERN, Contract, DataFingerprint, Score
from app.version.signature import Layout, Signature

router = APIRouter()

Body = TypeVar("Body", bound=BaseModel)

MAX_FIELDS = 16
"""More fields than any body has."""

TAKES_WINDOW = "window or records; several windows go to POST /predict/batch"
TAKES_WINDOWS = "windows; a single window goes to POST /predict"

ModelName = Annotated[str, Path(pattern=NAME_PATTERN)]
VersionNumber = Annotated[int, Path(ge=1)]


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
        """The window as a batch of one: (1, steps, features)."""
        window = self.window if self.window is not None else self.records
        return window[None]  # type: ignore[index]


class BatchRequest(BaseModel):
    """Windows that are forecast together."""

    model_config = ConfigDict(extra="forbid")

    windows: Windows


class ForecastResponse(BaseModel):
    """The forecast for one window, in the targets' units."""

    model: str
    version: int
    targets: tuple[str, ...]
    prediction: Annotated[NDArray[Any], Tensor("horizon", "targets")]


class BatchResponse(BaseModel):
    """The forecasts for the windows of a batch, in their order and in the targets' units."""

    model: str
    version: int
    targets: tuple[str, ...]
    predictions: Annotated[NDArray[Any], Tensor("batch", "horizon", "targets")]


class TensorDescription(BaseModel):
    """A float32 tensor as `/v1` and `/v2` name it."""

    name: str
    shape: Annotated[tuple[int, ...], Field(description="Its sizes; -1 in front is the batch.", examples=[(-1, 8, 2)])]


class SignatureDescription(BaseModel):
    """What a model takes and gives under `/v1` and `/v2`."""

    inputs: list[TensorDescription]
    outputs: list[TensorDescription]

    @classmethod
    def of(cls, signature: Signature) -> Self:
        """Describes a signature."""
        return cls(inputs=_tensors(signature.inputs), outputs=_tensors(signature.outputs))


def _tensors(layout: Layout) -> list[TensorDescription]:
    return [TensorDescription(name=tensor.name, shape=(-1, *tensor.shape)) for tensor in layout.tensors]


class ModelDescription(BaseModel):
    """What a served model says about itself."""

    name: str
    version: int
    versions: Annotated[list[int], Field(description="All that serve, ascending.")]
    labels: Annotated[dict[str, int], Field(description="The version that each label stands for.")]
    tensors: SignatureDescription
    engine: str
    engine_remark: str
    created: datetime
    contract: Contract
    scores: tuple[Score, ...]
    verdict: str
    data: DataFingerprint

    @classmethod
    def of(cls, served: ServedVersion, model: ServedModel) -> Self:
        """Describes a version that serves, as one of its model."""
        loaded = served.loaded
        manifest = loaded.manifest
        return cls(
            name=loaded.name,
            version=loaded.version,
            versions=list(model.versions),
            labels=dict(model.labels),
            tensors=SignatureDescription.of(loaded.signature),
            engine=loaded.engine.name,
            engine_remark=loaded.engine.remark,
            created=manifest.created,
            contract=manifest.contract,
            scores=manifest.scores,
            verdict=manifest.verdict,
            data=manifest.data,
        )


class Selection(BaseModel):
    """The query of a prediction: which model is asked."""

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


class ModelList(BaseModel):
    """The models that serve, the default one first, and those that could not be loaded."""

    models: list[ModelDescription]
    failures: dict[str, str]


class PredictionRoute(DirectRoute):
    """What `/predict` and `/predict/batch` have in common.

    A request goes from query to version, from body to tensor (batch, steps, features), through the engine, and from
    forecasts (batch, horizon, targets) to an answer.
    """

    summary: ClassVar[str]
    body_model: ClassVar[type[BaseModel]]
    answer_model: ClassVar[type[BaseModel]]
    answer_field: ClassVar[bytes]
    """The field of `answer_model` that holds the forecasts."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def answer(self, request: Request) -> tuple[bytes, bytes]:
        """Forecasts the windows of a request."""
        service = self._service
        served = _select(service, request)
        media_type = declared_type(request.headers)
        served.batcher.refuse_if_full()
        body = await request.body(service.settings)
        started = time.perf_counter()
        if media_type is MediaType.NPY:
            windows = self._read_npy(body, served.contract)
        else:
            windows = self._read_json(body, served.contract)
        request.note(DECODING, started)
        forecasts = await served.batcher.submit(windows)
        started = time.perf_counter()
        answer = self._answer_part(forecasts)
        wanted = wanted_type(request.headers)
        written = npy.write(answer) if wanted is MediaType.NPY else self._write_json(served, answer)
        request.note(ENCODING, started)
        return written, wanted.value

    @abstractmethod
    def _read_json(self, body: bytes, contract: Contract) -> Array:
        """The windows in a JSON body."""

    @abstractmethod
    def _read_npy(self, body: bytes, contract: Contract) -> Array:
        """The windows in an npy body."""

    @abstractmethod
    def _answer_part(self, forecasts: Array) -> Array:
        """What the answer holds of the forecasts (batch, horizon, targets)."""

    def _write_json(self, served: ServedVersion, answer: Array) -> bytes:
        head = _json_head(served.name, served.version, served.contract.target_names)
        return b'%s"%s":%s}' % (head, self.answer_field, _dump(answer))


class Predict(PredictionRoute):
    """One window in, the rows that follow it out."""

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
    """Windows in, the rows that follow each of them out."""

    path = "/predict/batch"
    summary = "Forecasts the rows that follow each of several windows."
    body_model = BatchRequest
    answer_model = BatchResponse
    answer_field = b"predictions"

    def _read_json(self, body: bytes, contract: Contract) -> Array:
        max_windows = self._service.settings.max_batch_windows
        windows = reader_of(contract.window_shape).read_windows(body)
        if windows is None:
            content = _parse(body)
            _check_rows(content, max_windows, contract)
            return _validate(BatchRequest, content, contract, takes=TAKES_WINDOWS).windows
        if len(windows) > max_windows:
            raise BatchTooLarge(len(windows), max_windows)
        return windows

    def _read_npy(self, body: bytes, contract: Contract) -> Array:
        return npy.read_windows(body, contract, self._service.settings.max_batch_windows)

    def _answer_part(self, forecasts: Array) -> Array:
        return forecasts


# Coroutines, although they wait for nothing: FastAPI would run plain functions in its thread pool.
async def get_service(request: FrameworkRequest) -> Service:
    """The running service."""
    service: Service = request.app.state.service
    return service


RunningService = Annotated[Service, Depends(get_service)]


@router.get("/models", tags=["models"])
async def list_models(service: RunningService) -> ModelList:
    """Lists the models that serve."""
    service.check_ready()
    models = service.repository.models().values()
    described = [ModelDescription.of(model.latest, model) for model in models]
    return ModelList(models=described, failures=service.repository.failures())


@router.get("/models/{name}", tags=["models"])
async def describe_model(service: RunningService, name: ModelName) -> ModelDescription:
    """Tells a model's versions, tensors, contract, scores, verdict and engine."""
    return _describe(service, name, None)


@router.get("/models/{name}/versions/{version}", tags=["models"])
async def describe_version(service: RunningService, name: ModelName, version: VersionNumber) -> ModelDescription:
    """Tells the same of a version that serves."""
    return _describe(service, name, version)


@router.get("/models/{name}/example", response_model=WindowRequest, tags=["models"])
async def example(service: RunningService, name: ModelName) -> Response:
    """Gives a body for `/predict` that works: a window recorded when the model was exported."""
    window = service.resolve(name, None).loaded.golden.windows[0]
    return Response(_dump({"window": window}), media_type="application/json")


def _describe(service: Service, name: str, version: int | None) -> ModelDescription:
    served = service.resolve(name, version)
    model = service.repository.model(name) or ServedModel({served.version: served}, {})  # none if it has just ended
    return ModelDescription.of(served, model)


def _parse(body: bytes) -> object:
    try:
        with collector_paused():
            return from_json(body)
    except ValueError:
        raise MalformedBody from None


def _select(service: Service, request: Request) -> ServedVersion:
    """The version that a prediction asks for; its name goes into the headers of any answer."""
    query = request.scope["query_string"]
    given = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)) if query else {}
    try:
        selection = Selection.model_validate(given) if given else DEFAULT_MODEL
    except ValidationError as error:
        raise invalid_query(error) from None
    served = service.resolve(selection.model, selection.version, selection.label)
    request.scope["state"]["served"] = served
    if given.keys() - Selection.model_fields.keys():
        raise InvalidRequest([LocatedError("?", "unknown query parameter; this takes model, version and label")])
    return served


def _validate(model: type[Body], content: object, contract: Contract, takes: str) -> Body:
    if isinstance(content, dict) and len(content) > MAX_FIELDS:  # pydantic would list every single one
        raise InvalidRequest([LocatedError("", f"unknown fields; this takes {takes}")])
    try:
        return model.model_validate(content, context=contract)
    except ValidationError as error:
        raise invalid_body(error, takes) from None


def _check_rows(content: object, limit_windows: int, contract: Contract) -> None:
    """Counts the windows before anything is done with each of them. One window's steps are none, however many."""
    windows = content.get("windows") if isinstance(content, dict) else None
    if isinstance(windows, list) and len(windows) > limit_windows and not is_one_window(windows, contract.window_shape):
        raise BatchTooLarge(len(windows), limit_windows)


@lru_cache
def _json_head(model: str, version: int, targets: tuple[str, ...]) -> bytes:
    """The start of every JSON answer of a version."""
    return orjson.dumps({"model": model, "version": version, "targets": targets})[:-1] + b","


def _dump(content: object) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
