"""`/v1/search`, `/v1/recommend` and `/v1/classify`: what is in pictures."""

from dataclasses import asdict

from fastapi import APIRouter, Request

from tuwen.errors import RejectedImages
from tuwen.index.store import Vector
from tuwen.server.answers import Answer, hits_as_documents
from tuwen.server.faults import not_found
from tuwen.server.pictures import data_of
from tuwen.server.queries import Query, find, terms_of
from tuwen.server.schemas import ClassifyRequest, Hits, Labelled, RecommendRequest, SearchRequest
from tuwen.server.service import Here, Service
from tuwen.tasks.classify import rank
from tuwen.tasks.labels import averaged, checked_labels, label_texts
from tuwen.tasks.search import describe
from tuwen.types import Rejected

router = APIRouter(prefix="/v1", tags=["search"])


@router.post("/search", responses={200: {"model": Hits}})
async def search(request: SearchRequest, http: Request, service: Here) -> Answer:
    """Find pictures by a text, a picture, and rows that they shall be like or unlike."""
    return await _hits(request, http, service)


@router.post("/recommend", responses={200: {"model": Hits}})
async def recommend(request: RecommendRequest, http: Request, service: Here) -> Answer:
    """Find pictures by weighted examples."""
    return await _hits(request, http, service)


@router.post("/classify", responses={200: {"model": Labelled}})
async def classify(request: ClassifyRequest, service: Here) -> Answer:
    """Say how well labels fit a picture."""
    labels = checked_labels(request.labels, "labels")
    templates = [request.template] if isinstance(request.template, str) else request.template
    known = averaged(labels, await service.texts.encode(label_texts(labels, templates)))
    document: dict[str, object] = {"model": service.encoder.name, "images": [], "rejected": []}
    path, vector = await _picture(request, service)
    if isinstance(vector, Rejected):
        document["rejected"] = [asdict(vector)]
    else:
        ranked = rank(vector[None], known, service.encoder.scoring, multi_label=request.multi_label)[0]
        document["images"] = [{"path": path, "labels": [asdict(label) for label in ranked]}]
    return Answer(document)


async def _hits(query: Query, http: Request, service: Service) -> Answer:
    terms = await terms_of(query, service)
    http.state.query = describe(terms)
    found = hits_as_documents(await find(terms, query, service), similar=query.unique is not None)
    return Answer({"query": http.state.query, "model": service.encoder.name, "hits": found})


async def _picture(request: ClassifyRequest, service: Service) -> tuple[str, Vector | Rejected]:
    """What the picture is called, and its vector or why it has none."""
    if request.id is None:
        try:
            return "image", await service.pictures.encode(await data_of(request.image or "", service), "image")
        except RejectedImages as error:
            return "image", error.rejected[0]
    vectors = await service.calling.run(service.index.vectors, [request.id])
    rows = await service.calling.run(service.index.get, [request.id])
    if request.id not in vectors or request.id not in rows:
        raise not_found(f"the index has no row {request.id}")
    return str(rows[request.id].payload["path"]), vectors[request.id]
