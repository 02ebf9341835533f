"""API keys over HTTP, for admin keys of all collections. Knows no digest."""

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from service.api.access import ADMIN
from service.api.dependencies import CodewellDep
from service.api.fields import Name, Strict
from service.api.large import LargeRoute
from service.keys import Key, MadeKey
from service.rights import Scope

router = APIRouter(tags=["keys"], route_class=LargeRoute)


class KeyIn(Strict):
    """A key to make."""

    name: str = Field(description="What it is for: up to 128 letters, digits, spaces and _.@-")
    scope: Scope
    collections: list[Name] | None = Field(None, description="Those that it reaches; all without it")
    expires_in: float | None = Field(None, description="Seconds that it is valid; without it, until it is revoked")
    rate: float | None = Field(None, description="Requests a second, counted by each process; any number without it")
    max_items: int | None = Field(
        None, description="Items in the collections that it reaches; without it, what the settings say; 0: any number"
    )
    max_bytes: int | None = Field(None, description="Bytes of their ids, texts, metadata and vectors, likewise")


class KeyOut(BaseModel):
    """A key without its secret."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    scope: Scope
    collections: list[str] | None
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    rate: float | None
    max_items: int | None
    max_bytes: int | None

    @classmethod
    def of(cls, key: Key) -> "KeyOut":
        """What is kept of it."""
        return cls.model_validate(key)


class KeyMade(KeyOut):
    """A key with its secret, for the only time."""

    key: str = Field(description="The whole key: it is kept nowhere and shown never again")

    @classmethod
    def with_secret(cls, made: MadeKey) -> "KeyMade":
        """A new one."""
        return cls(**KeyOut.of(made.key).model_dump(), key=made.token)


class KeyList(BaseModel):
    """Every key there ever was, the oldest first."""

    keys: list[KeyOut]


@router.post("/keys", status_code=201, dependencies=[ADMIN])
def create_key(body: KeyIn, codewell: CodewellDep) -> KeyMade:
    """Makes an API key. From the first one on the server needs keys, unless CODEWELL_AUTH is off."""
    limits = body.model_dump(include={"rate", "max_items", "max_bytes"})
    return KeyMade.with_secret(codewell.keys.create(body.name, body.scope, body.collections, body.expires_in, **limits))


@router.get("/keys", dependencies=[ADMIN])
def list_keys(codewell: CodewellDep) -> KeyList:
    """Every key without its secret, also those that expired or were revoked."""
    return KeyList(keys=[KeyOut.of(key) for key in codewell.keys.list()])


@router.delete("/keys/{key_id}", status_code=204, dependencies=[ADMIN])
def revoke_key(key_id: str, codewell: CodewellDep) -> Response:
    """Makes a key invalid at once, in every process."""
    codewell.keys.revoke(key_id)
    return Response(status_code=204)
