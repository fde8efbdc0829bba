"""What a request looks for -> terms, with their vectors -> hits.

Knows ids, texts and pictures as requests have them. Does not know how vectors are made, nor how rows are found.
"""

import asyncio
import base64
import binascii
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from tuwen.errors import InvalidInput
from tuwen.index.store import Vector
from tuwen.runtime.pipeline import AnyImage
from tuwen.search.search import RowId, Term, Wanted
from tuwen.search.search import search as find_rows
from tuwen.server.errors import Fault, invalid
from tuwen.server.schemas import Example, RecommendRequest, SearchRequest
from tuwen.server.service import Service
from tuwen.types import Hit, Vectors

# ---- A picture as it stands in a request


async def data_of(text: str, service: Service) -> bytes:
    """The bytes of a picture in a request.

    Raises:
        Fault: 403, addresses are not fetched here; 413, it is too long; 422, it is no picture's bytes, or cannot be
            fetched.
    """
    if text.startswith(("http://", "https://")):
        if service.fetcher is None:
            raise Fault(403, "no_urls", "pictures are fetched where the service runs with --allow-url")
        return await service.fetcher.fetch(text)
    if len(text) > 4 * service.config.max_picture // 3 + 256:
        raise Fault(413, "too_large", f"a picture may have {service.config.max_picture:,} bytes")
    return decoded(text)


def decoded(text: str) -> bytes:
    """The bytes behind base64, or behind a data URL.

    Raises:
        Fault: 422, it is neither.
    """
    body = text
    if text.startswith("data:"):
        head, comma, body = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise invalid("a picture's data URL must look like data:image/jpeg;base64,…")
    try:
        return base64.b64decode(body.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise invalid("a picture must be base64, or a data URL of it") from None


# ---- What a request looks for -> terms, with their vectors -> hits.

QUICK = 200
"""hits"""
Query: TypeAlias = SearchRequest | RecommendRequest


async def terms_of(query: Query, service: Service) -> list[Term]:
    """What a request names, in its order; pictures as their bytes."""
    if isinstance(query, RecommendRequest):
        liked = [await _term(example, 1.0, service) for example in query.like]
        return liked + [await _term(example, -1.0, service) for example in query.unlike]
    terms = [] if query.text is None else [Term(query.text)]
    terms += [] if query.image is None else [Term(await data_of(query.image, service))]
    terms += [Term(RowId(ident)) for ident in query.like]
    return terms + [Term(RowId(ident), -1.0) for ident in query.unlike]


async def find(terms: Sequence[Term], query: Query, service: Service) -> list[Hit]:
    """The rows nearest to the terms, from `query.offset` on.

    Raises:
        InvalidInput: a row that is named is not there, the terms cancel each other out, or the filter is wrong.
        RejectedImages: a picture cannot be read.
    """
    wanted = Wanted(
        query.offset + query.k,
        query.min_score,
        query.where or None,
        exact=query.exact,
        strategy=query.strategy if isinstance(query, RecommendRequest) else "average",
        diversity=query.diversity,
        unique=query.unique,
    )
    encoded = await _encoded(terms, service)
    if _is_quick(wanted, service):
        hits = find_rows(terms, encoded, service.index, wanted)
    else:
        hits = await service.calling.run(find_rows, terms, encoded, service.index, wanted)
    return hits[query.offset :]


def _is_quick(wanted: Wanted, service: Service) -> bool:
    """Whether a search may be done where it stands, about a millisecond that holds the interpreter anyway.

    Handing it to a thread and back costs a third more: the interpreter changes hands four times. Not while rows
    are written, which holds the index for as long as the disk takes, nor where many rows are looked at.
    """
    many = wanted.where or wanted.exact or wanted.diversity or wanted.unique or wanted.strategy == "best"
    return service.graph and not many and wanted.k <= QUICK and not service.collection.writing


class _Encoded:
    """The vectors of a request's texts and pictures, made together with those of others, as an encoder gives them.

    So `tasks.search` is the one place that searches, whoever encodes.
    """

    def __init__(self, vectors: dict[str | bytes, Vector]) -> None:
        self._vectors = vectors

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        return np.stack([self._vectors[text] for text in texts])

    def encode_images(self, images: Sequence[AnyImage]) -> Vectors:
        return np.stack([self._vectors[image] for image in images if isinstance(image, bytes)])


async def _encoded(terms: Sequence[Term], service: Service) -> _Encoded:
    texts = [term.what for term in terms if isinstance(term.what, str)]
    images = [term.what for term in terms if isinstance(term.what, bytes)]
    vectors: dict[str | bytes, Vector] = {}
    if texts:
        vectors.update(zip(texts, await service.texts.encode(texts), strict=True))
    if images:
        encoding = (service.pictures.encode(image, "the image") for image in images)
        vectors.update(zip(images, await asyncio.gather(*encoding), strict=True))
    return _Encoded(vectors)


async def _term(example: Example, sign: float, service: Service) -> Term:
    weight = sign * example.weight
    if example.id is not None:
        return Term(RowId(example.id), weight)
    if example.image is not None:
        return Term(await data_of(example.image, service), weight)
    if example.text is None:
        raise InvalidInput("an example is exactly one of id, text and image")
    return Term(example.text, weight)
