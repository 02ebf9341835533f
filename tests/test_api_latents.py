"""What sparse codes say of themselves: why a hit was found, what latents stand for, and searches steered by them."""

from typing import Any

import numpy as np
import pytest

from tests.conftest import Server
from tests.test_api_problems import problem

TOPICS = {
    "sea": ["whale", "coral", "tide", "harbour", "sailor", "reef"],
    "music": ["violin", "melody", "chord", "rhythm", "opera", "drum"],
    "garden": ["tulip", "compost", "hedge", "pruning", "orchard", "soil"],
}
WORDS = [word for words in TOPICS.values() for word in words]


def bag(text: str) -> list[float]:
    """The words of a text, one number each."""
    return [float(word in text) for word in WORDS]


@pytest.fixture(scope="module")
def topics(server: Server) -> str:
    """150 texts of four words each, all of one topic, as bags of words under a sparse codec."""
    rng = np.random.default_rng(0)
    texts = [(topic, " ".join(rng.permutation(words)[:4])) for topic, words in TOPICS.items() for _ in range(50)]
    items = [
        {"id": f"{topic}-{n}", "text": text, "vector": bag(text), "metadata": {"topic": topic}}
        for n, (topic, text) in enumerate(texts)
    ]
    server.post("/ingest", {"collection": "latents", "items": items})
    codec = {"kind": "sparse", "latents": 48, "k": 4}
    server.trained("latents", codec=codec, training={"epochs": 60})
    return "latents"


def topic_of(latent: Any) -> str | None:
    """The topic that all words of a label belong to."""
    words = set(latent["label"].split(", "))
    return next((topic for topic, own in TOPICS.items() if words <= set(own)), None)


def test_labels_are_the_words_of_a_latents_items(server: Server, topics: str) -> None:
    listed = server.post(f"/collections/{topics}/latents", {"limit": 10})["latents"]
    assert [one["items"] for one in listed] == sorted((one["items"] for one in listed), reverse=True)
    assert 0 < listed[0]["items"] <= 150
    assert [one["label"] for one in listed if topic_of(one) is None] == []
    sea = server.post(f"/collections/{topics}/latents", {"limit": 3, "filter": {"topic": "sea"}})["latents"]
    assert [topic_of(one) for one in sea] == ["sea"] * 3
    assert all(one["items"] <= 50 for one in sea)


def test_an_explanation_adds_up_to_the_score(server: Server, topics: str) -> None:
    asked = {"collection": topics, "vector": bag("whale reef"), "k": 5, "stage": "refine", "explain": True}
    answer = server.post("/search", asked)
    for hit in answer["hits"]:
        why = hit["explanation"]
        shares = [part["share"] for part in why["parts"]]
        assert sum(shares) + why["rest"] == pytest.approx(hit["score"], abs=1e-4)
        assert why["score"] == pytest.approx(hit["score"], abs=1e-4)
        assert [abs(share) for share in shares] == sorted((abs(share) for share in shares), reverse=True)
        assert 1 <= len(shares) <= 4
        assert topic_of(why["parts"][0]) == "sea"
    assert server.post("/search", asked | {"explain": False})["hits"][0]["explanation"] is None
    exact = server.post("/search", asked | {"stage": "rescore"})["hits"][0]
    assert exact["explanation"]["score"] != pytest.approx(exact["score"], abs=1e-4)


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_explanations_under_other_metrics(server: Server, name: str, metric: str) -> None:
    vectors = np.random.default_rng(1).standard_normal((200, 8))
    server.post("/collections", {"name": name, "dimension": 8, "metric": metric}, 201)
    items = [{"id": str(row), "vector": vector.tolist()} for row, vector in enumerate(vectors)]
    server.post("/ingest", {"collection": name, "items": items})
    server.trained(name, codec={"kind": "sparse", "latents": 16, "k": 3}, training={"epochs": 1})
    asked = {"collection": name, "vector": vectors[0].tolist(), "k": 5, "stage": "refine", "explain": True}
    for hit in server.post("/search", asked)["hits"]:
        assert hit["explanation"]["score"] == pytest.approx(hit["score"], rel=1e-3, abs=1e-3)
        assert {part["label"] for part in hit["explanation"]["parts"]} == {""}  # items without text


def test_latents_steer_a_query(server: Server, topics: str) -> None:
    asked = {"collection": topics, "vector": bag("whale melody"), "k": 40}

    def topics_of(**steering: Any) -> set[str]:
        return {hit["id"].split("-")[0] for hit in server.post("/search", asked | steering)["hits"]}

    assert topics_of() == {"sea", "music"}
    listed = server.post(f"/collections/{topics}/latents", {"limit": 48})["latents"]
    sea = {str(one["latent"]): 1.0 for one in listed if topic_of(one) == "sea"}
    assert topics_of(suppress=sea, k=10) == {"music"}
    assert topics_of(boost=sea, k=10) == {"sea"}
    wrong: list[tuple[dict[str, Any], str]] = [({"boost": {"48": 1}}, "boost"), ({"suppress": {"-1": 1}}, "suppress")]
    for more, field in wrong:
        problem(server.client.post("/search", json=asked | more), 422, field, "0 to 47")
    problem(server.client.post("/search", json=asked | {"boost": {"1": 0}}), 422, "boost.1", "greater than 0")


def test_other_codecs_have_no_latents(server: Server, name: str) -> None:
    server.post("/ingest", {"collection": name, "items": [{"id": "a", "vector": [1, 0]}]})
    asked = {"collection": name, "vector": [1, 0]}
    wrong: list[tuple[dict[str, Any], str]] = [({"explain": True}, "explain"), ({"boost": {"1": 1}}, "boost")]
    for more, field in wrong:
        problem(server.client.post("/search", json=asked | more), 409, field, "sparse codec")
    problem(server.client.post(f"/collections/{name}/latents", json={}), 409, None, "sparse codec")
