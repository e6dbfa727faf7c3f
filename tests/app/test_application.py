"""The application inside others: mounted, several in one process, with engines of the test's own."""

import asyncio
import gc
import logging
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import ASGIApp

from app.api.direct import Front
from app.errors import TooManyRequests
from app.exchange import Exchange
from app.main import create_app
from app.settings import Settings
from tests.app.fakes import loader, version_folders
from tests.servers import ROOT
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
    await app.service.wait_until_ready()


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
    app = create_app(settings, load_version=loader())

    async def ask() -> None:
        async with app.running(), asking(app) as client:
            await ready(app)
            assert await forecast(client) == FORECAST
        async with asking(app) as client:
            assert (await client.get("/readyz")).json() == {"status": "draining"}

    asyncio.run(ask())
    asyncio.run(ask())


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
    def state() -> tuple[Any, ...]:
        root = logging.getLogger()
        signals = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        return (*root.handlers, root.level, logging.getLogger("uvicorn").level, *signals, sys.getswitchinterval())

    async def ask() -> None:
        app = create_app(settings, load_version=loader())
        async with app.running(), asking(app) as client:
            await ready(app)
            await forecast(client)

    before = state()
    asyncio.run(ask())
    assert state() == before


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


def test_nothing_is_printed_in_a_host(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    async def ask() -> None:
        app = create_app(settings, load_version=loader())
        async with app.running(), asking(app) as client:
            await ready(app)
            await forecast(client)

    asyncio.run(ask())
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
    gc.unfreeze()
    gc.collect()
    assert not [engine for engine in gc.get_objects() if type(engine).__name__ == "MeanEngine"]


def test_the_code_of_the_page_on_embedding_works(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
        names["in_a_minute"].extend(["one"] * 1000)
        async with names["forecasts"].running(), asking(names["forecasts"]) as client:
            await ready(names["forecasts"])
            assert (await client.post("/predict", json={"window": WINDOW})).headers["Retry-After"] == "60"

    asyncio.run(ask())
    exec(tell, {})  # noqa: S102
