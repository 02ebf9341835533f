"""Long documents over HTTP: which come back, by which of their chunks; kept, replaced and removed whole."""

import signal
from collections.abc import Callable
from typing import Any

import pytest

from service.store.database import Database
from service.verification import verify
from tests.conftest import Server
from tests.test_api_problems import problem
from tests.test_api_query import ids
from tests.test_cli import codewell

CHUNKING = {"tokens": 10, "overlap": 2}
FILLER = "sand dust mud clay loam silt peat chalk"
PLANS: list[dict[str, Any]] = [{}, {"index": "exact"}, {"index": "buckets"}, {"stage": "refine"}, {"mode": "hybrid"}]


def paragraphs(*words: str) -> str:
    """A text of nine words for each of the words: itself, and eight that all paragraphs share."""
    return "\n".join(f"{word} {FILLER}" for word in words)


TEXTS = {
    "big": " ".join(f"granite {FILLER} s{n}" for n in range(40)),
    "book": paragraphs("otter", "granite", "violin"),
    "note": "granite",
    "tale": "a tale",
    "ode": "an ode",
}


def make(server: Server, name: str) -> None:
    given = {"name": name, "encoder": "tfidf", "chunking": CHUNKING}
    assert server.post("/collections", given, 201)["chunking"] == CHUNKING


def put(server: Server, name: str, texts: dict[str, str]) -> Any:
    """Ingests texts; their metadata has the first letter of their id."""
    items = [{"id": item_id, "text": text, "metadata": {"letter": item_id[0]}} for item_id, text in texts.items()]
    return server.post("/ingest", {"collection": name, "items": items})


def search(server: Server, name: str, text: str, **more: Any) -> Any:
    return server.post("/search", {"collection": name, "text": text} | more)


def counted(server: Server, name: str) -> tuple[int, int, int]:
    """Items, chunks and seq."""
    told = server.get(f"/collections/{name}")
    assert server.post(f"/collections/{name}/items/count", {}) == {"count": told["items"]}
    return told["items"], told["chunks"], told["seq"]


@pytest.fixture(scope="module")
def library(server: Server) -> str:
    """Half of the chunks of `big` are nearer to granite and the filler than anything else but the book's second."""
    make(server, "library")
    assert put(server, "library", TEXTS)["seq"] == 57
    return "library"


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_hits_are_documents_however_many_chunks_of_one_are_near(
    server: Server, library: str, plan: dict[str, Any]
) -> None:
    query = f"granite {FILLER}"
    for k in (2, 3, 5):
        answer = search(server, library, query, k=k, oversample=1, **plan)
        assert set(ids(answer)[:2]) == {"big", "book"}
        assert (len(set(ids(answer))), answer["partial"], answer["cursor"] is None) == (k, False, k == 5)
    asked = {"collection": library, "queries": [{"text": query, "k": 5}, {"text": "violin", "k": 1} | plan]}
    first, second = server.post("/search", asked)["results"]
    assert set(ids(first)) == TEXTS.keys()
    assert ids(second) == ["book"]
    found, cursor = list[str](), None
    for _ in range(3):
        page = search(server, library, query, k=2, oversample=1, cursor=cursor, **plan)
        found, cursor = found + ids(page), page["cursor"]
    assert sorted(found) == sorted(TEXTS)
    assert cursor is None


@pytest.mark.parametrize("mode", ["vector", "text", "hybrid"])
def test_a_hit_tells_the_chunk_that_it_was_found_by(server: Server, library: str, mode: str) -> None:
    (hit,) = search(server, library, "violin", k=1, mode=mode, include=["snippet", "vector"])["hits"]
    begin = TEXTS["book"].index("peat chalk\nviolin")
    chunk = {"start": begin, "end": begin + 51, "text": "peat chalk\nviolin sand dust mud clay loam silt peat"}
    assert (hit["id"], hit["text"], hit["chunk"]) == ("book", None, chunk)
    assert hit["snippet"] == "peat chalk\n<b>violin</b> sand dust mud clay loam silt peat"
    if mode != "text":
        (alike,) = server.post("/search", {"collection": library, "vector": hit["vector"], "k": 1})["hits"]
        assert (alike["id"], alike["chunk"], alike["text"]) == ("book", chunk, TEXTS["book"])
        assert alike["score"] == pytest.approx(1)


def test_documents_are_what_is_filtered_grouped_counted_and_listed(server: Server, library: str) -> None:
    query = f"granite {FILLER}"
    assert ids(search(server, library, query, filter={"letter": "b"}, k=9)) == ["book", "big"]
    assert ids(search(server, library, query, filter={"letter": {"$ne": "b"}}, k=9))[0] == "note"
    groups = search(server, library, query, group_by="letter", k=9)["hits"]
    assert [hit["group"] for hit in groups[:2]] == ["b", "n"]
    assert sorted(hit["group"] for hit in groups) == ["b", "n", "o", "t"]
    diverse = search(server, library, query, diversity=0.9, k=5)
    assert set(ids(diverse)) == TEXTS.keys()
    facets = server.post(f"/collections/{library}/items/facets", {"path": "letter"})["facets"]
    assert facets[0] == {"value": "b", "count": 2}
    assert sum(facet["count"] for facet in facets) == 5
    listed = server.post(f"/collections/{library}/items/scroll", {"limit": 3})
    assert [item["id"] for item in listed["items"]] == ["big", "book", "note"]
    rest = server.post(f"/collections/{library}/items/scroll", {"limit": 3, "cursor": listed["cursor"]})
    assert [item["id"] for item in rest["items"]] == ["tale", "ode"]
    book = server.get(f"/collections/{library}/items/book?include=vector")
    assert [book["text"][start:end].split()[-1] for start, end in book["chunks"]] == [
        "granite",
        "chalk",
        "peat",
        "chalk",
    ]
    like = server.post("/search", {"collection": library, "id": "note", "k": 9})
    assert set(ids(like)) == TEXTS.keys() - {"note"}
    profile = search(server, library, query, filter={"letter": "b"}, profile=True)["profile"]["counts"]
    assert (profile["items"], profile["chosen"]) == (5, 2)
    server.client.patch(f"/collections/{library}/items/big", json={"metadata": {"letter": "x"}})
    assert ids(search(server, library, query, filter={"letter": "x"})) == ["big"]
    server.client.patch(f"/collections/{library}/items/big", json={"metadata": {"letter": "b"}})
    shown = codewell(server, "search", "violin", "--collection", library)
    assert "violin sand dust" in shown.stdout.splitlines()[0]
    assert "otter" not in shown.stdout.splitlines()[0]


def test_ids_that_look_like_chunks_are_items_like_others(server: Server, name: str) -> None:
    make(server, name)
    likely = {f"book{mark}{n}": f"violin {n}" for mark in "#:/-" for n in (0, 1)}
    put(server, name, likely | {"book": TEXTS["book"]})
    assert counted(server, name)[0] == 9
    assert server.post(f"/collections/{name}/items/delete", {"ids": ["book"]})["deleted"] == ["book"]
    assert set(ids(search(server, name, "violin", k=20))) == likely.keys()


@pytest.mark.parametrize(
    ("more", "field", "words"),
    [
        ({"chunking": {"tokens": 8, "overlap": 8}}, "chunking.overlap", "overlap by 7 at most, not 8"),
        ({"chunking": {"tokens": 8}}, "chunking.overlap", "not 40"),
        ({"chunking": {"tokens": 0}}, "chunking.tokens", "greater than or equal to 1"),
        ({"chunking": {"tokens": 8, "overlap": -1}}, "chunking.overlap", "greater than or equal to 0"),
        ({"chunking": {"tokens": "x"}}, "chunking.tokens", "integer"),
        ({"chunking": {"size": 8}}, "chunking.size", "not permitted"),
        ({"chunking": {}, "encoder": None, "dimension": 2}, "chunking", "name an 'encoder'"),
        ({"chunking": {}, "encoder": "openai"}, "encoder", "there is no encoder"),
    ],
    ids=str,
)
def test_a_chunking_that_cannot_be_is_refused(server: Server, more: dict[str, Any], field: str, words: str) -> None:
    given = {"name": "chunks-refused", "encoder": "tfidf"} | more
    problem(server.client.post("/collections", json=given), 422, field, words)


def test_what_cannot_be_cut_is_rejected_alone(server: Server, name: str) -> None:
    make(server, name)
    items: list[dict[str, Any]] = [
        {"id": "good", "text": "a good one"},
        {"id": "both", "text": "text", "vector": [1.0] * 2048},
        {"id": "vector", "vector": [1.0] * 2048},
        {"id": "empty", "text": ""},
        {"id": "blank", "text": " \n"},
        {"id": "long", "text": "x" * 1_000_001},
    ]
    receipt = server.post("/ingest", {"collection": name, "items": items})
    fields = {one["id"]: one["error"] and one["error"]["field"] for one in receipt["results"]}
    assert fields == {
        "good": None,
        "both": "items[1].vector",
        "vector": "items[2].vector",
        "empty": "items[3].text",
        "blank": None,
        "long": "items[5].text",
    }
    assert "leave the vector out" in receipt["results"][1]["error"]["detail"]
    assert server.get(f"/collections/{name}/items/blank")["chunks"] == [[0, 2]]
    assert set(ids(search(server, name, "a good one"))) == {"good", "blank"}


def test_documents_are_replaced_and_removed_whole_and_survive(
    new_server: Callable[..., Server], database_url: str, name: str
) -> None:
    first = new_server(DATABASE_URL=database_url, TFIDF_DIMENSION="64")
    make(first, name)
    assert put(first, name, TEXTS)["seq"] == 57
    assert counted(first, name) == (5, 57, 57)
    assert set(ids(search(first, name, f"granite {FILLER}", k=5, oversample=1))) == TEXTS.keys()
    again = put(first, name, TEXTS)
    assert (again["counts"]["unchanged"], again["seq"]) == (5, 57)
    shorter = put(first, name, {"book": paragraphs("otter")})  # one chunk for four
    assert (shorter["counts"]["updated"], shorter["seq"]) == (1, 61)
    assert counted(first, name) == (5, 54, 61)
    (hit,) = search(first, name, "otter", k=1)["hits"]
    assert (hit["id"], hit["chunk"]) == ("book", {"start": 0, "end": 45, "text": paragraphs("otter")})
    assert search(first, name, "violin", mode="text")["hits"] == []
    item = {"id": "book", "text": "another", "if_seq": 57}
    refused = first.client.post("/ingest", json={"collection": name, "items": [item]})
    problem(refused, 409, "items[0].if_seq", "last changed by seq 61")
    longer = first.post("/ingest", {"collection": name, "items": [item | {"text": TEXTS["book"], "if_seq": 61}]})
    removed = first.post(f"/collections/{name}/items/delete", {"filter": {"letter": "n"}})
    assert (longer["seq"], removed["seq"], removed["count"]) == (65, 66, 1)
    assert first.post(f"/collections/{name}/items/delete", {"ids": ["big"]})["seq"] == 66 + 50

    second = new_server(DATABASE_URL=database_url, TFIDF_DIMENSION="64")
    assert set(ids(search(second, name, "granite", k=9))) == {"book", "tale", "ode"}
    seq = put(first, name, {"saga": TEXTS["big"]})["seq"]
    first.stop(signal.SIGKILL)
    answer = search(second, name, f"granite {FILLER}", k=9, oversample=1, min_seq=seq)
    assert set(ids(answer)) == {"book", "tale", "ode", "saga"}
    (hit,) = [hit for hit in answer["hits"] if hit["id"] == "book"]
    assert "violin" not in hit["chunk"]["text"]
    assert hit["chunk"]["text"] == TEXTS["book"][hit["chunk"]["start"] : hit["chunk"]["end"]]
    assert counted(second, name) == (4, 4 + 2 + 50, seq)
    database = Database(database_url)
    assert list(verify(database)) == []
    database.close()
