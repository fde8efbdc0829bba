"""The routes of the API: health, images, the index and its model, search and classification, uploads."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path as PathOnDisk
from time import monotonic
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, File, Path, Query, Request, UploadFile
from fastapi.responses import FileResponse, Response, StreamingResponse

from tuwen.classify.classifier import Prediction, adapted, predictions
from tuwen.classify.labels import averaged, checked_labels, label_texts
from tuwen.errors import RejectedImages
from tuwen.index.store import Stored, Vector
from tuwen.runtime.encoder import Encoder
from tuwen.search.search import describe
from tuwen.server.images import SIZES, UNKNOWN, content_type, file_of, rounded, zip_of
from tuwen.server.listing import Dates
from tuwen.server.middleware import may_write
from tuwen.server.queries import Query as SearchQuery
from tuwen.server.queries import data_of, find, terms_of
from tuwen.server.responses import Answer, APIError, hits_as_documents, not_found, row_as_document
from tuwen.server.schemas import (
    MAX_HITS,
    ClassifyRequest,
    DownloadRequest,
    Facets,
    Failure,
    Health,
    Hits,
    IndexFacts,
    Labelled,
    Model,
    Models,
    RecommendRequest,
    Removed,
    Report,
    Row,
    Rows,
    SearchRequest,
    Sort,
)
from tuwen.server.service import Here, Service
from tuwen.server.uploads import Added
from tuwen.types import Rejected, Vectors

health_router = APIRouter(prefix="/health", tags=["health"])
NOBODY = str(UUID(int=0))
"""an id that no row has, for the readiness check"""


@health_router.get("/live", responses={200: {"model": Health}})
async def live() -> Answer:
    """Whether the process responds."""
    return Answer({"status": "live"})


@health_router.get("/ready", responses={200: {"model": Health}, 503: {"model": Failure}})
async def ready(service: Here) -> Answer:
    """Whether the index can be read. The service does not respond before the model is loaded."""
    await service.calling.run(service.index.get, [NOBODY])
    return Answer({"status": "ready"})


images_router = APIRouter(prefix="/v1/images", tags=["images"])

RowId = Annotated[str, Path(alias="id", max_length=64, description="the id of a row")]
ALONE = "default-src 'none'; sandbox"
"""the content security policy of stored files: they may not run scripts or be part of a page"""
_IMAGE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}
}


_ZIP: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}
}


@images_router.get("", responses={200: {"model": Rows}})
async def browse(
    service: Here,
    where: Annotated[str | None, Query(max_length=4096)] = None,
    offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
    k: Annotated[int, Query(ge=1, le=MAX_HITS)] = 60,
    sort: Annotated[Sort, Query(description="a field; `-` before it reverses the order")] = "path",
) -> Answer:
    """List rows page by page; with `where`, those that match the filter."""
    total, rows = await service.calling.run(service.listing.page, where, offset, k, sort)
    return Answer({"total": total, "rows": [row_as_document(row) for row in rows]})


@images_router.get("/{id}", response_class=FileResponse, responses=_IMAGE)
async def picture(ident: RowId, service: Here) -> Response:
    """The original file. Files that browsers do not show as images are sent as downloads."""
    row = await row_of(ident, service)
    path = await service.calling.run(file_of, row, service.root)
    media = await service.calling.run(content_type, path)
    headers = {"content-security-policy": ALONE, "cache-control": "private, no-cache"}
    if media == UNKNOWN:
        return FileResponse(path, media_type=media, filename=path.name, headers=headers)
    return FileResponse(path, media_type=media, headers=headers)


@images_router.get("/{id}/thumbnail", response_class=FileResponse, responses=_IMAGE)
async def thumbnail(
    ident: RowId, request: Request, service: Here, size: Annotated[int, Query(ge=16, le=SIZES[-1])] = 320
) -> Response:
    """A thumbnail as WebP. `size`: pixels of the longer side, rounded up to one of a few sizes."""
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


@images_router.get("/{id}/facts", responses={200: {"model": Row}})
async def facts(ident: RowId, service: Here) -> Answer:
    """The payload of a row."""
    return Answer(row_as_document(await row_of(ident, service)))


async def row_of(ident: str, service: Service) -> Stored:
    """Get a row of the index.

    Raises:
        APIError: 404, there is no row with that id.
    """
    row = (await service.calling.run(service.index.get, [ident])).get(ident)
    if row is None:
        raise not_found(f"there is no row with the id {ident}")
    return row


index_router = APIRouter(prefix="/v1", tags=["index"])


@index_router.get("/index", responses={200: {"model": IndexFacts}})
async def index(request: Request, service: Here) -> Answer:
    """Facts about the index, and the values to filter by. `write`: whether the client may add and remove images."""
    info = await service.calling.run(service.index.info)
    calibration = await service.calling.run(service.index.calibration)
    summary = await service.calling.run(service.listing.summary)
    document = asdict(info)
    document["write"] = service.config.allow_upload and may_write(request)
    document["calibration"] = None if calibration is None else calibration.model_dump()
    document["types"] = summary.types
    document["folders"] = [{"name": name, "rows": rows} for name, rows in summary.folders]
    document["cameras"] = [{"name": name, "rows": rows} for name, rows in summary.cameras]
    document["adapters"] = [
        {"name": name, "classes": list(adapter.classes), "method": adapter.method}
        for name, adapter in service.adapters.items()
    ]
    document["dates"] = None if summary.dates is None else _dates(summary.dates)
    document["modified"] = summary.modified
    document["width"] = summary.width
    return Answer(document)


@index_router.get("/facets", responses={200: {"model": Facets}})
async def facets(
    service: Here,
    by: Annotated[str, Query(max_length=64, description="a field of texts, or `year` or `month`")],
    where: Annotated[str | None, Query(max_length=4096)] = None,
) -> Answer:
    """Count the rows of each value, e.g. of each camera; with `where`, of those that match the filter."""
    found = await service.calling.run(service.index.facets, by, where or None)
    return Answer({"by": by, "facets": [{"name": name, "rows": rows} for name, rows in found.items()]})


def _dates(dates: Dates) -> dict[str, object]:
    periods = [{"first": first, "last": last, "rows": rows} for first, last, rows in dates.periods]
    return {"field": dates.field, "periods": periods}


@index_router.get("/models", responses={200: {"model": Models}})
async def models(service: Here) -> Answer:
    """The model, in the format of OpenAI's clients."""
    return Answer({"object": "list", "data": [_model(service.encoder)]})


@index_router.get("/models/{id:path}", responses={200: {"model": Model}})
async def model(ident: Annotated[str, Path(alias="id", max_length=256)], service: Here) -> Answer:
    """The model, by any name that the command line accepts."""
    if ident not in service.encoder.names:
        raise not_found(f"this service does not have the model {ident!r}; use {service.encoder.name!r}")
    return Answer(_model(service.encoder))


def _model(encoder: Encoder) -> dict[str, object]:
    return {
        "id": encoder.name,
        "object": "model",
        "created": 0,
        "owned_by": "tuwen",
        "languages": list(encoder.text_spec.languages),
        "dim": encoder.dim,
        "fingerprint": encoder.fingerprint,
    }


search_router = APIRouter(prefix="/v1", tags=["search"])


@search_router.post("/search", responses={200: {"model": Hits}})
async def search(request: SearchRequest, http: Request, service: Here) -> Answer:
    """Find rows by a text, an image, and rows that hits should or should not resemble."""
    return await _hits(request, http, service)


@search_router.post("/recommend", responses={200: {"model": Hits}})
async def recommend(request: RecommendRequest, http: Request, service: Here) -> Answer:
    """Find rows by weighted examples."""
    return await _hits(request, http, service)


@search_router.post("/classify", responses={200: {"model": Labelled}})
async def classify(request: ClassifyRequest, service: Here) -> Answer:
    """Compute how well labels fit an image, or classify it by an adapter."""
    predict = await _predictor(request, service)
    document: dict[str, object] = {"model": service.encoder.name, "images": [], "rejected": []}
    path, vector = await _image(request, service)
    if isinstance(vector, Rejected):
        document["rejected"] = [asdict(vector)]
    else:
        (found,) = predict([path], vector[None])
        none = {"none": found.none} if request.adapter is not None or request.none_below is not None else {}
        document["images"] = [{"path": path, "labels": [asdict(label) for label in found.labels], **none}]
    return Answer(document)


async def _predictor(
    request: ClassifyRequest, service: Service
) -> Callable[[Sequence[str], Vectors], Sequence[Prediction]]:
    """What classifies vectors as a request asks for.

    Raises:
        APIError: 404, the adapter is not served here.
        InvalidInput: a label is given twice, or a template has not exactly one place for it.
    """
    if request.adapter is not None:
        adapter = service.adapters.get(request.adapter)
        if adapter is None:
            served = ", ".join(service.adapters) or "none, see tuwen serve --adapter"
            raise not_found(f"the adapter {request.adapter!r} is not served here; adapters: {served}")
        return partial(adapted, adapter=adapter, none_below=request.none_below)
    labels = checked_labels(request.labels or [], "labels")
    templates = [request.template] if isinstance(request.template, str) else request.template
    return partial(
        predictions,
        labels=averaged(labels, await service.texts.encode(label_texts(labels, templates))),
        scoring=service.encoder.scoring,
        multi_label=request.multi_label,
        none_below=request.none_below,
    )


async def _hits(query: SearchQuery, http: Request, service: Service) -> Answer:
    terms = await terms_of(query, service)
    http.state.query = describe(terms)
    found = hits_as_documents(await find(terms, query, service), similar=query.unique is not None)
    return Answer({"query": http.state.query, "model": service.encoder.name, "hits": found})


async def _image(request: ClassifyRequest, service: Service) -> tuple[str, Vector | Rejected]:
    """The name of the image, and its vector or why it has none."""
    if request.id is None:
        try:
            return "image", await service.images.encode(await data_of(request.image or "", service), "image")
        except RejectedImages as error:
            return "image", error.rejected[0]
    vectors = await service.calling.run(service.index.vectors, [request.id])
    rows = await service.calling.run(service.index.get, [request.id])
    if request.id not in vectors or request.id not in rows:
        raise not_found(f"there is no row with the id {request.id}")
    return str(rows[request.id].payload["path"]), vectors[request.id]


downloads_router = APIRouter(prefix="/v1", tags=["images"])


@downloads_router.post("/download", response_class=StreamingResponse, responses=_ZIP)
async def download(request: DownloadRequest, service: Here) -> StreamingResponse:
    """The files of some rows as a zip archive. Rows without a file are listed in `missing.txt` in it."""
    files, missing = await service.calling.run(_files, request.ids, service)
    if not files:
        raise not_found("none of these rows has a file")
    headers = {"content-disposition": 'attachment; filename="images.zip"'}
    return StreamingResponse(zip_of(files, missing), media_type="application/zip", headers=headers)


def _files(ids: Sequence[str], service: Service) -> tuple[dict[str, PathOnDisk], list[str]]:
    rows = service.index.get(ids)
    files: dict[str, PathOnDisk] = {}
    missing: list[str] = []
    for ident in ids:
        try:
            path = file_of(rows[ident], service.root)
            files[path.relative_to(service.root.resolve()).as_posix()] = path
        except KeyError:
            missing.append(ident)
        except APIError:
            missing.append(str(rows[ident].payload["path"]))
    return files, missing


uploads_router = APIRouter(prefix="/v1/images", tags=["images"])
AT_ONCE = 4
"""images of one request that are added at a time"""


@uploads_router.post("", responses={200: {"model": Report}})
async def add(files: Annotated[list[UploadFile], File(description="images")], service: Here) -> Answer:
    """Add images. Those listed in `images` are in the index and on disk; adding them again changes nothing."""
    _check_allowed(service)
    start = monotonic()
    done = await _added(files, service)
    added = [item for item in done if isinstance(item, Added)]
    report = {
        "index": str(service.index.place),
        "indexed": sum(item.new for item in added),
        "unchanged": sum(not item.new for item in added),
        "replaced": 0,
        "removed": 0,
        "skipped": 0,
        "rejected": [asdict(item) for item in done if isinstance(item, Rejected)],
        "seconds": monotonic() - start,
        "images": [{"id": item.id, "path": item.key} for item in added],
    }
    return Answer(report)


@uploads_router.delete("/{id}", responses={200: {"model": Removed}})
async def remove(ident: RowId, service: Here) -> Answer:
    """Remove a row from the index. Its file is deleted only if it was uploaded through the service."""
    _check_allowed(service)
    await service.uploads.remove(await row_of(ident, service))
    return Answer({"removed": 1})


async def _added(files: Sequence[UploadFile], service: Service) -> list[Added | Rejected]:
    """Add files, some at a time, so that they are encoded and written together.

    Raises:
        APIError: the first that one of them raised, after all others are done.
    """
    turns = asyncio.Semaphore(AT_ONCE)
    found = await asyncio.gather(*(_add(file, service, turns) for file in files), return_exceptions=True)
    for item in found:
        if isinstance(item, BaseException):
            raise item
    return [item for item in found if not isinstance(item, BaseException)]


async def _add(file: UploadFile, service: Service, turns: asyncio.Semaphore) -> Added | Rejected:
    name = file.filename or "image"
    if file.size is not None and file.size > service.config.max_picture:
        return Rejected(name, f"has {file.size:,} bytes; the limit is {service.config.max_picture:,}")
    async with turns:
        return await service.uploads.add(await file.read(), name, service.images, service.decoding)


def _check_allowed(service: Service) -> None:
    if not service.config.allow_upload:
        raise APIError(403, "read_only", "this service does not accept changes; start it with --allow-upload")


ROUTERS = (search_router, images_router, downloads_router, uploads_router, index_router, health_router)
