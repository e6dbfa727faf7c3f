"""The one module that wires: settings in, an ASGI application out."""

import gc
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI

from app import __version__
from app.api import admin, health, models, native, open_inference, tfserving
from app.api.admission import Admission
from app.api.direct import Front
from app.api.documentation import docs
from app.api.forecasting import Forecasting, Gate
from app.api.middleware import FrameworkMiddleware, wrap_route
from app.api.problems import add_problem_handlers, plain_answer
from app.process.lifecycle import STARTUP_FAILURE, exit_now
from app.serving.loading import LoadVersion
from app.serving.service import OnFatal, Service, stay
from app.settings import Settings
from app.telemetry.logs import configure_logs
from app.telemetry.metrics import leave_out_times_of_creation

DESCRIPTION = "Forecasts from a stacked LSTM: a window of rows in, the rows that follow out, both in raw units."

YOUNG_OBJECTS = 20_000
"""How many objects may be there more than at the collector's last run. Many requests under way are thousands of objects
that need no collector: nothing refers to a request in a circle once it is answered."""

SWITCH_SECONDS = 0.0005
"""How long the event loop may keep Python's lock when the engine's thread wants it, a tenth of the default. Under load
the loop never rests, and the engine needs the lock for each piece of a batch: it would wait for milliseconds."""


def create_app(
    settings: Settings | None = None,
    *,
    gates: Sequence[Gate] = (),
    on_fatal: OnFatal = stay,
    load_version: LoadVersion | None = None,
    free_memory: Callable[[], object] = gc.collect,
) -> Front:
    """Builds the application. It has no effect on the process: not on its logging, its signals or its exit.

    The application's lifespan starts the service. An application that mounts this one enters `Front.running` in its
    own lifespan.

    Args:
        settings: The service's settings; read from the environment unless given.
        gates: What every request for forecasts passes first. A gate raises a `ServiceError` to refuse a request.
        on_fatal: Told of an error after which the service cannot go on. By default the service stays, not ready.
        load_version: Turns a version's folder into a version that can forecast; by default as the settings say.
        free_memory: Frees the memory of objects that refer to each other. Called after loads and releases.

    Raises:
        SettingsError: The environment holds a setting that cannot be used.
    """
    settings = settings or Settings.read()
    service = Service(settings, on_fatal, load_version, free_memory)
    forecasting = Forecasting(service, gates)
    predictions = [route(forecasting) for route in (native.Predict, native.PredictBatch)]
    v1 = tfserving.TFServing(service, forecasting)
    v2 = open_inference.OpenInference(service, forecasting)
    app = _framework(service)
    app.state.document = docs.Document(app, service, predictions, (v1, v2))
    for_v1 = wrap_route(v1.answer, service, plain_answer, "tfserving")
    for_v2 = wrap_route(v2.answer, service, plain_answer, "inference")
    routes = {route.path: wrap_route(route.answer, service) for route in predictions}
    admission = Admission(service, [*(route.asked_by for route in predictions), v1.asked_by, v2.asked_by])
    return Front(service, app, {**routes, "/v2": for_v2}, {"/v1/": for_v1, "/v2/": for_v2}, admission)


def _framework(service: Service) -> FastAPI:
    """Builds the framework's part: what is not asked often."""
    settings = service.settings

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            if settings.workers > 1:
                # The workers share a port: a worker that accepts while it loads would answer 503, and a ready one not.
                await service.wait_until_loaded()
            yield
        finally:
            service.stop()

    app = FastAPI(
        title="Windowcast",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        openapi_url=None,  # `app.api.documentation.docs` has the route
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.service = service
    app.include_router(models.router)
    app.include_router(health.router)
    if settings.admin_key is not None:
        app.include_router(admin.router)
    if settings.docs:
        app.include_router(docs.router)
    add_problem_handlers(app)
    app.add_middleware(FrameworkMiddleware, service=service)
    return app


def own_process() -> Front:
    """Builds the application for a process of its own: `python -m app`, or one of its workers.

    Raises:
        SettingsError: The environment holds a setting that cannot be used.
    """
    settings = Settings.read()
    configure_logs(settings.log_level)
    leave_out_times_of_creation()
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(YOUNG_OBJECTS)
    return create_app(settings, on_fatal=lambda _: exit_now(STARTUP_FAILURE), free_memory=_collect_and_freeze)


def _collect_and_freeze() -> None:
    """Frees the memory of versions that are gone, and sets aside what stays.

    Models of TensorFlow form circles that only the collector finds. The collector stops everything meanwhile, so its
    later runs skip the objects that are there now.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
