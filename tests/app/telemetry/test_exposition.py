"""Series end with their version, wherever they are told, and are told off the event loop."""

import shutil
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from app.exchange import Exchange
from app.serving import service as service_module
from app.telemetry import exposition as module
from app.telemetry import metrics
from app.telemetry.metrics import BY_MODEL, REQUESTS
from tests.app.fakes import loader, version_folders
from tests.app.in_process import Application, application
from tests.servers import serving
from tests.waiting import wait_until

KEY = "a key of the operator's"
WINDOW = [[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [6.0, 0.0]]
INPUT = {"name": "windows", "shape": [1, 4, 2], "datatype": "FP32", "data": [WINDOW]}
MODEL = "rolled"


@pytest.fixture
def rolled(tmp_path: Path, settled_folders: None) -> Iterator[Application]:
    """The service with version 1 of a model that no other test counts."""
    version_folders(tmp_path / "models", f"{MODEL}/1")
    with application(tmp_path, loader(), model=MODEL, admin_key=KEY, watch_seconds=0) as service:
        yield service


@pytest.fixture
def client(rolled: Application) -> Iterator[httpx.Client]:
    with rolled.client() as client:
        client.headers["Authorization"] = f"Bearer {KEY}"
        yield client


def roll(models_dir: Path, version: int) -> None:
    """Puts a version in the place of the version before."""
    version_folders(models_dir, f"{MODEL}/{version}")
    shutil.rmtree(models_dir / MODEL / str(version - 1))


def ask(client: httpx.Client) -> None:
    """Asks for forecasts in every protocol, well and badly."""
    assert client.post("/predict", json={"window": WINDOW}).status_code == 200
    assert client.post(f"/v1/models/{MODEL}:predict", json={"instances": [WINDOW]}).status_code == 200
    assert client.post(f"/v2/models/{MODEL}/infer", json={"inputs": [INPUT]}).status_code == 200
    client.post("/predict", json={"window": []})
    client.post(f"/v1/models/{MODEL}:predict", content=b"{")
    client.post(f"/v2/models/{MODEL}/infer", json={})


def series(text: str, model: str = MODEL) -> Counter[str]:
    """How many series there are of each version of a model; those of no version count as version ''."""
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return Counter(sample.labels.get("version", "") for sample in samples if sample.labels.get("model") == model)


def test_the_series_and_the_status_of_a_version_end_at_the_look_after_its_folder_is_gone(
    rolled: Application, client: httpx.Client
) -> None:
    ask(client)
    before = series(client.get("/metrics").text)
    assert before["1"] > 100
    for version in range(2, 6):
        roll(rolled.folder / "models", version)
        client.post("/admin/refresh")
        ask(client)
    client.post("/admin/refresh")
    assert series(client.get("/metrics").text) == {"": before[""], "5": before["1"]}
    assert [entry["version"] for entry in client.post("/v2/repository/index").json()] == ["5"]
    [state] = client.get("/admin/models").json()
    assert [version["version"] for version in state["versions"]] == [5]
    client.post("/admin/refresh")  # the first scrape has told once more that their queues are empty
    assert {values[metric._labelnames.index("version")] for metric, values in kept() if MODEL in values} == {"5"}


def kept() -> Iterator[tuple[MetricWrapperBase, Sequence[str]]]:
    """The label values of every series of a version that this process keeps in its memory."""
    return ((metric, values) for metric in BY_MODEL if "version" in metric._labelnames for values in metric._metrics)


def test_a_version_that_ended_is_told_as_long_as_its_folder_is_there(rolled: Application, client: httpx.Client) -> None:
    ask(client)
    version_folders(rolled.folder / "models", f"{MODEL}/2")
    for _ in range(3):
        client.post("/admin/refresh")
    assert series(client.get("/metrics").text).keys() == {"", "1", "2"}
    index = client.post("/v2/repository/index").json()
    assert [(entry["version"], entry["reason"]) for entry in index] == [("1", "ended"), ("2", "")]
    shutil.rmtree(rolled.folder / "models" / MODEL / "1")
    client.post("/admin/refresh")
    assert series(client.get("/metrics").text).keys() == {"", "2"}


def test_a_request_that_ends_after_its_version_does_not_bring_the_series_back(
    rolled: Application, client: httpx.Client
) -> None:
    async def end_late() -> None:
        exchange = Exchange("native")
        exchange.route, exchange.status, exchange.answered_by = "/predict", 200, (MODEL, 1)
        exchange.end()
        rolled.front.service.exchanges.add(exchange)

    ask(client)
    roll(rolled.folder / "models", 2)
    for _ in range(2):
        client.post("/admin/refresh")
    rolled.loop.run(end_late())
    assert series(client.get("/metrics").text).keys() == {"", "2"}, "written down, and not told"
    client.post("/admin/refresh")
    assert not any(values[2:4] == (MODEL, "1") for values in REQUESTS._metrics)


def test_a_model_whose_folder_is_gone_is_known_no_more(rolled: Application, client: httpx.Client) -> None:
    version_folders(rolled.folder / "models", "passing/1", "passing/2")
    client.post("/admin/refresh")
    assert client.post("/predict?model=passing", json={"window": WINDOW}).status_code == 200
    assert client.put("/admin/models/passing/policy", json={"versions": []}).status_code == 200
    assert series(client.get("/metrics").text, "passing")[""] > 0
    shutil.rmtree(rolled.folder / "models" / "passing")
    (rolled.folder / "models" / "policies.toml").unlink()
    for _ in range(2):
        client.post("/admin/refresh")
    assert "passing" not in client.get("/metrics").text
    assert [state["name"] for state in client.get("/admin/models").json()] == [MODEL]
    assert client.get("/admin/models/passing/state").status_code == 404
    assert {entry["name"] for entry in client.post("/v2/repository/index").json()} == {MODEL}


def test_a_version_that_a_policy_names_is_told_without_a_folder(rolled: Application, client: httpx.Client) -> None:
    assert client.put(f"/admin/models/{MODEL}/policy", json={"versions": [1, 9]}).status_code == 200
    for _ in range(2):
        client.post("/admin/refresh")
    states = client.get(f"/admin/models/{MODEL}/state").json()["versions"]
    assert [(state["version"], state["state"]) for state in states] == [(1, "available"), (9, "pending")]


def test_the_series_of_a_model_are_those_of_every_metric_that_names_one() -> None:
    ours = [each for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)]
    assert {each._name for each in ours if "model" in each._labelnames} == {each._name for each in BY_MODEL}


def test_two_workers_tell_nothing_of_a_version_that_neither_knows(twin_dir: Path) -> None:
    def told() -> set[str]:
        return {version for _ in range(4) for version in series(server.get("/metrics").text, "default")}

    with serving(twin_dir.parents[2], workers=2, watch_seconds=0.2) as server:
        wait_until(lambda: len(server.log("ready")) == 2)
        server.post("/predict", json={"window": WINDOW})
        wait_until(lambda: told() == {"", "1"})
        shutil.copytree(twin_dir, twin_dir.with_name("2"))
        shutil.rmtree(twin_dir)
        wait_until(lambda: told() == {"", "2"})


class Held:
    """Work that waits until it is released, and notes in which threads it ran."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.threads: list[str] = []

    def __call__(self) -> bytes:
        self.threads.append(threading.current_thread().name)
        self.release.wait()
        return b"%d" % len(self.threads)


def test_however_many_scrape_at_once_the_loop_goes_on_and_one_call_follows_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held()
    monkeypatch.setattr(service_module, "exposition", held)
    version_folders(tmp_path / "models", f"{MODEL}/1")
    with (
        application(tmp_path, loader(), model=MODEL) as service,
        service.client() as client,
        ThreadPoolExecutor(9) as pool,
    ):
        try:
            first = pool.submit(client.get, "/metrics")
            wait_until(lambda: len(held.threads) == 1)
            others = [pool.submit(client.get, "/metrics") for _ in range(8)]
            assert client.get("/livez").status_code == 200
        finally:
            held.release.set()
        assert first.result().text == "1"
        assert {other.result().text for other in others} <= {"2", "3"}
        assert len(held.threads) <= 3, "one for the first, one for the others, one for who came too late"
        assert all(name.startswith("asyncio_") for name in held.threads)


def test_figures_of_versions_are_counted_off_the_loop(rolled: Application, client: httpx.Client) -> None:
    threads = []
    collect = module.collect

    def note() -> object:
        threads.append(threading.current_thread().name)
        return collect()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.telemetry.figures.collect", note)
        ask(client)
        [stats] = client.get(f"/v2/models/{MODEL}/stats").json()["model_stats"]
    assert stats["inference_stats"]["success"]["count"] == 3
    assert [name.startswith("asyncio_") for name in threads] == [True]
