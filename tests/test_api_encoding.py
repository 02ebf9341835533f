"""A collection's encoder and codec used from outside: as OpenAI's API, and as codes for an index elsewhere."""

import base64
from typing import Any

import faiss
import numpy as np
import psycopg
from typer.testing import CliRunner

from service.cli import app
from tests.conftest import Server, clustered
from tests.postgres import Postgres
from tests.test_api_problems import problem


def trained(server: Server, name: str, **codec: Any) -> Any:
    vectors = clustered(300, 8, seed=4)
    items = [{"id": str(row), "vector": vector.tolist()} for row, vector in enumerate(vectors)]
    server.post("/ingest", {"collection": name, "items": items})
    return vectors, server.trained(name, codec=codec, training={"epochs": 1})["generation"]


def test_codes_go_out_and_come_back_as_the_vectors_that_searches_rank(server: Server, name: str) -> None:
    vectors, generation = trained(server, name, bytes=4)
    given = [vector.tolist() for vector in vectors[:20]]
    answer = server.post(f"/collections/{name}/encode", {"vectors": given})
    assert (answer["generation"], answer["code_bytes"], len(set(answer["codes"]))) == (generation, 4, 20)
    decoded = server.post(f"/collections/{name}/decode", {"codes": answer["codes"]})
    assert decoded["generation"] == generation
    back = np.array(decoded["vectors"])
    cosines = (back @ vectors[0]) / np.linalg.norm(back, axis=1) / np.linalg.norm(vectors[0])
    asked = {"collection": name, "vector": given[0], "k": 300, "stage": "refine"}
    scores = {hit["id"]: hit["score"] for hit in server.post("/search", asked)["hits"]}
    np.testing.assert_allclose([scores[str(row)] for row in range(20)], cosines, atol=1e-4)


def test_a_copy_in_pgvector_is_asked_with_what_encode_gives(server: Server, name: str, postgres: Postgres) -> None:
    vectors, _ = trained(server, name, bytes=4)
    url = postgres.new_database()
    command = ["export", name, "--to", "pgvector", "--target", url, "--table", "there", "--data-dir", server.data_dir]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
        done = CliRunner().invoke(app, [str(one) for one in command])
        assert done.stdout == "300 rows written, all anew, as of seq 300, to 'there' by pgvector\n", done.output
        asked = [(vectors[row] + 0.1).tolist() for row in range(10)]
        body = {"vectors": asked, "format": "pgvector"}
        for vector, literal in zip(asked, server.post(f"/collections/{name}/encode", body)["codes"], strict=True):
            statement = "SELECT id FROM there ORDER BY code <-> %s, row_id LIMIT 10"
            found = [one for (one,) in connection.execute(statement, [literal]).fetchall()]
            plan = {"collection": name, "k": 10, "stage": "shortlist"}
            hits = server.post("/search", plan | {"vector": vector})["hits"]
            assert found == [hit["id"] for hit in hits]


def test_bits_are_those_that_the_binary_codec_compares(server: Server, name: str) -> None:
    vectors, _ = trained(server, name, kind="binary", bytes=2)
    url, body = f"/collections/{name}/encode", {"vectors": [vector.tolist() for vector in vectors[:5]]}
    packed = server.post(url, body)["codes"]
    bits = server.post(url, body | {"format": "bits"})["codes"]
    assert server.post(url, body | {"format": "pgvector"})["codes"] == bits
    for one, other in zip(packed, bits, strict=True):
        raw = np.frombuffer(base64.b64decode(one), np.uint8)
        assert other == "".join(str(byte >> bit & 1) for byte in raw.tolist() for bit in range(8))


def test_codes_are_searched_by_another_faiss_and_by_pgvectors_bit(
    server: Server, name: str, postgres: Postgres
) -> None:
    vectors, _ = trained(server, name, kind="binary", bytes=2)
    url, body = f"/collections/{name}/encode", {"vectors": vectors.tolist()}
    codes = np.stack([np.frombuffer(base64.b64decode(code), np.uint8) for code in server.post(url, body)["codes"]])
    index = faiss.IndexBinaryFlat(16)
    index.add(codes)
    near, _ = index.search(codes[:5], 300)
    bits = server.post(url, body | {"format": "bits"})["codes"]
    with psycopg.connect(postgres.new_database(), autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute("CREATE TABLE codes (id int PRIMARY KEY, code bit(16))")
        connection.cursor().executemany("INSERT INTO codes VALUES (%s, %s::bit(16))", list(enumerate(bits)))
        for row in range(5):
            statement = "SELECT code <~> %s::bit(16) FROM codes ORDER BY 1"
            distances = [one for (one,) in connection.execute(statement, [bits[row]]).fetchall()]
            assert distances == near[row].tolist()


def test_with_their_errors_decoded_vectors_rank_in_another_faiss_as_the_stage_refine_does(
    server: Server, name: str
) -> None:
    server.post("/collections", {"name": name, "dimension": 8, "metric": "l2"}, 201)
    vectors, _ = trained(server, name, kind="residual", bytes=8, beam=1)
    given = vectors.tolist()
    codes = server.post(f"/collections/{name}/encode", {"vectors": given})["codes"]
    decoded = server.post(f"/collections/{name}/decode", {"codes": codes})
    index = faiss.IndexFlatL2(9)
    index.add(np.column_stack((decoded["vectors"], np.sqrt(decoded["errors"]))).astype(np.float32))
    assert max(decoded["errors"]) > 0.01, "or nothing would be seen of them"
    scores, _ = index.search(np.pad(vectors[:3], ((0, 0), (0, 1))), 300)
    for row in range(3):
        asked = {"collection": name, "vector": given[row], "k": 300, "stage": "refine"}
        hits = server.post("/search", asked)["hits"]
        np.testing.assert_allclose([hit["score"] for hit in hits], -scores[row], rtol=1e-4, atol=1e-4)


def test_decoded_vectors_rank_in_another_faiss_as_the_stage_refine_does(server: Server, name: str) -> None:
    vectors, _ = trained(server, name, kind="residual", bytes=3, beam=1)
    given = vectors.tolist()
    codes = server.post(f"/collections/{name}/encode", {"vectors": given})["codes"]
    decoded = np.array(server.post(f"/collections/{name}/decode", {"codes": codes})["vectors"], np.float32)
    index = faiss.IndexFlatIP(8)
    index.add(decoded / np.linalg.norm(decoded, axis=1, keepdims=True))
    scores, _ = index.search(vectors[:3] / np.linalg.norm(vectors[:3], axis=1, keepdims=True), 10)
    for row in range(3):
        asked = {"collection": name, "vector": given[row], "k": 10, "stage": "refine"}
        hits = server.post("/search", asked)["hits"]
        np.testing.assert_allclose([hit["score"] for hit in hits], scores[row], atol=1e-4)


def test_embeddings_are_those_that_items_are_found_by(server: Server, name: str) -> None:
    texts = ["a dog barks at the postman", "rain falls on the sea"]
    server.post("/ingest", {"collection": name, "items": [{"id": text, "text": text} for text in texts]})
    answer = server.post("/v1/embeddings", {"model": name, "input": texts, "user": "ignored"})
    assert (answer["object"], answer["model"], [one["index"] for one in answer["data"]]) == ("list", name, [0, 1])
    for text, one in zip(texts, answer["data"], strict=True):
        (hit,) = server.post("/search", {"collection": name, "vector": one["embedding"], "k": 1})["hits"]
        assert (hit["id"], round(hit["score"], 5)) == (text, 1)
    short = server.post("/v1/embeddings", {"model": name, "input": texts[0], "encoding_format": "base64"})
    packed = np.frombuffer(base64.b64decode(short["data"][0]["embedding"]), "<f4")
    np.testing.assert_array_equal(packed, np.array(answer["data"][0]["embedding"], np.float32))


def test_what_cannot_be_encoded_is_named(server: Server, name: str) -> None:
    server.post("/collections", {"name": name, "dimension": 2}, 201)
    url = f"/collections/{name}"
    vector = {"vectors": [[1, 0]]}
    problem(server.client.post(f"{url}/encode", json=vector), 409, None, "no codec yet")
    problem(server.client.post(f"{url}/decode", json={"codes": ["AAAA"]}), 409, None, "no codec yet")
    problem(server.client.post(f"{url}/encode", json={}), 422, "texts", "either texts or vectors")
    problem(server.client.post(f"{url}/encode", json=vector | {"texts": ["a"]}), 422, "texts", "either")
    problem(server.client.post(f"{url}/encode", json={"vectors": []}), 422, "vectors", "empty")
    problem(server.client.post(f"{url}/encode", json={"texts": ["a"]}), 422, "texts[0]", "takes vectors only")
    resized = {"model": "default", "input": "a", "dimensions": 3}
    server.post("/ingest", {"items": [{"id": "a", "text": "a text"}]})
    problem(server.client.post("/v1/embeddings", json=resized), 422, "dimensions", "of this collection have")
    embed = server.client.post("/v1/embeddings", json={"model": f"{name}-no", "input": "a"})
    problem(embed, 404, "model", f"{name}-no")
    problem(server.client.post("/v1/embeddings", json={"model": name, "input": []}), 422, "input", "empty")
    other = f"{name}-trained"
    trained(server, other, bytes=4)
    url = f"/collections/{other}"
    problem(server.client.post(f"{url}/encode", json={"vectors": [[1] * 8, [1, 0]]}), 422, "vectors[1]", "has 2")
    problem(server.client.post(f"{url}/decode", json={"codes": ["AAAA"]}), 422, "codes[0]", "have 4 bytes", "has 3")
    problem(server.client.post(f"{url}/decode", json={"codes": ["ü"]}), 422, "codes[0]", "")
