"""TensorFlow Serving's REST API under `/v1`. Its clients need nothing but another address.

    POST /v1/models/NAME[/versions/3|/labels/canary]:predict     rows as `instances`, columns as `inputs`
    GET  /v1/models/NAME[/versions/3|/labels/canary]             where the versions stand
    GET  /v1/models/NAME[/versions/3|/labels/canary]/metadata    the signature
    GET  /v1/models                                              names, as KServe lists them

Paths, bodies, statuses and the texts of errors are TensorFlow Serving's, with these exceptions:

- No error repeats a value of the body. Where TensorFlow Serving quotes the value, the text says where the value stands.
  Names of a model, a label, a signature or a path are repeated as clients expect them, quoted and cut.
- Tensors must have the shapes of the signature, and in column form equally many rows. NaN and Infinity are refused
  unless the settings allow them in bodies and answers. Integers beyond 2^24 are rounded to float32.
- `classify` and `regress` are not implemented. Metadata tells all signatures, but only `serving_default` serves.
  Metadata leaves out the values of a signature's defaults.
- Some texts say more: `; input x takes shape [4,2]`, or how many rows the inputs have.
- Answers are compact. TensorFlow Serving indents them.
- Bodies may be encoded as deflate, too.
- Refusals for lack of time, room or readiness have the statuses of this service: 408, 413, 415, 503, 504.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import orjson

from app.api.admission import Asked
from app.api.body import QUICK_BYTES, SMALL_BYTES
from app.api.direct import Answer, Header, Request, raw_route_path
from app.api.forecasting import Decoded, Dialect, Forecasting
from app.api.problems import plain_answer
from app.api.schemas import About, ModelNames, ModelStatus, PredictAnswer, PredictRequest, SavedModelMetadata
from app.arrays import Array, Inputs
from app.errors import InvalidArgument, NoSuchServable, Unimplemented
from app.payloads.names import quoted
from app.payloads.sizes import Largest
from app.payloads.tfserving.document import Orientation
from app.payloads.tfserving.reading import BodyReader
from app.payloads.tfserving.writing import write_answer
from app.serving.catalogue import Catalogue, Miss, ServedVersion
from app.serving.loading import LoadedVersion
from app.serving.service import Service
from app.serving.states import State, Status
from app.settings import Settings

CONTENT_TYPE: tuple[Header, ...] = ((b"content-type", b"application/json"),)

MAX_PATH_CHARACTERS = 200
"""Longest part of a caller's path that an error repeats."""

KNOWN_PATHS = 256
"""How many different paths are remembered with their meaning."""

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


@dataclass(frozen=True, slots=True)
class Route:
    """Paths of one form.

    Attributes:
        method: The only method that the paths take.
        path: The form of the paths, with names in braces. Logs and metrics name the route by its form.
        about: What the documentation says of the route; None where every request is refused.
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
        action: `predict`, `metadata` and so on; empty for the status.
        route: The route of the path.
    """

    model: str
    version: int | None
    label: str | None
    action: str
    route: Route

    @classmethod
    def of(cls, method: str, path: str) -> "Target":
        """Reads a path with its percent signs.

        Raises:
            InvalidArgument: The API has no such path, or the path does not take this method.
        """
        pattern = {"POST": ACTION, "GET": RESOURCE}.get(method)
        match = pattern.fullmatch(path) if pattern else None
        if match is None:
            raise InvalidArgument(f"Malformed request: {method} {quoted(path, MAX_PATH_CHARACTERS)}")
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
    """Reads a short path, and remembers its meaning: most requests have the same path."""
    return Target.of(method, path)


def _numeric(digits: str) -> int:
    significant = digits.lstrip("0") or "0"
    if len(significant) > len(str(MAX_VERSION)) or int(significant) > MAX_VERSION:
        raise InvalidArgument(f"Failed to convert version: {quoted(digits)} to numeric.")
    return int(significant)


class PredictDialect(Dialect[Request, Orientation, Answer]):
    """The dialect of one `:predict`.

    Args:
        target: What the path asks for.
        settings: The service's settings.
    """

    def __init__(self, target: Target, settings: Settings) -> None:
        self._target = target
        self._settings = settings

    def select(self, _: Request, catalogue: Catalogue) -> ServedVersion:
        """Finds the version that the path names."""
        return _select(self._target, catalogue)

    def largest(self, _: Request, served: ServedVersion) -> Largest:
        """Works out the largest body, which has rows."""
        return self._reader(served).largest()

    def decode_at_once(self, asked: Request, served: ServedVersion) -> Decoded[Orientation] | None:
        """Reads a small body, or a body of the usual form."""
        if asked.size <= SMALL_BYTES:
            return self.decode(asked, served)
        usual = self._reader(served).read_usual(asked.body) if asked.size <= QUICK_BYTES else None
        return None if usual is None else self._decoded(*usual)

    def decode(self, asked: Request, served: ServedVersion) -> Decoded[Orientation]:
        """Reads rows or columns."""
        return self._decoded(*self._reader(served).read(asked.body))

    def _reader(self, served: ServedVersion) -> BodyReader:
        return BodyReader(served.loaded.signature.inputs, served.max_windows, allow_nan=self._settings.allow_nan)

    def _decoded(self, orientation: Orientation, inputs: Inputs) -> Decoded[Orientation]:
        return Decoded(inputs, context=orientation, allow_nan=self._settings.allow_nan)

    def encode(self, served: ServedVersion, forecasts: Array, context: Orientation) -> Answer:
        """Writes rows for rows, and columns for columns."""
        return Answer(write_answer(context, served.loaded.signature.outputs, forecasts), CONTENT_TYPE)


class TFServing:
    """The API, as a direct route.

    Args:
        service: The running service.
        forecasting: The pipeline.
    """

    title = "TensorFlow Serving"
    routes = tuple(ROUTES.values())

    def __init__(self, service: Service, forecasting: Forecasting) -> None:
        self._service = service
        self._forecasting = forecasting

    def asked_by(self, path: str, _: bytes) -> Asked | None:
        """Returns what a path with its percent signs asks for; None for anything but forecasts."""
        target = Target.of("POST", path) if ACTION.fullmatch(path) else None
        if target is None or target.action != "predict":
            return None
        return Asked("tfserving", target.route.path, plain_answer, target.model, target.version, target.label)

    async def answer(self, request: Request) -> Answer:
        """Answers a request.

        Raises:
            ServiceError: The request gets no answer but an error.
        """
        scope = request.scope
        path = raw_route_path(scope)
        if scope["method"] == "GET" and path.lower() == MODELS_PATH:
            request.exchange.route = MODELS_PATH
            return self._list_models()
        target = (_target if len(path) <= MAX_PATH_CHARACTERS else Target.of)(scope["method"], path)
        request.exchange.route = target.route.path
        match target.action:
            case "":
                return self._tell_status(target)
            case "metadata":
                self._service.check_ready()
                return _json(metadata_of(_select(target, self._service.catalogue).loaded))
            case "predict":
                return await self._forecasting.answer(request, PredictDialect(target, self._service.settings))
            case _:
                raise Unimplemented(target.action, "it takes tf.Example, not windows. Send tensors to :predict.")

    def _list_models(self) -> Answer:
        self._service.check_ready()
        return _json({"models": list(self._service.catalogue.models())})

    def _tell_status(self, target: Target) -> Answer:
        """Tells where versions stand, the highest first, or where one version stands; during loading, too."""
        name = quoted(target.model)
        version = target.version if target.label is None else self._labelled(target)
        statuses = self._service.repository.statuses.of(target.model)
        if not statuses:
            self._service.check_ready()
            raise NoSuchServable(f"Could not find any versions of model {name}")
        if version is not None and version not in statuses:
            raise NoSuchServable(f"Could not find version {version} of model {name}")
        wanted = [version] if version is not None else sorted(statuses, reverse=True)
        return _json({"model_version_status": [_status(number, statuses[number]) for number in wanted]})

    def _labelled(self, target: Target) -> int:
        """Returns the version that a label stands for."""
        model = self._service.catalogue.model(target.model)
        version = model.labels.get(target.label or "") if model else None
        if version is None:
            self._service.check_ready()
            raise _no_such_label(target)
        return version


def _select(target: Target, catalogue: Catalogue) -> ServedVersion:
    """Finds the version that a path names, with a miss in TensorFlow Serving's words."""
    try:
        return catalogue.find(target.model, target.version, target.label)
    except Miss:
        if target.label is not None:
            raise _no_such_label(target) from None
        name, version = quoted(target.model), target.version
        wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
        raise NoSuchServable(f"Servable not found for request: {wanted}") from None


def _no_such_label(target: Target) -> InvalidArgument:
    return InvalidArgument(f"Unrecognized servable version label: {quoted(target.label or '')}")


def _json(content: object) -> Answer:
    return Answer(orjson.dumps(content), CONTENT_TYPE)


def _status(version: int, status: Status) -> dict[str, object]:
    failed = status.state is State.FAILED
    outcome = {"error_code": "UNKNOWN" if failed else "OK", "error_message": status.reason if failed else ""}
    return {"version": str(version), "state": STATES[status.state], "status": outcome}


def metadata_of(loaded: LoadedVersion) -> dict[str, Any]:
    """Returns the metadata of a version: all its signatures."""
    return {
        "model_spec": {"name": loaded.name, "signature_name": "", "version": str(loaded.version)},
        "metadata": {"signature_def": {"signature_def": loaded.signatures}},
    }
