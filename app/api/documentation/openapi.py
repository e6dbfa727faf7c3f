"""The OpenAPI document: every route of the service, with the served model's own shapes and examples."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import orjson
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from app.api.body import MediaType
from app.api.native import PredictionRoute, Selection
from app.api.problems import MEDIA_TYPE as PROBLEM_MEDIA_TYPE
from app.api.problems import Problem
from app.api.schemas import About, ErrorAnswer
from app.api.tfserving import metadata_of
from app.arrays import Array, Inputs
from app.payloads import native
from app.payloads.open_inference.document import LENGTH_HEADER
from app.payloads.open_inference.tensors import DATATYPES_OF
from app.serving.loading import LoadedVersion
from app.serving.policies import LABEL_PATTERN
from app.version.manifest import NAME_PATTERN, Contract, Feature
from app.version.signature import TensorSpec

PATH_PARTS: dict[str, dict[str, Any]] = {
    "model": {"type": "string", "pattern": NAME_PATTERN},
    "version": {"type": "integer", "minimum": 1},
    "label": {"type": "string", "pattern": LABEL_PATTERN},
}
BINARY_CONTENT = {
    "application/octet-stream": {
        "schema": {
            "type": "string",
            "format": "binary",
            "description": f"The JSON document, then the bytes of tensors; {LENGTH_HEADER} says where they begin.",
        }
    }
}
LENGTH_PARAMETER = {
    "name": LENGTH_HEADER,
    "in": "header",
    "description": "How many bytes the JSON document has, where bytes of tensors follow it.",
    "schema": {"type": "integer", "minimum": 0},
}
BATCH_FIELDS = {"windows": "windows", "future": "futures", "time": "times"}
"""The fields of a batch by the names of inputs."""
AHEAD_FIELDS = {"WindowRequest": ("future", "time"), "BatchRequest": ("futures", "times")}
"""The fields of native bodies for what not every model takes."""
SCHEMA_REFERENCE = "#/components/schemas/{model}"


class DescribedRoute(Protocol):
    """A route that can be described."""

    @property
    def method(self) -> str:
        """The only method that the route takes."""

    @property
    def path(self) -> str:
        """The form of the route's paths, with names in braces."""

    @property
    def about(self) -> About | None:
        """What the document says of the route; None for a route that refuses every request."""


class DescribedProtocol(Protocol):
    """A protocol with routes that can be described."""

    @property
    def title(self) -> str:
        """The protocol's name."""

    @property
    def routes(self) -> Sequence[DescribedRoute]:
        """All routes of the protocol."""


def describe(
    app: FastAPI,
    predictions: Sequence[PredictionRoute],
    protocols: Sequence[DescribedProtocol],
    loaded: LoadedVersion | None,
) -> dict[str, Any]:
    """Returns the OpenAPI document.

    Args:
        app: The framework's application.
        predictions: The routes that are answered in front of the framework.
        protocols: The protocols.
        loaded: The version whose shapes and examples the document shows; None for a document without.
    """
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    document["paths"] = {route.path: {"post": _operation(route)} for route in predictions} | document["paths"]
    schemas = document["components"]["schemas"]
    schemas.update(_schemas(predictions, protocols))
    _show_problems(document)
    for protocol in protocols:
        for route, about in _documented(protocol):
            operations = document["paths"].setdefault(route.path, {})
            operations[route.method.lower()] = _protocol_operation(protocol.title, route, about)
    titles = [protocol.title for protocol in protocols]
    document["tags"] = [{"name": tag} for tag in ("forecast", "models", *titles)]  # in this order, other tags behind
    if loaded is not None:
        _show_model(schemas, loaded)
        _show_names(document, loaded)
    return document


def _documented(protocol: DescribedProtocol) -> Iterator[tuple[DescribedRoute, About]]:
    """Yields the routes of a protocol that do something, and what they do."""
    return ((route, route.about) for route in protocol.routes if route.about is not None)


def _operation(route: PredictionRoute) -> dict[str, Any]:
    """Describes a route that is answered in front of the framework."""
    array = {MediaType.NPY.value.decode(): {"schema": {"type": "string", "format": "binary"}}}
    answer = {"description": "The forecasts.", "content": _json_content(route.answer_model) | array}
    return {
        "tags": ["forecast"],
        "summary": route.summary,
        "operationId": type(route).__name__,
        "parameters": list(_parameters()),
        "requestBody": {"required": True, "content": _json_content(route.body_model) | array},
        "responses": {"200": answer},
    }


def _protocol_operation(title: str, route: DescribedRoute, about: About) -> dict[str, Any]:
    """Describes a route of a protocol, whose errors are not problems."""
    names = re.findall(r"{(\w+)}", route.path)
    operation: dict[str, Any] = {
        "tags": [title],
        "summary": about.summary,
        "operationId": "_".join(re.findall(r"\w+", f"{route.method.lower()}{route.path}")),
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": dict(PATH_PARTS[name])} for name in names
        ],
        "responses": {
            "200": {"description": "The answer.", "content": _content(about.answer, about)},
            "default": {"description": "An error.", "content": _json_content(ErrorAnswer)},
        },
    }
    if about.body is not None:
        is_required = any(field.is_required() for field in about.body.model_fields.values())
        operation["requestBody"] = {"required": is_required, "content": _content(about.body, about)}
    if about.is_binary:
        operation["parameters"].append(LENGTH_PARAMETER)
    return operation


def _content(model: type[Any], about: About) -> dict[str, Any]:
    return _json_content(model) | (BINARY_CONTENT if about.is_binary else {})


def _json_content(model: type[Any]) -> dict[str, Any]:
    return {MediaType.JSON.value.decode(): {"schema": {"$ref": SCHEMA_REFERENCE.format(model=model.__name__)}}}


def _parameters() -> Iterator[dict[str, Any]]:
    for name, schema in Selection.model_json_schema()["properties"].items():
        description = schema.pop("description")
        yield {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def _schemas(predictions: Sequence[PredictionRoute], protocols: Sequence[DescribedProtocol]) -> dict[str, Any]:
    abouts = [about for protocol in protocols for _, about in _documented(protocol)]
    bodies = [route.body_model for route in predictions] + [about.body for about in abouts if about.body is not None]
    answers = [route.answer_model for route in predictions] + [about.answer for about in abouts]
    answers += [Problem, ErrorAnswer]
    described: list[tuple[type[BaseModel], JsonSchemaMode]] = [(model, "validation") for model in bodies]
    described += [(model, "serialization") for model in answers]
    schemas: dict[str, Any] = models_json_schema(described, ref_template=SCHEMA_REFERENCE)[1]["$defs"]
    return schemas


def _show_problems(document: dict[str, Any]) -> None:
    """Describes every error as a problem, in place of the framework's own 422."""
    problem = {"schema": {"$ref": SCHEMA_REFERENCE.format(model=Problem.__name__)}}
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = {
                "description": "A problem (RFC 9457).",
                "content": {PROBLEM_MEDIA_TYPE: problem},
            }
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)


def _show_model(schemas: dict[str, Any], loaded: LoadedVersion) -> None:
    for name in AHEAD_FIELDS:
        _show_ahead(schemas[name], name, loaded.contract)
    for schema in schemas.values():
        _show_shapes(schema, loaded.contract)
    golden, signature = loaded.golden, loaded.signature
    inputs = _by_tensor(signature.inputs.tensors, signature.inputs.split(golden.inputs[:1]))
    outputs = _by_tensor(signature.outputs.tensors, signature.outputs.split(golden.forecasts[:1]))
    answered = {"model_name": loaded.name, "model_version": str(loaded.version)}
    examples = {
        "WindowRequest": orjson.loads(native.write_request(golden.inputs)),
        "BatchRequest": _batch_example(golden.inputs),
        "PredictRequest": {"instances": _as_rows(inputs)},
        "PredictAnswer": {"predictions": _as_rows(outputs)},
        "SavedModelMetadata": metadata_of(loaded),
        "InferRequest": {"inputs": _as_tensors(inputs)},
        "InferAnswer": {**answered, "outputs": _as_tensors(outputs)},
    }
    for name, example in examples.items():
        schemas[name]["example"] = example


def _batch_example(inputs: Inputs) -> dict[str, Any]:
    """Returns the body of a batch with the first entry of some inputs and the last."""
    ends = {name: array[[0, -1]] for name, array in inputs.named().items()}
    return {BATCH_FIELDS[name]: _plain(array) for name, array in ends.items()}


def _show_ahead(schema: dict[str, Any], name: str, contract: Contract) -> None:
    """Requires the fields for what a model takes beside windows, and leaves out those for what it does not take."""
    for field, is_taken in zip(AHEAD_FIELDS[name], (contract.known, contract.calendar), strict=True):
        if not is_taken:
            del schema["properties"][field]
        else:
            schema["required"] = [*schema.get("required", ()), field]


def _by_tensor(tensors: Sequence[TensorSpec], arrays: Sequence[Array]) -> dict[str, Array]:
    """Returns the tensors of a batch by name."""
    return {spec.name: array for spec, array in zip(tensors, arrays, strict=True)}


def _as_rows(tensors: dict[str, Array]) -> list[Any]:
    """Returns a batch in the row format of `/v1`: bare where there is one tensor, otherwise by name."""
    plain = {name: _plain(array) for name, array in tensors.items()}
    rows = list(zip(*plain.values(), strict=True))
    return [row[0] if len(plain) == 1 else dict(zip(plain, row, strict=True)) for row in rows]


def _as_tensors(tensors: dict[str, Array]) -> list[dict[str, Any]]:
    """Returns a batch in the format of `/v2`."""
    return [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": DATATYPES_OF[array.dtype.name],
            "data": _plain(array.reshape(-1)),
        }
        for name, array in tensors.items()
    ]


def _plain(array: Array) -> Any:
    """Returns an array as lists of the shortest numbers that are the same float32."""
    return orjson.loads(orjson.dumps(np.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY))


def _show_names(document: dict[str, Any], loaded: LoadedVersion) -> None:
    """Fills the default model into the paths as an example."""
    examples = {"model": loaded.name, "name": loaded.name, "version": loaded.version}
    for path in document["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path" and parameter["name"] in examples:
                    parameter["example"] = examples[parameter["name"]]


def _show_shapes(node: object, contract: Contract) -> None:
    """Fills the contract's sizes and names into every part of a schema with an `x-axis`."""
    if isinstance(node, list):
        for part in node:
            _show_shapes(part, contract)
    elif isinstance(node, dict):
        for part in list(node.values()):
            _show_shapes(part, contract)
        axis = node.pop("x-axis", None)
        if axis is not None and node["type"] == "object":
            names = _names_along(axis, contract)
            features = {feature.name: feature for feature in contract.features}
            node["properties"] = {name: _feature_schema(features[name]) for name in names}
            node["required"] = list(names)
            node["additionalProperties"] = False
        elif axis is not None and axis != "batch":
            _show_size(node, axis, contract)


def _show_size(node: dict[str, Any], axis: str, contract: Contract) -> None:
    names = _names_along(axis, contract)
    sizes = {"steps": contract.steps, "horizon": contract.horizon}
    node["minItems"] = node["maxItems"] = sizes.get(axis, len(names))
    node["description"] = f"{axis}: {', '.join(names)}" if names else axis
    if axis in {"features", "known"} and len(names) == 1:
        lists = dict(node)
        node.clear()
        node["anyOf"] = [{"type": "number"}, lists]


def _names_along(axis: str, contract: Contract) -> tuple[str, ...]:
    """Returns the names of the entries along an axis, where they have names."""
    named = {"features": contract.feature_names, "targets": contract.target_names, "known": contract.known}
    return named.get(axis, ())


def _feature_schema(feature: Feature) -> dict[str, str]:
    unit = f" {feature.unit}" if feature.unit else ""
    is_ranged = feature.minimum is not None and feature.maximum is not None
    text = f"{feature.minimum:g} to {feature.maximum:g}{unit} in training" if is_ranged else f"a number{unit}"
    return {"type": "number", "description": text}
