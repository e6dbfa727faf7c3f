"""`/docs` with assets from an installed package, and `/openapi.json`, which shows the served model's own shapes."""

import hashlib
import weakref
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from http import HTTPStatus
from importlib import resources

import orjson
from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import RedirectResponse, Response

from app.api.body import MediaType
from app.api.documentation.openapi import DescribedProtocol, describe
from app.api.native import PredictionRoute
from app.serving.catalogue import ServedVersion
from app.serving.service import Service

router = APIRouter(include_in_schema=False)

ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}


@dataclass(frozen=True, slots=True)
class Written:
    """A document as it was written.

    Attributes:
        root_path: Where the service was published.
        served: The version that the document shows, unless the version is gone; None where it shows none.
        content: The document as JSON.
        tag: Its ETag.
    """

    root_path: str
    served: weakref.ref[ServedVersion] | None
    content: bytes
    tag: str

    def shows(self, root_path: str, served: ServedVersion | None) -> bool:
        """Returns whether the document is the right one for a version."""
        if self.root_path != root_path or (self.served is None) != (served is None):
            return False
        return self.served is None or self.served() is served


class Document:
    """The OpenAPI document, written again only where another version answers for the default model.

    Args:
        app: The framework's application.
        service: The service, in whose side thread the document is written.
        predictions: The routes that are answered in front of the framework.
        protocols: The protocols.
    """

    def __init__(
        self,
        app: FastAPI,
        service: Service,
        predictions: Sequence[PredictionRoute],
        protocols: Sequence[DescribedProtocol],
    ) -> None:
        self._service = service
        self._describe = partial(describe, app, predictions, protocols)
        self._written: Written | None = None

    async def content(self, root_path: str) -> tuple[bytes, str]:
        """Returns the document as JSON, and its ETag.

        Args:
            root_path: Where the service is published.
        """
        written = self._current(root_path)
        if written is None:
            written = await self._service.side.run(partial(self._write, root_path), 0)
        return written.content, written.tag

    def _current(self, root_path: str) -> Written | None:
        """Returns what was written last, if it is still right."""
        written = self._written
        return written if written is not None and written.shows(root_path, _default_version(self._service)) else None

    def _write(self, root_path: str) -> Written:
        """Writes the document, in the side thread. Another request may have had it written meanwhile."""
        if (written := self._current(root_path)) is not None:
            return written
        served = _default_version(self._service)
        document = self._describe(None if served is None else served.loaded)
        if root_path:
            document["servers"] = [{"url": root_path}]
        content = orjson.dumps(document)
        tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        self._written = Written(root_path, weakref.ref(served) if served is not None else None, content, tag)
        return self._written


def _default_version(service: Service) -> ServedVersion | None:
    """Returns the version that answers for the default model, if there is one."""
    model = service.catalogue.model(service.catalogue.default)
    return model.latest if model is not None else None


@router.get("/")
async def root(request: Request) -> Response:
    """Redirects a browser to the documentation."""
    return RedirectResponse(f"{_root_path(request)}/docs")


@router.get("/docs")
async def docs(request: Request) -> Response:
    """Shows the interactive documentation."""
    base = _root_path(request)
    return get_swagger_ui_html(
        openapi_url=f"{base}/openapi.json",
        title="Windowcast",
        swagger_js_url=f"{base}/docs/swagger-ui-bundle.js",
        swagger_css_url=f"{base}/docs/swagger-ui.css",
        swagger_favicon_url=f"{base}/docs/favicon-32x32.png",
        swagger_ui_parameters={"tryItOutEnabled": True, "validatorUrl": None, "defaultModelsExpandDepth": 0},
    )


@router.api_route("/openapi.json", methods=["GET", "HEAD"])
async def openapi(request: Request) -> Response:
    """Gives the OpenAPI document."""
    document: Document = request.app.state.document
    content, tag = await document.content(_root_path(request))
    headers = {"ETag": tag}
    if request.headers.get("If-None-Match") == tag:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(content, media_type=MediaType.JSON.value.decode(), headers=headers)


def _asset_route(name: str, media_type: str) -> Callable[[], Awaitable[Response]]:
    """Returns the route of an asset."""

    async def give() -> Response:
        return Response(_asset(name), media_type=media_type, headers={"Cache-Control": "max-age=86400"})

    return give


@cache
def _asset(name: str) -> bytes:
    return resources.files("fastapi_swagger.resources").joinpath(name).read_bytes()


for _name, _media_type in ASSETS.items():
    router.add_api_route(f"/docs/{_name}", _asset_route(_name, _media_type), methods=["GET"])


def _root_path(request: Request) -> str:
    return str(request.scope.get("root_path", "")).rstrip("/")
