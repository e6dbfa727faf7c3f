"""The documentation: complete, about the served model, and without a single foreign address."""

import gc
import re
import weakref
from pathlib import Path
from typing import Any

import httpx
import keras
import numpy as np
import pytest
from pydantic import BaseModel

from app.api.documentation import docs
from app.api.documentation.openapi import DescribedProtocol, DescribedRoute
from app.api.forecasting import Forecasting
from app.api.open_inference import OpenInference
from app.api.schemas import ErrorAnswer, InferAnswer, PredictAnswer
from app.api.tfserving import TFServing
from app.serving.service import Service
from app.serving.side import SIDE_THREAD
from app.settings import Settings
from tests.app.fakes import loader, version_folders
from tests.app.held import held, noted
from tests.app.in_process import application
from tests.holding import held_loading
from tests.waiting import PATIENCE_SECONDS

PREFIXES = {"/v1", "/v2"}

FOREIGN = re.compile(r"(?:src|href|url|@import)\s*[=(:]?\s*[\"']?((?:https?:)?//[^\"')\s]+)")


@pytest.fixture(scope="module")
def document(client: httpx.Client) -> dict[str, Any]:
    """The OpenAPI document."""
    described: dict[str, Any] = client.get("/openapi.json").json()
    return described


def test_the_page_and_its_assets_come_from_the_service(client: httpx.Client) -> None:
    page = client.get("/docs")
    assert page.headers["Content-Type"].startswith("text/html")
    assert not FOREIGN.findall(page.text)
    assets = set(re.findall(r"(?:src|href)=[\"']([^\"']+)", page.text))
    assert {asset.rpartition(".")[2] for asset in assets} == {"js", "css", "png"}
    for asset in assets:
        answer = client.get(asset)
        assert answer.status_code == 200
        assert len(answer.content) > 100


def test_the_style_sheet_loads_nothing_from_elsewhere(client: httpx.Client) -> None:
    assert not FOREIGN.findall(client.get("/docs/swagger-ui.css").text)


def test_the_root_leads_to_the_page(client: httpx.Client) -> None:
    assert client.get("/", follow_redirects=True).url.path == "/docs"


def test_behind_a_proxy_the_page_refers_to_the_published_path(models_dir: Path) -> None:
    with application(models_dir.parent, root_path="/forecast") as service, service.client() as client:
        page = client.get("/docs").text
        assert set(re.findall(r"(?:src|href)=[\"']([^\"']+)/", page)) == {"/forecast/docs"}
        assert "'/forecast/openapi.json'" in page
        assert client.get("/").headers["Location"] == "/forecast/docs"
        assert client.get("/openapi.json").json()["servers"] == [{"url": "/forecast"}]


def test_the_shapes_are_those_of_the_served_model(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    window = schemas["WindowRequest"]["properties"]["window"]["anyOf"][0]
    assert (window["minItems"], window["maxItems"]) == (4, 4)
    assert (window["items"]["minItems"], window["items"]["maxItems"]) == (2, 2)
    assert window["items"]["description"] == "features: load, temp"
    windows = schemas["BatchRequest"]["properties"]["windows"]
    assert windows["minItems"] == 1
    assert (windows["items"]["minItems"], windows["items"]["items"]["maxItems"]) == (4, 2)
    prediction = schemas["ForecastResponse"]["properties"]["prediction"]
    assert (prediction["minItems"], prediction["maxItems"], prediction["items"]["maxItems"]) == (2, 2, 1)


def test_what_the_served_model_does_not_take_is_not_shown(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert schemas["WindowRequest"]["properties"].keys() == {"window", "records"}
    assert schemas["BatchRequest"]["properties"].keys() == {"windows"}
    assert "required" not in schemas["WindowRequest"]


def test_records_show_the_names_of_the_features(document: dict[str, Any]) -> None:
    records = document["components"]["schemas"]["WindowRequest"]["properties"]["records"]["anyOf"][0]
    assert (records["minItems"], records["maxItems"]) == (4, 4)
    assert records["items"]["required"] == ["load", "temp"]
    assert records["items"]["additionalProperties"] is False
    assert records["items"]["properties"]["load"]["description"] == "0 to 1 MW in training"


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("WindowRequest", "/predict"),
        ("BatchRequest", "/predict/batch"),
        ("PredictRequest", "/v1/models/default:predict"),
        ("InferRequest", "/v2/models/default/infer"),
    ],
)
def test_the_examples_work_as_they_stand(model: str, path: str, document: dict[str, Any], client: httpx.Client) -> None:
    assert client.post(path, json=document["components"]["schemas"][model]["example"]).status_code == 200


def test_the_example_of_any_model_is_described_without_the_sizes_of_the_default_model(document: dict[str, Any]) -> None:
    answer = document["paths"]["/models/{name}/example"]["get"]["responses"]["200"]["content"]["application/json"]
    schema = document["components"]["schemas"][answer["schema"]["$ref"].rpartition("/")[2]]
    assert schema["required"] == ["window"]
    assert "Items" not in str(schema)


def test_every_error_is_a_problem_but_for_those_of_the_protocols(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        media_type, name = (
            ("application/json", "ErrorAnswer") if path[:3] in PREFIXES else ("application/problem+json", "Problem")
        )
        for operation in operations.values():
            described = operation["responses"]["default"]["content"]
            assert described == {media_type: {"schema": {"$ref": f"#/components/schemas/{name}"}}}
            assert "422" not in operation["responses"]


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    references = set(re.findall(r"'\$ref': '#/components/schemas/(\w+)'", str(document)))
    assert references >= {"WindowRequest", "BatchRequest", "ForecastResponse", "BatchResponse", "Problem"}
    assert references <= document["components"]["schemas"].keys()
    assert "x-axis" not in str(document)


def test_the_errors_of_a_score_are_described(document: dict[str, Any]) -> None:
    errors = document["components"]["schemas"]["Score"]["properties"]

    assert errors.keys() == {"forecaster", "target", "mae", "rmse", "mase", "smape", "mae_by_step", "rmse_by_step"}
    for name in ("mae", "rmse", "mase", "smape", "mae_by_step", "rmse_by_step"):
        assert "error" in errors[name]["description"]


def test_every_native_route_is_described(document: dict[str, Any]) -> None:
    assert {path for path in document["paths"] if path[:3] not in PREFIXES} == {
        "/predict",
        "/predict/batch",
        "/models",
        "/models/{name}",
        "/models/{name}/example",
        "/models/{name}/versions/{version}",
        "/livez",
        "/readyz",
        "/healthz",
        "/metrics",
    }


def routes() -> list[tuple[str, DescribedRoute]]:
    """The routes of both protocols, and whose each is."""
    service = Service(Settings.read())
    forecasting = Forecasting(service)
    protocols: tuple[DescribedProtocol, ...] = TFServing(service, forecasting), OpenInference(service, forecasting)
    return [(protocol.title, route) for protocol in protocols for route in protocol.routes]


ROUTES = routes()


def test_every_route_of_the_protocols_is_described_that_does_something(document: dict[str, Any]) -> None:
    described = {
        (operation["tags"][0], method.upper(), path)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if path[:3] in PREFIXES
    }
    assert described == {(title, route.method, route.path) for title, route in ROUTES if route.about is not None}
    assert len(described) == 10 + 15


@pytest.mark.parametrize("path", [route.path for _, route in ROUTES if route.about is None])
def test_a_route_that_is_not_described_refuses_everything(path: str, client: httpx.Client) -> None:
    answer = client.post(path.format(model="default", version=2, label="none"), json={"instances": []})
    assert answer.status_code in {400, 501}
    assert path.endswith((":classify", ":regress", "/load", "/unload"))


@pytest.mark.parametrize("route", [route for _, route in ROUTES if route.about], ids=lambda route: route.path)
def test_what_a_route_of_the_protocols_answers_is_described(
    route: DescribedRoute, document: dict[str, Any], client: httpx.Client
) -> None:
    assert route.about is not None
    operation = document["paths"][route.path][route.method.lower()]
    names = {part["name"]: part.get("example", "none") for part in operation["parameters"] if part["in"] == "path"}
    assert list(names) == re.findall(r"{(\w+)}", route.path)
    needs_body = operation.get("requestBody", {"required": False})["required"]
    schemas = document["components"]["schemas"]
    body = schemas[route.about.body.__name__]["example"] if route.about.body and needs_body else None
    answer = client.request(route.method, route.path.format(**names), json=body)
    model = ErrorAnswer if "label" in names else route.about.answer
    assert answer.status_code == (400 if "label" in names else 200)
    model.model_validate_json(answer.content, extra="forbid")
    described = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert described == {"$ref": f"#/components/schemas/{route.about.answer.__name__}"}


@pytest.mark.parametrize(
    ("model", "kind", "path"),
    [("Predict", PredictAnswer, "/v1/models/default:predict"), ("Infer", InferAnswer, "/v2/models/default/infer")],
)
def test_the_example_of_an_answer_is_what_the_example_of_a_body_gets(
    model: str, kind: type[BaseModel], path: str, document: dict[str, Any], client: httpx.Client
) -> None:
    schemas = document["components"]["schemas"]
    answer, promised = client.post(path, json=schemas[f"{model}Request"]["example"]), schemas[f"{model}Answer"]
    assert_close(answer.json(), promised["example"])
    kind.model_validate(promised["example"], extra="forbid")


def test_the_example_of_metadata_is_the_default_models(document: dict[str, Any], client: httpx.Client) -> None:
    example = document["components"]["schemas"]["SavedModelMetadata"]["example"]
    assert client.get("/v1/models/default/metadata").json() == example


def assert_close(actual: Any, expected: Any) -> None:
    """The same but for the last digits of numbers."""
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        for key, value in expected.items():
            assert_close(actual[key], value)
    elif isinstance(expected, list):
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected, strict=True):
            assert_close(one, other)
    else:
        assert actual == (pytest.approx(expected, rel=1e-5) if isinstance(expected, float) else expected)


def test_a_model_of_several_tensors_has_examples_that_name_them(tmp_path: Path) -> None:
    recent, calendar = keras.Input((6, 2), name="recent"), keras.Input((3,), name="calendar")
    state = keras.layers.Concatenate()([keras.layers.Flatten()(recent), calendar])
    outputs = {name: keras.layers.Dense(2)(state) for name in ("load", "total")}
    keras.Model({"recent": recent, "calendar": calendar}, outputs).export(tmp_path / "models/pair/7", verbose=False)
    with application(tmp_path, model="pair") as service, service.client() as client:
        document = client.get("/openapi.json").json()
        schemas = document["components"]["schemas"]
        rows, tensors = schemas["PredictRequest"]["example"], schemas["InferRequest"]["example"]
        assert np.shape(rows["instances"][0]["recent"]) == (6, 2)
        assert {tensor["name"]: tensor["shape"] for tensor in tensors["inputs"]} == {
            "recent": [1, 6, 2],
            "calendar": [1, 3],
        }
        for name, path in {"Predict": "/v1/models/pair:predict", "Infer": "/v2/models/pair/infer"}.items():
            answer = client.post(path, json=schemas[f"{name}Request"]["example"])
            assert answer.status_code == 200
            assert_close(answer.json(), schemas[f"{name}Answer"]["example"])
        [model] = document["paths"]["/v1/models/{model}"]["get"]["parameters"]
        assert model["example"] == "pair"


def test_operations_have_names_of_their_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names))


def test_only_what_may_be_left_out_is_optional(document: dict[str, Any]) -> None:
    required = {
        path: operation["requestBody"]["required"]
        for path, operations in document["paths"].items()
        for operation in operations.values()
        if "requestBody" in operation
    }
    assert [path for path, is_required in required.items() if not is_required] == ["/v2/repository/index"]
    infer = document["paths"]["/v2/models/{model}/infer"]["post"]
    assert infer["requestBody"]["content"].keys() == {"application/json", "application/octet-stream"}
    assert [part["name"] for part in infer["parameters"]] == ["model", "Inference-Header-Content-Length"]


def test_a_service_that_loads_describes_its_routes_already(twin_dir: Path, settled_folders: None) -> None:
    folder = twin_dir.parents[2]
    with held_loading(folder) as loading, application(folder, is_ready=False) as service, service.client() as client:
        loading.wait_until_reached()
        schema = client.get("/openapi.json").json()["components"]["schemas"]["PredictRequest"]
        assert [option["$ref"].rpartition("/")[2] for option in schema["anyOf"]] == ["Rows", "Columns"]
        assert "example" not in schema


def test_the_document_is_written_once_for_a_version_and_beside_the_event_loop(
    tmp_path: Path, settled_folders: None
) -> None:
    models = version_folders(tmp_path / "models")
    with noted(docs, "describe") as threads, application(tmp_path, loader()) as service, service.client() as client:
        first = [client.get("/openapi.json") for _ in range(3)]
        assert [name[: len(SIDE_THREAD)] for name in threads] == [SIDE_THREAD]
        version_folders(models, "default/2")
        service.loop.run(service.front.service.look_now())
        second = [client.get("/openapi.json") for _ in range(3)]
        assert len(threads) == 2
    assert [version_in(answer) for answer in [*first, *second]] == ["1"] * 3 + ["2"] * 3


def version_in(document: httpx.Response) -> str:
    """The version in the document's examples."""
    version: str = document.json()["components"]["schemas"]["InferAnswer"]["example"]["model_version"]
    return version


def test_requests_that_come_while_the_document_is_written_share_it_and_others_are_answered(tmp_path: Path) -> None:
    version_folders(tmp_path / "models")
    with held(docs, "describe") as writing, application(tmp_path, loader()) as service, service.client() as client:
        documents = [service.get("/openapi.json") for _ in range(3)]
        assert writing.begun.wait(PATIENCE_SECONDS)
        assert client.get("/livez").status_code == 200
        assert not any(document.done() for document in documents)
        writing.release()
        assert [document.result(PATIENCE_SECONDS).status_code for document in documents] == [200] * 3
        assert len(writing.threads) == 1


def test_the_document_keeps_no_version_that_has_ended(tmp_path: Path, settled_folders: None) -> None:
    models = version_folders(tmp_path / "models")
    with application(tmp_path, loader()) as service, service.client() as client:
        client.get("/openapi.json")
        running = service.front.service
        ended = weakref.ref(running.catalogue.find())
        version_folders(models, "default/2")
        service.loop.run(running.look_now())
        gc.collect()
        assert ended() is None


def test_a_document_that_a_browser_has_is_not_sent_again(client: httpx.Client) -> None:
    first = client.get("/openapi.json")
    tag = first.headers["ETag"]
    again = client.get("/openapi.json", headers={"If-None-Match": tag})
    assert (again.status_code, again.headers["ETag"], again.content) == (304, tag, b"")
    assert client.get("/openapi.json", headers={"If-None-Match": '"other"'}).content == first.content
    assert client.head("/openapi.json").status_code == 200


def test_an_asset_is_read_once(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    first = client.get("/docs/swagger-ui.css").content
    monkeypatch.delattr(docs, "resources")
    assert client.get("/docs/swagger-ui.css").content == first
