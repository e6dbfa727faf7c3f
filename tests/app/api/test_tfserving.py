"""TensorFlow Serving's REST API on a running service, asked as its clients ask it."""

import gzip
import json
import re
import shutil
import zlib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import keras
import numpy as np
import orjson
import pytest
import tensorflow as tf
from google.protobuf import (  # type: ignore[import-untyped]
    descriptor_pb2,
    descriptor_pool,
    json_format,
    message_factory,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tensorflow.core.protobuf import error_codes_pb2

from app.api.problems import plain_answer
from app.errors import InvalidArgument
from app.telemetry.metrics import REQUESTS
from app.version.manifest import Contract
from tests.app.in_process import Application, application
from tests.holding import held_loading, held_window
from tests.servers import connect, read_answer
from tests.versions import contract_of, expected_forecasts, make_fused_version, signatures_of, some_windows
from tests.waiting import PATIENCE_SECONDS, wait_until

WINDOW = [[1, 0], [2, 0], [3, 0], [6, 0]]
FORECAST = [[3.0], [4.0]]
PREDICT = "/v1/models/default:predict"
PAIR = "/v1/models/pair:predict"
SLOW = "/v1/models/slow:predict"
MAX_BYTES = 4096

MARK = "hunter2"
"""Put into hostile payloads; must not come back."""

STATUSES = {400, 404, 413, 501}
"""Of what a body or a path alone can bring about, besides 200."""


def post(client: httpx.Client, content: object, path: str = PREDICT, **headers: str) -> httpx.Response:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return client.post(path, content=body, headers=headers)


def error_of(answer: httpx.Response) -> str:
    """The text of an error, once its shape is seen to be right."""
    assert answer.headers["Content-Type"] == "application/json"
    assert len(answer.content) <= MAX_BYTES
    [(key, text)] = answer.json().items()
    assert key == "error"
    assert text
    assert MARK not in text
    return str(text)


def result_of(answer: httpx.Response, field: str) -> Any:
    """What a prediction answers, once its head and shape are seen to be right."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    [(key, result)] = answer.json().items()
    assert key == field
    return result


POLICIES = "[default]\nlatest = 2\nlabels = { stable = 1 }\n"


def pair_model() -> keras.Model:
    """Two inputs and two outputs, of different ranks."""
    recent, calendar = keras.Input((6, 2), name="recent"), keras.Input((3,), name="calendar")
    state = keras.layers.Concatenate()([keras.layers.LSTM(4)(recent), calendar])
    load = keras.layers.Reshape((2, 1))(keras.layers.Dense(2)(state))
    return keras.Model({"recent": recent, "calendar": calendar}, {"total": keras.layers.Dense(1)(state), "load": load})


def mean_of_list(version_dir: Path) -> None:
    """A SavedModel that takes a list of three numbers and gives one number."""
    module = tf.Module()
    values = tf.TensorSpec((None, 3), tf.float32, name="values")
    module.serve = tf.function(lambda values: {"mean": tf.reduce_mean(values, axis=1)}, input_signature=[values])
    tf.saved_model.save(module, str(version_dir), signatures={"serving_default": module.serve})


@pytest.fixture(scope="module")
def many_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of ours and from elsewhere, several versions and labels, and one that cannot be loaded."""
    models = tmp_path_factory.mktemp("many") / "models"
    for version in (1, 3):
        make_fused_version(models, contract_of(), version=version)
    keras.utils.set_random_seed(1)
    pair_model().export(models / "pair" / "7", verbose=False)
    mean_of_list(models / "list" / "1")
    (models / "spoilt" / "4").mkdir(parents=True)
    (models / "spoilt" / "4" / "saved_model.pb").write_bytes(b"no model")
    for name in ("waiting", "gone"):
        (models / name / "5").mkdir(parents=True)
    mean_of_list(models / "retired" / "2")
    (models / "policies.toml").write_text(POLICIES)
    return models


@pytest.fixture(scope="module")
def many(many_dir: Path) -> Iterator[httpx.Client]:
    """A client of the service with those models, which takes and gives NaN."""
    with application(many_dir.parent, allow_nan=True, watch_seconds=0.2) as service, service.client() as client:
        yield client


def status_message() -> Any:
    """`GetModelStatusResponse` of TensorFlow Serving, whose own package needs a server's build."""
    file = descriptor_pb2.FileDescriptorProto(name="status.proto", package="serving", syntax="proto3")
    [codes] = error_codes_pb2.DESCRIPTOR.dependencies
    file.dependency.append(codes.name)
    status = file.message_type.add(name="StatusProto")
    kinds = descriptor_pb2.FieldDescriptorProto
    status.field.add(
        name="error_code",
        json_name="error_code",
        number=1,
        label=1,
        type=kinds.TYPE_ENUM,
        type_name=f".{codes.enum_types_by_name['Code'].full_name}",
    )
    status.field.add(name="error_message", json_name="error_message", number=2, label=1, type=kinds.TYPE_STRING)
    one = file.message_type.add(name="ModelVersionStatus")
    states = one.enum_type.add(name="State")
    for name, number in {"UNKNOWN": 0, "START": 10, "LOADING": 20, "AVAILABLE": 30, "UNLOADING": 40, "END": 50}.items():
        states.value.add(name=name, number=number)
    one.field.add(name="version", number=1, label=1, type=kinds.TYPE_INT64)
    one.field.add(name="state", number=2, label=1, type=kinds.TYPE_ENUM, type_name=".serving.ModelVersionStatus.State")
    one.field.add(name="status", number=3, label=1, type=kinds.TYPE_MESSAGE, type_name=".serving.StatusProto")
    response = file.message_type.add(name="GetModelStatusResponse")
    response.field.add(
        name="model_version_status",
        json_name="model_version_status",
        number=1,
        label=3,
        type=kinds.TYPE_MESSAGE,
        type_name=".serving.ModelVersionStatus",
    )
    pool = descriptor_pool.Default()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("serving.GetModelStatusResponse"))


STATUS_MESSAGE = status_message()


def test_rows_are_forecast_bare_and_by_name(client: httpx.Client, contract: Contract) -> None:
    windows = some_windows(3, contract, seed=1)
    expected = expected_forecasts(windows, contract)
    for instances in (windows.tolist(), [{"windows": window.tolist()} for window in windows]):
        answer = post(client, {"instances": instances})
        assert_allclose(result_of(answer, "predictions"), expected, atol=1e-6)
        assert (answer.headers["X-Windowcast-Model"], answer.headers["X-Windowcast-Version"]) == ("default", "2")


def test_columns_are_forecast_bare_and_by_name(client: httpx.Client, contract: Contract) -> None:
    windows = some_windows(3, contract, seed=2)
    for inputs in (windows.tolist(), {"windows": windows.tolist(), "more": MARK}):
        assert_allclose(
            result_of(post(client, {"inputs": inputs}), "outputs"), expected_forecasts(windows, contract), atol=1e-6
        )


def test_one_feature_has_brackets_of_its_own(client: httpx.Client) -> None:
    answer = post(client, {"instances": [[[1], [2], [3], [6]]]}, "/v1/models/flat:predict")
    assert result_of(answer, "predictions") == [FORECAST]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/default/versions/3:predict",
        "/V1/Models/default/VERSIONS/0003:Predict",
        f"/v1/models/default/versions/{'0' * 5000}3:predict",
        "/v1/models/d%65fault/labels/stabl%65:predict",
        "/v1/models/default:predict?version=9",
    ],
)
def test_paths_name_versions_and_labels(path: str, many: httpx.Client) -> None:
    answer = post(many, {"instances": [WINDOW]}, path)
    assert result_of(answer, "predictions") == [FORECAST]
    assert answer.headers["X-Windowcast-Version"] == ("1" if "labels" in path else "3")


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_several_inputs_and_outputs_are_those_of_tensorflow(rows: int, many: httpx.Client, many_dir: Path) -> None:
    random = np.random.default_rng(rows)
    recent = random.uniform(-1, 1, (rows, 6, 2)).astype(np.float32)
    calendar = random.uniform(-1, 1, (rows, 3)).astype(np.float32)
    saved = tf.saved_model.load(str(many_dir / "pair" / "7")).signatures["serving_default"]
    expected = saved(recent=tf.constant(recent), calendar=tf.constant(calendar))
    given_rows = [
        {"recent": one.tolist(), "calendar": other.tolist()} for one, other in zip(recent, calendar, strict=True)
    ]
    predictions = result_of(post(many, {"instances": given_rows}, PAIR), "predictions")
    outputs = result_of(
        post(many, {"inputs": {"recent": recent.tolist(), "calendar": calendar.tolist()}}, PAIR), "outputs"
    )
    assert outputs.keys() == expected.keys() == {"load", "total"}
    for name, tensor in expected.items():
        assert_allclose(outputs[name], tensor, atol=1e-6)
        assert_allclose([prediction[name] for prediction in predictions], tensor, atol=1e-6)
        assert np.shape(outputs[name]) == tensor.shape
    assert all(prediction.keys() == expected.keys() for prediction in predictions)


def test_a_list_in_and_a_number_out_have_no_brackets_more(many: httpx.Client) -> None:
    path = "/v1/models/list:predict"
    assert post(many, {"instances": [[1, 2, 6], [1, 1, 1]]}, path).content == b'{"predictions":[3.0,1.0]}'
    assert post(many, {"inputs": {"values": [[1, 2, 6]]}}, path).content == b'{"outputs":[3.0]}'


@pytest.mark.parametrize("scale", [1e-20, 1e-3, 1, 1e7, 1e30])
def test_numbers_are_the_shortest_that_are_the_same_float32(
    scale: float, client: httpx.Client, contract: Contract
) -> None:
    windows = (some_windows(8, contract, seed=3) * scale).astype(np.float32)
    answer = post(client, {"instances": windows.tolist()})
    numbers = re.findall(r"-?[\d.]+(?:e[-+]?\d+)?", answer.text)
    assert len(numbers) == 8 * 2
    assert_allclose(np.ravel(expected_forecasts(windows, contract)), [float(number) for number in numbers], rtol=1e-6)
    assert [Decimal(number) for number in numbers] == [Decimal(str(np.float32(number))) for number in numbers]
    assert post(client, {"instances": [WINDOW]}).content == b'{"predictions":[[[3.0],[4.0]]]}'


@pytest.mark.parametrize(("name", "wanted"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_compressed_body_is_read(name: str, wanted: Any, client: httpx.Client) -> None:
    body = wanted(orjson.dumps({"instances": [WINDOW]}))
    assert result_of(post(client, body, **{"Content-Encoding": name}), "predictions") == [FORECAST]
    answer = post(client, body[:-3], **{"Content-Encoding": name})
    assert (answer.status_code, error_of(answer)) == (400, f"The body is not complete: its {name} data ends too early.")
    answer = post(client, b"{}", **{"Content-Encoding": name})
    assert (answer.status_code, error_of(answer)) == (
        400,
        f"The body is not {name}, although its Content-Encoding says so.",
    )


def test_another_encoding_is_refused(client: httpx.Client) -> None:
    answer = post(client, {"instances": [WINDOW]}, **{"Content-Encoding": "br"})
    assert (answer.status_code, answer.headers["Accept-Encoding"]) == (415, "gzip, deflate")
    assert error_of(answer) == "Send the body as it is, or with Content-Encoding: gzip or deflate."


def test_a_body_may_not_grow_beyond_the_limit(strict_service: Application) -> None:
    with strict_service.client() as client:
        inflated = orjson.dumps({"instances": [WINDOW], "more": "0" * 5000})
        for body, headers, what in (
            (gzip.compress(inflated), {"Content-Encoding": "gzip"}, "inflated body"),
            (inflated, {}, "body"),
        ):
            answer = post(client, body, **headers)
            assert answer.status_code == 413
            assert error_of(answer).startswith(f"The {what} is larger than the 4096 bytes")


def test_a_body_may_be_as_large_as_the_largest_request(client: httpx.Client, contract: Contract) -> None:
    largest = json.dumps({"instances": some_windows(8, contract).astype(float).tolist()}, indent=8).encode()
    assert len(largest) > 8 * 8 * 32, "indented as few would"
    for more, status in ((0, 200), (60 * 1024, 200), (72 * 1024, 413)):
        body = largest + b" " * more
        answer = post(client, body)
        encoded = post(client, gzip.compress(body), **{"Content-Encoding": "gzip"})
        assert (answer.status_code, encoded.status_code) == (status, status)
    limit = "larger than the 71232 bytes of the largest request here: 8 windows of 8 numbers each."
    assert (error_of(answer), error_of(encoded)) == (f"The body is {limit}", f"The inflated body is {limit}")


@pytest.mark.parametrize("media_type", [None, "text/plain", "application/x-npy", "", "multipart/form-data"])
def test_no_content_type_matters(media_type: str | None, client: httpx.Client) -> None:
    headers = {} if media_type is None else {"Content-Type": media_type}
    assert result_of(post(client, {"instances": [WINDOW]}, **headers), "predictions") == [FORECAST]


LONG = "x" * 5000
WRONG_ROW = (
    "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: "
    "(at instances[1][3][1]) Type: String is not of expected type: float; input windows takes shape [4,2]"
)


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b'{"a": hunter2}', 400, "JSON Parse error: Invalid value. at offset: 6"),
        ({"instances": [WINDOW, [*WINDOW[:3], [1, MARK]]]}, 400, WRONG_ROW),
        ({"inputs": [WINDOW] * 9}, 413, "The batch has 9 windows; this service takes at most 8 in one request."),
    ],
)
def test_a_wrong_body_is_told_as_tensorflow_serving_tells_it(
    body: object, status: int, text: str, client: httpx.Client
) -> None:
    answer = post(client, body)
    assert (answer.status_code, error_of(answer)) == (status, text)
    assert answer.headers["X-Windowcast-Version"] == "2"


def test_nan_and_infinity_pass_where_the_settings_allow_them(many: httpx.Client) -> None:
    rows = [f"[[{number},1],[2,1],[3,1],[6,1]]" for number in ("NaN", "1", "Infinity", "-Infinity")]
    answer = post(many, f'{{"instances":[{",".join(rows)}]}}'.encode())
    assert answer.status_code == 200
    assert answer.content == (
        b'{"predictions":[[[NaN],[NaN]],[[3.0],[4.0]],[[Infinity],[Infinity]],[[-Infinity],[-Infinity]]]}'
    )
    recent, calendar = "[[NaN,1]" + ",[1,1]" * 5 + "]", "[1,1,1]"
    body = f'{{"instances":[{{"recent":{recent},"calendar":{calendar}}}]}}'.encode()
    [prediction] = result_of(post(many, body, PAIR), "predictions")
    assert np.isnan(prediction["load"]).all()


def test_without_that_setting_a_forecast_that_is_not_finite_is_an_error(client: httpx.Client) -> None:
    answer = post(client, {"instances": [[[3e38, 0]] * 4]}, **{"X-Request-ID": "too-large"})
    assert answer.status_code == 500
    assert error_of(answer) == "The model could not compute this forecast. Request id: too-large"


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("POST", "/v1/models/half:predict", 404, "Servable not found for request: Latest(half)"),
        ("POST", "/v1/models/Default:predict", 404, "Servable not found for request: Latest(Default)"),
        (
            "POST",
            "/v1/models/default/versions/99:predict",
            404,
            "Servable not found for request: Specific(default, 99)",
        ),
        ("POST", "/v1/models/a%2F%00%22:predict", 404, "Servable not found for request: Latest(a/%00%22)"),
        ("POST", f"/v1/models/{LONG}:predict", 404, f"Servable not found for request: Latest({LONG[:64]})"),
        ("POST", "/v1/models/default/labels/x:predict", 400, "Unrecognized servable version label: x"),
        ("POST", "/v1/models/half/labels/x:predict", 400, "Unrecognized servable version label: x"),
        ("GET", "/v1/models/default/labels/x", 400, "Unrecognized servable version label: x"),
        ("GET", "/v1/models/default/labels/x/metadata", 400, "Unrecognized servable version label: x"),
        (
            "POST",
            "/v1/models/default/versions/9223372036854775808:predict",
            400,
            "Failed to convert version: 9223372036854775808 to numeric.",
        ),
        ("GET", f"/v1/models/m/versions/{'9' * 5000}", 400, f"Failed to convert version: {'9' * 64} to numeric."),
        (
            "GET",
            "/v1/models/default/versions/9223372036854775807",
            404,
            "Could not find version 9223372036854775807 of model default",
        ),
        ("GET", "/v1/models/half", 404, "Could not find any versions of model half"),
        ("GET", "/v1/models/default/versions/77", 404, "Could not find version 77 of model default"),
        ("GET", "/v1/models/half/metadata", 404, "Servable not found for request: Latest(half)"),
        ("GET", "/v1/models/default/versions/1/metadata", 404, "Servable not found for request: Specific(default, 1)"),
        ("GET", "/v1/foo", 400, "Malformed request: GET /v1/foo"),
        ("GET", "/V1/Foo", 400, "Malformed request: GET /V1/Foo"),
        ("GET", "/v1/", 400, "Malformed request: GET /v1/"),
        ("GET", "/v1/models/", 400, "Malformed request: GET /v1/models/"),
        ("GET", "/v1/models/default/", 400, "Malformed request: GET /v1/models/default/"),
        ("GET", "/v1/models/default:predict", 400, "Malformed request: GET /v1/models/default:predict"),
        ("POST", "/v1/models/default", 400, "Malformed request: POST /v1/models/default"),
        ("POST", "/v1/models", 400, "Malformed request: POST /v1/models"),
        ("DELETE", "/v1/models/default", 400, "Malformed request: DELETE /v1/models/default"),
        ("POST", "/v1/models/default:explain", 400, "Malformed request: POST /v1/models/default:explain"),
        (
            "POST",
            "/v1/models/default/versions/x:predict",
            400,
            "Malformed request: POST /v1/models/default/versions/x:predict",
        ),
        ("POST", "/v1/models/default:predict%0A", 400, "Malformed request: POST /v1/models/default:predict%0A"),
        ("GET", "/v1/'<script>", 400, "Malformed request: GET /v1/%27%3Cscript%3E"),
        ("GET", f"/v1/{LONG}", 400, f"Malformed request: GET /v1/{LONG[:196]}"),
    ],
)
def test_a_path_that_leads_nowhere_is_told_as_tensorflow_serving_tells_it(
    method: str, path: str, status: int, text: str, client: httpx.Client
) -> None:
    answer = client.request(method, path, content=json.dumps({"instances": [WINDOW]}) if method == "POST" else None)
    assert (answer.status_code, error_of(answer)) == (status, text)


@pytest.mark.parametrize("character", ["x", "\0", '"', "\U0001f300"])
def test_an_error_is_bounded_whatever_names_a_model_has(character: str) -> None:
    body = plain_answer(InvalidArgument(character * 10_000), "id").body
    assert len(body) <= MAX_BYTES
    assert len(orjson.loads(body)["error"]) > 500


@pytest.mark.parametrize("verb", ["classify", "regress"])
def test_classify_and_regress_name_predict_instead(verb: str, client: httpx.Client) -> None:
    answer = post(client, {"examples": [{"x": MARK}]}, f"/v1/models/default:{verb}")
    assert answer.status_code == 501
    assert error_of(answer).startswith(f"{verb} is not implemented")
    assert ":predict" in error_of(answer)


def test_models_are_listed_as_kserve_lists_them(client: httpx.Client, many: httpx.Client) -> None:
    assert client.get("/v1/models").json() == {"models": ["default", "flat", "slow"]}
    assert many.get("/V1/models").json() == {"models": ["default", "list", "pair", "retired"]}


def test_the_description_of_a_model_tells_what_a_path_may_name(many: httpx.Client) -> None:
    [default] = [model for model in many.get("/models").json()["models"] if model["name"] == "default"]
    for path, version in {"/models/default": 3, "/models/default/versions/1": 1}.items():
        described = many.get(path).json()
        assert (described["version"], described["versions"]) == (version, [1, 3])
        assert described["labels"] == {"stable": 1}
        assert many.get(f"/v1{path}").status_code == 200
        assert (default == described) is (version == 3)
    assert many.get("/models/pair").json()["tensors"] == {
        "inputs": [{"name": "calendar", "shape": [-1, 3]}, {"name": "recent", "shape": [-1, 6, 2]}],
        "outputs": [{"name": "load", "shape": [-1, 2, 1]}, {"name": "total", "shape": [-1, 1]}],
    }


def version_status(version: int, state: str, code: str = "OK", message: str = "") -> dict[str, Any]:
    return {"version": str(version), "state": state, "status": {"error_code": code, "error_message": message}}


def test_versions_tell_where_they_stand_the_highest_first(many: httpx.Client) -> None:
    both = [version_status(3, "AVAILABLE"), version_status(1, "AVAILABLE")]
    for path, statuses in {
        "/v1/models/default": both,
        "/v1/models/default/versions/1": both[1:],
        "/v1/models/default/labels/stable": both[1:],
        "/v1/models/waiting": [version_status(5, "START")],
    }.items():
        answer = many.get(path)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
        assert answer.json() == {"model_version_status": statuses}
        json_format.Parse(answer.content, STATUS_MESSAGE())


def test_a_model_that_cannot_be_loaded_says_why(many: httpx.Client, many_dir: Path) -> None:
    answer = many.get("/v1/models/spoilt")
    [status] = answer.json()["model_version_status"]
    assert (status["version"], status["state"], status["status"]["error_code"]) == ("4", "END", "UNKNOWN")
    assert "is not a SavedModel that loads" in status["status"]["error_message"]
    assert str(many_dir) not in answer.text
    json_format.Parse(answer.content, STATUS_MESSAGE())
    answer = post(many, {"instances": [WINDOW]}, "/v1/models/spoilt:predict")
    assert (answer.status_code, error_of(answer)) == (404, "Servable not found for request: Latest(spoilt)")


def test_a_model_that_is_gone_has_no_versions(many: httpx.Client, many_dir: Path, settled_folders: None) -> None:
    assert many.get("/v1/models/gone").json() == {"model_version_status": [version_status(5, "START")]}
    (many_dir / "gone" / "5").rmdir()
    wait_until(lambda: many.get("/v1/models/gone").status_code == 404)
    assert error_of(many.get("/v1/models/gone")) == "Could not find any versions of model gone"


def test_a_version_that_ended_says_so(many: httpx.Client, many_dir: Path, settled_folders: None) -> None:
    def indexed() -> list[tuple[str, str]]:
        index = many.post("/v2/repository/index").json()
        return [(entry["state"], entry["reason"]) for entry in index if entry["name"] == "retired"]

    path = "/v1/models/retired"
    assert many.get(path).json() == {"model_version_status": [version_status(2, "AVAILABLE")]}
    assert indexed() == [("READY", "")]
    (many_dir / "policies.toml").write_text(f"{POLICIES}[retired]\nversions = []\n")
    wait_until(lambda: many.get(path).json() == {"model_version_status": [version_status(2, "END")]})
    assert indexed() == [("UNAVAILABLE", "ended")]
    answer = post(many, {"instances": [[1, 2, 3]]}, f"{path}:predict")
    assert (answer.status_code, error_of(answer)) == (404, "Servable not found for request: Latest(retired)")


@pytest.mark.parametrize(
    ("path", "model", "version", "others"),
    [
        ("/v1/models/default/metadata", "default", 3, []),
        ("/v1/models/default/versions/1/metadata", "default", 1, []),
        ("/v1/models/default/labels/stable/metadata", "default", 1, []),
        ("/v1/models/pair/METADATA", "pair", 7, ["serve"]),
        ("/v1/models/list/metadata", "list", 1, []),
    ],
)
def test_metadata_is_what_tensorflow_serving_prints_of_the_file(
    path: str, model: str, version: int, others: list[str], many: httpx.Client, many_dir: Path
) -> None:
    answer = many.get(path)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    assert "X-Windowcast-Version" not in answer.headers, "nothing was forecast"
    signatures = signatures_of(many_dir / model / str(version))
    assert signatures.keys() == {"serving_default", "__saved_model_init_op", *others}
    assert answer.json() == {
        "model_spec": {"name": model, "signature_name": "", "version": str(version)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


def test_a_deadline_is_an_error_504(strict_service: Application) -> None:
    with held_window(strict_service.folder) as held, strict_service.client() as client:
        asked = strict_service.post(SLOW, json={"instances": [held.window]})
        held.wait_until_reached()
        strict_service.loop.advance()
        answer = asked.result(PATIENCE_SECONDS)
        assert (answer.status_code, error_of(answer)) == (504, "The forecast was not ready within 10000 seconds.")
        assert answer.headers["X-Windowcast-Model"] == "slow"
        held.release()
        assert post(client, {"instances": [WINDOW]}, SLOW).status_code == 200


def test_a_full_queue_is_an_error_503(strict_service: Application) -> None:
    with held_window(strict_service.folder) as held:
        first = strict_service.post(SLOW, json={"instances": [held.window]})
        held.wait_until_reached()
        waiting, *others = [strict_service.post(SLOW, json={"inputs": [WINDOW] * 3}) for _ in range(3)]
        for answer in (other.result(PATIENCE_SECONDS) for other in others):
            seconds = answer.headers["Retry-After"]
            assert (answer.status_code, seconds in {"1", "2", "3"}) == (503, True)
            expected = f"The queue of this model is full. Try again in {seconds} s, or send fewer windows at once."
            assert error_of(answer) == expected
        assert not waiting.done()
        held.release()
        for asked in (first, waiting):
            assert asked.result(PATIENCE_SECONDS).status_code == 200


@pytest.mark.parametrize("path", [SLOW, "/v2/models/slow/infer"])
def test_a_full_queue_is_told_before_the_body_is_sent(path: str, strict_service: Application, strict_port: int) -> None:
    with held_window(strict_service.folder) as held:
        first = strict_service.post(SLOW, json={"instances": [held.window]})
        held.wait_until_reached()
        waiting, refused = [strict_service.post(SLOW, json={"instances": [WINDOW] * 4}) for _ in range(2)]
        assert refused.result(PATIENCE_SECONDS).status_code == 503, "the queue is full by now"
        with connect(strict_port) as sock:
            sock.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n" % path.encode())
            assert read_answer(sock).status == 503
        held.release()
        for asked in (first, waiting):
            assert asked.result(PATIENCE_SECONDS).status_code == 200


def test_a_model_that_is_being_loaded_is_not_ready(many_dir: Path, tmp_path: Path, settled_folders: None) -> None:
    shutil.copytree(many_dir / "default", tmp_path / "models" / "default")
    (tmp_path / "models" / "policies.toml").write_text(POLICIES)
    with (
        held_loading(tmp_path) as loading,
        application(tmp_path, is_ready=False) as service,
        service.client() as client,
    ):
        loading.wait_until_reached()
        for answer in (
            post(client, {"instances": [WINDOW]}),
            client.get("/v1/models"),
            client.get("/v1/models/half"),
            client.get("/v1/models/default/metadata"),
            client.get("/v1/models/default/labels/stable"),
        ):
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
            assert error_of(answer) == "Not ready: the models are being loaded."

        def states() -> list[str]:
            return [status["state"] for status in client.get("/v1/models/default").json()["model_version_status"]]

        assert "LOADING" in states()
        loading.release()
        service.wait_until_ready()
        assert states() == ["AVAILABLE", "AVAILABLE"]


def test_paths_are_counted_by_their_route(client: httpx.Client) -> None:
    for path in ("/v1/models/default:predict", "/V1/models/none/versions/5:predict", "/v1/models/x/labels/y:regress"):
        post(client, {"instances": [WINDOW]}, path)
    for path in ("/v1/models", "/v1/models/x", "/v1/models/x/versions/1/metadata", "/v1/unknown"):
        client.get(path)
    lines = client.get("/metrics").text.splitlines()
    routes = {line.partition('route="')[2].partition('"')[0] for line in lines if line.startswith(REQUESTS._name)}
    assert routes >= {
        "/v1/models/{model}:predict",
        "/v1/models/{model}/versions/{version}:predict",
        "/v1/models/{model}/labels/{label}:regress",
        "/v1/models",
        "/v1/models/{model}",
        "/v1/models/{model}/versions/{version}/metadata",
        "none",
    }
    assert not any("none/" in route or "/x" in route or "unknown" in route for route in routes)


@settings(max_examples=200)
@given(
    segments=st.lists(
        st.sampled_from(
            ["models", "default", "versions", "2", "labels", "x", "metadata", ":predict", "%2F", "%ff", "%"]
        )
        | st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="?#"), max_size=9),
        max_size=6,
    ),
    method=st.sampled_from(["GET", "POST", "PUT", "HEAD"]),
)
def test_any_path_gets_a_bounded_answer(port: int, segments: list[str], method: str) -> None:
    path = "/v1/" + "/".join(segments)
    with connect(port) as sock:
        sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode())
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert int(head.split()[1]) in STATUSES | {200}
    assert b"content-type: application/json" in head
    assert len(body) <= MAX_BYTES
    assert method == "HEAD" or orjson.loads(body)
