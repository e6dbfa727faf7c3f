"""The application inside others: mounted, several in one process, with engines of the test's own."""

import asyncio
import gc
import logging
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Counter, generate_latest
from starlette.types import ASGIApp

from app.api.direct import Front
from app.errors import TooManyRequests
from app.exchange import Exchange
from app.main import SWITCH_SECONDS, YOUNG_OBJECTS, create_app
from app.serving.loading import LoadedVersion
from app.settings import Settings
from app.telemetry.journal import DELAY_SECONDS, Journal
from app.telemetry.metrics import READY, VERSION_STATE
from tests.app.fakes import loader, version_folders
from tests.servers import ROOT, running
from tests.versions import contract_of

WINDOW = [[1, 0], [2, 0], [3, 0], [6, 0]]
FORECAST = [[3.0], [4.0]]
PATHS = ("/livez", "/readyz", "/models", "/metrics", "/openapi.json", "/v1/models/default", "/v2/models/default", "/v2")


pytestmark = pytest.mark.usefixtures("settled_folders")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(models_dir=version_folders(tmp_path / "models"))


@asynccontextmanager
async def asking(app: ASGIApp, base: str = "") -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://service{base}") as client:
        yield client


async def ready(app: Front) -> None:
    await app.service.wait_until_loaded()


async def forecast(client: httpx.AsyncClient) -> Any:
    answer = await client.post("/predict", json={"window": WINDOW})
    assert answer.status_code == 200, answer.text
    return answer.json()["prediction"]


def test_an_application_with_a_loader_of_ones_own_serves_by_every_protocol(settings: Settings) -> None:
    async def ask() -> None:
        app = create_app(settings, load_version=loader())
        async with app.running(), asking(app) as client:
            await ready(app)
            assert await forecast(client) == FORECAST
            rows = await client.post("/v1/models/default:predict", json={"instances": [WINDOW]})
            assert rows.json() == {"predictions": [FORECAST]}
            tensor = {"name": "windows", "shape": [1, 4, 2], "datatype": "FP32", "data": [WINDOW]}
            infer = await client.post("/v2/models/default/infer", json={"inputs": [tensor]})
            assert infer.status_code == 200, infer.text
            assert infer.json()["outputs"][0]["data"] == FORECAST[0] + FORECAST[1]

    asyncio.run(ask())


@pytest.mark.parametrize("mounted_at", ["/forecasts", "/a/b"])
def test_the_application_serves_mounted_inside_another_one(settings: Settings, mounted_at: str) -> None:
    async def ask() -> None:
        app = create_app(settings, load_version=loader())

        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            async with app.running():
                yield

        host = FastAPI(lifespan=lifespan)
        host.mount(mounted_at, app)

        @host.get("/own")
        async def own() -> str:
            return "the host's"

        async with host.router.lifespan_context(host), asking(host, mounted_at) as client:
            await ready(app)
            assert await forecast(client) == FORECAST
            for path in PATHS:
                assert (await client.get(path)).status_code == 200, path
            assert (await client.get("/models/none")).headers["content-type"] == "application/problem+json"
            assert (await client.get("http://service/own")).json() == "the host's"
            page = (await client.get("/docs")).text
            assert f"{mounted_at}/openapi.json" in page

    asyncio.run(ask())


def test_two_applications_in_one_process_keep_their_own_models(tmp_path: Path) -> None:
    async def ask() -> None:
        first = create_app(Settings(models_dir=version_folders(tmp_path / "a")), load_version=loader())
        other = contract_of(features=("co2",))
        second = create_app(
            Settings(models_dir=version_folders(tmp_path / "b", "default/7")), load_version=loader(other)
        )
        async with first.running(), second.running(), asking(first) as one, asking(second) as two:
            await asyncio.gather(ready(first), ready(second))
            assert await forecast(one) == FORECAST
            answer = (await two.post("/predict", json={"window": [1, 2, 3, 6]})).json()
            assert (answer["version"], answer["prediction"]) == (7, FORECAST)

    asyncio.run(ask())


def test_an_application_starts_again_after_its_stop(settings: Settings) -> None:
    loaded: list[LoadedVersion] = []
    app = create_app(settings, load_version=loader(made=loaded.append))

    async def ask() -> None:
        async with app.running(), asking(app) as client:
            await ready(app)
            assert await forecast(client) == FORECAST
            await asyncio.sleep(10 * DELAY_SECONDS)
            assert not app.service.exchanges.waiting
        async with asking(app) as client:
            assert (await client.get("/readyz")).json() == {"status": "stopped"}
            refusal = await client.post("/predict", json={"window": WINDOW})
            assert (refusal.status_code, refusal.json()["detail"]) == (503, "Not ready: the service has stopped.")
            assert "Retry-After" not in refusal.headers

    for number in (1, 2, 3):
        asyncio.run(ask())
        assert len(loaded) == number
    assert app.service.catalogue.models() == {}


def test_gates_refuse_requests_of_every_protocol_in_its_own_words(settings: Settings) -> None:
    def refuse(exchange: Exchange) -> None:
        seen.append(exchange.protocol)
        raise TooManyRequests(3)

    async def ask() -> None:
        app = create_app(settings, gates=[refuse], load_version=loader())
        async with app.running(), asking(app) as client:
            await ready(app)
            for path in ("/predict", "/predict/batch", "/v1/models/default:predict", "/v2/models/default/infer"):
                answer = await client.post(path, json={})
                assert (answer.status_code, answer.headers["Retry-After"]) == (429, "3"), path
                word = "detail" if path.startswith("/predict") else "error"
                assert answer.json()[word] == "Too many requests; try again in 3 s."
            assert (await client.get("/readyz")).status_code == 200

    seen: list[str] = []
    asyncio.run(ask())
    assert seen == ["native", "native", "tfserving", "inference"]


def test_an_application_leaves_its_process_as_it_is(settings: Settings) -> None:
    def state() -> list[object]:
        root = logging.getLogger()
        signals = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        loggers = [(logging.getLogger(name).level, logging.getLogger(name).handlers) for name in ("app", "uvicorn")]
        collector = [gc.isenabled(), gc.get_freeze_count()]
        return [
            *(*root.handlers, root.level, *loggers, *signals, *collector),
            *(dict(os.environ), sys.getswitchinterval(), "_created" in generate_latest(host_metrics).decode()),
        ]

    async def ask() -> None:
        before = state()
        app = create_app(settings, load_version=loader())
        async with app.running(), asking(app) as client:
            await ready(app)
            await forecast(client)
            await client.post("/predict", json={"records": []})
            assert state() == before
        assert state() == before

    host_metrics = CollectorRegistry()
    Counter("own", "Of the host.", registry=host_metrics)
    is_on = gc.isenabled()
    try:
        gc.disable()  # a body that is parsed must not put it on
        asyncio.run(ask())
    finally:
        if is_on:
            gc.enable()


OWN_PROCESS = """
import gc, sys
from app.main import own_process

own_process()
print(gc.get_threshold()[0], sys.getswitchinterval())
"""


def test_a_process_of_its_own_is_set_up_for_many_requests(tmp_path: Path) -> None:
    """Its collector is not started by requests under way, and its engine gets Python's lock soon."""
    with running(tmp_path, "-c", OWN_PROCESS) as server:
        assert server.wait() == 0
        assert server.output.read_text() == f"{YOUNG_OBJECTS} {SWITCH_SECONDS}\n"


def test_logs_go_where_the_host_sends_them(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    async def ask() -> None:
        app = create_app(settings, load_version=loader())
        async with app.running(), asking(app) as client:
            await ready(app)
            await client.post("/predict", json={"window": WINDOW}, headers={"X-Request-ID": "hosted"})

    with caplog.at_level(logging.INFO):
        asyncio.run(ask())
    events = {record.getMessage() for record in caplog.records if record.name.startswith("app")}
    assert {"model loaded", "ready", "request"} <= events
    [request] = [record for record in caplog.records if record.getMessage() == "request"]
    assert request.__dict__["request_id"] == "hosted"


def test_nothing_is_printed_in_a_host(
    settings: Settings, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def ask() -> None:
        app = create_app(settings, load_version=loader())
        async with app.running(), asking(app) as client:
            await ready(app)
            await forecast(client)

    with caplog.at_level(logging.INFO):
        asyncio.run(ask())
    assert "request" in {record.getMessage() for record in caplog.records}
    assert capsys.readouterr().out == ""


def test_a_start_that_fails_is_told_to_on_fatal_and_leaves_the_process_alone(tmp_path: Path) -> None:
    async def ask() -> None:
        app = create_app(Settings(models_dir=tmp_path), on_fatal=told.append)
        async with app.running(), asking(app) as client:
            await ready(app)
            assert (await client.get("/livez")).status_code == 200
            readiness = await client.get("/readyz")
            assert (readiness.status_code, readiness.json()) == (503, {"status": "failed"})
            refusal = await client.post("/predict", json={"window": WINDOW})
            assert (refusal.status_code, refusal.json()["title"]) == (503, "Not ready")

    told: list[BaseException] = []
    asyncio.run(ask())
    [error] = told
    assert "holds no version of a model" in str(error)


def test_an_application_that_is_gone_is_freed(settings: Settings) -> None:
    async def ask() -> None:
        app = create_app(settings, load_version=loader(made=lambda version: engines.append(id(version.engine))))
        async with app.running(), asking(app) as client:
            await ready(app)
            await forecast(client)

    engines: list[int] = []
    asyncio.run(ask())
    gc.collect()
    assert not [engine for engine in gc.get_objects() if type(engine).__name__ == "MeanEngine"]


def test_the_code_of_the_page_on_embedding_works(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs/how-to/embed-the-service.md").read_text(encoding="utf-8")
    mount, refuse, tell = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("app.serving.service.loader_of", lambda _: loader())

    async def ask() -> None:
        names: dict[str, Any] = {}
        exec(mount, names)  # noqa: S102
        host, app = names["host"], names["forecasts"]
        async with host.router.lifespan_context(host), asking(host, "/forecasts") as client:
            await ready(app)
            assert await forecast(client) == FORECAST
        exec(refuse, names)  # noqa: S102
        async with names["forecasts"].running(), asking(names["forecasts"]) as client:
            await ready(names["forecasts"])
            assert (await client.post("/predict", json={"window": WINDOW})).status_code == 401
            answer = await client.post("/predict", json={"window": WINDOW}, headers={"X-Key": "a key of yours"})
            assert answer.json()["prediction"] == FORECAST

    asyncio.run(ask())
    names: dict[str, Any] = {}
    exec(tell, names)  # noqa: S102

    async def fail() -> None:
        names["forecasts"].service.settings.models_dir.rename(tmp_path / "away")
        async with names["forecasts"].running():
            await ready(names["forecasts"])

    asyncio.run(fail())
    assert "forecasts are not available: " in capsys.readouterr().out


def test_a_block_that_fails_stops_the_service(settings: Settings) -> None:
    app = create_app(settings, load_version=loader())

    async def fail() -> None:
        async with app.running():
            await ready(app)
            raise RuntimeError("of the host")

    with pytest.raises(RuntimeError, match="of the host"):
        asyncio.run(fail())
    assert app.lifecycle.phase == "stopped"


def test_a_service_that_runs_is_not_started_again(settings: Settings) -> None:
    async def start_twice() -> None:
        app = create_app(settings, load_version=loader())
        async with app.running():
            with pytest.raises(RuntimeError, match="runs already"):
                async with app.running():
                    pass

    asyncio.run(start_twice())


def test_whoever_stops_waiting_for_the_models_does_not_stop_their_load(settings: Settings) -> None:
    async def wait_briefly() -> None:
        app = create_app(settings, load_version=loader())
        async with app.running():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await ready(app)
            await ready(app)
            assert app.lifecycle.phase == "ready"

    asyncio.run(wait_briefly())


def test_gauges_count_what_serves_in_all_applications_of_the_process(tmp_path: Path) -> None:
    def counted() -> tuple[float, float]:
        available = VERSION_STATE.labels("default", "1", "available")
        return READY._value.get(), available._value.get()

    async def serve() -> None:
        before = counted()
        first = create_app(Settings(models_dir=version_folders(tmp_path / "a")), load_version=loader())
        second = create_app(Settings(models_dir=version_folders(tmp_path / "b")), load_version=loader())
        async with first.running():
            async with second.running():
                await asyncio.gather(ready(first), ready(second))
                assert counted() == (before[0] + 2, before[1] + 2)
            assert counted() == (before[0] + 1, before[1] + 1)
        assert counted() == before

    asyncio.run(serve())


def test_a_failing_log_does_not_keep_a_fatal_error_from_being_told(tmp_path: Path) -> None:
    def fail(_: object) -> None:
        raise OSError("disk full")

    async def start() -> None:
        app = create_app(Settings(models_dir=tmp_path), on_fatal=told.append)
        app.service.exchanges = Journal(fail)
        app.service.exchanges.add(Exchange("native"))
        with suppress(OSError):
            async with app.running():
                await ready(app)

    told: list[BaseException] = []
    asyncio.run(start())
    assert len(told) == 1


@pytest.mark.parametrize("mounted_at", ["/my models", "/café"])
def test_names_with_percent_signs_are_no_trouble_for_a_mount(settings: Settings, mounted_at: str) -> None:
    async def ask() -> None:
        app = create_app(settings, load_version=loader())
        host = FastAPI()
        host.mount(mounted_at, app)
        async with app.running(), asking(host, quote(mounted_at)) as client:
            await ready(app)
            assert await forecast(client) == FORECAST
            for path in PATHS:
                assert (await client.get(path)).status_code == 200, path

    asyncio.run(ask())


def test_the_root_path_of_the_settings_holds_under_any_server(settings: Settings) -> None:
    async def ask() -> None:
        app = create_app(settings.model_copy(update={"root_path": "/forecast"}), load_version=loader())
        async with app.running(), asking(app) as client:
            await ready(app)
            for prefix in ("", "/forecast"):  # a proxy may take the prefix off, or not
                for path in PATHS:
                    assert (await client.get(prefix + path)).status_code == 200, prefix + path
            assert "/forecast/openapi.json" in (await client.get("/docs")).text

    asyncio.run(ask())


def test_the_time_limit_of_a_host_is_the_hosts(settings: Settings) -> None:
    async def ask() -> None:
        app = create_app(settings, load_version=loader())
        never = asyncio.Event()

        async def receive() -> dict[str, Any]:
            await never.wait()
            return {}

        async def send(message: object) -> None:
            sent.append(message)

        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "headers": headers}
        async with app.running():
            await ready(app)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await app(scope, receive, send)

    sent: list[object] = []
    asyncio.run(ask())
    assert sent == []


def test_a_gate_sees_who_asks_and_what_the_request_says_of_itself(settings: Settings) -> None:
    async def ask() -> None:
        app = create_app(settings, gates=[seen.append], load_version=loader())
        async with app.running(), asking(app) as client:
            await ready(app)
            await client.post("/predict", json={"window": WINDOW}, headers={"X-Key": "secret"})

    seen: list[Exchange] = []
    asyncio.run(ask())
    [exchange] = seen
    assert (exchange.metadata[b"x-key"], exchange.peer) == (b"secret", "127.0.0.1")


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [("/predict", {"Content-Type": "text/csv"}, 415), ("/predict?unknown=1", {}, 422)],
)
def test_a_refusal_by_the_head_names_the_version_that_would_have_answered(
    path: str, headers: dict[str, str], status: int, settings: Settings
) -> None:
    async def ask() -> httpx.Response:
        app = create_app(settings, load_version=loader())
        async with app.running(), asking(app) as client:
            await ready(app)
            return await client.post(path, content=b"{}", headers={"Content-Type": "application/json", **headers})

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.headers["X-Windowcast-Version"]) == (status, "1")
