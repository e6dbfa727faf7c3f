"""`/docs` with assets from an installed package, and an OpenAPI document that shows the served model's own shapes."""

from collections.abc import Iterator, Sequence
from functools import partial
from importlib import resources
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.responses import RedirectResponse, Response

from app.api.native import PredictionRoute, Selection
from app.api.problems import MEDIA_TYPE as PROBLEM_MEDIA_TYPE
from app.api.problems import Problem
from app.body import MediaType
from app.lifecycle import Phase
from app.manifest import Contract, Feature
from app.service import Service
from app.versions import LoadedVersion

router = APIRouter(include_in_schema=False)

ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}
SCHEMA_REFERENCE = "#/components/schemas/{model}"


@router.get("/")
async def root(request: Request) -> Response:
    """Leads a browser to the documentation."""
    return RedirectResponse(f"{_root_path(request)}/docs")


@router.get("/docs")
async def docs(request: Request) -> Response:
    """The interactive documentation."""
    base = _root_path(request)
    return get_swagger_ui_html(
        openapi_url=f"{base}/openapi.json",
        title="Windowcast",
        swagger_js_url=f"{base}/docs/swagger-ui-bundle.js",
        swagger_css_url=f"{base}/docs/swagger-ui.css",
        swagger_favicon_url=f"{base}/docs/favicon-32x32.png",
        swagger_ui_parameters={"tryItOutEnabled": True, "validatorUrl": None},
    )


def _asset(name: str, media_type: str) -> Response:
    content = resources.files("fastapi_swagger.resources").joinpath(name).read_bytes()
    return Response(content, media_type=media_type, headers={"Cache-Control": "max-age=86400"})


for _name, _media_type in ASSETS.items():
    router.add_api_route(f"/docs/{_name}", partial(_asset, _name, _media_type), methods=["GET"])


def _root_path(request: Request) -> str:
    return str(request.scope.get("root_path", "")).rstrip("/")


def describe(app: FastAPI, service: Service, predictions: Sequence[PredictionRoute]) -> dict[str, Any]:
    """The OpenAPI document, with the default model's shapes and an example once it is loaded."""
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    document["paths"] = {route.path: {"post": _operation(route)} for route in predictions} | document["paths"]
    schemas = document["components"]["schemas"]
    schemas.update(_schemas(predictions))
    _show_problems(document)
    if service.lifecycle.phase is not Phase.LOADING:
        _show_model(schemas, service.repository.get().loaded)
    return document


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


def _json_content(model: type[Any]) -> dict[str, Any]:
    return {MediaType.JSON.value.decode(): {"schema": {"$ref": SCHEMA_REFERENCE.format(model=model.__name__)}}}


def _parameters() -> Iterator[dict[str, Any]]:
    for name, schema in Selection.model_json_schema()["properties"].items():
        description = schema.pop("description")
        yield {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def _schemas(predictions: Sequence[PredictionRoute]) -> dict[str, Any]:
    bodies: list[tuple[type[Any], Any]] = [(route.body_model, "validation") for route in predictions]
    answers: list[tuple[type[Any], Any]] = [(route.answer_model, "serialization") for route in predictions]
    described: list[tuple[type[Any], Any]] = [*bodies, *answers, (Problem, "serialization")]
    schemas: dict[str, Any] = models_json_schema(described, ref_template=SCHEMA_REFERENCE)[1]["$defs"]
    return schemas


def _show_problems(document: dict[str, Any]) -> None:
    """Says that every error is a problem, in place of the framework's own 422."""
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
    for schema in schemas.values():
        _show_shapes(schema, loaded.contract)
    window = loaded.golden.windows[0].tolist()
    schemas["WindowRequest"]["example"] = {"window": window}
    schemas["BatchRequest"]["example"] = {"windows": [window, loaded.golden.windows[-1].tolist()]}


def _show_shapes(node: object, contract: Contract) -> None:
    """Fills the contract's sizes and names into every part of a schema that `x-axis` marks."""
    if isinstance(node, list):
        for part in node:
            _show_shapes(part, contract)
    elif isinstance(node, dict):
        for part in list(node.values()):
            _show_shapes(part, contract)
        axis = node.pop("x-axis", None)
        if axis == "features" and node["type"] == "object":
            node["properties"] = {feature.name: _feature_schema(feature) for feature in contract.features}
            node["required"] = list(contract.feature_names)
            node["additionalProperties"] = False
        elif axis is not None and axis != "batch":
            _show_size(node, axis, contract)


def _show_size(node: dict[str, Any], axis: str, contract: Contract) -> None:
    names = {"features": contract.feature_names, "targets": contract.target_names}.get(axis, ())
    sizes = {"steps": contract.steps, "horizon": contract.horizon}
    node["minItems"] = node["maxItems"] = sizes.get(axis, len(names))
    node["description"] = f"{axis}: {', '.join(names)}" if names else axis
    if axis == "features" and len(names) == 1:
        lists = dict(node)
        node.clear()
        node["anyOf"] = [{"type": "number"}, lists]


def _feature_schema(feature: Feature) -> dict[str, str]:
    unit = f" {feature.unit}" if feature.unit else ""
    is_ranged = feature.minimum is not None and feature.maximum is not None
    text = f"{feature.minimum:g} to {feature.maximum:g}{unit} in training" if is_ranged else f"a number{unit}"
    return {"type": "number", "description": text}
