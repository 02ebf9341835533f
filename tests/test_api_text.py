"""Searches by words and by words and vectors together, over HTTP: which items come back, in every process."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Server, clustered
from tests.test_api_filter import chosen, ingest_animals
from tests.test_api_problems import problem
from tests.test_api_query import ids

TEXTS = {
    "otter": "A river otter holds hands while it is sleeping",
    "trout": "Trouts are freshwater fish; the trout of a river has spots",
    "harp": "A harp has 47 strings <b>& no hands</b>",
    "cafe": "The café by the river",
}


def ingest_texts(server: Server, collection: str) -> int:
    """Four items with a text and a vector of two numbers each, one without a text; the seq of the receipt."""
    items: list[dict[str, Any]] = [
        {"id": item_id, "text": text, "vector": [1, n], "metadata": {"n": n, "wet": item_id != "harp"}}
        for n, (item_id, text) in enumerate(TEXTS.items())
    ]
    items.append({"id": "mute", "vector": [1, -1], "metadata": {"n": 4}})
    return int(server.post("/ingest", {"collection": collection, "items": items})["seq"])


@pytest.fixture
def texts(server: Server, name: str) -> str:
    """The nearest to [1, 0]: otter, then trout and mute, harp, cafe."""
    ingest_texts(server, name)
    return name


def worded(server: Server, collection: str, text: str, **more: Any) -> list[str]:
    """Ids of the items that have the words, best first."""
    answer = server.post("/search", {"collection": collection, "text": text, "mode": "text"} | more)
    assert (answer["partial"], answer["partial_reason"]) == (False, None)
    return ids(answer)


def test_words_find_what_has_them_in_any_form(server: Server, texts: str) -> None:
    assert worded(server, texts, "TROUT hand") == ["trout", "otter", "harp"]
    assert worded(server, texts, "sleeps") == ["otter"]
    assert worded(server, texts, "Cafe") == ["cafe"]
    assert worded(server, texts, "47") == ["harp"]
    assert set(worded(server, texts, "river")) == {"otter", "trout", "cafe"}
    assert worded(server, texts, "river", k=1) == ["cafe"]  # the shortest of them
    assert worded(server, texts, "rivers of the trout")[0] == "trout"
    assert worded(server, texts, "violin") == worded(server, texts, "the of a") == worded(server, texts, "?!") == []


@pytest.mark.parametrize(
    "text",
    ['"', "text:river AND (", "river^2 OR *:*", "[a TO z]", "-river", "\\", "/(/", "riv\0er", "🦦" * 200, "' --"],
)
def test_no_text_is_a_syntax_error(server: Server, text: str) -> None:
    if server.client.get("/collections/text-syntax").status_code == 404:
        ingest_texts(server, "text-syntax")
    expected = {"otter", "trout", "cafe"} if "river" in text else set()
    assert set(worded(server, "text-syntax", text)) == expected
    asked = {"collection": "text-syntax", "text": text, "vector": [1, 0], "mode": "hybrid", "include": ["snippet"]}
    assert set(ids(server.post("/search", asked))) == {*TEXTS, "mute"}


def test_words_see_what_was_just_written(server: Server, texts: str) -> None:
    assert worded(server, texts, "river spots") == ["trout", "cafe", "otter"]
    item = {"id": "trout", "text": "A trout in the sea", "vector": [1, 1], "metadata": {"n": 1}}
    server.post("/ingest", {"collection": texts, "items": [item, {"id": "new", "text": "spots", "vector": [0, 1]}]})
    assert worded(server, texts, "river") == ["cafe", "otter"]
    assert set(worded(server, texts, "sea spots")) == {"new", "trout"}
    server.client.patch(f"/collections/{texts}/items/new", json={"metadata": {"n": 9}})
    assert worded(server, texts, "spots", filter={"n": 9}) == ["new"]
    server.client.delete(f"/collections/{texts}/items/new")
    server.post("/ingest", {"collection": texts, "items": [{"id": "trout", "vector": [1, 1]}]})
    assert worded(server, texts, "sea spots") == []


def test_text_alone_with_everything_else_that_a_search_can_say(server: Server, name: str) -> None:
    items = [
        {
            "id": f"{n:03}",
            "text": "stone " * (300 - n) + "pebble",
            "vector": [1, n],
            "metadata": {"n": n, "g": n // 100},
        }
        for n in range(300)
    ]
    items.append({"id": "sand", "text": "sand", "vector": [1, 0], "metadata": {"g": 3}})
    server.post("/ingest", {"collection": name, "items": items})
    asked = {"collection": name, "text": "pebble", "mode": "text"}
    assert worded(server, name, "pebble", k=3) == ["299", "298", "297"]
    # However deep the rows of a filter lie, none is missing. Lengths count in steps: these two are equal.
    assert worded(server, name, "pebble", filter={"n": {"$lt": 2}}) == ["000", "001"]
    assert len(worded(server, name, "pebble", filter={"n": {"$lt": 250}}, k=250)) == 250
    first = server.post("/search", asked | {"k": 200})
    second = server.post("/search", asked | {"k": 200, "cursor": first["cursor"]})
    assert sorted(ids(first) + ids(second)) == [f"{n:03}" for n in range(300)]
    assert (second["cursor"], len(ids(second))) == (None, 100)
    bound = first["hits"][4]["score"]
    assert ids(server.post("/search", asked | {"min_score": bound})) == ids(first)[:5]
    groups = server.post("/search", asked | {"group_by": "g", "k": 5, "oversample": 2})
    assert [(hit["id"][0], hit["group"]) for hit in groups["hits"]] == [("2", 2), ("1", 1), ("0", 0)]
    assert ids(groups)[0] == "299"
    assert groups["partial"] is False
    assert len(ids(server.post("/search", asked | {"diversity": 0.5, "k": 4}))) == 4
    profile = server.post("/search", asked | {"profile": True, "filter": {"g": 0}})["profile"]
    assert profile["counts"] == {"queries": 1, "items": 301, "chosen": 100, "worded": 11}
    assert {"filter", "text", "documents"} <= set(profile["milliseconds"])


def test_hybrid_is_the_sum_of_reciprocal_ranks(server: Server, texts: str) -> None:
    asked = {"collection": texts, "text": "harp river", "vector": [1, 0], "mode": "hybrid"}
    by_words, by_vector = ["harp", "cafe", "otter", "trout"], ["otter", "trout", "mute", "harp", "cafe"]
    assert worded(server, texts, "harp river") == by_words
    assert ids(server.post("/search", {"collection": texts, "vector": [1, 0]})) == by_vector
    for k in (60, 0):
        scores = {
            item: sum(1 / (k + 1 + order.index(item)) for order in (by_words, by_vector) if item in order)
            for item in by_vector
        }
        answer = server.post("/search", asked | ({"fusion": {"kind": "rrf", "k": k}} if k != 60 else {}))
        assert ids(answer) == sorted(scores, key=lambda item: -scores[item])
        assert [hit["score"] for hit in answer["hits"]] == pytest.approx(sorted(scores.values(), reverse=True))
    first = server.post("/search", asked | {"k": 2})
    rest = server.post("/search", asked | {"k": 3, "cursor": first["cursor"]})
    assert ids(first) + ids(rest) == ids(server.post("/search", asked))
    wet = server.post("/search", asked | {"filter": {"wet": True}, "k": 2})
    assert ids(wet) == ["otter", "cafe"]
    like_trout = server.post("/search", {"collection": texts, "text": "harp", "id": "trout", "mode": "hybrid", "k": 2})
    assert ids(like_trout)[0] == "harp"
    assert "trout" not in ids(like_trout)


@pytest.fixture(scope="module")
def pearl(server: Server) -> str:
    """A trained collection of 300 vectors; the item with the word has the farthest one from the first."""
    vectors = clustered(300, 8, seed=21)
    items: list[dict[str, Any]] = [{"id": str(row), "vector": vector.tolist()} for row, vector in enumerate(vectors)]
    items.append({"id": "x", "text": "pearl", "vector": (-vectors[0]).tolist()})
    server.post("/ingest", {"collection": "text-pearl", "items": items})
    server.trained("text-pearl", codec={"bytes": 4}, training={"epochs": 1})
    return "text-pearl"


@pytest.mark.parametrize("plan", [{}, {"stage": "refine"}, {"index": "exact"}, {"index": "buckets"}], ids=str)
def test_what_words_found_has_its_place_among_the_vectors(server: Server, pearl: str, plan: dict[str, Any]) -> None:
    asked = {"collection": pearl, "text": "pearl", "id": "0", "mode": "hybrid", "k": 3, "oversample": 2} | plan
    hits = server.post("/search", asked)["hits"]
    assert (hits[0]["id"], len(hits)) == ("x", 3)
    # 7 vectors are near, of which item 0 is left out; the one that the word found is the seventh.
    assert hits[0]["score"] == pytest.approx(1 / 61 + 1 / 67)
    assert hits[1]["score"] == pytest.approx(1 / 61)


def test_hybrid_by_weights(server: Server, texts: str) -> None:
    asked = {"collection": texts, "text": "strings", "vector": [1, -1], "mode": "hybrid"}

    def weighted(text: float) -> list[tuple[str, float]]:
        answer = server.post("/search", asked | {"fusion": {"kind": "weights", "text": text}})
        return [(hit["id"], hit["score"]) for hit in answer["hits"]]

    assert weighted(1)[0] == ("harp", 1.0)
    assert weighted(0)[0][0] == "mute"
    cosines = dict(weighted(0))
    assert dict(weighted(0.25))["harp"] == pytest.approx(0.25 + 0.75 * cosines["harp"])
    assert dict(weighted(0.25))["mute"] == pytest.approx(0.75)


def test_hybrid_groups_go_on_where_the_lists_ended(server: Server, name: str) -> None:
    items = [{"id": f"a{n:02}", "text": "stone", "vector": [1, n / 100], "metadata": {"g": "a"}} for n in range(60)]
    items += [{"id": "b", "text": "a stone of many words", "vector": [1, 3], "metadata": {"g": "b"}}]
    items += [{"id": "c", "vector": [0, 1], "metadata": {"g": "c"}}]
    server.post("/ingest", {"collection": name, "items": items})
    asked = {"collection": name, "text": "stone", "vector": [1, 0], "mode": "hybrid", "group_by": "g", "oversample": 2}
    hits = server.post("/search", asked | {"k": 5})["hits"]
    assert [(hit["id"], hit["group"]) for hit in hits] == [("a00", "a"), ("b", "b"), ("c", "c")]
    assert hits[0]["score"] == pytest.approx(2 / 61)
    assert hits[0]["score"] > hits[1]["score"] > hits[2]["score"]
    by_weights = server.client.post("/search", json=asked | {"fusion": {"kind": "weights"}})
    problem(by_weights, 422, "fusion", "from group to group")


def test_hybrid_encodes_its_text_where_no_vector_is_given(server: Server, name: str) -> None:
    server.post("/ingest", {"collection": name, "items": [{"id": i, "text": text} for i, text in TEXTS.items()]})
    hits = server.post("/search", {"collection": name, "text": "sleeping otter", "mode": "hybrid", "k": 4})["hits"]
    assert (hits[0]["id"], hits[0]["score"], len(hits)) == ("otter", pytest.approx(2 / 61), 4)
    without = {"collection": f"{name}-vectors", "text": "trout", "mode": "hybrid"}
    server.post("/ingest", {"collection": without["collection"], "items": [{"id": "a", "vector": [1, 0]}]})
    problem(server.client.post("/search", json=without), 422, "text", "takes vectors only")
    assert worded(server, without["collection"], "trout") == []


def test_a_snippet_shows_the_words_and_is_safe_html(server: Server, texts: str) -> None:
    asked = {"collection": texts, "text": "hands", "vector": [1, 0], "mode": "hybrid", "include": ["snippet"]}
    snippets = {hit["id"]: hit["snippet"] for hit in server.post("/search", asked)["hits"]}
    assert snippets["otter"] == "A river otter holds <b>hands</b> while it is sleeping"
    assert snippets["harp"] == "A harp has 47 strings &lt;b&gt;&amp; no <b>hands</b>&lt;/b"  # it ends with a word
    assert snippets["cafe"] == "The café by the river"
    assert snippets["mute"] is None
    long = {"id": "long", "text": "mud " * 500 + "a lone <pearl> " + "mud " * 500, "vector": [1, 9]}
    server.post("/ingest", {"collection": texts, "items": [long]})
    (hit,) = server.post("/search", {**asked, "text": "pearls", "mode": "text", "vector": None})["hits"]
    assert "lone &lt;<b>pearl</b>&gt; mud" in hit["snippet"]
    assert len(hit["snippet"]) < 300
    assert hit["text"] is None


@pytest.mark.parametrize(
    ("more", "field", "words"),
    [
        ({"text": None}, "text", "looks for the words"),
        ({"text": None, "mode": "hybrid", "vector": [1, 0]}, "text", "looks for the words"),
        ({"vector": [1, 0]}, "vector", "mode hybrid"),
        ({"id": "otter"}, "id", "mode hybrid"),
        ({"positive": [{"id": "otter"}]}, "positive", "mode hybrid"),
        ({"stage": "refine"}, "stage", "words alone"),
        ({"index": "exact"}, "index", "no vectors"),
        ({"explain": True}, "explain", "words alone"),
        ({"fusion": {"kind": "rrf"}}, "fusion", "two lists"),
        ({"mode": "hybrid", "fusion": {"kind": "weights", "text": 2}}, "fusion.text", "less than or equal to 1"),
        ({"mode": "hybrid", "fusion": {"kind": "rrf", "text": 1}}, "fusion.text", "not permitted"),
        ({"mode": "hybrid", "fusion": {"kind": "sum"}}, "fusion.kind", "there is no kind 'sum'"),
        ({"mode": "hybrid", "vector": [1, 0], "id": "otter"}, "text", "exactly one of"),
        ({"mode": "hybrid", "stage": "shortlist"}, "stage", "refine at least"),
        ({"mode": "words"}, "mode", "'hybrid'"),
        ({"mode": "vector", "text": None, "id": "otter", "include": ["snippet"]}, "text", "a snippet looks"),
    ],
    ids=str,
)
def test_what_a_mode_has_no_use_for_is_named(server: Server, more: Any, field: str, words: str) -> None:
    if server.client.get("/collections/text-refused").status_code == 404:
        ingest_texts(server, "text-refused")
    asked = {"collection": "text-refused", "text": "river", "mode": "text"} | more
    problem(server.client.post("/search", json=asked), 422, field, words)
    problem(server.client.post("/search", json={"queries": [asked]}), 422, f"queries[0].{field}", words)


def test_other_processes_find_and_filter_the_same(
    new_server: Callable[..., Server], database_url: str, name: str
) -> None:
    first = new_server(DATABASE_URL=database_url)
    ingest_texts(first, name)
    assert worded(first, name, "river spots") == ["trout", "cafe", "otter"]
    second = new_server(DATABASE_URL=database_url)  # as one that starts again
    assert worded(second, name, "river spots") == ["trout", "cafe", "otter"]
    first.post("/ingest", {"collection": name, "items": [{"id": "otter", "text": "spots", "vector": [1, 0]}]})
    seq = first.post(f"/collections/{name}/items/delete", {"ids": ["cafe"]})["seq"]
    assert set(worded(second, name, "river spots", min_seq=seq)) == {"otter", "trout"}
    assert set(worded(first, name, "river spots")) == {"otter", "trout"}
    assert worded(second, name, "river spots", filter={"wet": True}) == ["trout"]
    animals = f"{name}-animals"
    ingest_animals(first, animals)
    assert chosen(second, animals, {"legs": 2}) == ["wren", "swift"]
    first.client.patch(f"/collections/{animals}/items/rock", json={"metadata": {"legs": 2}})
    seq = first.post(f"/collections/{animals}/items/delete", {"filter": {"migrates": True}})["seq"]
    assert chosen(second, animals, {"legs": 2}, min_seq=seq) == ["wren", "rock"]
    assert second.post(f"/collections/{animals}/items/count", {"filter": {"legs": 2}}) == {"count": 2}
