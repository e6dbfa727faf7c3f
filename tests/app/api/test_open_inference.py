"""The Open Inference Protocol of a running service, asked by Triton's own clients and by hostile ones."""

import asyncio
import gzip
import json
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import keras
import numpy as np
import pytest
import tensorflow as tf
import tritonclient.http as triton
from numpy.testing import assert_allclose, assert_array_equal
from tritonclient.http import aio
from tritonclient.utils import InferenceServerException

from app import __version__
from app.api.problems import plain_answer
from app.arrays import Array
from app.errors import InternalError, InvalidArgument, PredictionFailed, ServiceError
from app.version.manifest import Contract
from tests.app.in_process import Application, application, listening
from tests.holding import held_loading, held_window
from tests.loops import LIMIT_SECONDS
from tests.servers import HOST, Server, serving
from tests.versions import expected_forecasts, make_fused_version, some_windows
from tests.waiting import PATIENCE_SECONDS, wait_until

INFER = "/v2/models/default/infer"
INDEX = "/v2/repository/index"
LENGTH = "Inference-Header-Content-Length"
WINDOW = [[1, 0], [2, 0], [3, 0], [6, 0]]
FLAT = [number for row in WINDOW for number in row]
INPUT = {"name": "windows", "shape": [1, 4, 2], "datatype": "FP32", "data": FLAT}
ROW_BYTES = 4 * 2 * 4

MARK = "correcthorse"
"""Put into hostile payloads; must not come back."""
MAX_ERROR_BYTES = 4096

DECODE: dict[str | None, Callable[[bytes], bytes]] = {
    None: bytes,
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
}


@pytest.fixture(scope="session")
def client_of_triton(port: int) -> Iterator[triton.InferenceServerClient]:
    with connected(port) as client:
        yield client


def connected(port: int) -> triton.InferenceServerClient:
    """Triton's client of a service in this process or another."""
    timeouts = {"connection_timeout": PATIENCE_SECONDS, "network_timeout": PATIENCE_SECONDS}
    return triton.InferenceServerClient(f"{HOST}:{port}", **timeouts)


def input_of(array: Any, name: str = "windows", *, binary_data: bool = True) -> triton.InferInput:
    """An array as Triton's client sends it, with the datatype of its own type."""
    names = {"f": "FP", "i": "INT", "u": "UINT"}
    tensor = triton.InferInput(name, [*array.shape], f"{names[array.dtype.kind]}{8 * array.dtype.itemsize}")
    tensor.set_data_from_numpy(array, binary_data=binary_data)
    return tensor


def error_of(answer: httpx.Response) -> str:
    """The error in an answer, once its form is seen to be right."""
    assert answer.headers["Content-Type"] == "application/json"
    assert len(answer.content) <= MAX_ERROR_BYTES
    assert MARK not in answer.text
    assert answer.json().keys() == {"error"}
    error: str = answer.json()["error"]
    return error


def with_bytes(document: object, tail: bytes, **headers: str) -> dict[str, Any]:
    """A body with bytes behind its document, for httpx."""
    head = json.dumps(document).encode()
    return {"content": head + tail, "headers": {LENGTH: str(len(head)), **headers}}


def binary(size: Any = ROW_BYTES, **changes: Any) -> dict[str, Any]:
    """A document whose only input stands behind it."""
    tensor = {name: value for name, value in INPUT.items() if name != "data"}
    return {"inputs": [{**tensor, "parameters": {"binary_data_size": size}, **changes}]}


def test_a_default_call_of_tritons_client_is_answered(
    client_of_triton: triton.InferenceServerClient, contract: Contract
) -> None:
    windows = some_windows(5, contract, seed=1)
    result = client_of_triton.infer("default", [input_of(windows)])
    assert_allclose(result.as_numpy("forecast"), expected_forecasts(windows, contract), atol=1e-6)
    response = result.get_response()
    assert (response["model_name"], response["model_version"]) == ("default", "2")
    [output] = response["outputs"]
    assert output["parameters"] == {"binary_data_size": 5 * 2 * 4}
    assert "id" not in response


@pytest.mark.parametrize("response_encoding", [None, "gzip", "deflate"])
@pytest.mark.parametrize("request_encoding", [None, "gzip", "deflate"])
@pytest.mark.parametrize(("is_binary", "wants_binary"), [(True, True), (True, False), (False, True), (False, False)])
def test_every_way_to_send_and_to_be_answered_gives_the_same(
    is_binary: bool,
    wants_binary: bool,
    request_encoding: str | None,
    response_encoding: str | None,
    client_of_triton: triton.InferenceServerClient,
    contract: Contract,
) -> None:
    windows = some_windows(8, contract, seed=2)
    result = client_of_triton.infer(
        "default",
        [input_of(windows, binary_data=is_binary)],
        outputs=[triton.InferRequestedOutput("forecast", binary_data=wants_binary)],
        request_compression_algorithm=request_encoding,
        response_compression_algorithm=response_encoding,
    )
    assert ("data" in result.get_output("forecast")) is not wants_binary
    plain = client_of_triton.infer("default", [input_of(windows)]).as_numpy("forecast")
    assert_array_equal(result.as_numpy("forecast"), plain)
    assert_allclose(plain, expected_forecasts(windows, contract), atol=1e-6)


def test_the_asynchronous_client_is_answered_the_same(port: int, contract: Contract) -> None:
    windows = some_windows(24, contract, seed=3)

    async def ask_all() -> list[Any]:
        async with aio.InferenceServerClient(f"{HOST}:{port}") as client:
            assert await client.is_server_live()
            assert await client.is_server_ready()
            assert await client.is_model_ready("default", "2")
            assert not await client.is_model_ready("default", "3")
            assert (await client.get_server_metadata())["name"] == "windowcast"
            assert (await client.get_model_metadata("default"))["versions"] == ["2"]
            assert (await client.get_model_config("default"))["max_batch_size"] == 8
            assert len((await client.get_inference_statistics())["model_stats"]) == 3
            assert {"name": "default", "version": "2", "state": "READY", "reason": ""} in (
                await client.get_model_repository_index()
            )
            ways = [{}, {"request_compression_algorithm": "gzip"}, {"response_compression_algorithm": "deflate"}]
            answers = [
                client.infer("default", [input_of(window[None])], **ways[number % len(ways)])
                for number, window in enumerate(windows)
            ]
            return [answer.as_numpy("forecast")[0] for answer in await asyncio.gather(*answers)]

    assert_allclose(asyncio.run(ask_all()), expected_forecasts(windows, contract), atol=1e-6)


def test_the_server_says_what_it_is_and_what_it_can(
    client_of_triton: triton.InferenceServerClient, client: httpx.Client
) -> None:
    described = client_of_triton.get_server_metadata()
    assert described == {
        "name": "windowcast",
        "version": __version__,
        "extensions": ["binary_tensor_data", "model_configuration", "statistics"],
    }
    for path in ("/v2", "/v2/"):
        answer = client.get(path, follow_redirects=False)
        assert (answer.status_code, answer.json()) == (200, described)


def test_health_is_told(client_of_triton: triton.InferenceServerClient, client: httpx.Client) -> None:
    assert client_of_triton.is_server_live()
    assert client_of_triton.is_server_ready()
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}


def test_models_are_ready_if_they_serve(client_of_triton: triton.InferenceServerClient, client: httpx.Client) -> None:
    assert client_of_triton.is_model_ready("default")
    assert client_of_triton.is_model_ready("default", "2")
    assert client.get("/v2/models/flat/ready").json() == {"name": "flat", "ready": True}
    for name, version in (("default", "1"), ("default", "3"), ("default", "x"), ("nothing", ""), ("broken", "")):
        assert not client_of_triton.is_model_ready(name, version)
    answer = client.get("/v2/models/broken/ready")
    assert answer.status_code == 503
    assert error_of(answer) == "Not ready: it does not serve; POST /v2/repository/index says why."
    assert client.get("/v2/models/broken/versions/1/ready").status_code == 503
    assert client.get("/v2/models/broken/versions/2/ready").status_code == 404
    assert client.get("/v2/models/nothing/ready").status_code == 404


@pytest.mark.parametrize("version", ["", "2"])
def test_a_model_says_what_it_takes_and_gives(version: str, client_of_triton: triton.InferenceServerClient) -> None:
    assert client_of_triton.get_model_metadata("default", version) == {
        "name": "default",
        "versions": ["2"],
        "platform": "tensorflow_savedmodel",
        "inputs": [{"name": "windows", "datatype": "FP32", "shape": [-1, 4, 2]}],
        "outputs": [{"name": "forecast", "datatype": "FP32", "shape": [-1, 2, 1]}],
    }
    configuration = client_of_triton.get_model_config("default", version)
    assert (configuration["name"], configuration["max_batch_size"]) == ("default", 8)
    assert configuration["version_policy"] == {"latest": {"num_versions": 1}}
    assert configuration["input"] == [{"name": "windows", "data_type": "TYPE_FP32", "dims": [4, 2]}]
    assert configuration["output"] == [{"name": "forecast", "data_type": "TYPE_FP32", "dims": [2, 1]}]


def test_the_index_lists_every_version_and_why_it_does_not_serve(
    client_of_triton: triton.InferenceServerClient, client: httpx.Client
) -> None:
    index = client_of_triton.get_model_repository_index()
    ready = [
        {"name": name, "version": version, "state": "READY", "reason": ""}
        for name, version in (("default", "2"), ("flat", "1"), ("slow", "1"))
    ]
    for entry in ready:
        assert entry in index
    [broken] = [entry for entry in index if entry["name"] == "broken"]
    assert (broken["version"], broken["state"]) == ("1", "UNAVAILABLE")
    assert broken["reason"]
    assert "/models/" not in broken["reason"], "no path of the host"
    assert client.post(INDEX, json={"ready": True}).json() == ready
    assert client.post(INDEX, json={"ready": False}).json() == index
    assert client.post(INDEX, content=gzip.compress(b"{}"), headers={"Content-Encoding": "gzip"}).json()
    assert error_of(client.post(INDEX, json={"ready": MARK})) == "expected ready to be true or false"
    assert error_of(client.post(INDEX, content=b"[]")) == "expected a JSON object"


def test_versions_are_not_loaded_by_request(client_of_triton: triton.InferenceServerClient) -> None:
    for ask in (client_of_triton.load_model, client_of_triton.unload_model):
        with pytest.raises(InferenceServerException, match="the policies file says which versions serve") as refusal:
            ask("default")
        assert refusal.value.status() == "400"


def test_json_is_taken_flat_and_nested(client: httpx.Client) -> None:
    for data in (FLAT, [WINDOW]):
        answer = client.post(INFER, json={"inputs": [{**INPUT, "data": data}], "id": "ä 1"})
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "application/json"
        assert LENGTH not in answer.headers
        assert (answer.headers["X-Windowcast-Model"], answer.headers["X-Windowcast-Version"]) == ("default", "2")
        assert answer.json() == {
            "model_name": "default",
            "model_version": "2",
            "id": "ä 1",
            "outputs": [{"name": "forecast", "shape": [1, 2, 1], "datatype": "FP32", "data": [3.0, 4.0]}],
        }


def test_the_content_type_does_not_matter(client: httpx.Client) -> None:
    for content_type in ({}, {"Content-Type": "text/csv"}, {"Content-Type": "application/vnd.api+json"}):
        content = json.dumps({"inputs": [INPUT]}).encode()
        assert client.post(INFER, content=content, headers=content_type).status_code == 200


@pytest.mark.parametrize(
    ("parameters", "output", "is_binary"),
    [
        ({"binary_data_output": True}, None, True),
        ({"binary_data_output": True}, {"binary_data": False}, False),
    ],
)
def test_an_output_is_binary_where_it_is_asked_for(
    parameters: dict[str, Any], output: dict[str, Any] | None, is_binary: bool, client: httpx.Client
) -> None:
    document = {"inputs": [INPUT], "parameters": parameters}
    if output is not None:
        document["outputs"] = [{"name": "forecast", "parameters": output}]
    answer = client.post(INFER, json=document)
    assert answer.status_code == 200
    if is_binary:
        assert answer.headers["Content-Type"] == "application/octet-stream"
        length = int(answer.headers[LENGTH])
        [tensor] = json.loads(answer.content[:length])["outputs"]
        assert tensor == {
            "name": "forecast",
            "shape": [1, 2, 1],
            "datatype": "FP32",
            "parameters": {"binary_data_size": 8},
        }
        assert_array_equal(np.frombuffer(answer.content[length:], "<f4"), [3, 4])
    else:
        assert answer.json()["outputs"][0]["data"] == [3.0, 4.0]


def test_a_body_without_a_document_is_one_tensor(client: httpx.Client) -> None:
    content = np.array(FLAT, "<f4").tobytes()
    for encoded, encoding in ((content, {}), (zlib.compress(content), {"Content-Encoding": "deflate"})):
        answer = client.post(INFER, content=encoded, headers={LENGTH: "0", **encoding})
        assert answer.status_code == 200
        length = int(answer.headers[LENGTH])
        assert json.loads(answer.content[:length])["outputs"][0]["shape"] == [1, 2, 1]
        assert_array_equal(np.frombuffer(answer.content[length:], "<f4"), [3, 4])


@pytest.mark.parametrize(
    ("accept", "encoding"),
    [
        ("", None),
        ("identity", None),
        ("*", None),
        ("br, zstd", None),
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate, br", "gzip"),
        ("gzip;q=0.5, deflate", "deflate"),
        ("gzip;q=0, deflate;q=0", None),
        ("gzip;q=0.5, identity", None),
        ("gzip, identity;q=0.5", "gzip"),
        ("gzip;q=high", None),
        ("gzip;q=nan", None),
        (",;=", None),
    ],
)
def test_an_answer_is_encoded_as_the_caller_asks(accept: str, encoding: str | None, client: httpx.Client) -> None:
    with client.stream("POST", INFER, json={"inputs": [INPUT]}, headers={"Accept-Encoding": accept}) as answer:
        content = b"".join(answer.iter_raw())
    assert answer.headers.get("Content-Encoding") == encoding
    assert json.loads(DECODE[encoding](content))["outputs"][0]["data"] == [3.0, 4.0]


def test_an_error_is_never_encoded(client: httpx.Client) -> None:
    with client.stream("POST", INFER, json={}, headers={"Accept-Encoding": "gzip"}) as answer:
        assert json.loads(b"".join(answer.iter_raw())).keys() == {"error"}
    assert answer.status_code == 400


TYPES = [np.float16, np.float64, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]


@pytest.mark.parametrize("is_binary", [True, False])
@pytest.mark.parametrize("kind", TYPES)
def test_other_types_are_taken_where_the_numbers_are_the_same(
    kind: type, is_binary: bool, client_of_triton: triton.InferenceServerClient
) -> None:
    tensor = input_of(np.array([WINDOW], kind), binary_data=is_binary)
    if kind is np.float16 and not is_binary:
        with pytest.raises(InferenceServerException, match="FP16, which JSON cannot hold"):
            client_of_triton.infer("default", [tensor])
    else:
        assert_array_equal(client_of_triton.infer("default", [tensor]).as_numpy("forecast"), [[[3], [4]]])


def one(**changes: Any) -> dict[str, Any]:
    """A document with one input that has changed; what changes to None is left out."""
    tensor = {name: value for name, value in {**INPUT, **changes}.items() if value is not None}
    return {"inputs": [tensor]}


@pytest.mark.parametrize(
    ("document", "tail", "status", "error"),
    [
        (one(data=[*FLAT[1:], MARK]), b"", 400, "input 'windows' at [0, 3, 1]: expected a number, got a string"),
        (one(data=[np.nan]), b"", 400, "The body is not valid JSON in UTF-8, which has no NaN and no Infinity."),
        (binary(), bytes(33), 400, "unexpected additional input data for model 'default': 1 bytes"),
        (
            binary(shape=[9, 4, 2]),
            b"",
            413,
            "The batch has 9 windows; this service takes at most 8 in one request.",
        ),
    ],
)
def test_what_is_wrong_with_a_body_is_said(
    document: object, tail: bytes, status: int, error: str, client: httpx.Client
) -> None:
    answer = client.post(INFER, **with_bytes(document, tail))
    assert (answer.status_code, error_of(answer)) == (status, error)


def test_a_length_that_comes_twice_is_refused(client: httpx.Client) -> None:
    content = json.dumps(one()).encode()
    answer = client.post(INFER, content=content, headers=[(LENGTH, str(len(content)))] * 2)
    assert answer.status_code == 400
    assert error_of(answer).startswith("Unable to parse")


def test_a_caller_may_wait_for_less_time_than_the_service_would(
    service: Application, client_of_triton: triton.InferenceServerClient
) -> None:
    with held_window(service.folder) as held:
        windows = np.array([held.window], np.float32)
        with pytest.raises(InferenceServerException, match=r"not ready within 0\.05 seconds") as refusal:
            client_of_triton.infer("slow", [input_of(windows)], timeout=50_000)
    assert refusal.value.status() == "504"


def test_a_caller_may_not_wait_for_more_time_than_the_service_would(strict_service: Application) -> None:
    with held_window(strict_service.folder) as held, strict_service.client() as client:
        limit = {"timeout": int(2 * LIMIT_SECONDS * 1_000_000)}
        document = {"inputs": [{**INPUT, "data": [held.window]}], "parameters": limit}
        asked = strict_service.post("/v2/models/slow/infer", json=document)
        held.wait_until_reached()
        strict_service.loop.advance()
        answer = asked.result(PATIENCE_SECONDS)
        assert (answer.status_code, error_of(answer)) == (504, "The forecast was not ready within 10000 seconds.")
        held.release()
        assert client.post("/v2/models/slow/infer", json={"inputs": [INPUT]}).status_code == 200


def test_priority_custom_parameters_and_an_id_of_tritons_client_are_taken(
    client_of_triton: triton.InferenceServerClient, contract: Contract
) -> None:
    windows = some_windows(1, contract)
    result = client_of_triton.infer(
        "default", [input_of(windows)], "2", request_id="a", priority=1, timeout=10**7, parameters={"mine": "x"}
    )
    assert result.get_response()["id"] == "a"
    with pytest.raises(InferenceServerException, match="sequences are not offered"):
        client_of_triton.infer("default", [input_of(windows)], sequence_id=3, sequence_start=True)


@pytest.mark.parametrize(
    ("content", "encoding"), [(b"{}", "gzip"), (gzip.compress(b"{}", mtime=0)[:-1], "gzip"), (b"{}", "deflate")]
)
def test_a_body_that_is_not_encoded_as_it_says_is_refused(content: bytes, encoding: str, client: httpx.Client) -> None:
    answer = client.post(INFER, content=content, headers={"Content-Encoding": encoding})
    assert answer.status_code == 400
    assert encoding in error_of(answer)


def test_another_encoding_is_refused(client: httpx.Client) -> None:
    answer = client.post(INFER, content=b"{}", headers={"Content-Encoding": "br"})
    assert (answer.status_code, answer.headers["Accept-Encoding"]) == (415, "gzip, deflate")
    assert error_of(answer) == "Send the body as it is, or with Content-Encoding: gzip or deflate."


def test_a_body_that_becomes_too_large_is_refused(strict_service: Application) -> None:
    with strict_service.client() as client:
        for encode, encoding in ((gzip.compress, "gzip"), (zlib.compress, "deflate")):
            bomb = encode(b" " * 4097)
            answer = client.post(INFER, content=bomb, headers={"Content-Encoding": encoding})
            assert answer.status_code == 413
            assert "larger than the 4096 bytes" in error_of(answer)


def test_a_body_may_be_as_large_as_the_largest_request(client: httpx.Client, contract: Contract) -> None:
    data = some_windows(8, contract).astype(float).tolist()
    largest = json.dumps({"inputs": [{**INPUT, "shape": [8, 4, 2], "data": data}]}, indent=8).encode()
    for path, body, room, takes in (
        (INFER, largest, 60 * 1024, "8 windows of 8 numbers each"),
        (INDEX, b"{}", 60 * 1024, "no windows"),
    ):
        for more, status in ((0, 200), (room, 200), (room + 12 * 1024, 413)):
            spaced = body + b" " * more
            answer = client.post(path, content=spaced)
            encoded = client.post(path, content=gzip.compress(spaced), headers={"Content-Encoding": "gzip"})
            assert (answer.status_code, encoded.status_code) == (status, status)
        assert error_of(answer).endswith(f"of the largest request here: {takes}.")
        assert error_of(encoded).startswith("The inflated body is larger than the ")


def test_behind_a_proxy_that_publishes_it_elsewhere_everything_is_the_same(proxied_server: Server) -> None:
    with connected(proxied_server.port) as client:
        assert client.is_server_ready()
        assert client.get_server_metadata()["name"] == "windowcast"
        result = client.infer("default", [input_of(np.array([WINDOW], np.float32))])
        assert_array_equal(result.as_numpy("forecast"), [[[3], [4]]])
    assert proxied_server.status_of("/v2/") == 200
    assert 'route="/v2/models/{model}/infer"' in proxied_server.get("/metrics").text


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v2", "GET"),
        ("DELETE", "/v2/", "GET"),
        ("POST", "/v2/health/live", "GET"),
        ("POST", "/v2/health/ready", "GET"),
        ("GET", INFER, "POST"),
        ("GET", "/v2/models/default/versions/2/infer", "POST"),
        ("POST", "/v2/models/default", "GET"),
        ("PUT", "/v2/models/default/config", "GET"),
        ("POST", "/v2/models/stats", "GET"),
        ("GET", "/v2/repository/index", "POST"),
        ("GET", "/v2/repository/models/default/load", "POST"),
    ],
)
def test_a_path_takes_one_method(method: str, path: str, allowed: str, client: httpx.Client) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)
    assert error_of(answer) == f"This path takes {allowed}."


@pytest.mark.parametrize(
    "path",
    [
        "/v2/nothing",
        "/v2/health",
        "/v2/models",
        "/v2/models/",
        "/v2/models/default/",
        "/v2/models/default/versions/2/nothing",
        f"/v2/models/{MARK}",
        f"/v2/models/{MARK}/config",
        f"/v2/models/{MARK}/stats",
        "/v2/models/default/versions/3",
        "/v2/models/default/versions/02",
        "/v2/models/default/versions/2%0A",
        f"/v2/models/default/versions/{MARK}/stats",
        f"/v2/models/default/versions/{'9' * 5000}/config",
    ],
)
def test_what_is_not_there_is_not_found(path: str, client: httpx.Client) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert error_of(answer).startswith("No such ")


def test_nothing_is_forecast_by_what_does_not_serve(client_of_triton: triton.InferenceServerClient) -> None:
    windows = np.zeros((1, 4, 2), np.float32)
    for name, version in (("nothing", ""), ("default", "1"), ("default", "x"), ("broken", "")):
        with pytest.raises(InferenceServerException, match="No such ") as refusal:
            client_of_triton.infer(name, [input_of(windows)], version)
        assert refusal.value.status() == "404"


def test_routes_are_counted_by_their_form(client: httpx.Client) -> None:
    client.post(f"/v2/models/{MARK}/infer")
    client.post(INFER, json={"inputs": [INPUT]})
    client.get("/v2/models/default/versions/2/config")
    client.get(f"/v2/{MARK}")
    text = client.get("/metrics").text
    assert MARK not in text
    for route in ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/config"):
        assert f'route="{route}"' in text


def test_while_loading_it_lives_and_lists_what_it_loads(twin_dir: Path, settled_folders: None) -> None:
    folder = twin_dir.parents[2]
    with held_loading(folder) as loading, application(folder, is_ready=False) as service, service.client() as client:
        loading.wait_until_reached()
        assert client.get("/v2/health/live").json() == {"live": True}
        for path in ("/v2/health/ready", "/v2/models/default/ready", "/v2/models/default", "/v2/models/stats"):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
            assert error_of(answer) == "Not ready: the models are being loaded."
        assert client.post(INFER, json={"inputs": [INPUT]}).status_code == 503
        assert client.post(INDEX).json() == [{"name": "default", "version": "1", "state": "LOADING", "reason": ""}]
        loading.release()
        service.wait_until_ready()
        assert client.get("/v2/health/ready").status_code == 200
        assert client.get("/v2/models/default/ready").status_code == 200


def test_while_draining_it_is_not_ready_and_still_forecasts(twin_dir: Path) -> None:
    with application(twin_dir.parents[2]) as service, service.client() as client:
        service.front.lifecycle.drain()
        assert error_of(client.get("/v2/health/ready")) == "Not ready: the service stops."
        assert client.get("/v2/models/default/ready").status_code == 503
        assert client.get("/v2/health/live").status_code == 200
        assert client.post(INFER, json={"inputs": [INPUT]}).status_code == 200


def statistics_of(client: triton.InferenceServerClient, model: str = "default") -> dict[str, Any]:
    [statistics] = client.get_inference_statistics(model)["model_stats"]
    assert isinstance(statistics, dict)
    return statistics


def test_statistics_count_rows_and_calls(client_of_triton: triton.InferenceServerClient, contract: Contract) -> None:
    before = statistics_of(client_of_triton)
    asked = time.perf_counter_ns()
    client_of_triton.infer("default", [input_of(some_windows(5, contract))])
    took = time.perf_counter_ns() - asked
    after = statistics_of(client_of_triton)
    assert (after["name"], after["version"]) == ("default", "2")
    assert after["inference_count"] == before["inference_count"] + 5
    assert after["execution_count"] == before["execution_count"] + 1
    for stage in ("queue", "compute_infer"):
        then, now = before["inference_stats"][stage], after["inference_stats"][stage]
        assert now["count"] == then["count"] + 1
        assert 0 < now["ns"] - then["ns"] < took


def test_statistics_are_told_of_one_version_of_one_model_and_of_all(
    client_of_triton: triton.InferenceServerClient,
) -> None:
    everything = client_of_triton.get_inference_statistics()["model_stats"]
    assert [(model["name"], model["version"]) for model in everything] == [
        ("default", "2"),
        ("flat", "1"),
        ("slow", "1"),
    ]
    for model in everything:
        assert [model] == client_of_triton.get_inference_statistics(model["name"])["model_stats"]
        assert [model] == client_of_triton.get_inference_statistics(model["name"], model["version"])["model_stats"]
    with pytest.raises(InferenceServerException, match="No such version"):
        client_of_triton.get_inference_statistics("default", "3")


def test_statistics_count_what_succeeded_and_what_did_not(
    client_of_triton: triton.InferenceServerClient, client: httpx.Client, contract: Contract
) -> None:
    earliest = time.time()
    before = statistics_of(client_of_triton)["inference_stats"]
    client_of_triton.infer("default", [input_of(some_windows(5, contract))])
    client.post("/predict", json={"window": WINDOW})
    client.post(INFER, json={})
    for path in (
        "/v1/models/default",
        "/v1/models/default/metadata",
        "/v2/models/default",
        "/v2/models/default/config",
    ):
        assert client.get(path).status_code == 200
    statistics = statistics_of(client_of_triton)
    after = statistics["inference_stats"]
    counted = {stage: after[stage]["count"] - before[stage]["count"] for stage in after}
    assert counted == {
        "success": 2,
        "fail": 1,
        "queue": 2,
        "compute_input": 2,
        "compute_infer": 2,
        "compute_output": 2,
        "cache_hit": 0,
        "cache_miss": 0,
    }
    assert after["success"]["ns"] > before["success"]["ns"]
    assert earliest * 1000 - 1 <= statistics["last_inference"] <= time.time() * 1000


def test_statistics_are_those_of_all_workers(twin_dir: Path, contract: Contract) -> None:
    with serving(twin_dir.parents[2], workers=2, max_batch_windows=4) as server:
        wait_until(lambda: len(server.log("ready")) == 2)
        windows = some_windows(3, contract)
        for _ in range(12):  # each by a connection of its own, which either worker may take
            with connected(server.port) as client:
                client.infer("default", [input_of(windows)])
        with connected(server.port) as client:
            wait_until(lambda: statistics_of(client)["inference_count"] == 36)
            assert statistics_of(client)["execution_count"] == 12


def test_each_version_is_asked_by_its_number_and_the_latest_by_none(tmp_path: Path, contract: Contract) -> None:
    models = tmp_path / "models"
    for version in (9, 10):
        make_fused_version(models, contract, version=version)
    (models / "policies.toml").write_text("[default]\nlatest = 2\n")
    windows = some_windows(2, contract)
    with (
        application(tmp_path, max_batch_windows=2) as service,
        listening(service.front, service.loop) as port,
        connected(port) as client,
    ):
        assert client.get_model_metadata("default")["versions"] == ["9", "10"]
        assert client.get_model_metadata("default", "9")["versions"] == ["9"]
        assert client.get_model_config("default")["version_policy"] == {"latest": {"num_versions": 2}}
        assert [entry["state"] for entry in client.get_model_repository_index()] == ["READY", "READY"]
        for asked, answers in (("", "10"), ("9", "9"), ("10", "10")):
            result = client.infer("default", [input_of(windows)], asked)
            assert result.get_response()["model_version"] == answers
            assert_allclose(result.as_numpy("forecast"), expected_forecasts(windows, contract), atol=1e-6)
        statistics = client.get_inference_statistics("default")["model_stats"]
    counted = [(model["version"], model["execution_count"], model["inference_count"]) for model in statistics]
    assert counted == [("9", 1, 2), ("10", 2, 4)]


@pytest.fixture(scope="module")
def foreign_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that Keras made and that has no manifest: two named inputs, two named outputs."""
    folder = tmp_path_factory.mktemp("foreign")
    keras.utils.set_random_seed(7)
    history = keras.Input((6, 2), name="history")
    calendar = keras.Input((3,), name="calendar")
    state = keras.layers.LSTM(4)(history)
    both = keras.layers.Concatenate()([state, keras.layers.Dense(4, activation="tanh")(calendar)])
    mean = keras.layers.Reshape((5, 1))(keras.layers.Dense(5)(both))
    spread = keras.layers.Dense(2, activation="softplus")(both)
    model = keras.Model({"history": history, "calendar": calendar}, {"mean": mean, "spread": spread})
    model.export(folder / "models" / "pair" / "3", verbose=False)
    (folder / "models" / "policies.toml").write_text("[pair]\nversions = [3]\n")
    return folder / "models" / "pair" / "3"


@pytest.fixture(scope="module")
def foreign_service(foreign_dir: Path) -> Iterator[Application]:
    """The service with that model."""
    with application(foreign_dir.parents[2], model="pair") as service:
        yield service


@pytest.fixture(scope="module")
def foreign(foreign_service: Application) -> Iterator[triton.InferenceServerClient]:
    """Triton's client of that service."""
    with listening(foreign_service.front, foreign_service.loop) as port, connected(port) as client:
        yield client


def some_pair(rows: int) -> tuple[Array, Array]:
    random = np.random.default_rng(rows)
    return random.normal(size=(rows, 6, 2)).astype(np.float32), random.normal(size=(rows, 3)).astype(np.float32)


def saved_pair(version_dir: Path, history: Array, calendar: Array) -> dict[str, Array]:
    """What TensorFlow itself answers."""
    saved = tf.saved_model.load(str(version_dir)).signatures["serving_default"]
    outputs = saved(history=tf.constant(history), calendar=tf.constant(calendar))
    return {name: tensor.numpy() for name, tensor in outputs.items()}


def test_a_model_from_elsewhere_is_described_by_its_own_names(foreign: triton.InferenceServerClient) -> None:
    described = foreign.get_model_metadata("pair")
    configuration = foreign.get_model_config("pair")
    assert described["versions"] == ["3"]
    assert {tensor["name"]: tensor["shape"] for tensor in described["inputs"]} == {
        "history": [-1, 6, 2],
        "calendar": [-1, 3],
    }
    assert {tensor["name"]: tensor["shape"] for tensor in described["outputs"]} == {
        "mean": [-1, 5, 1],
        "spread": [-1, 2],
    }
    assert {tensor["name"]: tensor["dims"] for tensor in configuration["input"]} == {
        "history": [6, 2],
        "calendar": [3],
    }
    assert configuration["version_policy"] == {"specific": {"versions": [3]}}


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("is_binary", [(True, True), (True, False), (False, True), (False, False)])
def test_a_model_from_elsewhere_takes_and_gives_its_tensors_by_name(
    is_binary: tuple[bool, bool], rows: int, foreign: triton.InferenceServerClient, foreign_dir: Path
) -> None:
    history, calendar = some_pair(rows)
    expected = saved_pair(foreign_dir, history, calendar)
    inputs = [
        input_of(history, "history", binary_data=is_binary[0]),
        input_of(calendar, "calendar", binary_data=is_binary[1]),
    ]
    outputs = [
        triton.InferRequestedOutput("spread", binary_data=is_binary[1]),
        triton.InferRequestedOutput("mean", binary_data=is_binary[0]),
    ]
    for order in (inputs, inputs[::-1]):
        everything = foreign.infer("pair", order)
        asked = foreign.infer("pair", order, "3", outputs=outputs)
        for name, tensor in expected.items():
            assert_allclose(everything.as_numpy(name), tensor, rtol=0, atol=1e-5)
            assert_allclose(asked.as_numpy(name), tensor, rtol=0, atol=1e-5)
        assert [output["name"] for output in asked.get_response()["outputs"]] == ["spread", "mean"]
        only = foreign.infer("pair", order, outputs=[outputs[0]])
        assert_array_equal(only.as_numpy("spread"), asked.as_numpy("spread"))
        assert only.as_numpy("mean") is None


@pytest.mark.parametrize("error", [InternalError(), PredictionFailed()])
def test_an_error_of_the_service_tells_where_the_log_says_more(error: ServiceError) -> None:
    answer = plain_answer(error, "id-7")
    assert answer.status == 500
    assert json.loads(answer.body) == {"error": f"{error.detail} Request id: id-7"}


def test_an_error_is_never_long() -> None:
    answer = plain_answer(InvalidArgument("\0" * 10**5), "id-7")
    assert len(answer.body) <= MAX_ERROR_BYTES
