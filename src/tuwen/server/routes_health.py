"""`/health/live` and `/health/ready`: whether the process answers, and whether the index does."""

from uuid import UUID

from fastapi import APIRouter

from tuwen.server.answers import Answer
from tuwen.server.schemas import Failure, Health
from tuwen.server.service import Here

router = APIRouter(prefix="/health", tags=["health"])
NOBODY = str(UUID(int=0))
"""no row's id: a cluster is only asked for rows that are named"""


@router.get("/live", responses={200: {"model": Health}})
async def live() -> Answer:
    """The process answers."""
    return Answer({"status": "live"})


@router.get("/ready", responses={200: {"model": Health}, 503: {"model": Failure}})
async def ready(service: Here) -> Answer:
    """The model is loaded (else nothing is answered at all), and the index can be read."""
    await service.calling.run(service.index.get, [NOBODY])
    return Answer({"status": "ready"})
