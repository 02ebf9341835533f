"""While a large body is read and validated, other requests are answered; its own answer is what it would be anyway."""

import asyncio
import json
import time
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace
from typing import Annotated, Any

import httpx
from fastapi import APIRouter, FastAPI, Request
from fastapi.routing import APIRoute
from pydantic import BaseModel, BeforeValidator

from service.api.access import routes_of
from service.api.app import create_app
from service.api.large import LARGE, LargeRoute, Pausing
from service.settings import Settings
from tests.conftest import Server
from tests.test_api_problems import problem

JSON = {"Content-Type": "application/json"}
CODEWELL = SimpleNamespace(settings=Settings())
"""What routes look into for their limits."""
answered = Event()


def waited(given: Any) -> bool:
    """Whether another request was answered before this field was validated, which waits for that."""
    return answered.wait(10)


class Waiting(BaseModel):
    """A body whose validation waits for another request."""

    text: str
    field: Annotated[bool, BeforeValidator(waited)]


def test_another_request_is_answered_while_a_large_body_is_validated() -> None:
    router = APIRouter(route_class=LargeRoute)

    @router.post("/large")
    def large(body: Waiting) -> bool:
        return body.field

    @router.post("/small")
    async def small(body: dict[str, int]) -> dict[str, int]:
        answered.set()
        return body

    app = FastAPI()
    app.state.codewell = CODEWELL
    app.include_router(router)

    async def both() -> tuple[httpx.Response, httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
            first = asyncio.create_task(client.post("/large", json={"text": "x" * LARGE, "field": 0}))
            second = asyncio.create_task(client.post("/small", json={"a": 1}))
            return await first, await second

    first, second = asyncio.run(both())
    assert (first.json(), second.json()) == (True, {"a": 1})


def test_others_work_while_json_is_parsed() -> None:
    items = [{"vector": [0.123456] * 384}] * 2_000
    body = json.dumps({"items": items}).encode()
    turns, over = 0, Event()

    def work() -> None:
        nonlocal turns
        while not over.is_set():
            turns += 1
            time.sleep(0)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def parsed() -> Any:
        app = SimpleNamespace(state=SimpleNamespace(codewell=CODEWELL))
        request = Request({"type": "http", "headers": [], "app": app}, receive)
        await request.body()
        other.start()
        began = turns
        return await Pausing(request).json(), turns - began

    other = Thread(target=work)
    read, turns_meanwhile = asyncio.run(parsed())
    over.set()
    other.join()
    assert read == {"items": items}
    assert turns_meanwhile > 5


def test_every_route_with_a_body_is_one(tmp_path: Path) -> None:
    routes = [one for one in routes_of(create_app(Settings(data_dir=tmp_path)).router) if isinstance(one, APIRoute)]
    bodies = [route for route in routes if route.body_field is not None]
    assert {"/ingest", "/search", "/collections/{name}/items/get"} <= {route.path for route in bodies}
    assert [route.path for route in bodies if not isinstance(route, LargeRoute)] == []


def test_large_bodies_are_refused_like_small_ones(server: Server, name: str) -> None:
    padding = " " * LARGE
    items = [{"id": "a", "vector": [1, 2]}, {"id": "b", "vector": []}]
    for end in ("", padding):
        kept = server.client.post(
            "/ingest", content=json.dumps({"collection": name, "items": items}) + end, headers=JSON
        )
        assert [one["status"] for one in kept.json()["results"]][1] == "rejected", kept.text
        assert kept.json()["results"][1]["error"]["field"] == "items[1].vector"
        problem(server.client.post("/ingest", content=end + "{", headers=JSON), 422, "body")
    assert server.get(f"/collections/{name}")["items"] == 1
