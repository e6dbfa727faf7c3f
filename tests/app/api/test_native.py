"""The native routes of a running service, asked as its users ask it."""

import gzip
import io
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import httpx
import numpy as np
import orjson
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose

from app.api import native
from app.api.problems import MAX_BYTES, MEDIA_TYPE
from app.payloads import npy
from app.version.manifest import Contract
from tests.app.in_process import Application
from tests.versions import expected_forecasts, some_windows

WINDOW = [[1, 0], [2, 0], [3, 0], [6, 0]]
JSON = {"Content-Type": "application/json"}

MARK = "hunter2"
"""Put into hostile payloads; must not come back."""


def post(client: httpx.Client, content: bytes | str, path: str = "/predict", **headers: str) -> httpx.Response:
    return client.post(path, content=content, headers={**JSON, **headers})


def problem_of(answer: httpx.Response) -> dict[str, Any]:
    """The problem in an answer, once its shape is seen to be right."""
    assert answer.headers["Content-Type"] == MEDIA_TYPE
    assert len(answer.content) <= MAX_BYTES
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["type"].startswith("urn:windowcast:")
    assert problem["title"]
    return problem


def test_a_window_is_forecast(client: httpx.Client) -> None:
    answer = client.post("/predict", json={"window": WINDOW})
    assert answer.status_code == 200
    assert answer.json() == {"model": "default", "version": 2, "targets": ["load"], "prediction": [[3.0], [4.0]]}


def test_records_are_forecast_whatever_the_order_of_their_features(client: httpx.Client) -> None:
    records = [{"temp": temp, "load": load} for load, temp in WINDOW]
    assert client.post("/predict", json={"records": records}).json()["prediction"] == [[3.0], [4.0]]


def test_a_flat_window_is_forecast_where_the_model_has_one_feature(client: httpx.Client) -> None:
    for window in ([1, 2, 3, 6], [[1], [2], [3], [6]]):
        answer = client.post("/predict?model=flat", json={"window": window}).json()
        assert (answer["model"], answer["targets"], answer["prediction"]) == ("flat", ["co2"], [[3.0], [4.0]])


def test_a_batch_is_forecast_in_its_order(client: httpx.Client, contract: Contract) -> None:
    windows = some_windows(5, contract, seed=1)
    answer = client.post("/predict/batch", json={"windows": windows.tolist()}).json()
    assert answer.keys() == {"model", "version", "targets", "predictions"}
    assert_allclose(answer["predictions"], expected_forecasts(windows, contract), atol=1e-6)


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8])
def test_a_batch_answers_as_its_windows_alone_and_as_the_saved_model(
    rows: int, client: httpx.Client, contract: Contract, models_dir: Path
) -> None:
    windows = some_windows(rows, contract, seed=rows) * 1000
    together = client.post("/predict/batch", json={"windows": windows.tolist()}).json()["predictions"]
    alone = [client.post("/predict", json={"window": window.tolist()}).json()["prediction"] for window in windows]
    saved = tf.saved_model.load(str(models_dir / "default" / "2")).signatures["serving_default"]
    assert_allclose(together, alone, rtol=0, atol=1e-6 * 1000)
    assert_allclose(together, saved(windows=tf.constant(windows))["forecast"], rtol=0, atol=1e-6 * 1000)


def test_answers_do_not_depend_on_who_shares_the_call(service: Application, contract: Contract) -> None:
    windows = some_windows(48, contract, seed=2)
    answers = [service.post("/predict", json={"window": window.tolist()}) for window in windows]
    forecasts = [answer.result().json()["prediction"] for answer in answers]
    assert_allclose(forecasts, expected_forecasts(windows, contract), rtol=0, atol=1e-6)


def test_another_model_and_its_version_can_be_named(client: httpx.Client) -> None:
    answer = client.post("/predict?model=slow&version=1", json={"window": WINDOW})
    assert (answer.status_code, answer.json()["model"]) == (200, "slow")


@pytest.mark.parametrize("query", ["model=nothing", "version=1", "model=flat&version=2", "model=broken"])
def test_a_model_or_version_that_does_not_serve_is_not_found(query: str, client: httpx.Client) -> None:
    answer = client.post(f"/predict?{query}", json={"window": WINDOW})
    assert answer.status_code == 404
    assert problem_of(answer)["detail"].startswith("No such ")


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("version=0", "?version"),
        ("version=1.5", "?version"),
        (f"version={MARK}", "?version"),
        ("model=../secrets", "?model"),
        ("model=%00", "?model"),
        ("model=", "?model"),
        (f"model={'x' * 65}", "?model"),
    ],
)
def test_a_bad_query_parameter_is_pointed_at(query: str, pointer: str, client: httpx.Client) -> None:
    answer = client.post(f"/predict?{query}", json={"window": WINDOW})
    assert answer.status_code == 422
    assert [error["pointer"] for error in problem_of(answer)["errors"]] == [pointer]
    assert MARK not in answer.text


@pytest.mark.parametrize(
    ("path", "body", "status", "pointer"),
    [
        ("/predict", MARK, 400, None),
        ("/predict", f'{{"{MARK}": 1}}', 422, ""),
        ("/predict", "{" + ",".join(f'"{number}":0' for number in range(5_000)) + "}", 422, ""),
        ("/predict", f'{{"window": [[1, 0], [2, 0], [3, 0], [6, "{MARK}"]]}}', 422, "/window/3/1"),
        ("/predict/batch", f'{{"windows": [[[1, 0], [2, 0], [3, 0], [6, "{MARK}"]]]}}', 422, "/windows/0/3/1"),
    ],
)
def test_a_hostile_body_gets_a_bounded_problem(
    path: str, body: str, status: int, pointer: str | None, client: httpx.Client
) -> None:
    answer = post(client, body, path)
    assert answer.status_code == status
    errors = problem_of(answer).get("errors", [])
    assert pointer is None or errors[0]["pointer"] == pointer
    assert MARK not in answer.text


def test_twenty_thousand_mistakes_get_a_short_answer(client: httpx.Client) -> None:
    for wrong, path in (
        ([[MARK, *[""] * 5_000]] * 4, "/predict"),
        ([[MARK, *[""] * 2_500]] * 8, "/predict/batch"),
    ):
        field = "window" if path == "/predict" else "windows"
        answer = post(client, orjson.dumps({field: wrong}), path)
        assert answer.status_code == 422
        assert 1 < len(problem_of(answer)["errors"]) <= 20
        assert MARK not in answer.text


def test_a_path_with_a_slash_too_many_is_a_problem_like_any_other(client: httpx.Client) -> None:
    answer = client.post("/predict/", json={"window": WINDOW})
    assert answer.status_code == 404
    assert problem_of(answer)["type"] == "urn:windowcast:not-found"


def test_a_batch_beyond_the_limit_is_refused_and_one_at_the_limit_is_not(client: httpx.Client) -> None:
    assert client.post("/predict/batch", json={"windows": [WINDOW] * 8}).status_code == 200
    answer = client.post("/predict/batch", json={"windows": [WINDOW] * 9})
    assert answer.status_code == 413
    assert problem_of(answer)["detail"] == "The batch has 9 windows; this service takes at most 8 in one request."


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "json", ""]
)
def test_a_body_that_is_not_declared_as_json_is_refused(media_type: str, client: httpx.Client) -> None:
    answer = post(client, orjson.dumps({"window": WINDOW}), **{"Content-Type": media_type})
    assert answer.status_code == 415
    assert "application/json" in problem_of(answer)["detail"]


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "identity, gzip"])
def test_a_compressed_body_is_refused(encoding: str, client: httpx.Client) -> None:
    answer = post(client, gzip.compress(orjson.dumps({"window": WINDOW})), **{"Content-Encoding": encoding})
    assert answer.status_code == 415
    assert "Content-Encoding" in problem_of(answer)["detail"]


@pytest.mark.parametrize("media_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/ld+json"])
def test_json_may_be_declared_in_other_words(media_type: str, client: httpx.Client) -> None:
    answer = post(client, orjson.dumps({"window": WINDOW}), **{"Content-Type": media_type})
    assert answer.status_code == 200


def test_a_forecast_that_is_not_finite_is_an_internal_problem_with_its_request_id_only(client: httpx.Client) -> None:
    answer = client.post("/predict", json={"window": [[3e38, 0]] * 4}, headers={"X-Request-ID": "too-large"})
    assert answer.status_code == 500
    problem = problem_of(answer)
    assert problem == {
        "type": "urn:windowcast:prediction-failed",
        "title": "Prediction failed",
        "status": 500,
        "request_id": "too-large",
    }
    assert client.post("/predict", json={"window": WINDOW}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/predict", b'{"window": [[1, 0], [2, 0], [3, 0], [6, 0]]}', 200),
        ("POST", "/predict/batch", b'{"windows": [[[1, 0], [2, 0], [3, 0], [6, 0]]]}', 200),
        ("POST", "/predict", b"{", 400),
        ("POST", "/predict", b"{}", 422),
        (
            "POST",
            "/predict/batch",
            b'{"windows": [' + b"[[1,0],[1,0],[1,0],[1,0]]," * 8 + b"[[1,0],[1,0],[1,0],[1,0]]]}",
            413,
        ),
        ("POST", "/predict", b'{"window": [[3e38, 0], [3e38, 0], [3e38, 0], [3e38, 0]]}', 500),
    ],
)
def test_every_answer_of_a_version_names_it(
    method: str, path: str, body: bytes, status: int, client: httpx.Client
) -> None:
    answer = client.request(method, path, content=body, headers=JSON)
    assert answer.status_code == status
    assert (answer.headers["X-Windowcast-Model"], answer.headers["X-Windowcast-Version"]) == ("default", "2")


def test_the_wrong_method_is_told_the_right_one(client: httpx.Client) -> None:
    answer = client.get("/predict")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert problem_of(answer)["detail"] == "This path takes POST."


@pytest.mark.parametrize("path", ["/nothing", "/predict/nothing", "/models/default/versions", "/%2e%2e/etc", "/v1"])
def test_an_unknown_path_is_a_problem(path: str, client: httpx.Client) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    problem_of(answer)


def test_models_are_listed_with_the_default_first_and_failures_last(client: httpx.Client) -> None:
    listed = client.get("/models").json()
    assert [(model["name"], model["version"]) for model in listed["models"]] == [
        ("default", 2),
        ("flat", 1),
        ("slow", 1),
    ]
    assert listed["failures"].keys() == {"broken/1"}


def test_a_model_tells_its_contract_scores_and_engine(client: httpx.Client, contract: Contract) -> None:
    described = client.get("/models/default").json()
    assert Contract.model_validate(described["contract"]) == contract
    assert described["scores"] == [{"forecaster": "model", "mae": 1.0, "rmse": 2.0}]
    assert described["verdict"] == "It answers with the mean."
    assert described["engine"] == "onnx"
    assert described["engine_remark"].startswith("fused operators, ")
    assert described["tensors"] == {
        "inputs": [{"name": "windows", "shape": [-1, 4, 2]}],
        "outputs": [{"name": "forecast", "shape": [-1, 2, 1]}],
    }
    assert (described["versions"], described["labels"]) == ([2], {})
    assert client.get("/models/default/versions/2").json() == described


@pytest.mark.parametrize("path", ["/models/nothing", "/models/nothing/example", "/models/default/versions/1"])
def test_what_does_not_serve_cannot_be_described(path: str, client: httpx.Client) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    problem_of(answer)


@pytest.mark.parametrize(
    "path",
    ["/models/.%2e%2fetc", "/models/%00", "/models/default/versions/0", "/models/default/versions/x"],
)
def test_an_impossible_name_or_version_is_refused(path: str, client: httpx.Client) -> None:
    answer = client.get(path)
    assert answer.status_code in {404, 422}
    problem_of(answer)


@pytest.mark.parametrize("name", ["default", "flat", "slow"])
def test_the_example_works_as_it_stands(name: str, client: httpx.Client) -> None:
    example = client.get(f"/models/{name}/example")
    answer = post(client, example.content, f"/predict?model={name}")
    assert answer.status_code == 200
    assert np.shape(answer.json()["prediction"]) == (2, 1)


def test_an_unknown_query_parameter_is_refused(client: httpx.Client) -> None:
    answer = client.post("/predict", params={"modle": "flat"}, json={"window": WINDOW})
    assert answer.status_code == 422
    assert problem_of(answer)["errors"][0]["message"] == "unknown query parameter; this takes model, version and label"


def test_a_query_is_read_once_and_one_of_thousands_of_parameters_is_not_taken_apart(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def note(query: str, **options: Any) -> list[tuple[str, str]]:
        pairs = parse_qsl(query, **options)
        read.append(query)
        return pairs

    read: list[str] = []
    monkeypatch.setattr(native, "parse_qsl", note)
    for _ in range(3):
        assert client.post("/predict?model=def%61ult&version=2", json={"window": WINDOW}).status_code == 200
    assert read == ["model=def%61ult&version=2"]
    answer = client.post("/predict?" + "model=default&" * 4000, json={"window": WINDOW})
    assert answer.status_code == 422
    assert [error["pointer"] for error in problem_of(answer)["errors"]] == ["?"]
    assert len(read) == 1


NPY = {"Content-Type": "application/x-npy"}


def test_an_array_is_forecast_alone_and_in_a_batch(client: httpx.Client, contract: Contract) -> None:
    windows = some_windows(3, contract, seed=4)
    expected = expected_forecasts(windows, contract)
    answer = client.post("/predict", content=npy.write(windows[0]), headers={**NPY, "Accept": "application/x-npy"})
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/x-npy")
    assert (answer.headers["X-Windowcast-Model"], answer.headers["X-Windowcast-Version"]) == ("default", "2")
    assert_allclose(np.load(io.BytesIO(answer.content), allow_pickle=False), expected[0], atol=1e-6)
    answer = client.post("/predict/batch", content=npy.write(windows), headers={**NPY, "Accept": "application/x-npy"})
    assert_allclose(np.load(io.BytesIO(answer.content), allow_pickle=False), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/x-npy", "x-npy"),
        ("APPLICATION/X-NPY", "x-npy"),
        ("application/x-npy, application/json;q=0.5", "x-npy"),
        ("application/json;q=0.5, application/x-npy ; q=0.6", "x-npy"),
        ("*/*", "json"),
        ("application/json", "json"),
        ("application/json, application/x-npy;q=0.5", "json"),
        ("application/x-npy;q=0", "json"),
        ("application/x-npy;q=high", "json"),
        ("text/html, */*;q=0.1", "json"),
        (",;=", "json"),
    ],
)
@pytest.mark.parametrize("sent", ["json", "x-npy"])
def test_the_answer_is_what_the_caller_accepts_whatever_it_sent(
    sent: str, accept: str, kind: str, client: httpx.Client
) -> None:
    window = np.array(WINDOW, np.float32)
    content = npy.write(window) if sent == "x-npy" else orjson.dumps({"window": WINDOW})
    answer = client.post("/predict", content=content, headers={"Content-Type": f"application/{sent}", "Accept": accept})
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, f"application/{kind}")


@pytest.mark.parametrize(
    ("path", "array", "status", "pointer"),
    [
        ("/predict", np.zeros((3, 2)), 422, ""),
        ("/predict/batch", np.full((2, 4, 2), np.nan), 422, "/0/0/0"),
        ("/predict/batch", np.zeros((9, 4, 2)), 413, None),
    ],
)
def test_an_array_that_breaks_the_contract_is_a_problem_even_where_an_array_is_wanted(
    path: str, array: Any, status: int, pointer: str | None, client: httpx.Client
) -> None:
    file = io.BytesIO()
    np.save(file, array)
    answer = client.post(path, content=file.getvalue(), headers={**NPY, "Accept": "application/x-npy"})
    assert answer.status_code == status
    problem = problem_of(answer)
    assert (problem["errors"][0]["pointer"] if "errors" in problem else None) == pointer


def test_json_that_is_declared_to_be_an_array_is_not_one(client: httpx.Client) -> None:
    answer = client.post("/predict", content=b"{}", headers=NPY)
    assert answer.status_code == 400
    assert problem_of(answer)["detail"] == "The body is not an array in NumPy's npy format."
