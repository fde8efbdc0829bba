"""`POST /v1/images` and `DELETE /v1/images/{id}`: pictures that come and go."""

from dataclasses import asdict
from time import monotonic
from typing import Annotated

from fastapi import APIRouter, File, UploadFile

from tuwen.server.answers import Answer
from tuwen.server.collection import Added
from tuwen.server.faults import Fault
from tuwen.server.routes_images import RowId, row_of
from tuwen.server.schemas import Removed, Report
from tuwen.server.service import Here, Service
from tuwen.types import Rejected

router = APIRouter(prefix="/v1/images", tags=["images"])


@router.post("", responses={200: {"model": Report}})
async def add(files: Annotated[list[UploadFile], File(description="pictures")], service: Here) -> Answer:
    """Add pictures. What the answer has in `images` is in the index and on the disk; again, it changes nothing."""
    _check_allowed(service)
    start = monotonic()
    done = [await _add(file, service) for file in files]
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


@router.delete("/{id}", responses={200: {"model": Removed}})
async def remove(ident: RowId, service: Here) -> Answer:
    """Take a picture out of the index. Its file is removed if it was added through the service, and else stays."""
    _check_allowed(service)
    await service.collection.remove(await row_of(ident, service))
    return Answer({"removed": 1})


async def _add(file: UploadFile, service: Service) -> Added | Rejected:
    name = file.filename or "picture"
    if file.size is not None and file.size > service.config.max_picture:
        return Rejected(name, f"has {file.size:,} bytes; the most is {service.config.max_picture:,}")
    return await service.collection.add(await file.read(), name, service.pictures)


def _check_allowed(service: Service) -> None:
    if not service.config.allow_upload:
        raise Fault(
            403, "read_only", "pictures can be added and removed where the service runs with --allow-upload"
        )
