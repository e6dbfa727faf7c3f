"""The one module that wires: settings in, an ASGI application out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI

from app import __version__
from app.api import admin, docs, health, native, open_inference, tfserving
from app.api.direct import Front
from app.api.middleware import ExchangeMiddleware
from app.api.problems import add_problem_handlers
from app.serving.service import Service
from app.settings import Settings
from app.telemetry.logs import configure_logs

DESCRIPTION = "Forecasts from a stacked LSTM: a window of rows in, the rows that follow out, both in raw units."


def create_app(settings: Settings | None = None) -> Front:
    """Builds the application; its lifespan starts the service.

    Args:
        settings: The service's settings; read from the environment unless given.

    Raises:
        SettingsError: The environment holds a setting that cannot be used.
    """
    settings = settings or Settings.read()
    configure_logs(settings.log_level)
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, float]]:
        service.start()
        if settings.workers > 1:
            # The workers share a port: one that accepts while it loads would answer 503 in place of one that is ready.
            await service.wait_until_ready()
        yield {"receive_timeout_seconds": settings.receive_timeout_seconds}
        service.stop()

    app = FastAPI(
        title="Windowcast",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        openapi_url="/openapi.json" if settings.docs else None,
        generate_unique_id_function=lambda route: route.name,
    )
    predictions = (native.Predict(service), native.PredictBatch(service))
    v1, v2 = tfserving.TFServing(service), open_inference.Inference(service)
    app.state.service = service
    app.openapi = partial(docs.describe, app, service, predictions, (v1, v2))  # type: ignore[method-assign]
    app.include_router(native.router)
    app.include_router(health.router)
    if settings.admin_key is not None:
        app.include_router(admin.router)
    if settings.docs:
        app.include_router(docs.router)
    add_problem_handlers(app)
    app.add_middleware(ExchangeMiddleware, lifecycle=service.lifecycle)
    lifecycle = service.lifecycle
    root = settings.root_path
    for_v1 = ExchangeMiddleware(v1, lifecycle, tfserving.answer_error, "tfserving")
    for_v2 = ExchangeMiddleware(v2, lifecycle, open_inference.answer_error, "inference")
    direct = {root + route.path: ExchangeMiddleware(route, lifecycle) for route in predictions}
    return Front(app, {**direct, f"{root}/v2": for_v2}, {f"{root}/v1/": for_v1, f"{root}/v2/": for_v2})
