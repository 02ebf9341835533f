"""A server is ready once it holds again what the last one held."""

from pathlib import Path
from threading import Event

import pytest

from models import DenseConfig, LatentType, Metric
from service.bootstrap import Codewell
from service.errors import Unavailable
from service.permitted import Permitted
from service.rights import EVERYTHING
from service.settings import Settings
from tests.conftest import started_codec
from tests.test_several_servers import until
from tests.test_snapshot import made


def test_it_is_ready_when_the_views_with_snapshots_have_caught_up(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    place = made(settings.database, settings.snapshots_dir, started_codec(DenseConfig(6, LatentType.INT8), Metric.L2))
    place.snapshot()
    place.write(200, 210)
    place.catalog.create("never-searched", dimension=2)
    codewell = Codewell(settings)
    permitted = Permitted(codewell, EVERYTHING)
    with pytest.raises(Unavailable, match="still being loaded"):
        permitted.check_warm()
    follower = codewell.catalog.open("c").follower
    with follower._applying:  # as long as another thread is at it, the view is not there
        codewell.warming.start()
        assert not Event().wait(0.05)
        with pytest.raises(Unavailable, match="still being loaded"):
            permitted.check_warm()
    until(lambda: codewell.warming.done)
    permitted.check_warm()
    view = follower.loaded
    assert view is not None
    assert (view.applied_seq, len(view), view.base.folder is not None) == (210, 210, True)
    assert [collection.name for collection in codewell.catalog.opened()] == ["c"], (
        "small ones are loaded when asked for"
    )
    codewell.warming.stop()
    codewell.database.close()
    place.database.close()


def test_one_that_cannot_be_loaded_keeps_nobody_waiting(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(data_dir=tmp_path)
    place = made(settings.database, settings.snapshots_dir, started_codec(DenseConfig(6, LatentType.INT8), Metric.L2))
    folder = place.snapshot()
    (folder / "index").write_bytes(b"damaged")
    with place.database.writing() as session:
        session.connection().exec_driver_sql("UPDATE generations SET codec = x'00'")
    codewell = Codewell(settings)
    codewell.warming.start()
    until(lambda: codewell.warming.done)
    assert "could not load the view of c" in caplog.text
    Permitted(codewell, EVERYTHING).check_warm()
    codewell.warming.stop()
    codewell.database.close()
    place.database.close()
