"""The web application of a service: its routes, its page, and the middleware around them.

ReverseProxy > Monitoring (id, headers, errors, log) > CORS > Authentication > RequestLimits > routes
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from tuwen import __version__
from tuwen.classify.adapter import Adapter
from tuwen.errors import InvalidInput
from tuwen.server import compatibility, monitoring, routes
from tuwen.server.config import ServerConfig, checked
from tuwen.server.middleware import Authentication, RequestLimits, ReverseProxy
from tuwen.server.monitoring import Metrics, Monitoring
from tuwen.server.responses import http_error, validation_error
from tuwen.server.schemas import Failure
from tuwen.server.service import running

if TYPE_CHECKING:
    from tuwen.index.index import VectorIndex
    from tuwen.runtime.encoder import Encoder

WEB = Path(__file__).parent / "web"
REVALIDATED = {"cache-control": "no-cache"}
"""cache header of the page and its files: browsers store them and revalidate"""


def make_app(config: ServerConfig, encoder: "Encoder", index: "VectorIndex") -> FastAPI:
    """Make the application; it loads the towers when it starts.

    Args:
        config: its configuration.
        encoder: the index's model.
        index: an index that stays open as long as the application runs; opened for writing if `allow_upload` is set.

    Raises:
        WrongModel: an adapter belongs to another model.
        InvalidInput: a folder is not an adapter, two have the same name, or the configuration does not make sense, see
            `config.checked`.
    """
    metrics = Metrics()
    app = FastAPI(
        title="tuwen",
        version=__version__,
        description="Search images by their content. If a key is required, send Authorization: Bearer KEY.",
        lifespan=_lifespan,
        middleware=_middleware(checked(config), metrics),
        docs_url=None,
        redoc_url=None,
        responses={"4XX": {"model": Failure}, "5XX": {"model": Failure}},
    )
    app.state.parts = (config, encoder, index, _adapters(config, encoder))
    app.state.metrics = metrics
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, validation_error)
    for router in (*routes.ROUTERS, compatibility.router, monitoring.router, pages):
        app.include_router(router)
    app.mount("/static", GZipMiddleware(_Files(directory=WEB)))
    return app


def _adapters(config: ServerConfig, encoder: "Encoder") -> dict[str, Adapter]:
    found = dict[str, Adapter]()
    for folder in config.adapters:
        name = folder.resolve().name
        if name in found:
            hint = "rename one of the folders"
            raise InvalidInput(f"two adapters are named {name}: {hint}", value=name, where="--adapter", hint=hint)
        found[name] = Adapter.load(folder)
        found[name].check(encoder.name, encoder.fingerprint)
    return found


def _middleware(config: ServerConfig, metrics: Metrics) -> list[Middleware]:
    """The middleware, outermost first."""
    cors = Middleware(
        CORSMiddleware,
        allow_origins=list(config.origins),
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["authorization", "content-type", "x-api-key", "x-request-id"],
        expose_headers=["x-request-id", "retry-after"],
    )
    return [
        Middleware(ReverseProxy, config=config),
        Middleware(Monitoring, log=config.log, metrics=metrics),
        *([cors] if config.origins else []),
        Middleware(Authentication, config=config),
        Middleware(RequestLimits, config=config),
    ]


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    config, encoder, index, adapters = app.state.parts
    async with running(config, encoder, index, adapters, app.state.metrics) as service:
        app.state.service = service
        app.state.metrics.watch(service)
        yield


class _Files(StaticFiles):
    """The files of the page, which browsers revalidate."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(REVALIDATED)
        return response


pages = APIRouter(include_in_schema=False)


@pages.get("/")
async def page() -> Response:
    """The page."""
    return FileResponse(WEB / "index.html", headers=REVALIDATED)


@pages.get("/docs")
async def docs() -> Response:
    """A readable version of `/openapi.json` that loads nothing from other servers."""
    return FileResponse(WEB / "docs.html", headers=REVALIDATED)


@pages.get("/favicon.ico")
async def icon() -> Response:
    """The icon, at the address where browsers look for it by default."""
    return FileResponse(WEB / "favicon.svg", headers=REVALIDATED)
