"""What is counted under which name, and what a scrape says of a database."""

import time
from pathlib import Path

from models import DenseConfig, LatentType, Metric
from service.bootstrap import Codewell
from service.job import JobState
from service.metrics import MOST_COLLECTIONS, Metrics
from service.profile import Operation, Profile
from service.settings import Settings
from service.store.tables import GenerationRow, JobRow
from tests.conftest import started_codec
from tests.test_snapshot import made


def test_names_without_end_are_counted_under_no_name() -> None:
    metrics = Metrics()
    for n in range(MOST_COLLECTIONS + 5):
        profile = Profile(Operation.SEARCH, f"c{n}")
        profile.count("queries", 1)
        metrics.observe(profile)
    (queries,) = (family for family in metrics.families() if family.name == "codewell_search_queries")
    assert len(queries.samples) == MOST_COLLECTIONS + 1
    assert [sample.value for sample in queries.samples if sample.labels["collection"] == ""] == [5]


def scraped(codewell: Codewell) -> dict[str, float]:
    lines = (line.rpartition(" ") for line in codewell.scrape.text().decode().splitlines() if line[0] != "#")
    return {series.removeprefix("codewell_"): float(value) for series, _, value in lines}


def test_a_scrape_says_what_the_database_and_the_views_say(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    codec = started_codec(DenseConfig(6, LatentType.INT8), Metric.L2)
    place = made(settings.database, settings.snapshots_dir, codec)
    with place.database.writing() as session:
        generation = session.query(GenerationRow).one()
        estimate = {"value": 0.91, "low": 0.875, "high": 0.94}
        generation.certificate = {"code_bytes": codec.code_bytes, "intervals": {"recall@10": estimate}}
        generation.published_at = 123.0
        for n, state in enumerate((JobState.RUNNING, JobState.FAILED, JobState.FAILED)):
            session.add(
                JobRow(id=str(n), collection_id=1, kind="train", parameters={}, state=state, created_at=1, message="")
            )
    codewell = Codewell(settings)
    told = scraped(codewell)
    assert told['collection_items{collection="c"}'] == told['collection_seq{collection="c"}'] == 200
    assert told['certificate_recall_ratio{collection="c",k="10"}'] == 0.875
    assert told['code_bytes{collection="c"}'] == codec.code_bytes
    assert told['generation_published_timestamp_seconds{collection="c"}'] == 123
    assert told['jobs{kind="train",state="failed"}'] == 2
    assert told['jobs{kind="train",state="running"}'] == 1
    assert [told[f'jobs{{kind="{kind}",state="queued"}}'] for kind in ("rollback", "plan")] == [0, 0]
    assert 'view_lag_changes{collection="c"}' not in told, "there is no view that could be behind"

    collection = codewell.catalog.open("c")
    view = collection.follower.view()
    place.write(200, 203)
    began = time.time()
    told = scraped(codewell)
    assert told['view_applied_seq{collection="c"}'] == 200
    assert told['view_lag_changes{collection="c"}'] == 3, "another process has written, and this one does not follow"
    assert told['view_ram_bytes{collection="c",view="codes"}'] == view.ram_bytes
    assert told['view_ram_bytes{collection="c",view="codec"}'] == codec.ram_bytes
    assert told['view_mapped_bytes{collection="c"}'] == 0
    codewell.views.behind(collection)
    assert 0 <= scraped(codewell)['view_lag_seconds{collection="c"}'] <= time.time() - began
    collection.follow()
    codewell.views.caught_up(collection)
    told = scraped(codewell)
    assert told['view_applied_seq{collection="c"}'] == 203
    assert (told['view_lag_changes{collection="c"}'], told['view_lag_seconds{collection="c"}']) == (0, 0)

    place.snapshot()
    codewell.catalog.forget(collection.id)
    mapped = codewell.catalog.open("c").follower.view()
    told = scraped(codewell)
    assert told['view_mapped_bytes{collection="c"}'] == mapped.base.scan.ram_bytes + mapped.base.rows.nbytes > 0
    assert told['view_ram_bytes{collection="c",view="codes"}'] == mapped.ram_bytes - mapped.mapped_bytes
    assert told["webhook_waiting"] == 0
    for measured in (mapped.generation_id or 0, 10**6):
        codewell.metrics.sampled("c", measured, "faiss", 0.9, {"codec": 0.06, "shortlist": 0.04, "filter": 0})
    sampled = {series: value for series, value in scraped(codewell).items() if series.startswith("recall_sample")}
    parts = {"found": 0.9, "codec": 0.06, "shortlist": 0.04}
    assert sampled == {
        f'recall_sample_ratio{{collection="c",index="faiss",of="{of}"}}': value for of, value in parts.items()
    }
    codewell.notices.wanted = True
    assert scraped(codewell)["webhook_waiting"] == 0
    codewell.jobs.cancel(codewell.jobs.submit_plan("c", {}).id)
    codewell.notices.wanted = False
    assert scraped(codewell)["webhook_waiting"] == 1, "of a time when somebody was told"
    codewell.catalog.delete("c")
    assert not [series for series in scraped(codewell) if 'collection="c"' in series]
    codewell.database.close()
    place.database.close()


def test_what_was_counted_is_told_while_the_database_is_away(tmp_path: Path) -> None:
    codewell = Codewell(Settings(data_dir=tmp_path, database_url="postgresql://me@127.0.0.1:1/x"))
    codewell.metrics.request("GET", "/livez", 200, 0.004)
    codewell.metrics.sampled("c", 1, "faiss", 0.9, {"codec": 0.06, "shortlist": 0.04})
    told = scraped(codewell)
    assert told["database_up"] == 0
    assert not [series for series in told if series.startswith("recall_sample")], "whose generation is not known"
    assert told['http_requests_total{method="GET",route="/livez",status="200"}'] == 1
    assert told['http_request_duration_seconds_bucket{le="0.005",method="GET",route="/livez"}'] == 1
    assert "collections" not in told
    codewell.database.close()
