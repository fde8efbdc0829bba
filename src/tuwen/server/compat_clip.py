"""`/knn-service`, `/indices-list` and `/metadata`, as clip-retrieval's clients call them.

There is one index, and its rows are called by our ids. `use_mclip`, `use_safety_model`, `use_violence_detector` and
the aesthetic fields are accepted and change nothing, as where clip-retrieval has not loaded the models for them.
Knows those shapes. Does not know how rows are found.
"""

from collections.abc import Callable
from pathlib import PurePath
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tuwen.search.diversity import folded
from tuwen.server.errors import Answer, invalid, not_found
from tuwen.server.queries import find, terms_of, unit_vector
from tuwen.server.schemas import MAX_HITS, MAX_TEXT, Id, SearchRequest
from tuwen.server.service import Here, Service
from tuwen.types import Hit, Payload

router = APIRouter(tags=["for other clients"])

DUPLICATE = 0.94
"""the cosine above which clip-retrieval takes two results for one"""
_ROWS = {"image": 'type == "image"', "text": 'type == "text"'}

M = TypeVar("M", bound=BaseModel)


class KnnRequest(BaseModel):
    """What is looked for, exactly one of text, image, image_url and embedding_input; and how much is wanted."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    text: Annotated[str, Field(max_length=MAX_TEXT)] | None = None
    image: str | None = None
    """a picture in base64"""
    image_url: str | None = None
    """its address, where the service fetches pictures"""
    embedding_input: Annotated[list[float], Field(max_length=65_536)] | None = None
    """a vector of the service's model"""
    indice_name: str | None = None
    """the index, as `/indices-list` names it"""
    modality: Literal["image", "text"] = "image"
    """which rows: pictures or texts"""
    num_images: int = Field(100, ge=1)
    """how many results come with their metadata"""
    num_result_ids: int | None = Field(None, ge=1)
    """how many are looked for, at most 1,000; all of them are in the answer"""
    deduplicate: bool = False
    """leave out results that are nearly the same as a better one"""
    use_mclip: bool = False
    use_safety_model: bool = False
    use_violence_detector: bool = False
    aesthetic_score: int | Literal[""] | None = None
    aesthetic_weight: float | Literal[""] | None = None


class MetadataRequest(BaseModel):
    """Rows to be described."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ids: list[Id] = Field(max_length=MAX_HITS)
    indice_name: str | None = None


def _body(model: type[BaseModel]) -> dict[str, Any]:
    """The description of a body that is read by hand: clip-retrieval's client does not say that it sends JSON."""
    content = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


@router.post("/knn-service", openapi_extra=_body(KnnRequest), responses={200: {"model": list[dict[str, Any]]}})
async def knn_service(request: Request, service: Here) -> Answer:
    """Find rows by a text, a picture or a vector, best first: `id`, `similarity`, and metadata."""
    asked = await _read(KnnRequest, request)
    _check_name(asked.indice_name, service)
    hits = await _hits(asked, service)
    base = str(request.base_url)
    return Answer(
        [
            (_metadata(hit.id, hit.payload, base) if place < asked.num_images else {})
            | {"id": hit.id, "similarity": hit.score}
            for place, hit in enumerate(hits)
        ]
    )


@router.get("/indices-list", responses={200: {"model": list[str]}})
@router.post("/indices-list", responses={200: {"model": list[str]}})
async def indices_list(service: Here) -> Answer:
    """The names of the indexes: one."""
    return Answer([_name(service)])


@router.post("/metadata", openapi_extra=_body(MetadataRequest), responses={200: {"model": list[dict[str, Any]]}})
async def metadata(request: Request, service: Here) -> Answer:
    """What is known of rows, of those that there are."""
    asked = await _read(MetadataRequest, request)
    _check_name(asked.indice_name, service)
    rows = await service.calling.run(service.index.get, asked.ids)
    base = str(request.base_url)
    return Answer([{"id": it, "metadata": _metadata(it, rows[it].payload, base)} for it in asked.ids if it in rows])


async def _read(model: type[M], request: Request) -> M:
    """Raises Fault: 422, it is not what it should be."""
    body = await request.body()
    return _valid(lambda: model.model_validate_json(body))


def _valid(read: Callable[[], M]) -> M:
    try:
        return read()
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the request"
        raise invalid(f"{place}: {first['msg']}") from None


async def _hits(asked: KnnRequest, service: Service) -> list[Hit]:
    k = min(asked.num_result_ids or asked.num_images, MAX_HITS)
    where = _ROWS[asked.modality]
    if sum(bool(it) for it in (asked.text, asked.image, asked.image_url, asked.embedding_input)) != 1:
        raise invalid("give exactly one of text, image, image_url and embedding_input")
    if not asked.embedding_input:
        wished = {
            "text": asked.text or None,
            "image": asked.image or asked.image_url or None,
            "k": k,
            "where": where,
        }
        wanted = _valid(lambda: SearchRequest.model_validate(wished))
        hits = await find(await terms_of(wanted, service), wanted, service)
    else:
        vector = unit_vector(asked.embedding_input, "embedding_input", service)
        hits = await service.calling.run(service.index.search, vector, k=k, where=where)
    return await service.calling.run(_without_doubles, hits, service) if asked.deduplicate else hits


def _without_doubles(hits: list[Hit], service: Service) -> list[Hit]:
    vectors = service.index.vectors([hit.id for hit in hits])
    return folded([hit for hit in hits if hit.id in vectors], vectors, DUPLICATE)


def _metadata(row: str, payload: Payload, base: str) -> dict[str, object]:
    """A row's facts, with the names that clip-retrieval has for some: `image_path`, `url`, `caption`."""
    if payload.get("type") == "text":
        return {**payload, "caption": payload["text"]}
    return {**payload, "image_path": payload["path"], "url": f"{base}v1/images/{row}"}


def _name(service: Service) -> str:
    """The index's folder, or its name in a cluster, without the ending."""
    return PurePath(str(service.index.place)).stem


def _check_name(name: str | None, service: Service) -> None:
    if name is not None and name != _name(service):
        raise not_found(f"there is no index {name}: this is {_name(service)}")
