"""An encoder and an index -> a web application: which routes there are, and what stands around them.

    Record (id, headers, errors, log) > CORS > Guard (host, origin, key, rate) > Inlet (sizes, deadlines) > routes

Knows the order. Does not know what a route does, nor who listens (`serving.py`).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from tuwen import __version__
from tuwen.server import compat_clip, compat_openai, pages
from tuwen.server.auth import Guard
from tuwen.server.config import ServerConfig, checked
from tuwen.server.errors import http_error, validation_error
from tuwen.server.limits import Inlet
from tuwen.server.logs import RequestLog
from tuwen.server.metrics import Metrics, Record
from tuwen.server.metrics import router as metrics_router
from tuwen.server.routes import health_router, images_router, index_router, search_router, uploads_router
from tuwen.server.schemas import Failure
from tuwen.server.service import running

if TYPE_CHECKING:
    from tuwen.index.index import VectorIndex
    from tuwen.runtime.encoder import Encoder

ROUTERS = (
    search_router,
    images_router,
    uploads_router,
    index_router,
    health_router,
    compat_openai.router,
    compat_clip.router,
    metrics_router,
    pages.router,
)


def make_app(config: ServerConfig, encoder: "Encoder", index: "VectorIndex") -> FastAPI:
    """The application; it loads the towers when it is started.

    Args:
        config: how it is to behave.
        encoder: the index's model.
        index: opened for as long as the application runs; opened for writing where `allow_upload` is set.

    Raises:
        InvalidInput: the configuration cannot be meant, see `config.checked`.
    """
    metrics = Metrics()
    app = FastAPI(
        title="tuwen",
        version=__version__,
        description="Search pictures by what is in them. A key, where one is needed: Authorization: Bearer KEY.",
        lifespan=_life,
        middleware=_around(checked(config), metrics),
        docs_url=None,
        redoc_url=None,
        responses={"4XX": {"model": Failure}, "5XX": {"model": Failure}},
    )
    app.state.parts = (config, encoder, index)
    app.state.metrics = metrics
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, validation_error)
    for router in ROUTERS:
        app.include_router(router)
    return app


def _around(config: ServerConfig, metrics: Metrics) -> list[Middleware]:
    """What stands around the routes, outermost first."""
    around = [
        Middleware(Record, log=RequestLog(config.log), metrics=metrics),
        Middleware(Guard, config=config),
        Middleware(Inlet, config=config),
    ]
    if config.origins:
        allowed = Middleware(
            CORSMiddleware,
            allow_origins=list(config.origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["authorization", "content-type", "x-api-key", "x-request-id"],
            expose_headers=["x-request-id", "retry-after"],
        )
        around.insert(1, allowed)
    return around


@asynccontextmanager
async def _life(app: FastAPI) -> AsyncIterator[None]:
    config, encoder, index = app.state.parts
    async with running(config, encoder, index, app.state.metrics) as service:
        app.state.service = service
        app.state.metrics.watch(service)
        yield
