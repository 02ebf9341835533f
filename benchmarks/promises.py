"""What clients were promised, and whether it is so: writers that remember every acknowledgement. Knows no fault."""

import json
import time
import zlib
from collections import Counter
from threading import Event
from typing import Any, NamedTuple

import httpx
import numpy as np

from benchmarks.process import Server

COLLECTION = "faults"
DIM = 16
IDS = 300
"""Of each writer: every one is written, changed and deleted many times."""
BATCH = 20
PAUSE_SECONDS = 0.05
"""Before a request that was refused or not answered is sent again."""
RETRIED = (503, 507)
OVERSAMPLE = 100


class Content(NamedTuple):
    """An item as it was last written: which vector, and which metadata."""

    vector: int
    metadata: int


State = Content | None
"""None: there is no such item."""


def vector(item_id: str, number: int) -> list[float]:
    """The item's vector of that number; no two are equal."""
    rng = np.random.default_rng(zlib.crc32(f"{item_id} {number}".encode()))
    values: list[float] = rng.standard_normal(DIM).astype(np.float32).tolist()
    return values


class Writer:
    """One client after another over ids of its own; each request is one transaction."""

    def __init__(self, number: int) -> None:
        self._rng = np.random.default_rng(number)
        self.ids = [f"w{number}-{n}" for n in range(IDS)]
        self.kept: dict[str, State] = dict.fromkeys(self.ids)
        """What was acknowledged."""
        self.pending: dict[str, State] = {}
        """What a request without an answer would have made of it."""
        self._count = 0
        self.seen: Counter[str] = Counter()
        """Requests acknowledged, items in them, answers 503 and 507, requests without an answer, other answers."""

    def write(self, url: str, stop: Event) -> None:
        """Goes on until told to stop; what is refused or not answered is sent again."""
        with httpx.Client(base_url=url, timeout=60) as client:
            while not stop.is_set():
                method, path, body, self.pending = self._next()
                while not self._sent(client, method, path, body):
                    if stop.wait(PAUSE_SECONDS):
                        return

    def _next(self) -> tuple[str, str, Any, dict[str, State]]:
        self._count += 1
        alive = [item_id for item_id, state in self.kept.items() if state is not None]
        choice = self._rng.random()
        if choice < 0.2 and alive:
            gone = self._some(alive, 5)
            return "POST", f"/collections/{COLLECTION}/items/delete", {"ids": gone}, dict.fromkeys(gone)
        if choice < 0.35 and alive:
            (item_id,) = self._some(alive, 1)
            old = self.kept[item_id]
            new = Content(old.vector if old is not None else 0, self._count)
            body: Any = {"metadata": {"v": new.vector, "m": new.metadata}}
            return "PATCH", f"/collections/{COLLECTION}/items/{item_id}", body, {item_id: new}
        content = Content(self._count, self._count)
        ids = self._some(self.ids, BATCH)
        metadata = {"v": content.vector, "m": content.metadata}
        items = [{"id": each, "vector": vector(each, self._count), "metadata": metadata} for each in ids]
        return "POST", "/ingest", {"collection": COLLECTION, "items": items}, dict.fromkeys(ids, content)

    def _some(self, ids: list[str], most: int) -> list[str]:
        count = min(len(ids), int(self._rng.integers(1, most + 1)))
        return [str(item_id) for item_id in self._rng.choice(ids, count, replace=False)]

    def _sent(self, client: httpx.Client, method: str, path: str, body: Any) -> bool:
        try:
            answer = client.request(method, path, json=body)
        except httpx.TransportError:
            self.seen["unanswered"] += 1
            return False
        if answer.status_code in RETRIED:
            self.seen[str(answer.status_code)] += 1
            return False
        if answer.status_code == 200:
            self.kept |= self.pending
            self.seen["acknowledged"] += 1
            self.seen["items"] += len(self.pending)
        else:
            self.seen["errors"] += 1
        self.pending = {}
        return True


def read(url: str, number: int, stop: Event, seen: Counter[str]) -> None:
    """Searches until told to stop; counts answers and, as errors, those that are neither 200 nor 503."""
    rng = np.random.default_rng(number)
    with httpx.Client(base_url=url, timeout=60) as client:
        while not stop.is_set():
            body = {"collection": COLLECTION, "vector": rng.standard_normal(DIM).tolist(), "k": 5}
            try:
                status = client.post("/search", json=body).status_code
            except httpx.TransportError:
                stop.wait(PAUSE_SECONDS)
                continue
            seen["searches"] += status == 200
            seen["errors"] += status not in (200, 503)


def train(url: str, stop: Event) -> None:
    """One training after another, as far as they come."""
    body = {"codec": {"bytes": 8}, "training": {"epochs": 2}}
    with httpx.Client(base_url=url, timeout=60) as client:
        while not stop.wait(PAUSE_SECONDS):
            try:
                states = [job["state"] for job in client.get("/jobs").json()["jobs"][:1]]
                if not {"queued", "running"} & set(states):
                    client.post(f"/collections/{COLLECTION}/train", json=body)
            except (httpx.TransportError, json.JSONDecodeError, KeyError):
                time.sleep(PAUSE_SECONDS)


def broken(server: Server, writers: list[Writer]) -> Counter[str]:
    """What was promised and is not so, by what is wrong with it; what was not answered counts as done if it was done.

    A request without an answer must have been done whole or not at all.
    """
    wrong: Counter[str] = Counter()
    actual: dict[str, State] = {}
    for writer in writers:
        asked = {"ids": writer.ids, "include": ["metadata", "vector"]}
        found = server.post(f"/collections/{COLLECTION}/items/get", asked)["items"]
        states = {item["id"]: Content(item["metadata"]["v"], item["metadata"]["m"]) for item in found}
        wrong["other vector"] += sum(item["vector"] != vector(item["id"], states[item["id"]].vector) for item in found)
        now = {item_id: states.get(item_id) for item_id in writer.ids}
        before = {item_id: writer.kept[item_id] for item_id in writer.pending}
        after = {item_id: now[item_id] for item_id in writer.pending}
        wrong["torn"] += after not in (before, writer.pending)
        for item_id, promised in writer.kept.items():
            if item_id in writer.pending or now[item_id] == promised:
                continue
            wrong["came back" if promised is None else "lost" if now[item_id] is None else "other content"] += 1
        writer.kept, writer.pending = dict(now), {}
        actual |= now
    there = {item_id: state for item_id, state in actual.items() if state is not None}
    described = server.get(f"/collections/{COLLECTION}")
    wrong["unknown"] += described["items"] - len(there)
    if there:
        terms = {"k": 1, "oversample": OVERSAMPLE, "include": [], "min_seq": described["seq"], "wait_ms": 10_000}
        queries = [{"vector": vector(item_id, state.vector), **terms} for item_id, state in there.items()]
        results = server.post("/search", {"collection": COLLECTION, "queries": queries})["results"]
        hits = [[hit["id"] for hit in answer["hits"]] for answer in results]
        wrong["not found"] += sum(hit != [item_id] for hit, item_id in zip(hits, there, strict=True))
    return +wrong
