"""What a request looks for -> vectors -> hits.

Knows ids, texts and pictures as requests have them. Does not know how vectors are made, nor how rows are found.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tuwen.errors import InvalidInput
from tuwen.index.store import Vector
from tuwen.server.faults import not_found
from tuwen.server.schemas import Example, RecommendRequest, SearchRequest
from tuwen.server.service import Service
from tuwen.server.towers import data_of
from tuwen.types import Hit


@dataclass(frozen=True, slots=True)
class Asked:
    """One thing that hits shall be like, or unlike where `weight` is negative."""

    kind: Literal["text", "image", "id"]
    value: str
    weight: float = 1.0


def asked_by(request: SearchRequest | RecommendRequest) -> list[Asked]:
    """What a request names, in its order."""
    if isinstance(request, RecommendRequest):
        return [_example(it, 1.0) for it in request.like] + [_example(it, -1.0) for it in request.unlike]
    asked = [] if request.text is None else [Asked("text", request.text)]
    asked += [] if request.image is None else [Asked("image", request.image)]
    asked += [Asked("id", it) for it in request.like]
    return asked + [Asked("id", it, -1.0) for it in request.unlike]


async def find(request: SearchRequest | RecommendRequest, asked: Sequence[Asked], service: Service) -> list[Hit]:
    """The rows nearest to what is asked for, without those that are asked by."""
    vectors = await _vectors(asked, service)
    total = np.sum(
        [it.weight * vector for it, vector in zip(asked, vectors, strict=True)], axis=0, dtype=np.float64
    )
    length = float(np.linalg.norm(total))
    if length < 1e-6:
        raise InvalidInput("nothing is left to look for: the terms cancel each other out")
    known = {it.value for it in asked if it.kind == "id"}
    hits = await service.calling.run(
        service.index.search,
        np.asarray(total / length, np.float32),
        k=request.offset + request.k + len(known),
        min_score=request.min_score,
        where=request.where or None,
        exact=request.exact,
    )
    return [hit for hit in hits if hit.id not in known][request.offset : request.offset + request.k]


def described(asked: Sequence[Asked]) -> str:
    """What is looked for, in one line."""
    return " ".join(
        f"{'-' if it.weight < 0 else '+'} {'image' if it.kind == 'image' else it.value}" for it in asked
    ).removeprefix("+ ")


def _example(example: Example, sign: float) -> Asked:
    if example.id is not None:
        return Asked("id", example.id, sign * example.weight)
    if example.text is not None:
        return Asked("text", example.text, sign * example.weight)
    return Asked("image", example.image or "", sign * example.weight)


async def _vectors(asked: Sequence[Asked], service: Service) -> list[Vector]:
    ids = [it.value for it in asked if it.kind == "id"]
    stored = await service.calling.run(service.index.vectors, ids) if ids else {}
    missing = next((it for it in ids if it not in stored), None)
    if missing is not None:
        raise not_found(f"the index has no row {missing}")
    return await asyncio.gather(*(_vector(it, stored, service) for it in asked))


async def _vector(asked: Asked, stored: dict[str, Vector], service: Service) -> Vector:
    if asked.kind == "id":
        return stored[asked.value]
    if asked.kind == "text":
        return np.asarray((await service.texts.encode([asked.value]))[0])
    return await service.pictures.encode(data_of(asked.value), "image")
