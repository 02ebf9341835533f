"""POST /search as NDJSON: a line for each question, in order, whatever is wrong with one of them."""

import json
from typing import Any

import numpy as np
import pytest

from service.client import Client, ServerRefused
from tests.conftest import Server, clustered
from tests.test_api_problems import problem

NDJSON = {"content-type": "application/x-ndjson"}


def filled(server: Server, name: str) -> Any:
    vectors = clustered(300, 8, seed=4)
    items = [{"id": str(row), "vector": vector.tolist()} for row, vector in enumerate(vectors)]
    server.post("/ingest", {"collection": name, "items": items})
    return vectors


def test_thousands_of_questions_have_the_answers_of_one_each(server: Server, name: str) -> None:
    vectors = filled(server, name)
    queries = [{"vector": vectors[n % 300].tolist(), "k": 1 + n % 3} for n in range(2_500)]
    with Client(server.url) as client:
        answers = list(client.search_ndjson(name, queries))
    assert len(answers) == 2_500
    for n, answer in enumerate(answers):
        assert (answer["hits"][0]["id"], len(answer["hits"]), answer["partial"]) == (str(n % 300), 1 + n % 3, False)
    alone = server.post("/search", {"collection": name, **queries[7]})
    assert answers[7]["hits"] == alone["hits"]


def test_a_wrong_line_has_its_problem_and_the_others_their_answers(server: Server, name: str) -> None:
    filled(server, name)
    lines = [
        json.dumps({"id": "7", "k": 1}),
        "{",
        json.dumps({"vector": [1, 2]}),
        "",
        json.dumps({"id": "none"}),
        json.dumps({"vector": [1] * 8, "k": 0}),
        json.dumps({"collection": f"{name}-no", "vector": [1] * 8}),
        json.dumps({"id": "8", "k": 1}),
    ]
    answer = server.client.post(f"/search?collection={name}", content="\n".join(lines), headers=NDJSON)
    assert (answer.status_code, answer.headers["content-type"]) == (200, NDJSON["content-type"])
    told = [json.loads(line) for line in answer.text.splitlines()]
    assert [one.get("status") for one in told] == [None, 422, 422, 404, 422, 404, None]
    assert [one.get("field") for one in told] == [None, "body", "vector", "id", "k", "collection", None]
    assert [len(one["hits"]) for one in (told[0], told[-1])] == [1, 1]


def test_nothing_to_answer_and_bodies_that_are_too_long(server: Server, name: str) -> None:
    problem(server.client.post("/search", content="\n\n", headers=NDJSON), 422, "body", "no line with a question")
    line = json.dumps({"vector": np.zeros(2_000).tolist()}) + "\n"
    long = server.client.post("/search", content=line * 7_000, headers=NDJSON)
    problem(long, 413, "body", "longer than")
    with Client(server.url) as client, pytest.raises(ServerRefused, match="no line with a question") as refused:
        list(client.search_ndjson(name, []))
    assert (refused.value.status, refused.value.field) == (422, "body")
