"""Queries: what a request searches for, to terms with vectors, to hits."""

import asyncio
import base64
import binascii
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from tuwen.index.store import Vector
from tuwen.search.search import RowId, Term, Wanted
from tuwen.search.search import search as find_rows
from tuwen.search.threshold import auto_threshold
from tuwen.server.errors import Fault, invalid
from tuwen.server.schemas import Example, RecommendRequest, SearchRequest
from tuwen.server.service import Service
from tuwen.types import Hit


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
        InvalidInput: a row that is named does not exist, the terms cancel each other out, the filter is wrong, or no
            threshold has been measured.
        RejectedImages: an image cannot be read.
    """
    wanted = Wanted(
        query.offset + query.k,
        await _min_score(terms, query, service),
        query.where or None,
        exact=query.exact,
        strategy=query.strategy if isinstance(query, RecommendRequest) else "average",
        diversity=query.diversity,
        unique=query.unique,
    )
    encoded = await _encoded(terms, service)
    if _is_quick(wanted, service):
        hits = find_rows(encoded, None, service.index, wanted)
    else:
        hits = await service.calling.run(find_rows, encoded, None, service.index, wanted)
    return hits[query.offset :]


def _is_quick(wanted: Wanted, service: Service) -> bool:
    """Whether a search may run in the event loop: about a millisecond that holds the interpreter anyway.

    Handing it to a thread and back costs a third more: the interpreter changes hands four times. Not while rows
    are written, which holds the index for as long as the disk takes, nor where many rows are looked at.
    """
    many = wanted.where or wanted.exact or wanted.diversity or wanted.unique or wanted.strategy == "best"
    return service.graph and not many and wanted.k <= QUICK and not service.collection.writing


async def _min_score(terms: Sequence[Term], query: Query, service: Service) -> float | None:
    if query.min_score != "auto":
        return query.min_score

    def measured() -> float:
        index = service.index
        return auto_threshold(terms, index, index.info(), index.calibration()).min_score

    return await service.calling.run(measured)


async def _encoded(terms: Sequence[Term], service: Service) -> list[Term]:
    """The terms with vectors in place of texts and images, encoded in batches with those of other requests."""
    texts = [term.what for term in terms if isinstance(term.what, str)]
    images = [term.what for term in terms if isinstance(term.what, bytes)]
    vectors: dict[str | bytes, Vector] = {}
    if texts:
        vectors.update(zip(texts, await service.texts.encode(texts), strict=True))
    if images:
        encoding = (service.pictures.encode(image, "the image") for image in images)
        vectors.update(zip(images, await asyncio.gather(*encoding), strict=True))
    return [replace(term, what=vectors[term.what]) if isinstance(term.what, str | bytes) else term for term in terms]


def unit_vector(numbers: Sequence[float], where: str, service: Service) -> Vector:
    """A vector from a request, scaled to length 1.

    Raises:
        Fault: 422, it has another length than the model's vectors, or is zero or not finite.
    """
    vector = np.array(numbers, np.float64)
    with np.errstate(over="ignore"):
        length = float(np.linalg.norm(vector))
    if len(vector) != service.encoder.dim or not np.isfinite(length) or length < 1e-12:
        raise invalid(
            f"{where}: {len(vector)} numbers of length {length:.3g} as a vector; a vector of "
            f"{service.encoder.name} has {service.encoder.dim} numbers, not all zero"
        )
    return (vector / length).astype(np.float32)


async def _term(example: Example, sign: float, service: Service) -> Term:
    weight = sign * example.weight
    if example.id is not None:
        return Term(RowId(example.id), weight)
    if example.image is not None:
        return Term(await data_of(example.image, service), weight)
    if example.vector is not None:
        return Term(unit_vector(example.vector, "vector", service), weight)
    assert example.text is not None  # see Example
    return Term(example.text, weight)
