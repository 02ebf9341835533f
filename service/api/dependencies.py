"""What routes are handed. Knows no route."""

import hashlib
from typing import Annotated

from fastapi import Depends, Header, Request

from service.api.access import rights_of
from service.collection import Collection
from service.permitted import Permitted
from service.terms import OnceKey


async def codewell(request: Request) -> Permitted:
    """The running service, as far as the caller may use it."""
    return Permitted(request.app.state.codewell, rights_of(request))


CodewellDep = Annotated[Permitted, Depends(codewell)]


def collection(name: str, running: CodewellDep) -> Collection:
    """The collection that the path names, by name or alias."""
    return running.catalog.open(name)


CollectionDep = Annotated[Collection, Depends(collection)]


async def once(
    request: Request, idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None
) -> OnceKey | None:
    """What names the request, where its sender wants it done once however often it comes."""
    if idempotency_key is None:
        return None
    return OnceKey(idempotency_key, hashlib.blake2b(await request.body(), digest_size=16).digest())


OnceDep = Annotated[OnceKey | None, Depends(once)]
