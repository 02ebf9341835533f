"""Codes copied to a real PostgreSQL with pgvector: its ten nearest are Codewell's, and readers never see a half."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from psycopg import sql
from sqlalchemy.orm import Session
from typer.testing import CliRunner, Result

from models import (
    BinaryConfig,
    Codec,
    DenseConfig,
    LatentType,
    Metric,
    ResidualConfig,
    SparseConfig,
    VariationalConfig,
    Vectors,
)
from service.cli import app
from service.engines import source
from service.engines.column import Column, Distance, Form, Pairs, Type, column_of
from service.engines.mirror import Mirror
from service.engines.pgvector import PgVector, binary
from service.errors import CollectionNotFound, EngineAway, EngineRefused, InvalidInput, NotTrained
from service.item import NewItem
from service.search import Stage
from service.store import store
from service.store.database import Database
from service.text.chunking import Chunking
from tests.conftest import started_codec
from tests.engine_collections import DIM, QUERIES, VECTORS, Asked, change, check_tens, publish, trained
from tests.postgres import Postgres
from tests.test_chunks import opened
from tests.test_collection import catalog_of

OPERATORS = {Distance.L2: "<->", Distance.IP: "<#>", Distance.HAMMING: "<~>"}
DENSE = DenseConfig(8, LatentType.INT8, decoder_hidden=(12,))


@pytest.fixture
def url(postgres: Postgres) -> str:
    """A database with the extension."""
    url = postgres.new_database()
    rows(url, "CREATE EXTENSION vector")
    return url


def rows(url: str, statement: str, *values: object) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(sql.SQL(statement), values or None)
        return cursor.fetchall() if cursor.description else []


def tens(url: str, table: str = "docs") -> Asked:
    """How a user asks: see docs/engines.md."""

    def asked(column: Column, queries: Vectors) -> list[list[str]]:
        type_ = {Type.DENSE: "halfvec", Type.BITS: f"bit({column.width})", Type.SPARSE: "sparsevec"}[column.type]
        order = f"code {OPERATORS[column.distance]} %s::{type_}, row_id"
        statement = f"SELECT id FROM {table} ORDER BY {order} LIMIT 10"  # noqa: S608
        with psycopg.connect(url) as connection:
            cursors = [connection.execute(statement.encode(), [literal]) for literal in column.literals(queries)]
            return [[one for (one,) in cursor.fetchall()] for cursor in cursors]

    return asked


Copy = Callable[..., Mirror]


@pytest.fixture
def copy_of(url: str) -> Iterator[Copy]:
    """Makes mirrors of the collection `docs` of a database, whose connections end with the test."""
    engines: list[PgVector] = []

    def made(
        database: Database, form: Form = Form.CODES, table: str = "docs", to: str = url, *, index: bool = False
    ) -> Mirror:
        engines.append(PgVector(to, table, index=index))
        return Mirror(database, "docs", engines[-1], form)

    yield made
    for engine in engines:
        engine.close()


def codec(config: Any, metric: Metric = Metric.COSINE) -> Codec:
    return started_codec(config, metric, DIM)


CASES = [
    (DENSE, Metric.COSINE, Form.CODES, Stage.SHORTLIST, "halfvec(8)", 8 + 2 * 8),
    (DENSE, Metric.COSINE, Form.VECTORS, Stage.REFINE, "halfvec(16)", 8 + 2 * 16),
    (DENSE, Metric.L2, Form.CODES, Stage.SHORTLIST, "halfvec(8)", 8 + 2 * 8),
    (DENSE, Metric.IP, Form.VECTORS, Stage.REFINE, "halfvec(16)", 8 + 2 * 16),
    (DenseConfig(8, LatentType.INT8, decoder_hidden=()), Metric.IP, Form.CODES, Stage.REFINE, "halfvec(8)", 24),
    (VariationalConfig(8, LatentType.FLOAT16), Metric.COSINE, Form.CODES, Stage.SHORTLIST, "halfvec(8)", 24),
    (SparseConfig(64, 4), Metric.COSINE, Form.CODES, Stage.REFINE, "sparsevec(65)", 16 + 8 * 5),
    (SparseConfig(64, 4), Metric.IP, Form.CODES, Stage.REFINE, "sparsevec(65)", 16 + 8 * 5),
    (SparseConfig(64, 4), Metric.L2, Form.CODES, Stage.REFINE, "sparsevec(65)", 16 + 8 * 5),
    (ResidualConfig(4), Metric.L2, Form.VECTORS, Stage.REFINE, "halfvec(16)", 8 + 2 * 16),
    (ResidualConfig(7, error_byte=True), Metric.L2, Form.VECTORS, Stage.REFINE, "halfvec(17)", 8 + 2 * 17),
]


@pytest.mark.parametrize(
    ("config", "metric", "form", "stage", "type_", "size"),
    CASES,
    ids=[f"{type(case[0]).__name__}-{case[1]}-{case[2]}-{case[3]}" for case in CASES],
)
def test_its_ten_nearest_are_codewells_own(
    config: Any,
    metric: Metric,
    form: Form,
    stage: Stage,
    type_: str,
    size: int,
    url: str,
    copy_of: Copy,
    tmp_path: Path,
) -> None:
    with trained(tmp_path, codec(config, metric)) as (database, collection):
        copy = copy_of(database, form)
        assert copy.step() == (True, 400, 0, 400)
        check_tens(collection, form, stage, tens(url))
        of_code = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'docs'::regclass"
        assert rows(url, f"{of_code} AND attname = 'code'") == [(type_,)]
        # A row's header of the type is 4 bytes, or 1 where the value is short.
        assert rows(url, "SELECT max(pg_column_size(code)) FROM docs") == [(size - 3,)]
        tags = change(collection)
        step = copy.step()
        assert (step.whole, step.gone, step.seq) == (False, 58 + 57, collection.follower.catch_up().applied_seq)
        assert {one: held["tag"] for one, held in rows(url, "SELECT id, metadata FROM docs")} == tags
        check_tens(collection, form, stage, tens(url))
        assert copy.step() == (False, 0, 0, step.seq)


def test_bits_are_ordered_by_those_that_differ(url: str, copy_of: Copy, tmp_path: Path) -> None:
    with trained(tmp_path, codec(BinaryConfig(32))) as (database, collection):
        copy = copy_of(database)
        copy.step()
        tags = change(collection)
        copy.step()
        kept = collection.follower.catch_up().codec.encode(
            np.stack([VECTORS[v + 500 if v < 400 and v % 7 == 1 else v] for v in range(450)])
        )
        # Items in the order of their rows: those that stayed, those that were replaced, those that are new.
        order = [v for v in range(400) if v % 7 > 1] + list(range(1, 400, 7)) + list(range(400, 450))
        assert {f"i{v}" for v in order} == tags.keys()
        found = tens(url)(column_of(collection.follower.view().codec, Form.CODES), QUERIES)
        for ten, code in zip(found, collection.encode(list(QUERIES), "vectors")[1], strict=True):
            differ = np.unpackbits(kept[order] ^ code, axis=1).sum(axis=1)
            assert ten == [f"i{order[place]}" for place in np.argsort(differ, kind="stable")[:10]]
        (size,) = rows(url, "SELECT max(pg_column_size(code)) FROM docs")
        assert size == (8 + 4 - 3,)


class Cutting:
    """Ends the copying connection before the second page is read, and looks what a reader sees then."""

    def __init__(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[Any] = []
        self.pages: int | None = None
        """Read since it is to cut; none where it is not."""
        for name in ("items_after", "changes_after"):
            monkeypatch.setattr(store, name, self._around(url, getattr(store, name)))
        monkeypatch.setattr(source, "PAGE", 100)

    def _around(self, url: str, read: Callable[..., Any]) -> Callable[..., Any]:
        def around(session: Session, *arguments: Any) -> Any:
            if self.pages is not None:
                self.pages += 1
            if self.pages == 2:
                self.seen.append(held(url))
                assert rows(url, CUT) == [(1,)]
            return read(session, *arguments)

        return around


CUT = (
    "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity "
    "WHERE application_name = 'codewell' AND datname = current_database()"
)


def held(url: str) -> list[Any] | None:
    """Everything in the copy; none where there is no table."""
    if rows(url, "SELECT to_regclass('docs')") == [(None,)]:
        return None
    return rows(url, "SELECT id, code::text FROM docs ORDER BY row_id")


def test_what_was_cut_off_is_not_there(
    url: str, copy_of: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first copy, then changes, then another codec: the connection goes in the middle of each."""
    first, second = codec(DENSE), codec(DenseConfig(6, LatentType.INT8, decoder_hidden=(12,)))
    with trained(tmp_path, first) as (database, collection):
        copy = copy_of(database)
        cutting = Cutting(url, monkeypatch)
        for prepare in (lambda: None, lambda: change(collection), lambda: publish(database, collection, second)):
            prepare()
            before, cutting.pages, cutting.seen = held(url), 0, []
            with pytest.raises(EngineAway, match=r"was lost: .*terminat"):
                copy.step()
            assert cutting.seen == [before], "while it is written, a reader has what was there before"
            assert held(url) == before
            cutting.pages = None
            step = copy.step()
            assert step.seq == collection.follower.catch_up().applied_seq
            check_tens(collection, Form.CODES, Stage.SHORTLIST, tens(url))
        tables = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        assert sorted(rows(url, tables)) == [("codewell_exports",), ("docs",)]
        fingerprint = "SELECT collection, fingerprint, form, seq FROM codewell_exports"
        assert rows(url, fingerprint) == [("docs", second.fingerprint, "codes", step.seq)]


def test_a_log_that_was_cut_is_made_up_for_by_a_whole_copy(url: str, copy_of: Copy, tmp_path: Path) -> None:
    with trained(tmp_path, codec(DENSE)) as (database, collection):
        copy = copy_of(database)
        copy.step()
        tags = change(collection)
        with database.writing() as session:
            row = store.found_collection(session, "docs")
            assert store.purge_changes(session, row, 10, 10_000)
        assert copy.step()[:2] == (True, len(tags))
        assert rows(url, "SELECT count(*), count(DISTINCT id) FROM docs") == [(len(tags), len(tags))]
        rows(url, "UPDATE codewell_exports SET seq = seq + 1000")  # as after a restore of an older backup
        assert copy.step().whole
        rows(url, "DROP TABLE docs")
        assert copy.step().whole
        assert copy.step() == (False, 0, 0, step_of(database))


def step_of(database: Database) -> int:
    with database.reading() as session:
        return store.found_collection(session, "docs").seq


def test_an_item_of_several_chunks_has_as_many_rows(
    url: str, copy_of: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, catalog = opened(f"sqlite:///{tmp_path / 'codewell.db'}")
    collection = catalog.create("docs", encoder="tfidf", chunking=Chunking(tokens=6, overlap=2))
    words = [f"granite otter violin w{n}" for n in range(40)]
    texts = {f"i{n}": " ".join(words[n % 7 : n % 7 + 1 + n % 4]) for n in range(60)}
    collection.ingest([NewItem(one, text, None, {"n": 1}) for one, text in texts.items()])
    publish(database, collection, started_codec(DenseConfig(8, LatentType.INT8, decoder_hidden=()), Metric.COSINE, 64))
    copy = copy_of(database)
    monkeypatch.setattr(source, "PAGE", 3)  # an item's entries in the log are on two pages
    copy.step()
    collection.ingest([NewItem(f"i{n}", " ".join(words[: n % 5 + 1]), None, {"n": 2}) for n in range(30)])
    collection.ingest([NewItem(f"i{n}", texts[f"i{n}"], None, {"n": 3}) for n in range(30, 40)])
    collection.delete([f"i{n}" for n in range(50, 60)])
    copy.step()
    with database.reading() as session:
        items = store.items_after(session, collection.id, 0, 1_000)
    expected = {(row, item.item_id, json.loads(item.metadata)["n"]) for item in items for row in item.rows}
    assert {len(item.rows) for item in items} > {1, 3}
    assert set(rows(url, "SELECT row_id, id, (metadata->>'n')::int FROM docs")) == expected
    database.close()


def test_an_index_is_made_where_one_is_asked_for(url: str, copy_of: Copy, tmp_path: Path) -> None:
    with trained(tmp_path, codec(DENSE)) as (database, collection):
        copy_of(database).step()
        copy = copy_of(database, index=True)
        collection.delete(["i3"])
        copy.step()
        indexed = (
            "SELECT count(*) FROM pg_indexes WHERE tablename = 'docs' "
            "AND indexdef LIKE '%USING hnsw (code halfvec_l2_ops)%'"
        )
        assert rows(url, indexed) == [(1,)]
        publish(database, collection, codec(SparseConfig(64, 4)))
        copy.step()
        assert rows(url, indexed.replace("halfvec_l2_ops", "sparsevec_ip_ops")) == [(1,)]
        (literal,) = column_of(collection.follower.view().codec, Form.CODES).literals(QUERIES[:1])
        with psycopg.connect(url) as connection:
            connection.execute("SET LOCAL enable_seqscan = off")
            asked = "SELECT id FROM docs ORDER BY code <#> %s::sparsevec LIMIT 10"
            plan = str(connection.execute("EXPLAIN " + asked, [literal]).fetchall())
            assert "Index Scan using" in plan
            assert len(connection.execute(asked, [literal]).fetchall()) == 10


def test_what_is_not_ours_is_left_alone(url: str, copy_of: Copy, tmp_path: Path, postgres: Postgres) -> None:
    with trained(tmp_path, codec(DENSE)) as (database, _):
        rows(url, "CREATE TABLE docs (row_id int)")
        copy = copy_of(database)
        with pytest.raises(InvalidInput, match=r'there is "docs" already, and Codewell did not make it: .*--table'):
            copy.step()
        assert rows(url, "SELECT count(*) FROM docs") == [(0,)]
        rows(url, "CREATE SCHEMA apart")
        copy = copy_of(database, table="apart.docs")
        copy.step()
        rows(url, "UPDATE apart.codewell_exports SET collection = 'another'")
        with pytest.raises(InvalidInput, match=r"the collection 'another' is copied there already: .*--table"):
            copy.step()
        copy = copy_of(database, to=postgres.new_database())
        with pytest.raises(EngineRefused, match="CREATE EXTENSION vector"):
            copy.step()
        with pytest.raises(InvalidInput, match="1 to 46 bytes; --table"):
            PgVector(url, "ä" * 24)


def test_there_have_to_be_codes_and_numbers_that_fit(url: str, copy_of: Copy, tmp_path: Path) -> None:
    database, catalog = catalog_of(tmp_path)
    collection = catalog.create("docs", dimension=DIM, metric=Metric.L2)
    with pytest.raises(NotTrained, match="no codec yet"):
        copy_of(database).step()
    with closing(PgVector(url, "t")) as engine, pytest.raises(CollectionNotFound):
        Mirror(database, "none", engine, Form.CODES).step()
    collection.ingest([NewItem(f"i{v}", None, 1e6 * VECTORS[v], {}) for v in range(300)])
    publish(database, collection, codec(DenseConfig(8, LatentType.FLOAT16, decoder_hidden=()), Metric.L2))
    with pytest.raises(InvalidInput, match="beyond 65,504"):
        copy_of(database, Form.VECTORS).step()
    assert rows(url, "SELECT to_regclass('docs')") == [(None,)]
    database.close()


@pytest.mark.parametrize("config", [ResidualConfig(4)], ids=["residual"])
def test_codes_that_no_column_compares_are_refused(config: Any) -> None:
    with pytest.raises(InvalidInput, match=r"kind residual pick codewords.* form vectors .* 32 bytes each") as refused:
        column_of(codec(config, Metric.L2), Form.CODES, "form")
    assert refused.value.field == "form"


@settings(max_examples=25)
@drawn(st.data())
def test_binary_values_are_those_that_are_written(postgres: Postgres, data: st.DataObject) -> None:
    """What COPY sends is, as PostgreSQL reads it, what a query of the same numbers says."""
    type_ = data.draw(st.sampled_from(list(Type)))
    width = 8 * data.draw(st.integers(1, 5)) if type_ is Type.BITS else data.draw(st.integers(2, 20))
    column = Written(type_, width, data)
    name = {Type.DENSE: "halfvec", Type.BITS: "bit", Type.SPARSE: "sparsevec"}[type_]
    with psycopg.connect(database_of(postgres)) as connection:
        connection.execute(f"CREATE TEMPORARY TABLE t (code {name}({width}))".encode())
        with connection.cursor().copy("COPY t FROM STDIN (FORMAT BINARY)") as copy:
            for one in binary(column, column.values(np.zeros((1, 1), np.uint8))):
                copy.write_row((one,))
        (literal,) = column.literals(np.zeros((1, 1), np.float32))
        same = connection.execute(
            f"SELECT code = %s::{name}({width}), code::text FROM t".encode(),  # noqa: S608
            [literal],
        ).fetchone()
    assert same is not None
    assert same[0], (same, literal)


_BASES: dict[int, str] = {}


def database_of(postgres: Postgres) -> str:
    if id(postgres) not in _BASES:
        _BASES[id(postgres)] = postgres.new_database()
        rows(_BASES[id(postgres)], "CREATE EXTENSION vector")
    return _BASES[id(postgres)]


class Written(Column):
    """One value that is its own query."""

    def __init__(self, type_: Type, width: int, data: st.DataObject) -> None:
        self.type = type_  # type: ignore[misc]
        self.width = width
        if type_ is Type.BITS:
            self.value: Any = np.frombuffer(data.draw(st.binary(min_size=width // 8, max_size=width // 8)), np.uint8)
        else:
            numbers = st.floats(-60_000, 60_000, width=16)
            self.value = np.array(data.draw(st.lists(numbers, min_size=width, max_size=width)), np.float16)

    def values(self, codes: Any) -> Any:
        del codes
        if self.type is Type.SPARSE:
            return Pairs(np.arange(self.width)[None], self.value.astype(np.float32)[None])
        return self.value[None]

    def queries(self, vectors: Any) -> Any:
        del vectors
        return self.value[None]


# The command


def export(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, arguments)], env={"COLUMNS": "200"})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["c"], "give either a file, or an engine by --to and --target"),
        (["c", "f.ndjson", "--to", "pgvector", "--target", "postgresql://h/n"], "give either a file"),
        (["c", "--to", "pgvector"], "--target postgresql://USER@HOST/NAME"),
        (["c", "--to", "milvus"], "--target http://HOST:19530"),
        (["c", "f.ndjson", "--follow"], "--follow"),
        (["c", "f.ndjson", "--form", "codes"], "--form"),
        (["c", "--to", "milvus", "--target", "m.db", "--index"], "make the index that you want there"),
    ],
)
def test_options_that_do_not_go_together_are_named(arguments: Sequence[str], said: str) -> None:
    done = export(*arguments)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())


def test_a_password_is_never_printed(tmp_path: Path) -> None:
    with trained(tmp_path, codec(DENSE)):
        pass
    for target, said in (
        ("postgresql://me:geheim@127.0.0.1:1/n", "PostgreSQL cannot be reached"),
        ("postgresql://me:geheim@127.0.0.1:port/n", "PostgreSQL cannot be reached"),
        ("postgresql://me:geheim@/n?wrong=geheim", "that is no postgresql://USER@HOST/NAME"),
        ("postgresql://me:1@geheim@h/n", "in a password, @ is %40 and / is %2F"),
        ("postgresql://me:1/geheim@h/n", "in a password, @ is %40 and / is %2F"),
        ("mysql://me:geheim@h/n", "that is no postgresql://USER@HOST/NAME"),
    ):
        done = export("docs", "--to", "pgvector", "--target", target, "--data-dir", tmp_path)
        assert done.exit_code == 1
        assert said in done.stderr, done.stderr
        assert "geheim" not in done.output
        assert len(done.stderr.splitlines()) == 1


def awaited(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_following_goes_on_until_it_is_ended(url: str, tmp_path: Path) -> None:
    """The connection is cut in between; SIGTERM ends it with 0."""
    with trained(tmp_path, codec(SparseConfig(64, 4))) as (database, collection):
        command = [
            sys.executable,
            "-m",
            "service.cli",
            "export",
            "docs",
            "--to",
            "pgvector",
            "--target",
            url,
            "--follow",
        ]
        following = subprocess.Popen(
            [*command, "--table", "there", "--data-dir", str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        try:
            count = "SELECT count(*) FROM there"
            awaited(lambda: rows(url, "SELECT to_regclass('there')") != [(None,)])
            collection.delete(["i1"])
            awaited(lambda: rows(url, count) == [(399,)])
            assert rows(url, CUT) == [(1,)]
            collection.delete(["i2"])
            awaited(lambda: rows(url, count) == [(398,)])
            publish(database, collection, codec(DENSE))
            awaited(lambda: rows(url, "SELECT fingerprint FROM codewell_exports") == [(codec(DENSE).fingerprint,)])
            check_tens(collection, Form.CODES, Stage.SHORTLIST, tens(url, "there"))
        finally:
            following.send_signal(signal.SIGTERM)
            out, said = following.communicate(timeout=30)
        assert following.returncode == 0, said
        assert out.splitlines() == [
            "400 rows written, all anew, as of seq 400, to 'there' by pgvector",
            "0 rows written, 1 removed or replaced, as of seq 401, to 'there' by pgvector",
            "0 rows written, 1 removed or replaced, as of seq 402, to 'there' by pgvector",
            "398 rows written, all anew, as of seq 402, to 'there' by pgvector",
        ]
        assert [line for line in said.splitlines() if "going on trying" in line] != []
