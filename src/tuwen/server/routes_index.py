"""`/v1/index` and `/v1/models`: what is searched, and with what."""

from dataclasses import asdict

from fastapi import APIRouter, Request

from tuwen.server.answers import Answer
from tuwen.server.keys import may_write
from tuwen.server.schemas import IndexFacts, Models
from tuwen.server.service import Here

router = APIRouter(prefix="/v1", tags=["index"])


@router.get("/index", responses={200: {"model": IndexFacts}})
async def index(request: Request, service: Here) -> Answer:
    """Facts about the index, and what filters can ask for; `write`: whether who asks may add and remove."""
    info = await service.calling.run(service.index.info)
    calibration = await service.calling.run(service.index.calibration)
    summary = await service.calling.run(service.catalogue.summary)
    document = asdict(info)
    document["write"] = service.config.allow_upload and may_write(request)
    document["calibration"] = None if calibration is None else calibration.model_dump()
    document["types"] = summary.types
    document["folders"] = [{"name": name, "rows": rows} for name, rows in summary.folders]
    document["modified"] = summary.modified
    document["width"] = summary.width
    return Answer(document)


@router.get("/models", responses={200: {"model": Models}})
async def models(service: Here) -> Answer:
    """The model, in the shape of OpenAI's list."""
    encoder = service.encoder
    model = {
        "id": encoder.name,
        "object": "model",
        "created": 0,
        "owned_by": "tuwen",
        "languages": list(encoder.text_spec.languages),
        "dim": encoder.dim,
        "fingerprint": encoder.fingerprint,
    }
    return Answer({"object": "list", "data": [model]})
