"""Whether the process lives, and whether it can answer. Knows no collection."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from service.api.access import OPEN
from service.api.dependencies import CodewellDep
from service.api.signals import LIVE, READY

router = APIRouter(tags=["health"])


class Alive(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    """The database answers too, and the views have caught up."""

    status: Literal["ready"] = "ready"
    collections: int | None = Field(description="How many there are, for a caller who reaches them all")


@router.get(LIVE, dependencies=[OPEN])
async def livez() -> Alive:  # not `def`: it must answer when every thread is busy searching
    """200 while the process answers at all."""
    return Alive()


@router.get(READY, dependencies=[OPEN])
def readyz(codewell: CodewellDep) -> Ready:
    """200 when the database answers and the views that the last server held are loaded and have come to the end of the
    log; 503 says what is missing.
    """
    codewell.check_warm()
    return Ready(collections=codewell.catalog.count())
