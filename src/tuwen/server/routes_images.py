"""`/v1/images`: pictures looked at, one by one or page by page."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import FileResponse, Response

from tuwen.index.store import Stored
from tuwen.server.answers import Answer, row_as_document
from tuwen.server.faults import not_found
from tuwen.server.files import UNKNOWN, content_type, file_of
from tuwen.server.schemas import MAX_HITS, Row, Rows
from tuwen.server.service import Here, Service
from tuwen.server.thumbnails import SIZES, rounded

router = APIRouter(prefix="/v1/images", tags=["images"])

RowId = Annotated[str, Path(alias="id", max_length=64, description="a row's id")]
ALONE = "default-src 'none'; sandbox"
"""the policy of a stored file: whatever it is, it runs nothing and belongs to no page"""
_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}
}


@router.get("", responses={200: {"model": Rows}})
async def browse(
    service: Here,
    where: Annotated[str | None, Query(max_length=4096)] = None,
    offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
    k: Annotated[int, Query(ge=1, le=MAX_HITS)] = 60,
) -> Answer:
    """Rows by path, page by page; with a filter, those that it keeps."""
    total, rows = await service.calling.run(service.catalogue.page, where, offset, k)
    return Answer({"total": total, "rows": [row_as_document(row) for row in rows]})


@router.get("/{id}", response_class=FileResponse, responses=_PICTURE)
async def picture(ident: RowId, service: Here) -> Response:
    """The file as it is. What browsers do not show as a picture is a download."""
    row = await row_of(ident, service)
    path = await service.calling.run(file_of, row, service.root)
    media = await service.calling.run(content_type, path)
    headers = {"content-security-policy": ALONE, "cache-control": "private, no-cache"}
    if media == UNKNOWN:
        return FileResponse(path, media_type=media, filename=path.name, headers=headers)
    return FileResponse(path, media_type=media, headers=headers)


@router.get("/{id}/thumbnail", response_class=FileResponse, responses=_PICTURE)
async def thumbnail(
    ident: RowId, request: Request, service: Here, size: Annotated[int, Query(ge=16, le=SIZES[-1])] = 320
) -> Response:
    """A small picture, of the next size that is kept: WebP."""
    row = await row_of(ident, service)
    content = str(row.payload.get("content", ""))
    tag = f'"{content}-{rounded(size)}"'
    headers = {
        "etag": tag,
        "cache-control": "private, max-age=31536000, immutable",
        "content-security-policy": ALONE,
    }
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    file = await service.calling.run(file_of, row, service.root)
    path = await service.decoding.run(service.thumbnails.made, file, content, size)
    return FileResponse(path, media_type="image/webp", headers=headers)


@router.get("/{id}/facts", responses={200: {"model": Row}})
async def facts(ident: RowId, service: Here) -> Answer:
    """What the index knows of a picture."""
    return Answer(row_as_document(await row_of(ident, service)))


async def row_of(ident: str, service: Service) -> Stored:
    """A row of the index.

    Raises:
        Fault: 404, there is none of that id.
    """
    row = (await service.calling.run(service.index.get, [ident])).get(ident)
    if row is None:
        raise not_found(f"the index has no row {ident}")
    return row
