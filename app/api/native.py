"""The native routes: forecasts for one window or many, and what the models say about themselves."""

import gc
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Self, TypeVar

import orjson
from fastapi import APIRouter, Depends, Path, Query, Request
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import from_json
from starlette.responses import Response

from app.api.problems import invalid_body
from app.body import read_json_body
from app.errors import BatchTooLarge, InvalidRequest, LocatedError, MalformedBody
from app.manifest import NAME_PATTERN, Contract, DataFingerprint, Score
from app.repository import LoadedVersion
from app.service import Service
from app.windows import Array, RecordsWindow, Tensor, Window, Windows

router = APIRouter()

Body = TypeVar("Body", bound=BaseModel)

MAX_FIELDS = 16
"""More fields than any body has."""

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


@dataclass(frozen=True, slots=True)
class ForecastResponse:
    """The forecast for one window, in the targets' units."""

    model: str
    version: int
    targets: tuple[str, ...]
    prediction: Annotated[NDArray[Any], Tensor("horizon", "targets")]


@dataclass(frozen=True, slots=True)
class BatchResponse:
    """The forecasts for the windows of a batch, in their order and in the targets' units."""

    model: str
    version: int
    targets: tuple[str, ...]
    predictions: Annotated[NDArray[Any], Tensor("batch", "horizon", "targets")]


class ModelDescription(BaseModel):
    """What a served model says about itself."""

    name: str
    version: int
    engine: str
    engine_remark: str
    created: datetime
    contract: Contract
    scores: tuple[Score, ...]
    verdict: str
    data: DataFingerprint

    @classmethod
    def of(cls, loaded: LoadedVersion) -> Self:
        """Describes a version that serves."""
        manifest = loaded.manifest
        return cls(
            name=loaded.name,
            version=loaded.version,
            engine=loaded.engine.name,
            engine_remark=loaded.engine.remark,
            created=manifest.created,
            contract=manifest.contract,
            scores=manifest.scores,
            verdict=manifest.verdict,
            data=manifest.data,
        )


class ModelList(BaseModel):
    """The models that serve, the default one first, and those that could not be loaded."""

    models: list[ModelDescription]
    failures: dict[str, str]


# Coroutines, although they wait for nothing: FastAPI would run plain functions in its thread pool.
async def get_service(request: Request) -> Service:
    """The running service."""
    service: Service = request.app.state.service
    return service


RunningService = Annotated[Service, Depends(get_service)]


async def resolve_by_query(
    request: Request,
    service: RunningService,
    *,
    model: Annotated[str | None, Query(pattern=NAME_PATTERN, description="Another model than the default one.")] = None,
    version: Annotated[int | None, Query(ge=1, description="The version that must answer.")] = None,
) -> LoadedVersion:
    """The version that a prediction asks for; its name goes into the headers of any answer."""
    unknown = set(request.query_params) - {"model", "version"}
    loaded = service.resolve(model, version)
    request.state.loaded = loaded
    if unknown:
        raise InvalidRequest([LocatedError("?", "unknown query parameter; this takes model and version")])
    return loaded


AskedVersion = Annotated[LoadedVersion, Depends(resolve_by_query)]


def _takes(model: type[BaseModel]) -> dict[str, Any]:
    """Describes a JSON body that the route reads by itself."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


@router.post("/predict", response_model=ForecastResponse, openapi_extra=_takes(WindowRequest), tags=["forecast"])
async def predict(request: Request, service: RunningService, loaded: AskedVersion) -> Response:
    """Forecasts the rows that follow one window."""
    content = await _read_content(request, service)
    windows = _validate(WindowRequest, content, loaded.contract, takes="window or records").windows
    forecasts = await service.forecast(loaded, windows)
    return _json(ForecastResponse(loaded.name, loaded.version, loaded.contract.target_names, forecasts[0]))


@router.post("/predict/batch", response_model=BatchResponse, openapi_extra=_takes(BatchRequest), tags=["forecast"])
async def predict_batch(request: Request, service: RunningService, loaded: AskedVersion) -> Response:
    """Forecasts the rows that follow each of several windows."""
    content = await _read_content(request, service)
    _check_rows(content, service.settings.max_batch_rows)
    windows = _validate(BatchRequest, content, loaded.contract, takes="windows").windows
    forecasts = await service.forecast(loaded, windows)
    return _json(BatchResponse(loaded.name, loaded.version, loaded.contract.target_names, forecasts))


@router.get("/models", tags=["models"])
async def list_models(service: RunningService) -> ModelList:
    """Lists the models that serve."""
    service.resolve(None, None)
    loaded = service.repository.all()
    return ModelList(models=[ModelDescription.of(version) for version in loaded], failures=service.repository.failures)


@router.get("/models/{name}", tags=["models"])
async def describe_model(service: RunningService, name: ModelName) -> ModelDescription:
    """Tells a model's contract, scores, verdict and engine."""
    return ModelDescription.of(service.resolve(name, None))


@router.get("/models/{name}/versions/{version}", tags=["models"])
async def describe_version(service: RunningService, name: ModelName, version: VersionNumber) -> ModelDescription:
    """Tells the same of a version that serves."""
    return ModelDescription.of(service.resolve(name, version))


@router.get("/models/{name}/example", response_model=WindowRequest, tags=["models"])
async def example(service: RunningService, name: ModelName) -> Response:
    """Gives a body for `/predict` that works: a window recorded when the model was exported."""
    return _json({"window": service.resolve(name, None).golden.windows[0]})


async def _read_content(request: Request, service: Service) -> object:
    body = await read_json_body(
        request.scope,
        request.receive,
        max_bytes=service.settings.max_body_bytes,
        timeout_seconds=service.settings.receive_timeout_seconds,
    )
    gc.disable()  # JSON makes no cycles, and the collector would go through millions of lists again and again
    try:
        return from_json(body)
    except ValueError:
        raise MalformedBody from None
    finally:
        gc.enable()


def _validate(model: type[Body], content: object, contract: Contract, takes: str) -> Body:
    if isinstance(content, dict) and len(content) > MAX_FIELDS:  # pydantic would list every single one
        raise InvalidRequest([LocatedError("", f"unknown fields; this takes {takes}")])
    try:
        return model.model_validate(content, context=contract)
    except ValidationError as error:
        raise invalid_body(error, takes) from None


def _check_rows(content: object, limit_rows: int) -> None:
    """Counts the windows before anything is done with each of them."""
    windows = content.get("windows") if isinstance(content, dict) else None
    if isinstance(windows, list) and len(windows) > limit_rows:
        raise BatchTooLarge(len(windows), limit_rows)


def _json(content: object) -> Response:
    return Response(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")
