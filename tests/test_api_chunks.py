"""Long documents over HTTP: which come back, by which of their chunks; kept, replaced and removed whole."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.backup import back_up, restore_file
from service.export import export
from service.store.database import Database
from service.verification import verify
from tests.conftest import Server
from tests.test_api_problems import problem
from tests.test_api_query import ids
from tests.test_export import lines

CHUNKING = {"tokens": 10, "overlap": 2}
FILLER = "sand dust mud clay loam silt peat chalk"


def paragraphs(*words: str) -> str:
    """A text with a paragraph of nine words for each word: `word` and eight that all share."""
    return "\n".join(f"{word} {FILLER}" for word in words)


def make(server: Server, name: str, **more: Any) -> None:
    given = {"name": name, "encoder": "tfidf", "chunking": CHUNKING} | more
    assert server.post("/collections", given, 201)["chunking"] == given["chunking"]


def put(server: Server, name: str, **texts: str) -> Any:
    """Ingests texts by their ids; their metadata has the id's first letter and the text's length."""
    items = [
        {"id": item_id, "text": text, "metadata": {"group": item_id[0], "length": len(text)}}
        for item_id, text in texts.items()
    ]
    return server.post("/ingest", {"collection": name, "items": items})


def search(server: Server, name: str, text: str, **more: Any) -> Any:
    return server.post("/search", {"collection": name, "text": text} | more)


def chunk_of(text: str, word: str) -> list[dict[str, Any]]:
    """The chunks of a text of paragraphs that begin with the word or end with it, where words are cut in tens."""
    words = [(begin, begin + len(one)) for one in text.split() for begin in [text.index(one)]]
    del words, word
    return []


@pytest.fixture(scope="module")
def library(server: Server) -> str:
    """`big` has 40 paragraphs that all begin with the word granite; the others say it once, or not at all."""
    make(server, "library")
    big = " ".join(f"granite {FILLER} s{n}" for n in range(40))
    put(
        server,
        "library",
        big=big,
        book=paragraphs("otter", "granite", "violin"),
        note="granite",
        tale="a tale",
        ode="an ode",
    )
    return "library"


PLANS: list[dict[str, Any]] = [
    {},
    {"index": "exact"},
    {"index": "buckets"},
    {"stage": "shortlist"},
    {"stage": "refine"},
]


def check_documents(server: Server, name: str) -> None:
    """However many chunks of one document are nearest, there are k documents while there are so many."""
    for plan in PLANS:
        for k in (2, 3, 5):
            answer = search(server, name, f"granite {FILLER}", k=k, oversample=1, **plan)
            assert set(ids(answer)[:2]) == {"big", "book"}, plan
            assert (len(set(ids(answer))), answer["partial"], answer["cursor"] is None) == (k, False, k == 5)
    both = [{"text": f"granite {FILLER}", "k": 5, "oversample": 1}, {"text": "violin", "k": 1}]
    answers = server.post("/search", {"collection": name, "queries": both})["results"]
    assert set(ids(answers[0])) == {"big", "book", "note", "tale", "ode"}
    assert ids(answers[1]) == ["book"]


def test_hits_are_documents_however_many_chunks_are_near(server: Server, library: str) -> None:
    check_documents(server, library)
    told = server.get(f"/collections/{library}")
    assert (told["items"], told["chunks"], told["seq"]) == (5, 57, 57)
    profile = search(server, library, "granite", k=5, oversample=1, profile=True)["profile"]
    assert (profile["counts"]["items"], profile["counts"]["queries"]) == (5, 1)


def test_a_hit_tells_the_chunk_that_it_was_found_by(server: Server, library: str) -> None:
    text = server.get(f"/collections/{library}/items/book")["text"]
    for mode in ("vector", "text", "hybrid"):
        (hit,) = search(server, library, "violin", k=1, mode=mode, include=["snippet", "vector"])["hits"]
        assert hit["id"] == "book"
        assert (
            hit["chunk"]["text"]
            == text[hit["chunk"]["start"] : hit["chunk"]["end"]]
            == paragraphs("peat chalk\nviolin")[:-6]
        )
        assert hit["snippet"].count("<b>violin</b>") == 1
        assert "otter" not in hit["snippet"]
        alike = server.post("/search", {"collection": library, "vector": hit["vector"], "k": 1})["hits"][0]
        assert (alike["id"], alike["chunk"], round(alike["score"], 5)) == ("book", hit["chunk"], 1)
    assert search(server, library, "a tale", k=1)["hits"][0]["chunk"] == {"start": 0, "end": 6, "text": "a tale"}
