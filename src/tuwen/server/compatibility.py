"""The routes for other clients: OpenAI's `/v1/embeddings`, and clip-retrieval's `/knn-service` and related ones.

Clients of clip-retrieval see one index, whose rows have tuwen's ids. `use_mclip`, `use_safety_model`,
`use_violence_detector` and the aesthetic fields are accepted but have no effect, as in a clip-retrieval service without
the models for them.
"""

import base64
import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tuwen.index.store import Vector
from tuwen.search.diversity import folded
from tuwen.server.queries import data_of, find, terms_of
from tuwen.server.responses import Answer, invalid, not_found
from tuwen.server.schemas import MAX_HITS, MAX_TEXT, Example, Id, RecommendRequest
from tuwen.server.service import Here, Service
from tuwen.types import Hit, Payload

# clip-retrieval's client sends JSON without a content type.
router = APIRouter(tags=["for other clients"], strict_content_type=False)

MOST = 2048
"""inputs of one request to `/v1/embeddings`"""
_IMAGE = re.compile(r"data:[^,]{0,200};base64,|https?://\S+\Z")
"""prefixes of images: data URLs, and http and https URLs, which are never encoded as texts"""


class EmbeddingsRequest(BaseModel):
    """Texts and images to encode."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    input: str | Annotated[list[str], Field(min_length=1, max_length=MOST)] | list[int] | list[list[int]]
    """a text or an image, or a list of these. An image is a data URL in base64, or an http or https URL if the
    service fetches images. Token ids are refused"""
    model: Annotated[str, Field(max_length=256)] | None = None
    """the model, by any name that the command line accepts; other models are refused"""
    encoding_format: Literal["float", "base64"] | None = None
    """`float`, the default, or `base64`: the float32 numbers of a vector, little-endian"""
    dimensions: int | None = None
    """the dimension of the vectors; it must be the model's"""
    user: Annotated[str, Field(max_length=1000)] | None = None
    """accepted for compatibility; not used"""


class Embedding(BaseModel):
    """One input's vector, of length 1."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """The number of tokens in the texts; images have none."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(BaseModel):
    """The vectors, in the order of the inputs."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


@router.post("/v1/embeddings", responses={200: {"model": Embeddings}})
async def embeddings(request: EmbeddingsRequest, service: Here) -> Answer:
    """Encode texts and images as vectors of length 1; their dot product is the cosine similarity."""
    _check(request, service)
    inputs = await _inputs(request, service)
    vectors, tokens = await _encoded(inputs, service)
    write = _as_base64 if request.encoding_format == "base64" else _as_floats
    data = [{"object": "embedding", "index": i, "embedding": write(vector)} for i, vector in enumerate(vectors)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return Answer({"object": "list", "data": data, "model": service.encoder.name, "usage": usage})


def _check(request: EmbeddingsRequest, service: Service) -> None:
    """Raise APIError 404 for another model, 422 for another dimension."""
    encoder = service.encoder
    if request.model is not None and request.model not in encoder.names:
        raise not_found(f"this service does not have the model {request.model!r}; use {encoder.name!r}")
    if request.dimensions is not None and request.dimensions != encoder.dim:
        raise invalid(f"dimensions: {encoder.name} has vectors of dimension {encoder.dim}, not {request.dimensions}")


async def _inputs(request: EmbeddingsRequest, service: Service) -> list[str | bytes]:
    """Read the inputs: texts unchanged, images as the bytes of their files.

    Raises:
        APIError: 403, a URL, but the service does not fetch images; 422, no input, token ids, a text that is empty or
            too long, or an image that is not base64.
    """
    given: Sequence[str | int | list[int]] = [request.input] if isinstance(request.input, str) else request.input
    if not given:
        raise invalid("input: the list is empty")
    return [await _input(number, item, service) for number, item in enumerate(given)]


async def _input(number: int, item: str | int | list[int], service: Service) -> str | bytes:
    if not isinstance(item, str):
        raise invalid(
            "input: token ids belong to another model's tokenizer; send texts (with LangChain's OpenAIEmbeddings, set "
            "check_embedding_ctx_length=False)"
        )
    if _IMAGE.match(item):
        return await data_of(item, service)
    if not item.strip() or len(item) > MAX_TEXT:
        raise invalid(f"input.{number}: a text must have 1 to {MAX_TEXT:,} characters that are not all spaces")
    return item


async def _encoded(inputs: Sequence[str | bytes], service: Service) -> tuple[list[Vector], int]:
    """Encode inputs in parts of a batch, so that other requests are served in between; and count the texts' tokens."""
    found: list[Vector] = []
    tokens = 0
    most = service.config.max_batch
    for start in range(0, len(inputs), most):
        part = inputs[start : start + most]
        texts = await service.texts.encode_counted([it for it in part if isinstance(it, str)])
        tokens += sum(text.tokens for text in texts)
        vectors = (text.vector for text in texts)
        for number, item in enumerate(part, start):
            if isinstance(item, str):
                found.append(next(vectors))
            else:
                found.append(await service.images.encode(item, f"input.{number}"))
    return found, tokens


def _as_floats(vector: Vector) -> object:
    return vector.tolist()


def _as_base64(vector: Vector) -> object:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")


DUPLICATE = 0.94
"""the cosine above which clip-retrieval considers two results the same"""
_ROWS = {"image": 'type == "image"', "text": 'type == "text"'}


class KnnRequest(BaseModel):
    """A query: exactly one of text, image, image_url and embedding_input."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    text: Annotated[str, Field(max_length=MAX_TEXT)] | None = None
    image: str | None = None
    """an image in base64"""
    image_url: str | None = None
    """the URL of an image, if the service fetches images"""
    embedding_input: Annotated[list[float], Field(max_length=65_536)] | None = None
    """a vector of the service's model"""
    indice_name: str | None = None
    """the index, as `/indices-list` names it"""
    modality: Literal["image", "text"] = "image"
    """which rows to find: images or texts"""
    num_images: int = Field(100, ge=1)
    """the number of results with metadata"""
    num_result_ids: int | None = Field(None, ge=1)
    """the number of results, at most 1,000"""
    deduplicate: bool = False
    """drop results that are nearly the same as a better one"""
    use_mclip: bool = False
    use_safety_model: bool = False
    use_violence_detector: bool = False
    aesthetic_score: int | Literal[""] | None = None
    aesthetic_weight: float | Literal[""] | None = None


class MetadataRequest(BaseModel):
    """The rows to describe."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ids: list[Id] = Field(max_length=MAX_HITS)
    indice_name: str | None = None


@router.post("/knn-service", responses={200: {"model": list[dict[str, Any]]}})
async def knn_service(asked: KnnRequest, request: Request, service: Here) -> Answer:
    """Find rows by a text, an image or a vector, best first, each with `id`, `similarity` and metadata."""
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
    """The names of the indexes; there is one."""
    return Answer([_name(service)])


@router.post("/metadata", responses={200: {"model": list[dict[str, Any]]}})
async def metadata(asked: MetadataRequest, request: Request, service: Here) -> Answer:
    """The metadata of rows; unknown ids are left out."""
    _check_name(asked.indice_name, service)
    rows = await service.calling.run(service.index.get, asked.ids)
    base = str(request.base_url)
    return Answer([{"id": it, "metadata": _metadata(it, rows[it].payload, base)} for it in asked.ids if it in rows])


async def _hits(asked: KnnRequest, service: Service) -> list[Hit]:
    given = {"text": asked.text, "image": asked.image or asked.image_url, "vector": asked.embedding_input}
    if sum(bool(it) for it in (asked.text, asked.image, asked.image_url, asked.embedding_input)) != 1:
        raise invalid("give exactly one of text, image, image_url and embedding_input")
    try:
        example = Example.model_validate({name: value for name, value in given.items() if value})
    except ValidationError as error:
        first = error.errors()[0]
        raise invalid(f"{first['loc'][0]}: {first['msg'].removeprefix('Value error, ')}") from None
    k = min(asked.num_result_ids or asked.num_images, MAX_HITS)
    query = RecommendRequest.model_validate({"like": [example], "k": k, "where": _ROWS[asked.modality]})
    hits = await find(await terms_of(query, service), query, service)
    return await service.calling.run(_without_duplicates, hits, service) if asked.deduplicate else hits


def _without_duplicates(hits: list[Hit], service: Service) -> list[Hit]:
    vectors = service.index.vectors([hit.id for hit in hits])
    return folded([hit for hit in hits if hit.id in vectors], vectors, DUPLICATE)


def _metadata(row: str, payload: Payload, base: str) -> dict[str, object]:
    """A row's payload with clip-retrieval's fields `image_path`, `url` and `caption`."""
    if payload.get("type") == "text":
        return {**payload, "caption": payload["text"]}
    return {**payload, "image_path": payload["path"], "url": f"{base}v1/images/{row}"}


def _name(service: Service) -> str:
    """The name of the index: its folder without the extension, or its name in a cluster."""
    return PurePath(str(service.index.place)).stem


def _check_name(name: str | None, service: Service) -> None:
    if name is not None and name != _name(service):
        raise not_found(f"this service does not have the index {name!r}; use {_name(service)!r}")
