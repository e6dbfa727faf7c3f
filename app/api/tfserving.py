"""TensorFlow Serving's REST API under `/v1`, so that its clients need another address and nothing else.

    POST /v1/models/NAME[/versions/3|/labels/canary]:predict     rows as `instances`, columns as `inputs`
    GET  /v1/models/NAME[/versions/3|/labels/canary]             where the versions stand
    GET  /v1/models/NAME[/versions/3|/labels/canary]/metadata    the signature
    GET  /v1/models                                              names, as KServe lists them

Paths, bodies, statuses and the texts of errors are TensorFlow Serving's, but for these:

- No error repeats a value of the body: where TensorFlow Serving quotes it, the text says where it stands instead. Names
  (of a model, a label, a signature, or the path) are told back as clients expect it, quoted and cut.
- Tensors must have the shapes of the signature, and in column form equally many rows. NaN and Infinity are refused
  unless the settings allow them, and then they are given, too. Integers beyond 2^24 are taken, rounded to float32.
- `classify` and `regress` are not implemented. Metadata tells all signatures, but only `serving_default` serves; the
  values of a signature's defaults are left out.
- Texts say more where that helps: `; input x takes shape [4,2]`, or how many rows the inputs have.
- Answers are compact: TensorFlow Serving indents them.
- Bodies may be encoded as deflate, too, not as gzip only.
- Refusals for lack of time, room or readiness have the statuses of this service: 408, 413, 415, 503, 504.
"""

import re
import time
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.body import inflatable_bytes, inflate
from app.api.direct import DECODING, ENCODING, Request, send_answer
from app.api.schemas import About, ModelNames, ModelStatus, PredictAnswer, PredictRequest, SavedModelMetadata
from app.errors import InternalError, InvalidArgument, PredictionFailed, ServiceError
from app.payloads.tfserving import BodyReader, shown, write_answer
from app.serving.loading import LoadedVersion
from app.serving.repository import ServedModel, ServedVersion, State, Status
from app.serving.service import Service

MEDIA_TYPE = "application/json"

MAX_ERROR_CHARACTERS = 640
"""Longest text of an error: whatever its characters, the answer has less than 4 KiB."""

MAX_PATH_CHARACTERS = 200
"""Longest part of a caller's path that an error tells back."""

KNOWN_PATHS = 256
"""Different paths whose meaning is remembered."""

MAX_VERSION = 2**63 - 1

SELECTION = r"/v1/models/([^/:]+)(?:/versions/([0-9]+)|/labels/([^/:]+))?"
ACTION = re.compile(rf"{SELECTION}:(classify|regress|predict)", re.IGNORECASE)
RESOURCE = re.compile(rf"{SELECTION}(?:/(metadata))?", re.IGNORECASE)
MODELS_PATH = "/v1/models"

STATES = {
    State.PENDING: "START",
    State.LOADING: "LOADING",
    State.AVAILABLE: "AVAILABLE",
    State.UNLOADING: "UNLOADING",
    State.FAILED: "END",
    State.ENDED: "END",
}


class NoSuchServable(ServiceError):
    """No such model or version."""

    status = HTTPStatus.NOT_FOUND
    title = "Not found"


class Unimplemented(ServiceError):
    """A part of the API that is not for forecasts."""

    status = HTTPStatus.NOT_IMPLEMENTED
    title = "Not implemented"

    def __init__(self, verb: str) -> None:
        super().__init__(f"{verb} is not implemented: it takes tf.Example, not windows. Send tensors to :predict.")


def answer_error(error: ServiceError, request_id: str) -> Response:
    """The error as TensorFlow Serving has it; an internal one tells the request's id."""
    text = error.detail
    if isinstance(error, InternalError | PredictionFailed):
        text = f"{text} The request's id is {request_id}."
    body = orjson.dumps({"error": text[:MAX_ERROR_CHARACTERS]})
    return Response(body, error.status, error.headers, MEDIA_TYPE)


@dataclass(frozen=True, slots=True)
class Route:
    """Paths of one form.

    Attributes:
        method: The only method that they take.
        path: Their form, with names in braces for what differs; the route's name in logs and metrics.
        about: What the documentation says of them; None where every request is refused.
    """

    method: str
    path: str
    about: About | None


MODELS_ROUTE = Route("GET", MODELS_PATH, About("Lists the models that serve.", ModelNames))

FORMS = (
    ("POST", ":predict", About("Forecasts the rows that follow each window.", PredictAnswer, PredictRequest)),
    ("GET", "", About("Tells where the versions stand.", ModelStatus)),
    ("GET", "/metadata", About("Tells the signatures.", SavedModelMetadata)),
    ("POST", ":classify", None),
    ("POST", ":regress", None),
)
SELECTIONS = "", "/versions/{version}", "/labels/{label}"

ROUTES = {
    route.path: route
    for route in (
        MODELS_ROUTE,
        *(
            Route(method, f"{MODELS_PATH}/{{model}}{selection}{ending}", about)
            for method, ending, about in FORMS
            for selection in SELECTIONS
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Target:
    """What a path asks for.

    Attributes:
        model: The model's name.
        version: The version, if the path has one.
        label: The version's label, if the path has one.
        action: `predict`, `metadata` and so on; nothing for the status.
        route: Of all paths like it.
    """

    model: str
    version: int | None
    label: str | None
    action: str
    route: Route

    @classmethod
    def of(cls, method: str, path: str) -> "Target":
        """Reads a path as it came, percent signs and all.

        Raises:
            InvalidArgument: The API has no such path, or not for this method.
        """
        pattern = {"POST": ACTION, "GET": RESOURCE}.get(method)
        match = pattern.fullmatch(path) if pattern else None
        if match is None:
            raise InvalidArgument(f"Malformed request: {method} {shown(path, MAX_PATH_CHARACTERS)}")
        model, version, label, action = match.groups()
        action = (action or "").lower()
        selection = "/versions/{version}" if version else "/labels/{label}" if label else ""
        ending = f"{':' if pattern is ACTION else '/'}{action}" if action else ""
        return cls(
            model=unquote(model),
            version=_numeric(version) if version else None,
            label=unquote(label) if label else None,
            action=action,
            route=ROUTES[f"{MODELS_PATH}/{{model}}{selection}{ending}"],
        )


@lru_cache(KNOWN_PATHS)
def _target(method: str, path: str) -> Target:
    """What a short path asks for, remembered: most requests ask for the same."""
    return Target.of(method, path)


def _numeric(digits: str) -> int:
    significant = digits.lstrip("0") or "0"
    if len(significant) > len(str(MAX_VERSION)) or int(significant) > MAX_VERSION:
        raise InvalidArgument(f"Failed to convert version: {shown(digits)} to numeric.")
    return int(significant)


class TFServing:
    """The API, as an ASGI application.

    Args:
        service: The running service.
    """

    title = "TensorFlow Serving"
    routes = tuple(ROUTES.values())

    def __init__(self, service: Service) -> None:
        self._service = service
        self._root_characters = len(service.settings.root_path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one ASGI connection."""
        body = await self._answer(Request(scope, receive))
        await send_answer(send, body, [(b"content-type", MEDIA_TYPE.encode())])

    async def _answer(self, request: Request) -> bytes:
        scope = request.scope
        path = scope["raw_path"].decode("ascii")[self._root_characters :]
        if scope["method"] == "GET" and path.lower() == MODELS_PATH:
            scope["route"] = MODELS_ROUTE
            return self._list_models()
        target = (_target if len(path) <= MAX_PATH_CHARACTERS else Target.of)(scope["method"], path)
        scope["route"] = target.route
        match target.action:
            case "":
                return self._tell_status(target)
            case "metadata":
                return orjson.dumps(metadata_of(self._select(target).loaded))
            case "predict":
                return await self._predict(request, self._select(target))
            case _:
                raise Unimplemented(target.action)

    def _list_models(self) -> bytes:
        self._service.check_ready()
        return orjson.dumps({"models": list(self._service.repository.models())})

    def _tell_status(self, target: Target) -> bytes:
        """Where the versions stand, the highest first, or the one that is asked for; while they are loaded, too."""
        name = shown(target.model)
        version = self._version(target, self._service.repository.model(target.model))
        statuses = self._service.repository.statuses().get(target.model)
        if not statuses:
            self._service.check_ready()
            raise NoSuchServable(f"Could not find any versions of model {name}")
        if version is not None and version not in statuses:
            raise NoSuchServable(f"Could not find version {version} of model {name}")
        wanted = [version] if version is not None else sorted(statuses, reverse=True)
        return orjson.dumps({"model_version_status": [_status(number, statuses[number]) for number in wanted]})

    def _version(self, target: Target, model: ServedModel | None) -> int | None:
        """The version that is asked for, by its label if need be; None for the latest."""
        if target.label is None:
            return target.version
        version = model.labels.get(target.label) if model else None
        if version is None:
            self._service.check_ready()
            raise InvalidArgument(f"Unrecognized servable version label: {shown(target.label)}")
        return version

    def _select(self, target: Target) -> ServedVersion:
        """The version that is asked for."""
        self._service.check_ready()
        model = self._service.repository.model(target.model)
        version = self._version(target, model)
        served = None if model is None else model.latest if version is None else model.versions.get(version)
        if served is None:
            name = shown(target.model)
            wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise NoSuchServable(f"Servable not found for request: {wanted}")
        return served

    async def _predict(self, request: Request, served: ServedVersion) -> bytes:
        request.scope["state"]["served"] = served  # whatever the answer, its headers and the metrics name the version
        settings = self._service.settings
        served.batcher.refuse_if_full()
        body = await request.body(settings)
        started = time.perf_counter()
        signature = served.loaded.signature
        reader = BodyReader(signature.inputs, settings.max_batch_windows, allow_nan=settings.allow_nan)
        body = inflate(request.headers, body, inflatable_bytes(settings, signature.inputs.window_numbers))
        orientation, windows = reader.read(body)
        request.note(DECODING, started)
        forecasts = await served.batcher.submit(windows, allow_nan=settings.allow_nan)
        started = time.perf_counter()
        written = write_answer(orientation, signature.outputs, forecasts)
        request.note(ENCODING, started)
        return written


def _status(version: int, status: Status) -> dict[str, object]:
    failed = status.state is State.FAILED
    outcome = {"error_code": "UNKNOWN" if failed else "OK", "error_message": status.reason if failed else ""}
    return {"version": str(version), "state": STATES[status.state], "status": outcome}


def metadata_of(loaded: LoadedVersion) -> dict[str, Any]:
    """What is told of a version: its signatures, all of them."""
    return {
        "model_spec": {"name": loaded.name, "signature_name": "", "version": str(loaded.version)},
        "metadata": {"signature_def": {"signature_def": loaded.signatures}},
    }
