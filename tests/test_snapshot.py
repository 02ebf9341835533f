"""A start from a snapshot equals one from the database; what is wrong with a snapshot is named and costs no answer."""

import json
import logging
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Semaphore
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sqlalchemy import make_url, text

from models import Codec, Codes, DenseConfig, LatentType, Metric, SparseConfig
from service import keeper as keeper_module
from service.catalog import Catalog
from service.follower import Follower
from service.index import snapshot
from service.index import view as view_module
from service.index.segment import IndexKind
from service.index.view import View
from service.keeper import Keeper
from service.originals import decoded
from service.snapshots import Snapshots
from service.store import payload, schema
from service.store.database import Database
from service.store.store import found_collection
from service.store.tables import GenerationRow
from service.verification import verify
from tests.conftest import Server, clustered, started_codec
from tests.postgres import Postgres
from tests.test_collection import item
from tests.test_several_servers import until

DIM = 8
VECTORS = clustered(6_000, DIM)
QUERIES = clustered(20, DIM, 7)
FILES = ("codec.safetensors", "index", "manifest.json", "rows.npy")
HASHED_FILES = ("bucket-begins.npy", "bucket-slots.npy", *FILES)


class Place(NamedTuple):
    """A database, with snapshots beside it, as one process sees it."""

    database: Database
    catalog: Catalog
    snapshots: Snapshots

    @classmethod
    def over(cls, url: str, folder: Path) -> "Place":
        database = Database(url)
        schema.upgrade(database)
        snapshots = Snapshots(folder, database)
        return cls(database, Catalog(database, {}, Semaphore(), 1024, None, snapshots), snapshots)

    def started(self, *, from_snapshot: bool = True) -> View:
        """What a new process searches."""
        with self.database.reading() as session:
            row = found_collection(session, "c")
        return Follower(row, self.database, self.snapshots if from_snapshot else None).view()

    def write(self, first: int, last: int) -> None:
        self.catalog.open("c").ingest([item(str(n), VECTORS[n]) for n in range(first, last)])

    def snapshot(self, *, hashed: bool = False) -> Path:
        """Of the collection as it is, after a search by buckets or without one."""
        collection = self.catalog.open("c")
        view = collection.follower.catch_up()
        if hashed:
            view.probed(QUERIES, 10)
        assert self.snapshots.write(collection.id, view)
        return self.snapshots.listed(collection.id)[0].folder

    def publish(self, codec: Codec) -> int:
        """Makes a generation, as a training ends: every item has a code in it."""
        with self.database.writing() as session:
            row = found_collection(session, "c")
            generation = GenerationRow(
                collection_id=row.id,
                state="published",
                codec=codec.to_bytes(),
                fingerprint=codec.fingerprint,
                certificate={},
                created_at=1,
            )
            session.add(generation)
            session.flush()
            page = payload.vectors_after(session, row.id, 0, 10_000)
            codes = codec.encode(decoded([vector for _, vector in page], DIM))
            coded = ((row_id, code.tobytes()) for (row_id, _), code in zip(page, codes, strict=True))
            payload.add_codes(session, generation.id, coded)
            row.generation_id = generation.id
            return generation.id


def made(url: str, folder: Path, codec: Codec) -> Place:
    """200 items with codes."""
    place = Place.over(url, folder)
    place.catalog.create("c", dimension=DIM, metric=Metric.L2)
    place.write(0, 200)
    place.publish(codec)
    return place


@pytest.fixture
def place(tmp_path: Path, tiny_codec: Codec) -> Iterator[Place]:
    """Over SQLite."""
    place = made(f"sqlite:///{tmp_path / 'codewell.db'}", tmp_path / "snapshots", tiny_codec)
    yield place
    place.database.close()


@pytest.fixture
def each(database_url: str, tmp_path: Path, tiny_codec: Codec) -> Iterator[Place]:
    """Over SQLite and over PostgreSQL."""
    place = made(database_url, tmp_path / "snapshots", tiny_codec)
    yield place
    place.database.close()


class Whole(NamedTuple):
    """A place with one snapshot."""

    place: Place
    folder: Path
    copy: Path
    """Of the snapshot, as it was written."""
    answers: bytes


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_codec: Codec) -> Iterator[Whole]:
    tmp_path = tmp_path_factory.mktemp("whole")
    place = made(f"sqlite:///{tmp_path / 'codewell.db'}", tmp_path / "snapshots", tiny_codec)
    folder = place.snapshot(hashed=True)
    assert sorted(path.name for path in folder.iterdir()) == sorted(HASHED_FILES)
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    yield Whole(place, folder, copy, answers(place.started(from_snapshot=False)))
    place.database.close()


def answers(view: View) -> bytes:
    """All that a search can see of a view."""
    found = view.search(QUERIES, 10, IndexKind.FAISS)
    return view.live_rows().tobytes() + found.rows.tobytes() + view.codes_of(found.rows).tobytes()


def looked(view: View) -> list[bytes]:
    """All that a search by buckets can see of it."""
    look = view.probed(QUERIES, 10, probes=20)
    return [part.tobytes() for part in (*look.neighbours, look.probes, look.candidates, look.radius)]


def refusal(whole: Whole, caplog: pytest.LogCaptureFixture) -> str:
    """Why the snapshot was refused: it is named, aside, and the answers are those of the database."""
    caplog.clear()
    with caplog.at_level(logging.INFO):
        view = whole.place.started()
    assert view.base.folder is None
    assert answers(view) == whole.answers
    (message,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    named = f"the snapshot {whole.folder} is refused and set aside: "
    assert message.startswith(named)
    aside = whole.folder.with_name(whole.folder.name + ".refused")
    assert aside.is_dir()
    assert not whole.folder.exists()
    return message.removeprefix(named)


def put_back(whole: Whole) -> None:
    shutil.rmtree(whole.folder, ignore_errors=True)
    shutil.copytree(whole.copy, whole.folder)


# ---------------------------------------------------------------- a start


def test_a_start_is_the_snapshot_and_what_came_since(
    each: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    each.catalog.open("c").delete(["3", "4"])
    folder = each.snapshot()
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    each.write(200, 230)
    collection = each.catalog.open("c")
    collection.ingest([item("7", VECTORS[300]), item("210", VECTORS[301])])
    collection.patch("8", {"seen": True}, 1_000)
    collection.delete(["9", "211"])
    with caplog.at_level(logging.INFO):
        view = each.started()
    assert f"c starts from the snapshot {folder}" in caplog.text
    assert view.base.folder == folder
    assert (len(view.base), view.base.live_count, view.tail.live_count) == (198, 196, 30)
    assert view.applied_seq == 200 + 2 + 30 + 2 + 1 + 2
    assert answers(view) == answers(each.started(from_snapshot=False))
    assert list(verify(each.database, "c", each.snapshots)) == []


def test_the_first_search_by_buckets_after_a_start_makes_no_tables(
    each: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = each.snapshot(hashed=True)
    each.write(200, 230)
    each.catalog.open("c").delete(["9", "211"])
    expected = looked(each.catalog.open("c").follower.catch_up())
    view, made = each.started(), list[int]()
    keys = Codec.bucket_keys

    def counted(codec: Codec, codes: Codes, bits: int = 16) -> NDArray[np.uint16]:
        made.append(len(codes))
        return keys(codec, codes, bits)

    monkeypatch.setattr(Codec, "bucket_keys", counted)
    assert looked(view) == expected
    assert made == [29]  # those of the tail; all others are mapped
    assert (view.base.folder, len(view.base)) == (folder, 200)
    held = {path.name: path.stat().st_size for path in folder.glob("bucket-*.npy")}
    assert (
        view.base.buckets.mapped_bytes == view.base.buckets.ram_bytes == sum(held.values()) - 2 * 128
    )  # NPY's headers
    maps = Path("/proc/self/maps").read_text()
    assert [f"{folder}/{name}" in maps for name in held] == [True, True]
    assert list(verify(each.database, "c", each.snapshots)) == []


def test_a_view_that_has_become_empty_does_not_start_again(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.snapshot()
    collection = place.catalog.open("c")
    collection.delete([str(n) for n in range(200)])
    with caplog.at_level(logging.INFO):
        assert [len(collection.follower.catch_up()) for _ in range(2)] == [0, 0]
    assert caplog.text == ""
    assert len(place.started()) == 0


@pytest.mark.parametrize("config", [SparseConfig(16, k=3)])
def test_sparse_codes_are_mapped_too(tmp_path: Path, config: SparseConfig) -> None:
    codec = started_codec(config, Metric.COSINE)
    view = View.of(5, codec, 9, np.arange(3, 503), codec.encode(VECTORS[:500])).applied(
        10, np.array([600]), codec.encode(VECTORS[500:501]), np.array([4, 400])
    )
    snapshot.write(view, tmp_path)
    opened = snapshot.opened(tmp_path, snapshot.manifest_of(tmp_path))
    assert (opened.applied_seq, opened.generation_id, len(opened.base)) == (10, 5, 499)
    assert answers(opened) == answers(view)


# ---------------------------------------------------------------- what is refused


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(HASHED_FILES), st.floats(0, 1, exclude_max=True), st.integers(0, 7))
def test_any_flipped_bit_is_refused(
    whole: Whole, caplog: pytest.LogCaptureFixture, name: str, position: float, bit: int
) -> None:
    put_back(whole)
    content = bytearray((whole.folder / name).read_bytes())
    content[int(position * len(content))] ^= 1 << bit
    (whole.folder / name).write_bytes(content)
    reason = refusal(whole, caplog)
    assert (f"its {name} is not the file" in reason) == (name != "manifest.json")


@pytest.mark.parametrize("name", HASHED_FILES)
def test_what_is_cut_short_or_missing_is_refused(whole: Whole, caplog: pytest.LogCaptureFixture, name: str) -> None:
    for length in (0, 1, (whole.copy / name).stat().st_size - 2):  # the last byte of the manifest is a blank
        put_back(whole)
        (whole.folder / name).write_bytes((whole.copy / name).read_bytes()[:length])
        assert f"its {name}" in refusal(whole, caplog)
    put_back(whole)
    (whole.folder / name).unlink()
    assert f"its {name} is " in refusal(whole, caplog)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("format", 2, "it is of format 2; this program reads 3 to 4"),
        ("format", 5, "it is of format 5; this program reads 3 to 4"),
        ("format", 3, "this database does not know it"),
        ("fingerprint", "another", "it is of the codec another, published is "),
        ("applied_seq", 150, "its manifest.json is that of 1-150-buckets"),
        ("more", 1, "its manifest.json cannot be read: "),
        ("files", {}, "its manifest.json is that of 1-200"),
        ("files", 3, "its manifest.json cannot be read: "),
        ("files", {name: {"bytes": 1} for name in HASHED_FILES}, "this database does not know it"),
    ],
)
def test_another_manifest_is_refused(
    whole: Whole, caplog: pytest.LogCaptureFixture, field: str, value: object, reason: str
) -> None:
    put_back(whole)
    path = whole.folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    assert reason in refusal(whole, caplog)


def test_one_of_a_database_that_was_made_anew_is_refused(
    place: Place, tmp_path: Path, tiny_codec: Codec, caplog: pytest.LogCaptureFixture
) -> None:
    """The same ids, seq and codec: only the vectors are others."""
    folder = place.snapshot()
    anew = Place.over(f"sqlite:///{tmp_path / 'anew.db'}", place.snapshots.folder)
    anew.catalog.create("c", dimension=DIM, metric=Metric.L2)
    anew.write(1_000, 1_200)
    assert folder.name == f"{anew.publish(tiny_codec)}-200"
    view = anew.started()
    assert view.base.folder is None
    assert "this database does not know it" in caplog.text
    assert answers(view) == answers(anew.started(from_snapshot=False)) != answers(place.started())
    anew.database.close()


def copied(place: Place, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of the database as it is now, put elsewhere."""
    url = place.database.engine.url
    place.database.close()
    if place.database.is_sqlite:
        shutil.copyfile(str(url.database), tmp_path / "older.db")
        return f"sqlite:///{tmp_path / 'older.db'}"
    postgres: Postgres = request.getfixturevalue("postgres")
    there = make_url(postgres.new_database())
    postgres.run(f"DROP DATABASE {there.database}")
    postgres.run(f"CREATE DATABASE {there.database} TEMPLATE {url.database}")
    return there.render_as_string(hide_password=False)


def test_one_of_a_later_state_is_refused_even_where_others_came_in_its_place(
    each: Place, request: pytest.FixtureRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The database was put back to a backup and went on from there, while the snapshots stayed."""
    earlier = each.snapshot()
    older = Place.over(copied(each, request, tmp_path), each.snapshots.folder)
    each.write(200, 260)
    later = each.snapshot()
    kept = shutil.copytree(later, tmp_path / "kept")
    assert not earlier.exists()

    view = older.started()
    assert "it is of seq 260, and the collection has come to 200 only" in caplog.text
    assert len(view) == 200

    caplog.clear()
    shutil.copytree(kept, later)
    older.write(300, 400)
    view = older.started()
    assert "this database does not know it" in caplog.text
    assert answers(view) == answers(older.started(from_snapshot=False))
    assert older.snapshot().name == f"{view.generation_id}-300"
    older.database.close()


def test_one_that_the_log_does_not_reach_back_to_is_refused(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.snapshot()
    place.write(200, 210)
    with place.database.writing() as session:
        session.execute(text("DELETE FROM changes WHERE seq <= 205"))
        session.execute(text("UPDATE collections SET floor_seq = 205"))
    assert answers(place.started()) == answers(place.started(from_snapshot=False))
    assert "it is of seq 200, and the log begins after 205" in caplog.text


def test_a_folder_that_cannot_be_looked_at_is_no_reason_not_to_answer(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.snapshot()
    beyond = Place(place.database, place.catalog, Snapshots(place.snapshots.folder / ("long" * 100), place.database))
    assert answers(beyond.started()) == answers(place.started(from_snapshot=False))
    assert "the snapshots of c cannot be looked at: [Errno 36] File name too long" in caplog.text


def test_one_of_an_older_generation_waits_and_is_replaced(place: Place) -> None:
    first = place.snapshot()
    place.publish(started_codec(DenseConfig(4, LatentType.INT8, decoder_hidden=()), Metric.L2))
    view = place.started()
    assert (view.base.folder, view.generation_id, first.is_dir()) == (None, 2, True)
    second = place.snapshot()
    assert [path.name for path in first.parent.iterdir() if path.is_dir()] == [second.name]
    assert place.started().base.folder == second


def test_verify_names_a_snapshot_that_is_not_the_databases(each: Place) -> None:
    folder = each.snapshot()
    with each.database.writing() as session:
        session.execute(text("UPDATE codes SET code = (SELECT code FROM codes WHERE row_id = 30) WHERE row_id = 31"))
        session.execute(text("DELETE FROM codes WHERE row_id = 40"))
    found = [difference.what for difference in verify(each.database, "c", each.snapshots)]
    assert f"3 codes of its snapshot {folder.name} are not those of the database" in found
    (folder / "rows.npy").write_bytes(b"")
    found = [difference.what for difference in verify(each.database, "c", each.snapshots)]
    assert f"its snapshot {folder.name} is refused: its rows.npy is not the file that was written" in found
    assert folder.is_dir()


# ---------------------------------------------------------------- who writes it, and when


def test_a_view_goes_on_from_its_snapshot_and_is_written_again_once_it_moved_on(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view_module, "SMALLEST_TAIL", 100)
    monkeypatch.setattr(keeper_module, "SMALLEST_TAIL", 100)
    keeper = Keeper(place.catalog, place.snapshots, fewest=40)
    collection = place.catalog.open("c")

    def names() -> list[str]:
        return [kept.folder.name for kept in place.snapshots.listed(collection.id)]

    def based() -> str | None:
        keeper.look()
        view = collection.follower.catch_up()
        assert answers(view) == answers(place.started(from_snapshot=False))
        return None if view.base.folder is None else view.base.folder.name

    keeper.look()
    assert names() == []  # nobody has searched yet
    generation = collection.follower.catch_up().generation_id
    assert (based(), names()) == (f"{generation}-200", [f"{generation}-200"])
    place.write(200, 230)
    assert (based(), len(collection.follower.view().tail)) == (f"{generation}-200", 30)
    keeper.look(ending=True)
    assert names() == [f"{generation}-200"]
    place.write(230, 240)
    keeper.look(ending=True)  # at the end sooner than in between
    assert names() == [f"{generation}-240"]
    assert based() == f"{generation}-240"
    place.write(240, 345)
    assert collection.follower.view().base.folder is None  # folded in RAM
    assert (based(), names()) == (f"{generation}-345", [f"{generation}-345"])
    with place.database.reading() as session:
        assert session.execute(text("SELECT count(*) FROM snapshots")).scalar() == 1


def test_of_many_processes_one_writes_and_all_go_on_from_it(each: Place) -> None:
    url = each.database.engine.url.render_as_string(hide_password=False)
    places = [each, *(Place.over(url, each.snapshots.folder) for _ in range(3))]
    keepers = [Keeper(other.catalog, other.snapshots, fewest=10) for other in places]
    followers = [other.catalog.open("c").follower for other in places]
    views = [follower.catch_up() for follower in followers]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(2):
            list(pool.map(Keeper.look, keepers))
    (kept,) = places[0].snapshots.listed(followers[0].id)
    assert [follower.view().base.folder for follower in followers] == [kept.folder] * 4
    assert {answers(follower.view()) for follower in followers} == {answers(view) for view in views}
    with each.database.reading() as session:
        assert session.execute(text("SELECT digest FROM snapshots")).all() == [(snapshot.digest(kept.folder),)]
    assert sorted(path.name for path in kept.folder.parent.iterdir()) == [kept.folder.name, "lock"]
    for other in places[1:]:
        other.database.close()


def test_a_snapshot_gets_tables_once_somebody_searched_by_them(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """In whichever process; all go on from it, and views that are folded in RAM keep them."""
    monkeypatch.setattr(view_module, "SMALLEST_TAIL", 100)
    monkeypatch.setattr(keeper_module, "SMALLEST_TAIL", 100)
    other = Place.over(str(place.database.engine.url), place.snapshots.folder)
    keepers = [Keeper(one.catalog, one.snapshots, fewest=40) for one in (place, other)]
    followers = [one.catalog.open("c").follower for one in (place, other)]
    expected = looked(place.started(from_snapshot=False))

    def look() -> list[str]:
        """The folders that there are, which both views map."""
        for keeper in keepers:
            keeper.look()
        names = [kept.folder.name for kept in place.snapshots.listed(followers[0].id)]
        assert [follower.view().base.folder for follower in followers] == [place.snapshots.folder / "1" / names[0]] * 2
        return names

    for follower in followers:
        follower.catch_up()
    assert [look(), look()] == [["1-200"]] * 2
    unhashed = followers[0].view()
    assert looked(followers[1].view()) == expected
    keepers[1].look()
    assert look() == ["1-200-buckets"]
    assert [looked(follower.view()) == expected for follower in followers] == [True, True]
    assert looked(unhashed) == expected  # of files that are gone
    place.write(200, 310)
    for follower in followers:
        assert (follower.catch_up().base.folder, follower.view().hashed) == (None, True)
    assert look() == ["1-310-buckets"]
    for follower in followers:
        assert looked(follower.view()) == looked(place.started(from_snapshot=False))
    place.publish(started_codec(DenseConfig(4, LatentType.INT8, decoder_hidden=()), Metric.L2))
    for follower in followers:
        follower.catch_up()
    keepers[0].look()
    assert [path.name for path in (place.snapshots.folder / "1").iterdir() if path.is_dir()] == ["2-310"]
    with place.database.reading() as session:
        assert session.execute(text("SELECT count(*) FROM snapshots")).scalar() == 1
    other.database.close()


def test_tables_that_a_search_makes_while_a_snapshot_is_written_stay(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper, follower = Keeper(place.catalog, place.snapshots, fewest=40), place.catalog.open("c").follower
    view, newest = follower.catch_up(), place.snapshots.newest

    def opened(collection_id: int) -> View | None:
        looked(view)
        return newest(collection_id)

    def there() -> list[str]:
        keeper.look()
        return [kept.folder.name for kept in place.snapshots.listed(follower.id)]

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(place.snapshots, "newest", opened)
        assert there() == ["1-200"]
    assert follower.view() is view
    assert there() == ["1-200-buckets"]
    keeper.look()
    assert follower.view().base.buckets.mapped_bytes == view.base.buckets.ram_bytes > 0


def test_a_full_disk_leaves_the_older_one_and_the_service(
    place: Place, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = place.snapshot()
    place.write(200, 500)
    keeper = Keeper(place.catalog, place.snapshots, fewest=10)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500, hard))
    try:
        keeper.look()
        keeper.look()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning.startswith("cannot keep a snapshot of c, going on trying: ")
    assert sorted(path.name for path in folder.parent.iterdir()) == [folder.name, "lock"]
    assert answers(place.started()) == answers(place.started(from_snapshot=False))
    monkeypatch.setattr(keeper_module, "RETRY_SECONDS", 0)
    keeper.look()
    assert [kept.seq for kept in place.snapshots.listed(place.catalog.open("c").id)] == [500]


def test_those_of_a_deleted_collection_are_removed(place: Place) -> None:
    folder = place.snapshot()
    place.catalog.create("d", dimension=2)
    place.snapshots.remove_without(set(place.catalog.heads()))
    assert folder.is_dir()
    place.catalog.delete("c")
    place.snapshots.remove_without(set(place.catalog.heads()))
    assert not folder.parent.exists()
    with place.database.reading() as session:
        assert session.execute(text("SELECT count(*) FROM snapshots")).scalar() == 0


KILLED = """
import json, os, signal, sys
from pathlib import Path
import numpy as np
from service import files, snapshots
from service.index import snapshot
from service.index.tables import HashTables
from tests.test_snapshot import Place, answers

def killed(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

moments = [(HashTables, "write"), (snapshot, "described"), (snapshots, "add_snapshot"),
           (files.os, "fsync"), (Path, "replace"), (files, "synced"), (Path, "rename"), (snapshots, "forget_snapshots")]
for moment, (where, name) in enumerate(moments):
    child = os.fork()
    if child == 0:
        place = Place.over(sys.argv[1], Path(sys.argv[2]))
        place.write(200 + moment, 201 + moment)
        setattr(where, name, killed)
        place.snapshot(hashed=True)
        os._exit(0)
    ended = os.waitpid(child, 0)[1]
    place = Place.over(sys.argv[1], Path(sys.argv[2]))
    view = place.started()
    tables, codes = view.base.buckets, view.base.codes[:]
    made = HashTables.of(view.codec.bucket_keys(codes, tables.bits), view.codec.bucket_count(tables.bits))
    same = answers(view) == answers(place.started(from_snapshot=False))
    same &= all(map(np.array_equal, tables._tables(), made)) and tables.mapped_bytes == made.ram_bytes
    drafts = len(list(view.base.folder.parent.glob("*.draft")))
    print(json.dumps([name, ended, view.base.folder.name, len(view), same, drafts]))
    place.database.close()
"""


def test_killed_at_any_moment_of_writing_the_older_or_the_newer_one_is_there(place: Place) -> None:
    place.snapshot(hashed=True)
    url = place.database.engine.url.render_as_string(hide_password=False)
    place.database.close()
    command = [sys.executable, "-W", "ignore", "-c", KILLED, url, str(place.snapshots.folder)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    ended = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [moment[:5] for moment in ended] == [
        ["write", signal.SIGKILL, "1-200-buckets", 201, True],
        ["described", signal.SIGKILL, "1-200-buckets", 202, True],
        ["add_snapshot", signal.SIGKILL, "1-200-buckets", 203, True],
        ["fsync", signal.SIGKILL, "1-200-buckets", 204, True],
        ["replace", signal.SIGKILL, "1-200-buckets", 205, True],
        ["synced", signal.SIGKILL, "1-200-buckets", 206, True],
        ["rename", signal.SIGKILL, "1-207-buckets", 207, True],
        ["forget_snapshots", signal.SIGKILL, "1-208-buckets", 208, True],
    ], ran.stderr
    assert [drafts for *_, drafts in ended[:6]] == [1, 2, 3, 4, 5, 6]
    place.write(300, 301)
    assert sorted(path.name for path in place.snapshot().parent.iterdir()) == ["1-209-buckets", "lock"]


def test_a_killed_server_starts_again_from_what_it_kept_and_says_what_it_cannot_use(
    new_server: Callable[..., Server], tmp_path: Path, tiny_codec: Codec
) -> None:
    folder = tmp_path / "data" / "snapshots"
    place = made(f"sqlite:///{tmp_path / 'data' / 'codewell.db'}", folder, tiny_codec)
    kept = place.snapshot(hashed=True)
    place.database.close()

    def nearest(*numbers: int, **more: str) -> list[str]:
        asked = [{"vector": VECTORS[n].tolist(), "k": 1} | more for n in numbers]
        found = server.post("/search", {"collection": "c", "queries": asked})["results"]
        return [answer["hits"][0]["id"] for answer in found]

    server = new_server(SNAPSHOT_AT="100")
    assert nearest(3, 199) == nearest(3, 199, index="buckets") == ["3", "199"]
    assert f"c starts from the snapshot {kept}" in server.log.read_text()
    rows = [{"id": str(n), "vector": VECTORS[n + 300].tolist()} for n in (3, 200)]
    server.post("/ingest", {"collection": "c", "items": rows})
    server.post("/collections/c/items/delete", {"ids": ["199"]})
    found = nearest(303, 500, 3, 199)
    assert found[:2] == ["3", "200"]
    assert not {"3", "199"} & set(found[2:])
    server.stop(signal.SIGKILL)

    (kept / "index").write_bytes((kept / "index").read_bytes()[:-1])
    server = new_server(SNAPSHOT_AT="100")
    assert nearest(303, 500, 3, 199) == found
    reason = "its index is not the file that was written"
    assert f"the snapshot {kept} is refused and set aside: {reason}" in server.log.read_text()
    until(lambda: (folder / "1" / "1-203").is_dir())
    hashed = folder / "1" / "1-203-buckets"
    until(lambda: nearest(303, 500, index="buckets") == ["3", "200"] and hashed.is_dir())
    assert server.stop() == 0
