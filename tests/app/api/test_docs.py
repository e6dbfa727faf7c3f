"""The documentation: complete, about the served model, and without a single foreign address."""

import re
from typing import Any

import httpx
import pytest

from tests.servers import Server

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


def test_behind_a_proxy_the_page_refers_to_the_published_path(strict_server: Server) -> None:
    with strict_server.client() as client:
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


def test_records_show_the_names_of_the_features(document: dict[str, Any]) -> None:
    records = document["components"]["schemas"]["WindowRequest"]["properties"]["records"]["anyOf"][0]
    assert (records["minItems"], records["maxItems"]) == (4, 4)
    assert records["items"]["required"] == ["load", "temp"]
    assert records["items"]["additionalProperties"] is False
    assert records["items"]["properties"]["load"]["description"] == "0 to 1 MW in training"


@pytest.mark.parametrize(("model", "path"), [("WindowRequest", "/predict"), ("BatchRequest", "/predict/batch")])
def test_the_examples_work_as_they_stand(model: str, path: str, document: dict[str, Any], client: httpx.Client) -> None:
    assert client.post(path, json=document["components"]["schemas"][model]["example"]).status_code == 200


def test_every_error_is_a_problem(document: dict[str, Any]) -> None:
    for path in document["paths"].values():
        for operation in path.values():
            described = operation["responses"]["default"]["content"]["application/problem+json"]
            assert described["schema"] == {"$ref": "#/components/schemas/Problem"}
            assert "422" not in operation["responses"]


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    references = set(re.findall(r"'\$ref': '#/components/schemas/(\w+)'", str(document)))
    assert references >= {"WindowRequest", "BatchRequest", "ForecastResponse", "BatchResponse", "Problem"}
    assert references <= document["components"]["schemas"].keys()
    assert "x-axis" not in str(document)


def test_every_route_is_described(document: dict[str, Any]) -> None:
    assert document["paths"].keys() == {
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
