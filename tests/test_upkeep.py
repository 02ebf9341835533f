"""The log is cut, and every view is still right: see also `cut_the_log` in test_collection_machine.py."""

from pathlib import Path

from sqlalchemy import func, select

from service.item import NewItem
from service.store.tables import ChangeRow
from service.upkeep import purge_logs
from tests.test_collection import VECTORS, catalog_of, item, nearest


def test_a_long_log_is_cut_and_a_view_from_before_it_is_made_anew(database_url: str) -> None:
    database, catalog = catalog_of(database_url)
    other, follower = catalog_of(database_url)
    writer = catalog.create("c", dimension=8)
    writer.ingest([item("early", VECTORS[0])])
    reader = follower.open("c")
    assert nearest(reader, VECTORS[0], 1) == ["early"]
    for turn in range(30):
        writer.ingest([item(str(v), VECTORS[v + turn % 2]) for v in range(1, 11)])
    writer.delete(["early"])

    def changes() -> int:
        with database.reading() as session:
            return session.scalar(select(func.count()).select_from(ChangeRow)) or 0

    assert changes() == 302
    assert purge_logs(database, fewest=200) == 0  # it is not twice as long yet
    assert purge_logs(database, fewest=100) == 1
    assert changes() == 100
    assert purge_logs(database, fewest=100) == 0
    assert len(reader.follower.catch_up()) == 10
    assert nearest(reader, VECTORS[0], 10) == nearest(writer, VECTORS[0], 10)
    again, fresh = catalog_of(database_url)
    assert nearest(fresh.open("c"), VECTORS[5], 10) == nearest(writer, VECTORS[5], 10)
    for opened in (database, other, again):
        opened.close()


def test_the_disk_of_deleted_items_is_given_back(tmp_path: Path) -> None:
    file = tmp_path / "codewell.db"
    database, catalog = catalog_of(f"sqlite:///{file}")
    collection = catalog.create("c", dimension=8)
    notes = {f"i{n}": {"note": "long " * 200} for n in range(500)}
    collection.ingest([NewItem(item_id, None, VECTORS[0], note) for item_id, note in notes.items()])

    def size() -> int:
        assert database.shorten_log(0)  # into the file
        return file.stat().st_size

    full = size()
    collection.delete(list(notes)[:50])
    assert purge_logs(database) == 0
    assert size() == full, "a tenth is for what comes next"
    collection.delete(list(notes)[50:499])
    assert purge_logs(database) == 0
    assert size() < full / 3
    assert database.free_share() == 0
    assert nearest(collection, VECTORS[0], 10) == ["i499"]
    database.close()
