"""The Open Inference Protocol under `/v2`, with the extensions of it that Triton's own clients rely on.

Whatever is wrong with a request is 400, but for 404 where nothing is there, 405 where a path takes another method, 408
where the body came too slowly, 413 where it is too large, and 415 where it is encoded in a way that is not read. What
went wrong with the service is 500, what it has no room for or is not ready for 503, what it had no time for 504.

Versions are loaded and let go of by policy only, and a window is forecast by itself, so that there are no sequences.
"""

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import orjson
from prometheus_client.samples import Sample
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app import __version__
from app.api import schemas
from app.api.body import deflate, inflatable_bytes, inflate, wanted_encoding
from app.api.direct import DECODING, ENCODING, Request, send_answer
from app.api.schemas import About
from app.arrays import Array
from app.errors import (
    DeadlinePassed,
    InternalError,
    InvalidArgument,
    MethodNotAllowed,
    ModelNotReady,
    NotFound,
    PredictionFailed,
    ServiceError,
)
from app.payloads.open_inference import (
    DATATYPE,
    LENGTH_HEADER,
    InferRequest,
    InferRequestReader,
    parse_document,
    write_answer,
)
from app.process.lifecycle import Phase
from app.serving.policies import Policy
from app.serving.repository import ServedVersion, State, Status
from app.serving.service import Service
from app.telemetry.metrics import registry
from app.version.manifest import VERSION_PATTERN
from app.version.signature import Layout

PREFIX = "/v2"

EXTENSIONS = ("binary_tensor_data", "model_configuration", "statistics")
PLATFORM = "tensorflow_savedmodel"
"""What a version is on disk, whatever computes it."""

STATES = {State.AVAILABLE: "READY", State.LOADING: "LOADING"}
NOT_SERVING = "UNAVAILABLE"

REQUESTS = "windowcast_request_seconds"
NOTHING = {"count": 0, "ns": 0}

JSON, BYTES = b"application/json", b"application/octet-stream"

MAX_ERROR_CHARACTERS = 600
"""Longest error told; JSON may make six bytes of a character."""

Answer: TypeAlias = tuple[bytes, list[tuple[bytes, bytes]]]
"""The body of an answer, and the headers that tell what it is."""


@dataclass(frozen=True)
class Route:
    """Paths of one form, and what answers there.

    Attributes:
        method: The only method that they take.
        path: Their form, with names in braces for what differs.
        answer: Answers a request, given what stands in place of the names.
        about: What the documentation says of them; None where every request is refused.
    """

    method: str
    path: str
    answer: Callable[..., Awaitable[Answer]]
    about: About | None

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The form as an expression that matches the paths."""
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


class Inference:
    """Every path of the protocol.

    Args:
        service: The running service.

    Attributes:
        routes: Of all its paths.
    """

    title = "Open Inference Protocol"

    def __init__(self, service: Service) -> None:
        self._service = service
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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one ASGI connection."""
        route, names = self._route_of(scope["path"].removeprefix(self._service.settings.root_path))
        scope["route"] = route
        if scope["method"] != route.method:
            raise MethodNotAllowed(route.method)
        body, headers = await route.answer(Request(scope, receive), **names)
        await send_answer(send, body, headers)

    def _route_of(self, path: str) -> tuple[Route, dict[str, str]]:
        path = PREFIX if path == f"{PREFIX}/" else path
        for route in self.routes:
            if match := route.pattern.fullmatch(path):
                return route, match.groupdict()
        raise NotFound

    def _resolve(self, model: str, version: str | None) -> ServedVersion:
        return self._service.resolve(model, _number(version))

    async def _infer(self, request: Request, model: str, version: str | None = None) -> Answer:
        served = self._resolve(model, version)
        request.scope["state"]["served"] = served
        served.batcher.refuse_if_full()
        asked = await self._read(request, served)
        forecasts = await self._forecast(served, asked)
        started = time.perf_counter()
        answer = _write(request, served, asked, forecasts)
        request.note(ENCODING, started)
        return answer

    async def _read(self, request: Request, served: ServedVersion) -> InferRequest:
        settings = self._service.settings
        body = await request.body(settings)
        started = time.perf_counter()
        signature = served.loaded.signature
        body = inflate(request.headers, body, inflatable_bytes(settings, signature.inputs.window_numbers))
        reader = InferRequestReader(served.name, signature, settings.max_batch_windows)
        asked = reader.read(body, request.headers.get(LENGTH_HEADER.lower().encode()))
        request.note(DECODING, started)
        return asked

    async def _forecast(self, served: ServedVersion, asked: InferRequest) -> Array:
        """The forecasts, unless the caller's own time for them is over; the service's may be over before."""
        seconds = asked.timeout_seconds
        if seconds is None:
            return await served.batcher.submit(asked.windows)
        try:
            async with asyncio.timeout(seconds):
                return await served.batcher.submit(asked.windows)
        except TimeoutError:
            raise DeadlinePassed(seconds) from None

    async def _live(self, _: Request) -> Answer:
        return _json({"live": True})

    async def _ready(self, _: Request) -> Answer:
        self._check_phase()
        return _json({"ready": True})

    def _check_phase(self) -> None:
        """Refuses to be called ready while loading, and from the moment on that a stop was asked for."""
        self._service.check_ready()
        if self._service.lifecycle.phase is not Phase.READY:
            raise ModelNotReady("the service stops")

    async def _model_ready(self, _: Request, model: str, version: str | None = None) -> Answer:
        self._check_phase()
        try:
            self._resolve(model, version)
        except NotFound:
            known = self._service.repository.statuses().get(model, {})
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
                "inputs": _described(signature.inputs),
                "outputs": _described(signature.outputs),
            }
        )

    async def _configuration(self, _: Request, model: str, version: str | None = None) -> Answer:
        signature = self._resolve(model, version).loaded.signature
        return _json(
            {
                "name": model,
                "platform": PLATFORM,
                "version_policy": _version_policy(self._service.repository.policies.of(model)),
                "max_batch_size": self._service.settings.max_batch_windows,
                "input": _configured(signature.inputs),
                "output": _configured(signature.outputs),
                "dynamic_batching": {"max_queue_delay_microseconds": 0},
            }
        )

    async def _stats(self, _: Request, model: str | None = None, version: str | None = None) -> Answer:
        serving = self._all_serving() if model is None else self._serving(model, version)
        samples = _samples()
        return _json({"model_stats": [_statistics(served, samples) for served in serving]})

    def _serving(self, model: str, version: str | None) -> list[ServedVersion]:
        """The versions that a path means, ascending: the one it names, or all that serve."""
        self._service.check_ready()
        found = self._service.repository.model(model)
        if version is not None or found is None:
            return [self._resolve(model, version)]
        return [*found.versions.values()]

    def _all_serving(self) -> list[ServedVersion]:
        self._service.check_ready()
        return [served for model in self._service.repository.models().values() for served in model.versions.values()]

    async def _index(self, request: Request) -> Answer:
        settings = self._service.settings
        body = inflate(request.headers, await request.body(settings), inflatable_bytes(settings, 0))
        only_ready = parse_document(body).get("ready", False) if body else False
        if not isinstance(only_ready, bool):
            raise InvalidArgument("expected ready to be true or false")
        return _json(
            [
                _indexed(name, version, status)
                for name, statuses in self._service.repository.statuses().items()
                for version, status in statuses.items()
                if status.state is State.AVAILABLE or not only_ready
            ]
        )

    async def _refuse_control(self, _: Request, **__: str) -> Answer:
        raise InvalidArgument(
            "models are not loaded or unloaded by request: the policies file says which versions serve"
        )


def answer_error(error: ServiceError, request_id: str) -> Response:
    """The error as the protocol has it; one of the service's own tells the request id under which the log says more."""
    text = error.detail
    if isinstance(error, InternalError | PredictionFailed):
        text = f"{text} Request id: {request_id}"
    body = orjson.dumps({"error": text[:MAX_ERROR_CHARACTERS]})
    return Response(body, error.status, error.headers, JSON.decode())


def _number(version: str | None) -> int | None:
    """A version as it stands in a path; one that no version can have is 0, which none has."""
    if version is None:
        return None
    return int(version) if re.fullmatch(VERSION_PATTERN, version) else 0


def _write(request: Request, served: ServedVersion, asked: InferRequest, forecasts: Array) -> Answer:
    body, document_bytes = write_answer(served.name, served.version, served.loaded.signature, asked, forecasts)
    headers = [(b"content-type", JSON if document_bytes is None else BYTES)]
    if document_bytes is not None:
        headers.append((LENGTH_HEADER.encode(), b"%d" % document_bytes))
    encoding = wanted_encoding(request.headers)
    if encoding is not None:
        body = deflate(encoding, body)
        headers.append((b"content-encoding", encoding))
    return body, headers


def _json(content: object) -> Answer:
    return orjson.dumps(content), [(b"content-type", JSON)]


def _described(layout: Layout) -> list[dict[str, Any]]:
    return [{"name": tensor.name, "datatype": DATATYPE, "shape": [-1, *tensor.shape]} for tensor in layout.tensors]


def _configured(layout: Layout) -> list[dict[str, Any]]:
    """The tensors as a configuration has them, without the batch."""
    return [{"name": tensor.name, "data_type": f"TYPE_{DATATYPE}", "dims": tensor.shape} for tensor in layout.tensors]


def _version_policy(policy: Policy) -> dict[str, Any]:
    if policy.versions is not None:
        return {"specific": {"versions": policy.versions}}
    return {"latest": {"num_versions": policy.latest or 1}}


def _indexed(name: str, version: int, status: Status) -> dict[str, str]:
    state = STATES.get(status.state, NOT_SERVING)
    reason = status.reason or ("" if status.state in STATES else status.state.value)
    return {"name": name, "version": str(version), "state": state, "reason": reason}


def _samples() -> dict[tuple[str, str], list[Sample]]:
    """What the workers have counted, by model and version; of histograms the sums, and how many values they are of."""
    samples = defaultdict(list)
    for metric in registry().collect():
        for sample in metric.samples:
            if {"model", "version"} <= sample.labels.keys() and not sample.name.endswith("_bucket"):
                samples[sample.labels["model"], sample.labels["version"]].append(sample)
    return samples


def _statistics(served: ServedVersion, samples: Mapping[tuple[str, str], Sequence[Sample]]) -> dict[str, Any]:
    """The figures of a version. Times in the engine are counted by call, all others by request."""
    own = samples.get((served.name, str(served.version)), ())
    requests = [sample for sample in own if sample.name.startswith(REQUESTS)]
    success = [sample for sample in requests if sample.labels["outcome"] == "ok"]
    fail = [sample for sample in requests if sample.labels["outcome"] != "ok"]
    return {
        "name": served.name,
        "version": str(served.version),
        "last_inference": round(1000 * _total(own, "windowcast_last_prediction_timestamp_seconds")),
        "inference_count": round(_total(own, "windowcast_batch_windows_sum")),
        "execution_count": round(_total(own, "windowcast_batch_windows_count")),
        "inference_stats": {
            "success": _duration(success, REQUESTS),
            "fail": _duration(fail, REQUESTS),
            "queue": _duration(own, "windowcast_queue_seconds"),
            "compute_input": _duration(own, "windowcast_decoding_seconds"),
            "compute_infer": _duration(own, "windowcast_engine_seconds"),
            "compute_output": _duration(own, "windowcast_encoding_seconds"),
            "cache_hit": NOTHING,
            "cache_miss": NOTHING,
        },
        "response_stats": {},
        "batch_stats": [],
        "memory_usage": [],
    }


def _duration(samples: Sequence[Sample], metric: str) -> dict[str, int]:
    """How often something was timed, and how long it took altogether."""
    return {"count": round(_total(samples, f"{metric}_count")), "ns": round(1e9 * _total(samples, f"{metric}_sum"))}


def _total(samples: Sequence[Sample], name: str) -> float:
    return sum(sample.value for sample in samples if sample.name == name)
