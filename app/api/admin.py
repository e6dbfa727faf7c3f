"""What an operator may change while the service runs: the versions that serve, and their labels.

Every change is a change of the policies' file, which all workers follow. So a change survives a restart, and the file
always says what is wanted. The answer says what came of the change. The routes exist only where an admin key is set.
"""

import asyncio
import hmac
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from app.api.body import BodyLimit, read_body
from app.api.dependencies import LabelName, ModelName, RunningService
from app.api.direct import by_name
from app.errors import Conflict, MalformedBody, NotFound, Unauthorized
from app.payloads.parsing import invalid_body
from app.payloads.sizes import NO_WINDOWS
from app.serving import changes
from app.serving.policies import LatestCount, Policy, VersionList, VersionNumber
from app.serving.service import Service
from app.serving.states import State
from app.version.folders import versions

MAX_BODY_BYTES = 2**16


class Choice(BaseModel):
    """Which versions should serve: the `latest` so many, or the listed `versions`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    latest: LatestCount | None = None
    versions: VersionList | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> "Choice":
        if (self.latest is None) == (self.versions is None):
            raise ValueError("give either latest or versions")
        return self


class LabelTarget(BaseModel):
    """The version that a label should stand for."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: VersionNumber


class VersionState(BaseModel, use_attribute_docstrings=True):
    """Where a version stands, and why it does not serve although it should."""

    version: int
    """Its number."""
    state: State
    """Where it stands."""
    reason: str
    """Why it does not serve; empty where it serves."""


class ModelState(BaseModel, use_attribute_docstrings=True):
    """What a model should serve, and what it serves."""

    name: str
    """Its name."""
    policy: Policy
    """What should serve."""
    labels: dict[str, int]
    """The version that each label stands for now."""
    versions: list[VersionState]
    """What the service knows of each version."""


Body = TypeVar("Body", bound=BaseModel)


bearer = HTTPBearer(auto_error=False, description="The value of WINDOWCAST_ADMIN_KEY.")


async def check_key(
    service: RunningService, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
) -> None:
    """Checks that a request brings the admin key as a bearer token.

    Raises:
        Unauthorized: The key is missing or wrong.
    """
    key = service.settings.admin_key
    given = credentials.credentials if credentials is not None else ""
    if key is None or not hmac.compare_digest(given.encode(), key.get_secret_value().encode()):
        raise Unauthorized


router = APIRouter(prefix="/admin", tags=["admin"], dependencies=[Depends(check_key)])


async def _read(request: Request, service: Service, model: type[Body]) -> Body:
    body = await read_body(
        by_name(request.scope["headers"]),
        request.receive,
        BodyLimit(MAX_BODY_BYTES, lambda: NO_WINDOWS),
        service.arriving,
        service.settings.receive_timeout_seconds,
    )
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":
            raise MalformedBody from None
        raise invalid_body(error, takes=" or ".join(model.model_fields), contract="what this path takes") from None


def _json_body(model: type[BaseModel]) -> dict[str, Any]:
    """Returns the description of a body for OpenAPI. The routes here read their bodies themselves."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}}


@router.get("/models")
async def list_states(service: RunningService) -> list[ModelState]:
    """Tells what every model should serve, and what it serves."""
    service.check_ready()
    return [_state(service, name) for name in service.repository.statuses.all()]


@router.get("/models/{name}/state")
async def model_state(service: RunningService, name: ModelName) -> ModelState:
    """Tells what a model should serve, and what it serves."""
    _check_known(service, name)
    return _state(service, name)


@router.put("/models/{name}/policy", openapi_extra=_json_body(Choice))
async def set_policy(request: Request, service: RunningService, name: ModelName) -> ModelState:
    """Chooses the versions that should serve, and waits until they serve or fail. Labels stay as they are."""
    _check_known(service, name)
    choice = await _read(request, service, Choice)
    if choice.versions is not None:
        await asyncio.to_thread(_check_choice, service, name, choice.versions)
    await changes.choose_versions(service, name, changes.Choice(choice.latest, choice.versions))
    return _state(service, name)


@router.put("/models/{name}/labels/{label}", openapi_extra=_json_body(LabelTarget))
async def set_label(request: Request, service: RunningService, name: ModelName, label: LabelName) -> ModelState:
    """Puts a label on a version, which must serve already."""
    _check_known(service, name)
    target = await _read(request, service, LabelTarget)
    await changes.put_label(service, name, label, target.version)
    return _state(service, name)


@router.delete("/models/{name}/labels/{label}")
async def remove_label(service: RunningService, name: ModelName, label: LabelName) -> ModelState:
    """Removes a label, if there is one."""
    _check_known(service, name)
    await changes.remove_label(service, name, label)
    return _state(service, name)


@router.post("/refresh")
async def refresh(service: RunningService) -> list[ModelState]:
    """Looks for new versions and policies now, and waits until they serve or fail."""
    service.check_ready()
    await service.look_now()
    return await list_states(service)


def _check_choice(service: Service, name: str, chosen: list[int]) -> None:
    """Checks that a choice leaves something to serve. A slip must not keep the service from its next start."""
    if not chosen and name == service.settings.model:
        raise Conflict("The default model must serve; choose at least one of its versions.")
    model = service.catalogue.model(name)
    there = {*versions(service.settings.models_dir / name), *(model.versions if model else ())}
    if chosen and not there.intersection(chosen):
        raise Conflict("None of these versions exists; GET /admin/models/NAME/state lists those that are known.")


def _check_known(service: Service, name: str) -> None:
    service.check_ready()
    if not service.repository.statuses.of(name):
        raise NotFound("model", "GET /admin/models lists them.")


def _state(service: Service, name: str) -> ModelState:
    repository = service.repository
    model = service.catalogue.model(name)
    return ModelState(
        name=name,
        policy=repository.policies.of(name),
        labels=dict(model.labels) if model else {},
        versions=[
            VersionState(version=version, state=status.state, reason=status.reason)
            for version, status in sorted(repository.statuses.of(name).items())
        ],
    )
