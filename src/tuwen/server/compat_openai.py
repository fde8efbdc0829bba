"""`POST /v1/embeddings` for OpenAI's clients: texts and images to vectors."""

import base64
import re
from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from tuwen.index.store import Vector
from tuwen.server.errors import Answer, invalid, not_found
from tuwen.server.queries import data_of
from tuwen.server.schemas import MAX_TEXT
from tuwen.server.service import Here, Service

router = APIRouter(prefix="/v1", tags=["for other clients"])

MOST = 2048
"""inputs of one request"""
_IMAGE = re.compile(r"data:[^,]{0,200};base64,|https?://\S+\Z")
"""an image: a data URL, or an address, which is never encoded as a text"""


class EmbeddingsRequest(BaseModel):
    """Texts, and pictures as data URLs."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    input: str | Annotated[list[str], Field(min_length=1, max_length=MOST)] | list[int] | list[list[int]]
    """a text or an image, or a list of these. An image is a data URL with base64, or its http or https address where
    the service fetches images. Token ids are refused"""
    model: Annotated[str, Field(max_length=256)] | None = None
    """the model, by any name that the command line knows it by; another one is refused"""
    encoding_format: Literal["float", "base64"] | None = None
    """`float`, the default; or `base64`: the float32 numbers of a vector, the lowest byte first"""
    dimensions: int | None = None
    """how many numbers a vector has; another number than the model's is refused"""
    user: Annotated[str, Field(max_length=1000)] | None = None
    """whom the client asks for; nothing depends on it"""


class Embedding(BaseModel):
    """One input's vector, of length 1."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """How many tokens the texts have; pictures have none."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(BaseModel):
    """The vectors, in the order of the inputs."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


@router.post("/embeddings", responses={200: {"model": Embeddings}})
async def embeddings(request: EmbeddingsRequest, service: Here) -> Answer:
    """Texts and pictures as vectors of length 1; their dot product is the cosine."""
    _check(request, service)
    inputs = await _inputs(request, service)
    vectors = await _vectors(inputs, service)
    texts = [it for it in inputs if isinstance(it, str)]
    tokens = await service.decoding.run(_tokens, texts, service)
    write = _as_base64 if request.encoding_format == "base64" else _as_floats
    data = [{"object": "embedding", "index": i, "embedding": write(vector)} for i, vector in enumerate(vectors)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return Answer({"object": "list", "data": data, "model": service.encoder.name, "usage": usage})


def _check(request: EmbeddingsRequest, service: Service) -> None:
    """Raises Fault: 404, another model is asked for; 422, other dimensions."""
    encoder = service.encoder
    if request.model is not None and request.model not in encoder.names:
        raise not_found(f"the model {request.model} is not served here: ask for {encoder.name}")
    if request.dimensions is not None and request.dimensions != encoder.dim:
        raise invalid(f"dimensions: vectors of {encoder.name} have {encoder.dim} numbers, not {request.dimensions}")


async def _inputs(request: EmbeddingsRequest, service: Service) -> list[str | bytes]:
    """Texts as they are, pictures as the bytes of their files.

    Raises:
        Fault: 403, an address where the service does not fetch images; 422, there is nothing, there are token ids, a
            text is empty or too long, an image is not base64.
    """
    given: Sequence[str | int | list[int]] = [request.input] if isinstance(request.input, str) else request.input
    if not given:
        raise invalid("input: there is nothing in it")
    return [await _input(number, item, service) for number, item in enumerate(given)]


async def _input(number: int, item: str | int | list[int], service: Service) -> str | bytes:
    if not isinstance(item, str):
        raise invalid(
            "input: token ids are another model's words: send texts (LangChain's OpenAIEmbeddings sends them with "
            "check_embedding_ctx_length=False)"
        )
    if _IMAGE.match(item):
        return await data_of(item, service)
    if not item.strip() or len(item) > MAX_TEXT:
        raise invalid(f"input.{number}: a text has 1 to {MAX_TEXT:,} characters, and not only spaces")
    return item


async def _vectors(inputs: Sequence[str | bytes], service: Service) -> list[Vector]:
    """One after the other in parts of a batch, so that others get their turn between."""
    found: list[Vector] = []
    most = service.config.max_batch
    for start in range(0, len(inputs), most):
        part = inputs[start : start + most]
        texts = iter(await service.texts.encode([it for it in part if isinstance(it, str)]))
        for number, item in enumerate(part, start):
            if isinstance(item, str):
                found.append(next(texts))
            else:
                found.append(await service.pictures.encode(item, f"input.{number}"))
    return found


def _tokens(texts: Sequence[str], service: Service) -> int:
    return int(service.encoder.to_tokens(texts).lengths.sum()) if texts else 0


def _as_floats(vector: Vector) -> object:
    return vector.tolist()


def _as_base64(vector: Vector) -> object:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
