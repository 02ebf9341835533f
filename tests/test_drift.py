"""What is said of new items, of queries and of codes, held against the certificate; and what of it is scraped."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import BinaryConfig, Codec, Codes, Metric, QuantizerConfig, ResidualConfig, SparseConfig, Vectors, spread
from service import examiner
from service.drift import Drift, Freshness, Shift, Spread, compared
from service.generation import Build
from service.index.segment import IndexKind
from service.jobs import Jobs
from service.lookout import Lookout
from service.metrics import Metrics
from service.notices import Notices
from service.query import Example, Query
from service.recent import MOST, RecentQueries
from service.search import OVERSAMPLE, Plan, Stage
from service.settings import Settings
from tests.conftest import clustered, started_codec
from tests.test_collection import catalog_of, item

DIM = 8
FACTORY = QuantizerConfig("PQ4x8")


def test_a_shift_is_drift_where_it_is_large_and_no_chance() -> None:
    certified = {"items": 500, "error": {"mean": 1.0, "std": 0.2}, "nearest": {"mean": 0.8, "std": 0.1}}

    def now(items: int, error: float, nearest: float) -> Freshness:
        figures = {"items": items, "error": {"mean": error, "std": 1}, "nearest": {"mean": nearest, "std": 1}}
        return compared(certified, figures).status

    assert now(500, 1.05, 0.78) is Freshness.FRESH
    assert now(500, 1.12, 0.8) is Freshness.DRIFTING
    assert now(500, 1.0, 0.7) is Freshness.STALE
    assert now(500, 0.8, 0.8) is Freshness.STALE  # easier than what it was certified on is another kind, too
    assert now(49, 9.0, 0.8) is Freshness.FRESH
    figures = {"items": 60, "error": {"mean": 1.17, "std": 1}, "nearest": {"mean": 0.8, "std": 1}}
    assert compared({**certified, "items": 20}, figures).status is Freshness.STALE
    assert compared({**certified, "items": 10}, figures).status is Freshness.FRESH  # 0.85 of 1.02
    asked = compared(certified, {"items": 200, "nearest": {"mean": 0.74, "std": 1}})
    assert asked == Shift(Freshness.DRIFTING, 200, {"nearest": -0.6})


def every_byte(codec: Codec) -> Codes:
    """Codes in which each byte takes each of its values once, in an order of its own."""
    return np.stack([np.roll(np.arange(256, dtype=np.uint8), byte) for byte in range(codec.code_bytes)], axis=1)


@pytest.mark.parametrize("config", [ResidualConfig(4, beam=8), FACTORY])
def test_codewords_are_balanced_where_each_is_as_frequent(config: Any) -> None:
    codec = started_codec(config, Metric.L2)
    even = spread(codec, np.repeat(every_byte(codec), 8, axis=0))
    assert even["codeword_balance"] == 1
    assert spread(codec, np.zeros((10, codec.code_bytes), np.uint8))["codeword_balance"] == 0
    half = spread(codec, every_byte(codec)[:, :] // 2 * 2)
    assert half["codeword_balance"] == 7 / 8


def test_buckets_are_skewed_where_few_hold_many() -> None:
    codec = started_codec(ResidualConfig(4, beam=8), Metric.L2)  # one table; its buckets are the first byte
    even = np.repeat(every_byte(codec), 8, axis=0)
    assert spread(codec, even)["bucket_skew"] == round(256 * 256 * 8 * 7 / (2048 * 2047), 4)  # 1, but for itself
    assert spread(codec, even[:8])["bucket_skew"] == 256
    assert spread(codec, even[:16])["bucket_skew"] == round(256 * 2 * 8 * 7 / (16 * 15), 4)
    assert spread(codec, every_byte(codec))["bucket_skew"] == 0, "no code shares its bucket"


def test_bits_are_balanced_where_half_of_the_codes_set_them() -> None:
    codec = started_codec(BinaryConfig(16), Metric.COSINE)
    assert spread(codec, every_byte(codec))["bit_balance"] == 1
    assert spread(codec, np.full((10, 2), 255, np.uint8))["bit_balance"] == 0
    quarter = np.tile(np.array([[255, 0], [0, 0], [0, 255], [0, 0]], np.uint8), (5, 1))
    assert spread(codec, quarter)["bit_balance"] == round(-0.25 * math.log2(0.25) - 0.75 * math.log2(0.75), 4)
    assert "codeword_balance" not in spread(codec, quarter)


def test_latents_are_dead_that_no_code_has_active() -> None:
    codec = started_codec(SparseConfig(latents=64, k=2), Metric.COSINE)
    pairs = np.array([[3, 5], [3, 9], [63, 0]], "<u2").view(np.uint8)
    codes = np.hstack((pairs, np.array([[10, 1], [7, 2], [4, 0]], np.uint8)))  # a value of 0: latent 0 is not active
    assert spread(codec, codes)["dead_latents"] == 1 - 4 / 64


def test_the_newest_queries_are_kept_and_no_more() -> None:
    recent, points = RecentQueries(), clustered(MOST + 30, DIM)
    assert recent.vectors(DIM).shape == (0, DIM)
    for point in points:
        recent.add(point)
        point[:] = 0  # what is kept is a copy
    assert recent.count == MOST + 30
    assert np.array_equal(recent.vectors(DIM), clustered(MOST + 30, DIM)[30:])


def test_queries_and_codes_are_held_against_the_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database, catalog = catalog_of(tmp_path)
    collection = catalog.create("c", dimension=DIM)
    collection.ingest([item(str(n), vector) for n, vector in enumerate(clustered(600, DIM))])
    codec = {"codec": {"kind": "residual", "bytes": 2}, "training": {"epochs": 1}}
    result = Build(database, collection.id, codec, tmp_path / "1", lambda *_: None).run(10_000)
    certified = result["certificate"]["drift"]["spread"]
    assert set(certified) == {"codeword_balance", "bucket_skew"}

    def asked(vectors: Vectors, **more: Any) -> Drift:
        plan = Plan(1, OVERSAMPLE, IndexKind.FAISS, Stage.REFINE)
        collection.search([Query((Example(vector=vector),), plan, **more) for vector in vectors])
        drift = collection.drift()
        assert drift is not None
        return drift

    before = collection.drift()
    assert before is not None
    assert (before.queries, before.codes) == (None, Spread(certified, {})), "nobody has searched"
    like = asked(clustered(60, DIM, seed=1))
    assert like.queries is not None
    assert (like.queries.status, like.queries.vectors) == (Freshness.FRESH, 60)
    assert (like.status, like.items) == (Freshness.FRESH, 0), "queries are no items"
    # Without the held-out items, and without what became of their codes: nearly all the same.
    assert like.codes.now == pytest.approx(certified, rel=0.05)
    other = np.random.default_rng(0).standard_normal((MOST, DIM)).astype(np.float32) * 5
    assert asked(other).queries == like.queries, "looked at once a minute"
    monkeypatch.setattr(examiner, "BESIDE_SECONDS", 0)
    drift = asked(other)
    assert drift.queries is not None
    assert (drift.queries.status, drift.queries.vectors) == (Freshness.STALE, MOST)
    assert drift.queries.shifts["nearest"] < -0.8
    by_id = asked(np.empty((0, DIM), np.float32))
    collection.search([Query((Example(id="1"),), Plan(1, OVERSAMPLE, IndexKind.FAISS, None))] * MOST)
    assert collection.drift() == by_id, "an item that is asked for is no query of a user's"

    collection.delete([str(n) for n in range(600) if n % 10])
    collection.follow()
    fewer = collection.drift()
    assert fewer is not None
    assert fewer.codes.now["codeword_balance"] < certified["codeword_balance"] - 0.02, "60 codes have fewer codewords"
    view = collection.follower.view()
    alive = {code.tobytes() for code in view.codes_of(view.live_rows())}
    assert (len(view.some_codes(600)), len(view)) == (60, 60)
    assert 0 < len(view.some_codes(100)) < 30, "of evenly spaced ones those that are live"
    some, every = ({code.tobytes() for code in view.some_codes(most)} for most in (100, 600))
    assert some < every == alive
    database.close()


def told(metrics: Metrics) -> dict[str, float]:
    """By name and labels, what is known of drift and of codes."""
    families = (family for family in metrics.families() if family.name.startswith(("codewell_drift", "codewell_c")))
    samples = [sample for family in families for sample in family.samples]
    return {"|".join((s.name, *s.labels.values())): s.value for s in samples if not math.isnan(s.value)}


def test_a_collection_made_anew_has_nothing_of_the_one_before(tmp_path: Path) -> None:
    database, catalog = catalog_of(tmp_path)
    collection, metrics = catalog.create("c", dimension=DIM), Metrics()
    lookout = Lookout(Settings(data_dir=tmp_path), catalog, Jobs(database), metrics, Notices(database, wanted=False))
    collection.ingest([item(str(n), vector) for n, vector in enumerate(clustered(300, DIM))])
    codec = {"codec": {"kind": "dense", "bytes": 4}, "training": {"epochs": 1}}
    Build(database, collection.id, codec, tmp_path / "1", lambda *_: None).run(10_000)
    lookout._look()
    assert told(metrics) == {"codewell_drift_status|c": 0}
    catalog.delete("c")
    catalog.create("c", dimension=DIM)
    lookout._look()
    assert told(metrics) == {}
    database.close()


def test_what_is_not_known_any_more_is_told_no_more() -> None:
    metrics = Metrics()
    asked = Shift(Freshness.DRIFTING, 200, {"nearest": -0.6})
    metrics.drifted("c", Drift(Freshness.STALE, 500, {"error": 2.5}, asked, Spread({}, {"bit_balance": 0.9})))
    assert told(metrics) == {
        "codewell_drift_status|c": 2,
        "codewell_drift_shift|c|items|error": 2.5,
        "codewell_drift_shift|c|queries|nearest": -0.6,
        "codewell_code_spread|c|bit_balance": 0.9,
    }
    metrics.drifted("c", Drift(Freshness.FRESH, 10, {}, None, Spread({}, {"bucket_skew": 3})))
    assert told(metrics) == {"codewell_drift_status|c": 0, "codewell_code_spread|c|bucket_skew": 3}
    metrics.drifted("c", None)
    assert told(metrics) == {}
