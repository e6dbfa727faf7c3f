"""Probes and metrics: whether the process is alive, whether it is ready, and what it counts."""

from http import HTTPStatus

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.responses import JSONResponse, PlainTextResponse, Response

from app.api.dependencies import RunningService
from app.process.lifecycle import Phase

router = APIRouter(tags=["health"])


class Status(BaseModel, use_attribute_docstrings=True):
    """Where the service stands."""

    status: str
    """`loading`, `ready`, `draining`, `failed` or `stalled`; `alive` for `/livez`."""


class Health(BaseModel, use_attribute_docstrings=True):
    """Where the service stands, and which versions serve."""

    status: str
    """`loading`, `ready`, `draining`, `failed` or `stalled`."""
    models: dict[str, int]
    """The latest version that serves, by model."""
    failures: dict[str, str]
    """Why versions do not serve, by `model/version`."""
    trouble: list[str]
    """What else an operator should know, such as folders that are gone."""


@router.get("/livez", response_model=Status, responses={503: {"model": Status}})
async def livez(service: RunningService) -> Response:
    """Answers 200 as long as the event loop turns, and 503 once some work of the service does not end."""
    if service.lifecycle.phase is Phase.STALLED:
        return JSONResponse({"status": Phase.STALLED}, HTTPStatus.SERVICE_UNAVAILABLE)
    return JSONResponse({"status": "alive"})


@router.get("/readyz", response_model=Status, responses={503: {"model": Status}})
async def readyz(service: RunningService) -> Response:
    """Answers 200 while forecasts are served, and 503 while the service loads, drains or has failed."""
    phase = service.lifecycle.phase
    return JSONResponse({"status": phase}, _status_code(phase))


@router.get("/healthz", response_model=Health, responses={503: {"model": Health}})
async def healthz(service: RunningService) -> Response:
    """Answers as `/readyz` does, with the versions that serve and the versions that could not be loaded."""
    phase = service.lifecycle.phase
    repository = service.repository
    content = {
        "status": phase,
        "models": {name: model.latest.version for name, model in service.catalogue.models().items()},
        "failures": repository.statuses.failures(),
        "trouble": repository.trouble,
    }
    return JSONResponse(content, _status_code(phase))


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(service: RunningService) -> Response:
    """Gives counters and histograms in Prometheus' text format."""
    service.flush()
    return Response(await service.exposition(), media_type=CONTENT_TYPE_LATEST)


def _status_code(phase: Phase) -> HTTPStatus:
    return HTTPStatus.OK if phase is Phase.READY else HTTPStatus.SERVICE_UNAVAILABLE
