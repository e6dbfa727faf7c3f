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

import json
import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.direct import DECODING, ENCODING, Request, send_answer
from app.api.schemas import About, ModelNames, ModelStatus, PredictAnswer, PredictRequest, SavedModelMetadata
from app.body import inflatable_bytes, inflate
from app.errors import BatchTooLarge, InternalError, InvalidArgument, PredictionFailed, ServiceError
from app.repository import ServedModel, ServedVersion, State, Status
from app.service import Service
from app.signature import Layout, TensorSpec
from app.skeleton import Form, SkeletonReader, nested
from app.versions import LoadedVersion
from app.windows import FLOAT32_MAX, NUMBER_TYPES, Array, collector_paused, flatten, to_float32, to_float64

MEDIA_TYPE = "application/json"

MAX_ERROR_CHARACTERS = 640
"""Longest text of an error: whatever its characters, the answer has less than 4 KiB."""

MAX_NAME_CHARACTERS = 64
"""Longest part of a caller's name that an error tells back."""

MAX_PATH_CHARACTERS = 200
"""Longest part of a caller's path that an error tells back."""

KNOWN_PATHS = 256
"""Different paths whose meaning is remembered."""

MAX_READERS = 128
"""Different orientations and shapes of rows whose reader is kept."""

MAX_VERSION = 2**63 - 1

SIGNATURE = "serving_default"

SELECTION = r"/v1/models/([^/:]+)(?:/versions/([0-9]+)|/labels/([^/:]+))?"
ACTION = re.compile(rf"{SELECTION}:(classify|regress|predict)", re.IGNORECASE)
RESOURCE = re.compile(rf"{SELECTION}(?:/(metadata))?", re.IGNORECASE)
MODELS_PATH = "/v1/models"

JSON_SPACE = " \t\r\n"
NULL = re.compile(rb"null")

JSON_TYPES = {str: "String", type(None): "Null", dict: "Object", list: "Array"}

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
            raise InvalidArgument(f"Malformed request: {method} {_shown(path, MAX_PATH_CHARACTERS)}")
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
        raise InvalidArgument(f"Failed to convert version: {_shown(digits)} to numeric.")
    return int(significant)


class Orientation(Enum):
    """How a body gives tensors: the field that holds them, and the field that holds the answer's."""

    ROWS = "instances", b"predictions"
    COLUMNS = "inputs", b"outputs"

    def __init__(self, field: str, answer_field: bytes) -> None:
        self.field = field
        self.answer_field = answer_field


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
        name = _shown(target.model)
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
            raise InvalidArgument(f"Unrecognized servable version label: {_shown(target.label)}")
        return version

    def _select(self, target: Target) -> ServedVersion:
        """The version that is asked for."""
        self._service.check_ready()
        model = self._service.repository.model(target.model)
        version = self._version(target, model)
        served = None if model is None else model.latest if version is None else model.versions.get(version)
        if served is None:
            name = _shown(target.model)
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
        reader = BodyReader(signature.inputs, settings.max_batch_rows, allow_nan=settings.allow_nan)
        body = inflate(request.headers, body, inflatable_bytes(settings, signature.inputs.row_numbers))
        orientation, windows = reader.read(body)
        request.note(DECODING, started)
        forecasts = await served.batcher.submit(windows, allow_nan=settings.allow_nan)
        started = time.perf_counter()
        written = _write(orientation, signature.outputs, forecasts)
        request.note(ENCODING, started)
        return written


class Token(float):
    """NaN or Infinity as it stands in a body; a number that is too large has become infinite without being one."""

    __slots__ = ()


DECODER = json.JSONDecoder(parse_constant=Token)


class BodyReader:
    """Reads the body of a prediction.

    Args:
        inputs: The tensors that the model takes.
        max_rows: Most rows taken.
        allow_nan: Whether NaN and Infinity are taken.
    """

    def __init__(self, inputs: Layout, max_rows: int, *, allow_nan: bool) -> None:
        self._inputs = inputs
        self._tensors = inputs.tensors
        self._max_rows = max_rows
        self._allow_nan = allow_nan

    def read(self, body: bytes) -> tuple[Orientation, Array]:
        """The orientation of a body, and its windows (batch, steps, features).

        Raises:
            InvalidArgument: The body is not what the API or the signature says.
            BatchTooLarge: It has more rows than are taken.
        """
        if len(self._tensors) == 1:
            for orientation in Orientation:
                tensor = quick_reader(orientation, self._tensors[0].shape).read(body)
                if tensor is not None:
                    self._check_rows(len(tensor))
                    return orientation, self._inputs.join([tensor])
        content = _parse(body)
        orientation = _orientation(content)
        value = content[orientation.field]
        tensors = self._read_rows(value) if orientation is Orientation.ROWS else self._read_columns(value)
        return orientation, self._inputs.join(tensors)

    def _check_rows(self, rows: int) -> None:
        if rows > self._max_rows:
            raise BatchTooLarge(rows, self._max_rows)

    def _read_rows(self, instances: Any) -> list[Array]:
        if not isinstance(instances, list):
            raise _format_error(instances, "Excepting 'instances' to be an list/array")  # misspelt there, too
        if not instances:
            raise _format_error(instances, "No values in 'instances' array")
        self._check_rows(len(instances))
        if _is_object(instances[0]):
            return [self._stack(items, spec, f".{spec.name}") for spec, items in self._by_name(instances)]
        if len(self._tensors) > 1:
            raise InvalidArgument(
                "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
                "tensorinfo_map"
            )
        for index, element in enumerate(instances):
            if _is_object(element):
                raise InvalidArgument(f"Expecting value/list but got object at item {index} of input list")
        return [self._stack(instances, self._tensors[0], "")]

    def _by_name(self, instances: list[Any]) -> Iterable[tuple[TensorSpec, list[object]]]:
        """The values of each tensor in the objects, one of each object."""
        names = [spec.name for spec in self._tensors]
        for index, element in enumerate(instances):
            if not _is_object(element):
                raise InvalidArgument(f"Expecting object but got list at item {index} of input list")
            if element.keys() != set(names):
                raise InvalidArgument(
                    f"Failed to process element: {index} of 'instances' list. JSON object: (with {len(element)} keys) "
                    f"keys must be equal to: {','.join(names)}"
                )
        return [(spec, [element[spec.name] for element in instances]) for spec in self._tensors]

    def _stack(self, items: list[Any], spec: TensorSpec, field: str) -> Array:
        """One value for each row, as one tensor."""
        tensor = self._to_array(items, (len(items), *spec.shape))
        if tensor is not None:
            return tensor
        index = next(index for index, item in enumerate(items) if self._to_array(item, spec.shape) is None)
        problem = self._problem(items[index], spec.shape, f"instances[{index}]{field}", _takes(spec, spec.shape))
        key = f" key: {spec.name}" if field else ""
        raise InvalidArgument(
            f"Failed to process element: {index}{key} of 'instances' list. Error: INVALID_ARGUMENT: {problem}"
        )

    def _read_columns(self, inputs: Any) -> list[Array]:
        if not _is_object(inputs):
            if len(self._tensors) > 1:
                raise InvalidArgument(
                    "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                    "tensorinfo_map"
                )
            return [self._column(inputs, self._tensors[0], "inputs")]
        tensors = []
        for spec in self._tensors:
            if spec.name not in inputs:
                raise InvalidArgument(f"Missing named input: {spec.name} in 'inputs' object.")
            tensors.append(self._column(inputs[spec.name], spec, f"inputs.{spec.name}"))
        if len({len(tensor) for tensor in tensors}) > 1:
            sizes = ", ".join(f"{spec.name} {len(tensor)}" for spec, tensor in zip(self._tensors, tensors, strict=True))
            raise InvalidArgument(f"Inputs must have equal size in dimension 0, which is the batch, but have: {sizes}")
        return tensors

    def _column(self, value: Any, spec: TensorSpec, place: str) -> Array:
        """A whole tensor, of which there must be at least one row."""
        rows = len(value) if isinstance(value, list) and value else 1
        self._check_rows(rows)
        shape = rows, *spec.shape
        tensor = self._to_array(value, shape)
        if tensor is None:
            raise InvalidArgument(self._problem(value, shape, place, _takes(spec, (-1, *spec.shape))))
        return tensor

    def _to_array(self, value: Any, shape: tuple[int, ...]) -> Array | None:
        """Nested lists to a float32 array of that shape, or None if anything at all is wrong with them."""
        flat = flatten(value, shape)
        if flat is None:
            return None
        entries, _ = flat
        tokens = set(map(type, entries)) - NUMBER_TYPES
        if tokens and not (tokens == {Token} and self._allow_nan):
            return None
        numbers = to_float64(entries)
        if numbers is None:
            return None
        if tokens:
            others = np.array([0.0 if type(number) is Token else number for number in entries])
            return None if to_float32(others) is None else numbers.astype(np.float32).reshape(shape)
        tensor = to_float32(numbers)
        return None if tensor is None else tensor.reshape(shape)

    def _problem(self, value: Any, shape: tuple[int, ...], place: str, takes: str) -> str:
        """What is wrong with a value that is no tensor of that shape.

        Only what has the right shape, as far as its first entries tell, is walked through: that is no larger than a
        sound body.
        """
        sizes, first = _measure(value, len(shape))
        if isinstance(first, list):
            return f"{_too_deep(shape)}; {takes}"
        if problem := self._number_problem(first, place + "[0]" * len(sizes)):
            return problem
        if sizes == shape and (problem := self._find(value, shape, place)):
            return f"{problem}; {takes}"
        size, came = math.prod(shape), math.prod(sizes)
        expecting = (
            f"tensor size: {size} but got: {came}"
            if size != came
            else f"shape {_shape(shape)} but got: {_shape(sizes)}"
        )
        return f"Expecting {expecting}; {takes}, this has {_shape(sizes)}"

    def _find(self, value: Any, shape: tuple[int, ...], place: str, level: int = 0) -> str | None:
        """The first mistake in nested lists; what is sound is passed over at C speed."""
        rank = len(shape)
        if level == rank:
            if isinstance(value, list):
                return f"{_too_deep(shape)} (at {place})"
            return self._number_problem(value, place)
        if not isinstance(value, list):
            problem = f"found at incorrect level: {level + 1} in the JSON DOM. Expected at level: {rank}"
            return f"JSON Value: (at {place}) {problem}"
        if len(value) != shape[level]:
            problem = f"Encountered list at unexpected size: {len(value)} at level: {level}"
            return f"{problem} expected size: {shape[level]} (at {place})"
        unsound = (index for index, part in enumerate(value) if self._to_array(part, shape[level + 1 :]) is None)
        index = next(unsound, None)
        return None if index is None else self._find(value[index], shape, f"{place}[{index}]", level + 1)

    def _number_problem(self, number: Any, place: str) -> str | None:
        """What is wrong with a number as it stands in a body; None if nothing is."""
        if type(number) is Token:
            remedy = "is no finite number; WINDOWCAST_ALLOW_NAN=true would have it taken"
            return None if self._allow_nan else f"JSON Value: (at {place}) Type: Number {remedy}"
        if type(number) not in NUMBER_TYPES:
            return f"JSON Value: (at {place}) Type: {_type(number)} is not of expected type: float"
        if abs(number) > FLOAT32_MAX:
            return f"Cannot convert JSON value: (at {place}) to float without loss of precision: it is beyond float32"
        return None


def _parse(body: bytes) -> dict[str, Any]:
    """The object that a body begins with; what follows it is ignored.

    Raises:
        InvalidArgument: There is none, or none that names a signature which serves.
    """
    with collector_paused():
        content = _decode(body)
    if not isinstance(content, dict):
        raise _format_error(content, "Is not object")
    name = content.get("signature_name", SIGNATURE)
    if not isinstance(name, str):
        raise _format_error(content, "not formatted correctly. 'signature_name' key must be a string value.")
    if name not in {"", SIGNATURE}:
        raise InvalidArgument(f'Serving signature name: "{_shown(name)}" not found in signature def')
    return content


def _decode(body: bytes) -> Any:
    """The JSON that a body begins with: by orjson if it is strict and nothing follows it, else slowly."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return _decode_leniently(body)


def _decode_leniently(body: bytes) -> Any:
    """The JSON that a body begins with, NaN, Infinity and numbers beyond float64 included.

    Raises:
        InvalidArgument: It begins with something else.
    """
    try:
        text = body.decode("utf-8-sig")
        start = len(text) - len(text.lstrip(JSON_SPACE))
        if start == len(text):
            raise InvalidArgument("JSON Parse error: The document is empty")
        return DECODER.raw_decode(text, start)[0]
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"JSON Parse error: Invalid encoding, not UTF-8 at offset: {error.start}") from None
    except json.JSONDecodeError as error:
        offset = len(text[: error.pos].encode())
        raise InvalidArgument(f"JSON Parse error: Invalid value. at offset: {offset}") from None
    except ValueError:  # an integer of thousands of digits
        raise InvalidArgument("JSON Parse error: Number too big to be stored in double.") from None
    except RecursionError:
        raise InvalidArgument("JSON Parse error: nested too deeply") from None


def _orientation(content: Mapping[str, Any]) -> Orientation:
    given = [orientation for orientation in Orientation if orientation.field in content]
    if not given:
        raise InvalidArgument("Missing 'inputs' or 'instances' key")
    if len(given) > 1:
        problem = "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist"
        raise _format_error(content, problem)
    return given[0]


@lru_cache(MAX_READERS)
def quick_reader(orientation: Orientation, shape: tuple[int, ...]) -> SkeletonReader:
    """The reader for the usual bodies of a model with one input: bare values, and the signature's name if any."""
    field, row = orientation.field, nested(*shape)
    rows, name = f'"{field}":[%s]', f'"signature_name":"{SIGNATURE}"'
    named = (("signature_name", SIGNATURE),)
    forms = [
        Form(field, f"{{{rows}}}", row),
        Form(field, f"{{{name},{rows}}}", row, named),
        Form(field, f"{{{rows},{name}}}", row, named),
    ]
    return SkeletonReader(shape, forms)


def _write(orientation: Orientation, outputs: Layout, forecasts: Array) -> bytes:
    """The answer: a tensor by itself where there is one, else by name, in each row or as a whole."""
    written = _dump(forecasts) if outputs.is_table else _write_tensors(orientation, outputs, forecasts)
    return b'{"%s":%s}' % (orientation.answer_field, written)


def _write_tensors(orientation: Orientation, outputs: Layout, forecasts: Array) -> bytes:
    tensors = [np.ascontiguousarray(tensor) for tensor in outputs.split(forecasts)]
    if len(tensors) == 1:
        return _dump(tensors[0])
    names = [orjson.dumps(spec.name) for spec in outputs.tensors]
    if orientation is Orientation.COLUMNS:
        return _object(names, tensors)
    return b"[%s]" % b",".join(_object(names, row) for row in zip(*tensors, strict=True))


def _object(names: Sequence[bytes], values: Iterable[Array]) -> bytes:
    fields = [b"%s:%s" % (name, _dump(value)) for name, value in zip(names, values, strict=True)]
    return b"{%s}" % b",".join(fields)


def _dump(value: Array) -> bytes:
    """Numbers as the shortest text that is the same float32, whole ones with `.0`; NaN and Infinity bare."""
    written = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    if b"n" not in written:
        return written
    odd = (number for number in np.ravel(value).tolist() if not math.isfinite(number))
    return NULL.sub(lambda _: json.dumps(next(odd)).encode(), written)


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


def _measure(value: Any, depth: int) -> tuple[tuple[int, ...], Any]:
    """The sizes that the first entries of nested lists tell, to that depth, and the first entry there; 0.0 if none."""
    sizes: list[int] = []
    while isinstance(value, list) and len(sizes) < depth:
        sizes.append(len(value))
        value = value[0] if value else 0.0
    return tuple(sizes), value


def _is_object(value: Any) -> bool:
    """Whether it is an object, and not a text in base 64, which is written as one."""
    return isinstance(value, dict) and not (len(value) == 1 and isinstance(value.get("b64"), str))


def _format_error(value: Any, problem: str) -> InvalidArgument:
    return InvalidArgument(f"JSON Value: ({_type(value)}) {problem}")


def _type(value: Any) -> str:
    """What TensorFlow Serving calls the type of a JSON value."""
    return str(value) if isinstance(value, bool) else JSON_TYPES.get(type(value), "Number")


def _too_deep(shape: tuple[int, ...]) -> str:
    return f"Encountered list at unexpected level: {len(shape)} expected < {len(shape)}"


def _takes(spec: TensorSpec, shape: tuple[int, ...]) -> str:
    return f"input {spec.name} takes shape {_shape(shape)}"


def _shape(sizes: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, sizes))}]"


def _shown(text: str, max_characters: int = MAX_NAME_CHARACTERS) -> str:
    """A caller's text as it may stand in an answer."""
    return quote(text[:max_characters], safe="/:%", errors="replace")
