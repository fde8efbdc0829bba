"""Turn the query of a request into terms with vectors, and into hits."""

import asyncio
import base64
import binascii
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from tuwen.index.store import Vector
from tuwen.search.search import RowId, Term, Wanted, ordered
from tuwen.search.search import search as find_rows
from tuwen.search.threshold import auto_threshold
from tuwen.server.responses import APIError, invalid
from tuwen.server.schemas import Example, RecommendRequest, SearchRequest
from tuwen.server.service import Service
from tuwen.types import Hit


async def data_of(text: str, service: Service) -> bytes:
    """The bytes of an image in a request: base64, a data URL, or a URL to fetch it from.

    Raises:
        APIError: 403, images are not fetched here; 413, it is too large; 422, it is malformed or cannot be fetched.
    """
    if text.startswith(("http://", "https://")):
        if service.fetcher is None:
            raise APIError(
                403, "no_urls", "this service does not fetch images; send the image itself, or see --allow-url"
            )
        return await service.fetcher.fetch(text)
    if len(text) > 4 * service.config.max_picture // 3 + 256:
        raise APIError(413, "too_large", f"an image may have {service.config.max_picture:,} bytes")
    return decoded(text)


def decoded(text: str) -> bytes:
    """Decode base64 or a data URL.

    Raises:
        APIError: 422, the text is neither.
    """
    body = text
    if text.startswith("data:"):
        head, comma, body = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise invalid("the data URL of an image must look like data:image/jpeg;base64,…")
    try:
        return base64.b64decode(body.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise invalid("an image must be base64, or a data URL with base64") from None


QUICK = 200
"""most hits of a search that may run in the event loop"""
Query: TypeAlias = SearchRequest | RecommendRequest


async def terms_of(query: Query, service: Service) -> list[Term]:
    """The terms of a request, in order, with images as bytes."""
    if isinstance(query, RecommendRequest):
        liked = [await _term(example, 1.0, service) for example in query.like]
        return liked + [await _term(example, -1.0, service) for example in query.unlike]
    terms = [] if query.text is None else [Term(query.text)]
    terms += [] if query.image is None else [Term(await data_of(query.image, service))]
    terms += [Term(RowId(ident)) for ident in query.like]
    return terms + [Term(RowId(ident), -1.0) for ident in query.unlike]


async def find(terms: Sequence[Term], query: Query, service: Service) -> list[Hit]:
    """Find the rows nearest to the terms, from `query.offset` on.

    Raises:
        InvalidInput: a named row does not exist, the terms cancel each other out, the filter is malformed, or no
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
    return ordered(hits[query.offset :], query.sort)


def _is_quick(wanted: Wanted, service: Service) -> bool:
    """Whether a search may run in the event loop: it takes about a millisecond and holds the interpreter lock anyway.

    A thread would add a third to its time. Searches of many rows run in a thread, and so do all searches while rows are
    written, because a write holds the index for as long as the disk takes.
    """
    many = wanted.where or wanted.exact or wanted.diversity or wanted.unique or wanted.strategy == "best"
    return service.graph and not many and wanted.k <= QUICK and not service.uploads.writing


async def _min_score(terms: Sequence[Term], query: Query, service: Service) -> float | None:
    if query.min_score != "auto":
        return query.min_score

    def measured() -> float:
        index = service.index
        return auto_threshold(terms, index, index.info(), index.calibration()).min_score

    return await service.calling.run(measured)


async def _encoded(terms: Sequence[Term], service: Service) -> list[Term]:
    """Replace texts and images by vectors, encoded in batches together with those of other requests."""
    texts = [term.what for term in terms if isinstance(term.what, str)]
    images = [term.what for term in terms if isinstance(term.what, bytes)]
    vectors: dict[str | bytes, Vector] = {}
    if texts:
        vectors.update(zip(texts, await service.texts.encode(texts), strict=True))
    if images:
        encoding = (service.images.encode(image, "the image") for image in images)
        vectors.update(zip(images, await asyncio.gather(*encoding), strict=True))
    return [replace(term, what=vectors[term.what]) if isinstance(term.what, str | bytes) else term for term in terms]


def unit_vector(numbers: Sequence[float], where: str, service: Service) -> Vector:
    """Read a vector from a request and scale it to length 1.

    Raises:
        APIError: 422, it does not have the model's dimension, or is zero or not finite.
    """
    vector = np.array(numbers, np.float64)
    with np.errstate(over="ignore"):
        length = float(np.linalg.norm(vector))
    if len(vector) != service.encoder.dim or not np.isfinite(length) or length < 1e-12:
        raise invalid(
            f"{where}: a vector of {service.encoder.name} has {service.encoder.dim} finite numbers, not all zero; got "
            f"{len(vector)} numbers of length {length:.3g}"
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
