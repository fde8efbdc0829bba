"""The page of the service and its files, from the package: read once, packed once. Knows no index."""

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import Response

from tuwen.server.errors import not_found

WEB = Path(__file__).parent / "web"
MEDIA = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
router = APIRouter(include_in_schema=False)


@router.get("/")
async def page(request: Request) -> Response:
    """The page."""
    return _answer("index.html", request)


@router.get("/docs")
async def docs(request: Request) -> Response:
    """The API's description for people, drawn from `/openapi.json` without any file of somebody else."""
    return _answer("docs.html", request)


@router.get("/favicon.ico")
async def icon(request: Request) -> Response:
    """The page's mark, at the address where browsers look without being told."""
    return _answer("favicon.svg", request)


@router.get("/static/{name:path}")
async def static(name: str, request: Request) -> Response:
    """A file of the page; there are those in the package's folder and no others, whatever the name."""
    return _answer(name, request)


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it is sent."""

    media: str
    tag: str
    plain: bytes
    packed: bytes


@cache
def _files() -> dict[str, _File]:
    return {path.name: _read(path) for path in WEB.iterdir() if path.suffix in MEDIA}


def _read(path: Path) -> _File:
    plain = path.read_bytes()
    tag = f'W/"{hashlib.sha256(plain).hexdigest()[:16]}"'
    return _File(MEDIA[path.suffix], tag, plain, gzip.compress(plain, 9, mtime=0))


def _answer(name: str, request: Request) -> Response:
    """A file, packed for whoever can read that, or that it has not changed.

    Raises:
        Fault: 404, the page has no such file.
    """
    file = _files().get(name)
    if file is None:
        raise not_found(f"the page has no file {name!r}")
    headers = {"etag": file.tag, "cache-control": "no-cache", "vary": "accept-encoding"}
    if request.headers.get("if-none-match") == file.tag:
        return Response(status_code=304, headers=headers)
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(file.plain, media_type=file.media, headers=headers)
    return Response(file.packed, media_type=file.media, headers={**headers, "content-encoding": "gzip"})
