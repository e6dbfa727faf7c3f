"""Models that take more than windows, asked over every protocol: forecasts, descriptions and errors."""

import asyncio
import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.testing import assert_allclose

from app.arrays import Array, Inputs
from app.payloads.open_inference.document import LENGTH_HEADER
from app.version.golden import probe_inputs
from app.version.manifest import Contract
from tests.ahead import GOLDEN_ROWS, ahead_contract, expected_ahead, make_ahead_version
from tests.app.in_process import Application, application
from tests.versions import contract_of, make_fused_version

CONTRACTS = {
    "default": ahead_contract(),
    "known": ahead_contract(known=("temp", "load"), calendar=()),
    "calendar": ahead_contract(known=()),
}
COUNT = 5


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    """The service with a model for each contract, and `plain`, which takes windows alone."""
    models = tmp_path_factory.mktemp("ahead") / "models"
    for name, contract in CONTRACTS.items():
        make_ahead_version(models, contract, name)
    make_fused_version(models, contract_of(), "plain")
    with application(models.parent) as running:
        yield running


@pytest.fixture(scope="module")
def client(service: Application) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


@pytest.fixture(params=CONTRACTS)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def asked_of(model: str) -> tuple[Contract, Inputs, Array]:
    """A contract, inputs for it, and their forecasts."""
    contract = CONTRACTS[model]
    inputs = probe_inputs(contract, COUNT)
    return contract, inputs, expected_ahead(inputs, contract)


def native_batch(inputs: Inputs) -> dict[str, Any]:
    names = {"windows": "windows", "future": "futures", "time": "times"}
    return {names[name]: array.tolist() for name, array in inputs.named().items()}


def native_window(inputs: Inputs, row: int = 0) -> dict[str, Any]:
    names = {"windows": "window", "future": "future", "time": "time"}
    return {names[name]: array[row].tolist() for name, array in inputs.named().items()}


def answer(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


def error(response: httpx.Response, status: int) -> Any:
    assert response.status_code == status, response.text
    return response.json()


def test_a_window_is_forecast_with_what_is_known_ahead(model: str, client: httpx.Client) -> None:
    _, inputs, expected = asked_of(model)
    for row in range(COUNT):
        body = answer(client.post("/predict", params={"model": model}, json=native_window(inputs, row)))
        assert_allclose(body["prediction"], expected[row], rtol=1e-5, atol=1e-5)


def test_a_batch_is_forecast_with_what_is_known_ahead(model: str, client: httpx.Client) -> None:
    _, inputs, expected = asked_of(model)
    body = answer(client.post("/predict/batch", params={"model": model}, json=native_batch(inputs)))
    assert_allclose(body["predictions"], expected, rtol=1e-5, atol=1e-5)


def test_requests_that_share_a_call_keep_their_own(model: str, service: Application) -> None:
    _, inputs, expected = asked_of(model)

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(service.front)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await asyncio.gather(
                *(
                    client.post("/predict", params={"model": model}, json=native_window(inputs, row))
                    for row in range(COUNT)
                ),
                client.post("/predict/batch", params={"model": model}, json=native_batch(inputs)),
            )

    *alone, together = service.loop.run(ask())
    assert_allclose([answer(each)["prediction"] for each in alone], expected, rtol=1e-5, atol=1e-5)
    assert_allclose(answer(together)["predictions"], expected, rtol=1e-5, atol=1e-5)


def test_the_example_of_a_model_works_as_it_stands(model: str, client: httpx.Client) -> None:
    example = answer(client.get(f"/models/{model}/example"))
    contract = CONTRACTS[model]
    golden = probe_inputs(contract, GOLDEN_ROWS)
    assert example.keys() == native_window(golden).keys()
    prediction = answer(client.post("/predict", params={"model": model}, json=example))["prediction"]
    assert_allclose(prediction, expected_ahead(golden, contract)[0], rtol=1e-5, atol=1e-5)


def test_an_array_cannot_hold_what_is_known_ahead(model: str, client: httpx.Client) -> None:
    file = io.BytesIO()
    np.save(file, asked_of(model)[1].windows)
    headers = {"Content-Type": "application/x-npy"}
    takes = {"default": "future and time", "known": "future", "calendar": "time"}[model]
    for path in ("/predict", "/predict/batch"):
        response = client.post(path, params={"model": model}, content=file.getvalue(), headers=headers)
        assert error(response, 415)["detail"] == (
            f"An array holds windows alone, and this model takes {takes} too. "
            "Send JSON as Content-Type: application/json, without a Content-Encoding."
        )


def test_an_answer_may_be_an_array(model: str, client: httpx.Client) -> None:
    _, inputs, expected = asked_of(model)
    headers = {"Accept": "application/x-npy"}
    response = client.post("/predict/batch", params={"model": model}, json=native_batch(inputs), headers=headers)
    assert_allclose(np.load(io.BytesIO(response.content)), expected, rtol=1e-5, atol=1e-5)


def row_instances(inputs: Inputs) -> list[dict[str, Any]]:
    """In the row format of `/v1`."""
    named = {name: array.tolist() for name, array in inputs.named().items()}
    return [dict(zip(named, row, strict=True)) for row in zip(*named.values(), strict=True)]


def test_tensorflow_servings_rows_and_columns_hold_every_input(model: str, client: httpx.Client) -> None:
    _, inputs, expected = asked_of(model)
    columns = {name: array.tolist() for name, array in inputs.named().items()}
    url = f"/v1/models/{model}:predict"
    rows = answer(client.post(url, json={"instances": row_instances(inputs)}))
    assert_allclose(rows["predictions"], expected, rtol=1e-5, atol=1e-5)
    named = answer(client.post(url, json={"signature_name": "serving_default", "inputs": columns}))
    assert_allclose(named["outputs"], expected, rtol=1e-5, atol=1e-5)


def tensors(inputs: Inputs) -> list[dict[str, Any]]:
    """In the form of `/v2`, without numbers."""
    datatypes = {"float32": "FP32", "int64": "INT64"}
    return [
        {"name": name, "shape": list(array.shape), "datatype": datatypes[array.dtype.name]}
        for name, array in inputs.named().items()
    ]


def test_open_inference_holds_every_input_as_json_and_as_bytes(model: str, client: httpx.Client) -> None:
    _, inputs, expected = asked_of(model)
    url, arrays = f"/v2/models/{model}/infer", list(inputs.named().values())
    in_json = [
        {**tensor, "data": array.ravel().tolist()} for tensor, array in zip(tensors(inputs), arrays, strict=True)
    ]
    [output] = answer(client.post(url, json={"inputs": in_json}))["outputs"]
    assert_allclose(np.reshape(output["data"], output["shape"]), expected, rtol=1e-5, atol=1e-5)

    in_bytes = [
        {**tensor, "parameters": {"binary_data_size": array.nbytes}}
        for tensor, array in zip(tensors(inputs), arrays, strict=True)
    ]
    head = json.dumps({"inputs": in_bytes}).encode()
    headers = {LENGTH_HEADER: str(len(head))}
    response = client.post(url, content=head + b"".join(array.tobytes() for array in arrays), headers=headers)
    [output] = answer(response)["outputs"]
    assert_allclose(np.reshape(output["data"], output["shape"]), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("time", ["2026-11-29T12:00:00", 498876])
def test_a_time_is_taken_as_a_text_too(time: str | int, client: httpx.Client) -> None:
    contract, inputs, _ = asked_of("calendar")
    one = Inputs(inputs.windows[:1], time=np.array([498876]))
    [expected] = expected_ahead(one, contract)
    window = one.windows[0].tolist()
    native = answer(client.post("/predict?model=calendar", json={"window": window, "time": time}))
    v1 = answer(client.post("/v1/models/calendar:predict", json={"instances": [{"windows": window, "time": time}]}))
    datatype = "INT64" if isinstance(time, int) else "BYTES"
    tensor = {"name": "time", "shape": [1], "datatype": datatype, "data": [time]}
    other = {"name": "windows", "shape": [1, 4, 2], "datatype": "FP32", "data": [window]}
    [v2] = answer(client.post("/v2/models/calendar/infer", json={"inputs": [tensor, other]}))["outputs"]
    for found in (native["prediction"], v1["predictions"][0], np.reshape(v2["data"], (3, 1))):
        assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_the_protocols_describe_every_input(client: httpx.Client) -> None:
    described = answer(client.get("/v2/models/default"))["inputs"]
    assert described == [
        {"name": "windows", "datatype": "FP32", "shape": [-1, 4, 2]},
        {"name": "future", "datatype": "FP32", "shape": [-1, 3, 1]},
        {"name": "time", "datatype": "INT64", "shape": [-1]},
    ]
    configured = answer(client.get("/v2/models/default/config"))["input"]
    assert [tensor["data_type"] for tensor in configured] == ["TYPE_FP32", "TYPE_FP32", "TYPE_INT64"]
    metadata = answer(client.get("/v1/models/default/metadata"))["metadata"]
    taken = metadata["signature_def"]["signature_def"]["serving_default"]["inputs"]
    assert {name: tensor["dtype"] for name, tensor in taken.items()} == {
        "windows": "DT_FLOAT",
        "future": "DT_FLOAT",
        "time": "DT_INT64",
    }


def test_what_is_missing_is_named(client: httpx.Client) -> None:
    body = {"window": native_window(asked_of("default")[1])["window"]}
    assert error(client.post("/predict", json=body), 422)["errors"] == [
        {
            "pointer": "",
            "message": "this model needs future (values of temp in the rows to forecast) and time (of the first row to "
            "forecast) too",
        }
    ]


def test_a_model_that_takes_windows_alone_refuses_a_future(client: httpx.Client) -> None:
    body = native_window(asked_of("default")[1])
    assert error(client.post("/predict?model=plain", json=body), 422)["errors"] == [
        {"pointer": "/future", "message": "this model takes no future; leave it out"},
        {"pointer": "/time", "message": "this model takes no time; leave it out"},
    ]


def test_the_description_of_a_model_shows_what_it_takes(client: httpx.Client) -> None:
    described = answer(client.get("/models/default"))
    assert described["contract"]["known"] == ["temp"]
    assert described["contract"]["calendar"] == [{"name": "day", "rows": 24, "per": 1}]
    assert described["tensors"]["inputs"] == [
        {"name": "windows", "shape": [-1, 4, 2]},
        {"name": "future", "shape": [-1, 3, 1]},
        {"name": "time", "shape": [-1], "datatype": "int64"},
    ]
    plain = answer(client.get("/models/plain"))
    assert plain["tensors"]["inputs"] == [{"name": "windows", "shape": [-1, 4, 2]}]
    assert not {"known", "calendar"} & plain["contract"].keys()


def test_the_documentation_shows_what_the_default_model_takes(client: httpx.Client) -> None:
    schemas = answer(client.get("/openapi.json"))["components"]["schemas"]
    window, batch = schemas["WindowRequest"], schemas["BatchRequest"]
    assert (window["required"], batch["required"]) == (["future", "time"], ["windows", "futures", "times"])
    rows, records, _ = window["properties"]["future"]["anyOf"]
    assert (rows["minItems"], rows["items"]["anyOf"][1]["description"]) == (3, "known: temp")
    assert (records["minItems"], records["items"]["required"]) == (3, ["temp"])
    answer(client.post("/predict", json=window["example"]))
    answer(client.post("/predict/batch", json=batch["example"]))
    answer(client.post("/v1/models/default:predict", json=schemas["PredictRequest"]["example"]))
    answer(client.post("/v2/models/default/infer", json=schemas["InferRequest"]["example"]))
