"""What routes are handed. Knows no route."""

from typing import Annotated

from fastapi import Depends, Request

from service.bootstrap import Codewell
from service.collection import Collection


def codewell(request: Request) -> Codewell:
    """The running service."""
    running: Codewell = request.app.state.codewell
    return running


CodewellDep = Annotated[Codewell, Depends(codewell)]


def collection(name: str, running: CodewellDep) -> Collection:
    """The collection that the path names, by name or alias."""
    return running.catalog.open(name)


CollectionDep = Annotated[Collection, Depends(collection)]
