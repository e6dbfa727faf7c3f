"""The Open Inference Protocol under `/v2`, with the extensions of it that Triton's own clients rely on.

A wrong request is answered with 400. The exceptions: 404 for an unknown path, model or version, 405 for a wrong method,
408 for a slow body, 413 for a large body, 415 for an unknown encoding. A fault of the service is 500, a lack of room or
readiness 503, a lack of time 504.

Only policies load and release versions. Every window is forecast by itself, so there are no sequences.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from app import __version__
from app.api import schemas
from app.api.admission import Asked
from app.api.body import QUICK_BYTES, SMALL_BYTES, deflate, wanted_encoding
from app.api.dependencies import find
from app.api.direct import Answer, Request, route_path
from app.api.forecasting import Decoded, Dialect, Forecasting
from app.api.problems import plain_answer
from app.api.schemas import About
from app.arrays import Array
from app.errors import InvalidArgument, MethodNotAllowed, ModelNotReady, NotFound
from app.payloads.open_inference.document import LENGTH_HEADER, document_length, parse_document
from app.payloads.open_inference.reading import InferRequest, InferRequestReader
from app.payloads.open_inference.tensors import datatype_of
from app.payloads.open_inference.triton import PLATFORM, configured_tensors, statistics
from app.payloads.open_inference.writing import write_answer
from app.payloads.sizes import NO_WINDOWS, Largest
from app.process.lifecycle import Phase
from app.serving.catalogue import Catalogue, ServedVersion
from app.serving.policies import Policy
from app.serving.service import Service
from app.serving.states import State, Status
from app.telemetry.figures import Figures
from app.version.manifest import VERSION_PATTERN
from app.version.signature import TensorSpec

PREFIX = "/v2"

EXTENSIONS = ("binary_tensor_data", "model_configuration", "statistics")


STATES = {State.AVAILABLE: "READY", State.LOADING: "LOADING"}

NOT_SERVING = "UNAVAILABLE"


DOCUMENT_LENGTH = LENGTH_HEADER.lower().encode()
"""The name of the header as ASGI has it."""

JSON, BYTES = b"application/json", b"application/octet-stream"


@dataclass(frozen=True)
class Route:
    """Paths of one form, and the function that answers them.

    Attributes:
        method: The only method that the paths take.
        path: The form of the paths, with names in braces.
        answer: Answers a request, given the values of the names.
        about: What the documentation says of the route; None where every request is refused.
    """

    method: str
    path: str
    answer: Callable[..., Awaitable[Answer]]
    about: About | None

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The regular expression that matches the paths."""
        return re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", self.path))


INFER = About("Forecasts the rows that follow each window.", schemas.InferAnswer, schemas.InferRequest, is_binary=True)
LIVE = About("Tells that the service runs.", schemas.ServerLive)
READY = About("Tells that the service takes requests.", schemas.ServerReady)
SERVER = About("Tells the service's release and extensions.", schemas.ServerMetadata)
ALL_STATS = About("Tells the figures of all versions that serve.", schemas.ModelStatistics)
MODEL_READY = About("Tells that the model serves.", schemas.ModelReady)
DESCRIBE = About("Tells the versions that serve, and their tensors.", schemas.ModelMetadata)
CONFIGURATION = About("Tells the configuration that Triton would have of it.", schemas.ModelConfiguration)
STATS = About("Tells the figures of the model's versions that serve.", schemas.ModelStatistics)
INDEX = About("Tells where every version stands.", schemas.RepositoryIndex, schemas.IndexRequest)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an answer should hold, and its encoding.

    Attributes:
        infer: The request's document.
        encoding: The content encoding that the request prefers, if any.
    """

    infer: InferRequest
    encoding: bytes | None


class InferDialect(Dialect[Request, Wanted, Answer]):
    """The dialect of one `infer`.

    Args:
        model: The model that the path names.
        version: The version that the path names, if any.
    """

    def __init__(self, model: str, version: str | None) -> None:
        self._model = model
        self._version = version

    def select(self, _: Request, catalogue: Catalogue) -> ServedVersion:
        """Finds the version that the path names."""
        return find(catalogue, self._model, _number(self._version))

    def largest(self, _: Request, served: ServedVersion) -> Largest:
        """Works out the largest body, which has all numbers in its document."""
        return self._reader(served).largest()

    def decode_at_once(self, asked: Request, served: ServedVersion) -> Decoded[Wanted] | None:
        """Reads a small body, or tensors as bytes behind a small document."""
        length = asked.headers.get(DOCUMENT_LENGTH)
        document_bytes = asked.size if length is None else document_length(length, asked.size)
        is_quick = document_bytes <= SMALL_BYTES and asked.size <= QUICK_BYTES
        return self.decode(asked, served) if is_quick else None

    def decode(self, asked: Request, served: ServedVersion) -> Decoded[Wanted]:
        """Reads the tensors. What else the request asks for goes to the encoder."""
        infer = self._reader(served).read(asked.body, asked.headers.get(DOCUMENT_LENGTH))
        wanted = Wanted(infer, wanted_encoding(asked.headers))
        return Decoded(infer.inputs, context=wanted, timeout_seconds=infer.timeout_seconds)

    def _reader(self, served: ServedVersion) -> InferRequestReader:
        return InferRequestReader(served.name, served.loaded.signature, served.max_windows)

    def encode(self, served: ServedVersion, forecasts: Array, context: Wanted) -> Answer:
        """Writes the tensors that the request asks for, in the encoding that it prefers."""
        body, document_bytes = write_answer(
            served.name, served.version, served.loaded.signature, context.infer, forecasts
        )
        headers = [(b"content-type", JSON if document_bytes is None else BYTES)]
        if document_bytes is not None:
            headers.append((LENGTH_HEADER.encode(), b"%d" % document_bytes))
        if context.encoding is not None:
            body = deflate(context.encoding, body)
            headers.append((b"content-encoding", context.encoding))
        return Answer(body, headers)


class OpenInference:
    """The protocol, as a direct route.

    Args:
        service: The running service.
        forecasting: The pipeline.

    Attributes:
        routes: The routes of all paths.
    """

    title = "Open Inference Protocol"

    def __init__(self, service: Service, forecasting: Forecasting) -> None:
        self._service = service
        self._forecasting = forecasting
        models = f"{PREFIX}/models"
        every_form = f"{models}/{{model}}", f"{models}/{{model}}/versions/{{version}}"
        self.routes = (
            *(Route("POST", f"{form}/infer", self._infer, INFER) for form in every_form),
            Route("GET", f"{PREFIX}/health/live", self._live, LIVE),
            Route("GET", f"{PREFIX}/health/ready", self._ready, READY),
            *(Route("GET", f"{form}/ready", self._model_ready, MODEL_READY) for form in every_form),
            Route("GET", PREFIX, self._describe_server, SERVER),
            Route("GET", f"{models}/stats", self._stats, ALL_STATS),
            *(Route("GET", form, self._describe, DESCRIBE) for form in every_form),
            *(Route("GET", f"{form}/config", self._configuration, CONFIGURATION) for form in every_form),
            *(Route("GET", f"{form}/stats", self._stats, STATS) for form in every_form),
            Route("POST", f"{PREFIX}/repository/index", self._index, INDEX),
            Route("POST", f"{PREFIX}/repository/models/{{model}}/load", self._refuse_control, None),
            Route("POST", f"{PREFIX}/repository/models/{{model}}/unload", self._refuse_control, None),
        )

    def asked_by(self, path: str, _: bytes) -> Asked | None:
        """Returns what a path asks for; None for anything but forecasts, and for a path with percent signs."""
        if not path.startswith(f"{PREFIX}/") or "%" in path:
            return None
        route, names = self._route_of(path)
        if route.about is not INFER:
            return None
        return Asked("inference", route.path, plain_answer, names["model"], _number(names.get("version")))

    async def answer(self, request: Request) -> Answer:
        """Answers a request.

        Raises:
            ServiceError: The request gets no answer but an error.
        """
        route, names = self._route_of(route_path(request.scope))
        request.exchange.route = route.path
        if request.scope["method"] != route.method:
            raise MethodNotAllowed(route.method)
        return await route.answer(request, **names)

    def _route_of(self, path: str) -> tuple[Route, dict[str, str]]:
        path = PREFIX if path == f"{PREFIX}/" else path
        for route in self.routes:
            if match := route.pattern.fullmatch(path):
                return route, match.groupdict()
        raise NotFound

    def _resolve(self, model: str, version: str | None) -> ServedVersion:
        self._service.check_ready()
        return find(self._service.catalogue, model, _number(version))

    async def _infer(self, request: Request, model: str, version: str | None = None) -> Answer:
        return await self._forecasting.answer(request, InferDialect(model, version))

    async def _live(self, _: Request) -> Answer:
        if self._service.lifecycle.phase is Phase.STALLED:
            self._service.check_ready()
        return _json({"live": True})

    async def _ready(self, _: Request) -> Answer:
        self._check_phase()
        return _json({"ready": True})

    def _check_phase(self) -> None:
        """Checks that the service is ready: loaded, and not asked to stop."""
        self._service.check_ready()
        if self._service.lifecycle.phase is not Phase.READY:
            raise ModelNotReady("the service stops")

    async def _model_ready(self, _: Request, model: str, version: str | None = None) -> Answer:
        self._check_phase()
        try:
            self._resolve(model, version)
        except NotFound:
            known = self._service.repository.statuses.of(model)
            if known and (version is None or _number(version) in known):
                raise ModelNotReady("it does not serve; POST /v2/repository/index says why") from None
            raise
        return _json({"name": model, "ready": True})

    async def _describe_server(self, _: Request) -> Answer:
        return _json({"name": "windowcast", "version": __version__, "extensions": EXTENSIONS})

    async def _describe(self, _: Request, model: str, version: str | None = None) -> Answer:
        serving = self._serving(model, version)
        signature = serving[-1].loaded.signature
        return _json(
            {
                "name": model,
                "versions": [str(served.version) for served in serving],
                "platform": PLATFORM,
                "inputs": _described(signature.inputs.tensors),
                "outputs": _described(signature.outputs.tensors),
            }
        )

    async def _configuration(self, _: Request, model: str, version: str | None = None) -> Answer:
        served = self._resolve(model, version)
        signature = served.loaded.signature
        return _json(
            {
                "name": model,
                "platform": PLATFORM,
                "version_policy": _version_policy(self._service.repository.policies.of(model)),
                "max_batch_size": served.max_windows,
                "input": configured_tensors(signature.inputs.tensors),
                "output": configured_tensors(signature.outputs.tensors),
                "dynamic_batching": {"max_queue_delay_microseconds": 0},
            }
        )

    async def _stats(self, _: Request, model: str | None = None, version: str | None = None) -> Answer:
        serving = self._all_serving() if model is None else self._serving(model, version)
        self._service.flush()
        figures = await self._service.figures()
        keys = [(served.name, served.version) for served in serving]
        stats = [statistics(*key, figures.get(key) or Figures()) for key in keys]
        return _json({"model_stats": stats})

    def _serving(self, model: str, version: str | None) -> list[ServedVersion]:
        """Returns the version that a path names, or all versions of the model that serve, ascending."""
        self._service.check_ready()
        found = self._service.catalogue.model(model)
        if version is not None or found is None:
            return [self._resolve(model, version)]
        return [*found.versions.values()]

    def _all_serving(self) -> list[ServedVersion]:
        self._service.check_ready()
        return [served for model in self._service.catalogue.models().values() for served in model.versions.values()]

    async def _index(self, request: Request) -> Answer:
        await request.read(lambda: NO_WINDOWS)
        only_ready = parse_document(request.body).get("ready", False) if request.body else False
        if not isinstance(only_ready, bool):
            raise InvalidArgument("expected ready to be true or false")
        return _json(
            [
                _index_entry(name, version, status)
                for name, statuses in self._service.repository.statuses.all().items()
                for version, status in statuses.items()
                if status.state is State.AVAILABLE or not only_ready
            ]
        )

    async def _refuse_control(self, _: Request, **__: str) -> Answer:
        raise InvalidArgument(
            "models are not loaded or unloaded by request: the policies file says which versions serve"
        )


def _number(version: str | None) -> int | None:
    """Returns the number of a version in a path; 0, which no version has, for anything that is no number."""
    if version is None:
        return None
    return int(version) if re.fullmatch(VERSION_PATTERN, version) else 0


def _json(content: object) -> Answer:
    return Answer(orjson.dumps(content), [(b"content-type", JSON)])


def _described(tensors: Sequence[TensorSpec]) -> list[dict[str, Any]]:
    return [{"name": tensor.name, "datatype": datatype_of(tensor), "shape": [-1, *tensor.shape]} for tensor in tensors]


def _version_policy(policy: Policy) -> dict[str, Any]:
    """Describes the versions that a model should serve."""
    if policy.versions is not None:
        return {"specific": {"versions": policy.versions}}
    return {"latest": {"num_versions": policy.latest or 1}}


def _index_entry(name: str, version: int, status: Status) -> dict[str, str]:
    """Describes where a version stands, for the repository index."""
    state = STATES.get(status.state, NOT_SERVING)
    reason = status.reason or ("" if status.state in STATES else status.state.value)
    return {"name": name, "version": str(version), "state": state, "reason": reason}
