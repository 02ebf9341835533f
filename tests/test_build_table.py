"""A table of PostgreSQL is built as the same rows in a file are; what is read is one moment of it."""

from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from service.builds.generation import Generation
from service.builds.table import Table, numbers
from service.errors import BuildError
from tests.build_files import DIM, VECTORS, N, ndjson
from tests.postgres import Postgres
from tests.test_build import FAST, built, files

pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def url(postgres: Postgres) -> str:
    """A database with the vectors in three types, and text ids."""
    url = postgres.new_database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute(f'CREATE TABLE words (id text PRIMARY KEY, vector real[], v vector({DIM}), "d d" float8[])')
        with connection.cursor().copy('COPY words (id, vector, v, "d d") FROM STDIN') as copy:
            for row in np.random.default_rng(0).permutation(N).tolist():  # not in the order of the ids
                given = [float(one) for one in VECTORS[row]]
                copy.write_row((f"{row:04}", given, str(given), given))
    return url


def table(url: str, name: str = "words") -> str:
    return f"{url}&table={name}"


def codes(folder: Path) -> dict[str, bytes]:
    generation = Generation.open(folder)
    ids = (one for shard in generation.shards for one in shard.ids())
    return dict(zip(ids, (row.tobytes() for shard in generation.shards for row in shard.codes()), strict=True))


@pytest.mark.parametrize("column", ["vector", "v", "d d"])
def test_its_codes_are_those_of_a_file(url: str, tmp_path: Path, column: str) -> None:
    built(ndjson(tmp_path / "v.ndjson", VECTORS), "--output", tmp_path / "file", *FAST)
    told = built(
        table(url),
        "--vector-field",
        column,
        "--output",
        tmp_path / "out",
        "--codec-from",
        tmp_path / "file",
        *FAST[-4:],
    )
    assert (told["items"], told["rejected"]) == (N, 0)
    expected = {f"{int(one):04}": code for one, code in codes(tmp_path / "file").items()}
    assert codes(tmp_path / "out") == expected
    assert list(codes(tmp_path / "out")) == sorted(expected)
    assert not (tmp_path / "out" / "copies").exists()


def test_only_what_is_new_is_encoded(url: str, tmp_path: Path) -> None:
    out = ("--output", tmp_path / "out", *FAST)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE growing AS SELECT id, vector FROM words ORDER BY id LIMIT 700")
        built(table(url, "growing"), *out)
        assert built(table(url, "growing"), *out)["encoded"] == 0
        connection.execute("INSERT INTO growing SELECT id, vector FROM words ORDER BY id OFFSET 700 LIMIT 100")
        told = built(table(url, "growing"), *out)
        assert (told["items"], told["encoded"], told["codec"]) == (800, 100, "kept")
        connection.execute("UPDATE growing SET vector = vector[2:] || vector[1:1] WHERE id = '0450'")
        assert built(table(url, "growing"), *out)["encoded"] == 300  # the shard of 300 that it stands in
        connection.execute("DELETE FROM growing WHERE id < '0300'")
        assert built(table(url, "growing"), *out)["encoded"] == 0
    place, _ = Generation.open(tmp_path / "out").place(0)
    assert place.endswith("?table=growing#0300..0599")


def test_rows_that_cannot_be_kept_are_rejected(url: str, tmp_path: Path) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE mixed AS SELECT id, vector FROM words")
        connection.execute("UPDATE mixed SET vector = NULL WHERE id = '0001'")
        connection.execute("UPDATE mixed SET vector[3] = NULL WHERE id = '0002'")
        connection.execute("UPDATE mixed SET vector = vector[1:5] WHERE id = '0003'")
        connection.execute("UPDATE mixed SET id = NULL WHERE id = '0004'")
        connection.execute("UPDATE mixed SET vector[1] = 'NaN' WHERE id = '0005'")
        connection.execute("UPDATE mixed SET id = '0007' WHERE id = '0006'")
    told = built(table(url, "mixed"), "--output", tmp_path / "out", *FAST, code=3)
    assert (told["items"], told["rejected"]) == (N - 6, 6)
    kept = codes(tmp_path / "out")
    assert "0007" in kept
    assert not {"0001", "0002", "0003", "0004", "0005", "0006"} & set(kept)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("nowhere", (), "there is no table 'nowhere'"),
        ("words", ("--id-field", "key"), "has no column 'key'; it has id, vector, v, d d"),
        ("words", ("--vector-field", "id"), "column 'id' holds text"),
        ('words"; DROP TABLE words; --', (), "there is no table"),
        ("", (), "ends in ?table=NAME"),
    ],
)
def test_what_is_wrong_is_named(url: str, tmp_path: Path, name: str, options: tuple[str, ...], said: str) -> None:
    assert said in built(table(url, name), *options, "--output", tmp_path / "out", *FAST, code=1)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM words").fetchone() == (N,)


def test_a_password_is_in_no_file_and_no_message(url: str, postgres: Postgres, tmp_path: Path) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS reader")
        connection.execute("CREATE ROLE reader LOGIN PASSWORD 'pass-w0rd'")
    owned = url.replace("postgres:@", "reader:pass-w0rd@")
    assert owned != url
    said = built(table(owned), "--output", tmp_path / "out", *FAST, code=1)
    assert "permission denied" in said
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("GRANT SELECT ON words TO reader")
    built(table(owned), "--output", tmp_path / "out", *FAST)
    for text in (said.encode(), *files(tmp_path / "out").values(), repr(Table.of(table(owned))).encode()):
        assert b"pass-w0rd" not in text
    gone = built("postgresql://u:pass-w0rd@127.0.0.1:1/x?table=t", "--output", tmp_path / "out", *FAST, code=1)
    assert "postgresql://127.0.0.1:1/x?table=t cannot be read" in gone
    assert "pass-w0rd" not in gone
    with pytest.raises(BuildError, match="no URL of a PostgreSQL database"):
        Table.of("postgresql://h/d?nonsense=1&table=t")


def test_numbers_of_every_type(url: str) -> None:
    def sent(expression: str) -> bytes:
        with psycopg.connect(url) as connection, connection.cursor(binary=True) as cursor:
            found: Any = cursor.execute(f"SELECT {expression}::bytea".encode()).fetchone()
            return bytes(found[0])

    for kind, expression in {
        "_float4": "array_send('{1.5,-2}'::real[])",
        "_float8": "array_send('{1.5,-2}'::float8[])",
        "_int2": "array_send('{1,-2}'::int2[])",
        "_int8": "array_send('{1,-2}'::int8[])",
        "vector": "vector_send('[1.5,-2]')",
        "halfvec": "halfvec_send('[1.5,-2]')",
    }.items():
        assert numbers(sent(expression), kind).tolist() == [1.0 if "int" in kind else 1.5, -2.0]
    assert np.isnan(numbers(sent("array_send('{NULL,2}'::real[])"), "_float4")).tolist() == [True, False]
    assert np.isinf(numbers(sent("array_send('{1e300}'::float8[])"), "_float8")).all()
    assert len(numbers(sent("array_send('{}'::real[])"), "_float4")) == 0
