"""Errors as answers: RFC 9457 problem details on the native routes, `{"error": ...}` in the drop-in protocols.

The service's own errors, the framework's and those of request validation have one shape.
"""

from collections.abc import Iterator
from typing import Annotated, NoReturn

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from app.api.direct import Answer
from app.errors import (
    InternalError,
    InvalidRequest,
    LocatedError,
    MethodNotAllowed,
    NotFound,
    PredictionFailed,
    ServiceError,
)

METHODS = "GET", "HEAD", "POST", "PUT", "DELETE"
"""All methods that paths of the framework's part take."""

MEDIA_TYPE = "application/problem+json"
MAX_BYTES = 4096
MAX_MESSAGE_CHARACTERS = 600

MAX_ERROR_CHARACTERS = 600
"""Longest text of a plain error. JSON may make six bytes of a character, and the answer has less than 4 KiB."""


class ProblemError(BaseModel, use_attribute_docstrings=True):
    """One mistake in a request."""

    pointer: str
    """A JSON pointer (RFC 6901) into the body, or `?name` for a query parameter."""
    message: str
    """What was expected there, and what came."""


class Problem(BaseModel, use_attribute_docstrings=True):
    """An answer that is not a forecast (RFC 9457)."""

    type: Annotated[str, Field(examples=["urn:windowcast:invalid-request"])]
    """The error's name, for programs."""
    title: Annotated[str, Field(examples=["Invalid request"])]
    """The error in a few words."""
    status: Annotated[int, Field(examples=[422])]
    """The HTTP status."""
    detail: Annotated[
        str | None, Field(examples=["The request does not fit the model's contract; `errors` says where."])
    ]
    """One sentence for people."""
    errors: list[ProblemError] | None = None
    """The first mistakes in the request."""
    request_id: str | None = None
    """Where the service failed: the id under which its log says why."""


def problem_answer(error: ServiceError, request_id: str) -> Answer:
    """Returns the error as problem+json of at most `MAX_BYTES`. A fault of ours tells its request id only."""
    problem: dict[str, object] = {
        "type": f"urn:windowcast:{error.slug}",
        "title": error.title,
        "status": error.status.value,
    }
    if isinstance(error, InternalError | PredictionFailed):
        problem["request_id"] = request_id
    else:
        problem["detail"] = error.detail
    return _answer(error, MEDIA_TYPE, _bounded(problem, error.errors))


def plain_answer(error: ServiceError, request_id: str) -> Answer:
    """Returns the error as TensorFlow Serving and the Open Inference Protocol have it. A fault of ours tells its id."""
    text = error.detail
    if isinstance(error, InternalError | PredictionFailed):
        text = f"{text} Request id: {request_id}"
    return _answer(error, "application/json", orjson.dumps({"error": text[:MAX_ERROR_CHARACTERS]}))


def _answer(error: ServiceError, media_type: str, body: bytes) -> Answer:
    headers = {"content-type": media_type, **{name.lower(): value for name, value in error.headers.items()}}
    return Answer(body, [(name.encode(), value.encode()) for name, value in headers.items()], error.status.value)


def _bounded(problem: dict[str, object], errors: tuple[LocatedError, ...]) -> bytes:
    """Writes the problem with as many of its located errors as fit."""
    if not errors:
        return orjson.dumps(problem)
    located = [{"pointer": error.pointer, "message": error.message[:MAX_MESSAGE_CHARACTERS]} for error in errors]
    while len(body := orjson.dumps({**problem, "errors": located})) > MAX_BYTES and len(located) > 1:
        located.pop()
    return body


def invalid_query(error: ValidationError | RequestValidationError) -> ServiceError:
    """Returns the error for a query, parameter by parameter."""
    return InvalidRequest(
        [LocatedError(f"?{(finding['loc'] or ('',))[-1]}", finding["msg"]) for finding in error.errors()]
    )


async def _handle_http_exception(request: Request, error: Exception) -> NoReturn:
    """Words the framework's own errors: no such path, or a wrong method."""
    is_known = "Allow" in (getattr(error, "headers", None) or {})
    raise (MethodNotAllowed(", ".join(_methods_of(request))) if is_known else NotFound()) from None


def _methods_of(request: Request) -> Iterator[str]:
    """Yields the methods that a path takes. The framework's `Allow` has those of one route of the path."""
    for method in METHODS:
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes):
            yield method


async def _handle_invalid_query(_: Request, error: Exception) -> NoReturn:
    if not isinstance(error, RequestValidationError):
        raise error
    raise invalid_query(error) from None


def add_problem_handlers(app: FastAPI) -> None:
    """Turns the framework's own errors into ours. `app.api.middleware` answers them."""
    app.add_exception_handler(HTTPException, _handle_http_exception)
    app.add_exception_handler(RequestValidationError, _handle_invalid_query)
