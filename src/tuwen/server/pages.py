"""The page of the service and its files, from the package. Knows no index.

There is a page where `web/index.html` is; else `/` is 404, and the API is all there is.
"""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from tuwen.server.faults import not_found

WEB = Path(__file__).parent / "web"
router = APIRouter(include_in_schema=False)


@router.get("/")
async def page() -> Response:
    """The page."""
    return _file("index.html")


@router.get("/docs")
async def docs() -> Response:
    """The API's description for people, drawn from `/openapi.json` without any file of somebody else."""
    return _file("docs.html")


@router.get("/favicon.ico")
async def icon() -> Response:
    """The page's mark, at the address where browsers look without being told."""
    return _file("favicon.svg")


def files() -> StaticFiles:
    """`/static/…`."""
    return StaticFiles(directory=WEB)


def _file(name: str) -> Response:
    if not (WEB / name).is_file():
        raise not_found(f"this installation has no {name}")
    return FileResponse(WEB / name, headers={"cache-control": "no-cache"})
