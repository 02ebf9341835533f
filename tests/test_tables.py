"""Hash tables are made once: they are mapped from a snapshot, and their keys go along as a view changes."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models import (
    BinaryConfig,
    Codec,
    Codes,
    DenseConfig,
    LatentType,
    Metric,
    ResidualCodec,
    ResidualConfig,
    SparseCodec,
    SparseConfig,
    prepared,
)
from service.errors import SnapshotRefused
from service.files import described
from service.index import snapshot
from service.index import view as view_module
from service.index.buckets import SAMPLE, BucketIndex
from service.index.segment import Segment
from service.index.tables import FILES, HashTables
from service.index.view import View
from tests.conftest import clustered, started_codec

DIM, N = 8, 1_000
VECTORS = prepared(clustered(6_000, DIM), Metric.COSINE)
QUERIES = clustered(12, DIM, 7)
CODECS: dict[str, Callable[[], Codec]] = {
    "dense": lambda: started_codec(DenseConfig(6, LatentType.INT8, decoder_hidden=()), Metric.COSINE),
    "binary": lambda: started_codec(BinaryConfig(32), Metric.COSINE),
    "sparse": lambda: started_codec(SparseConfig(16, k=3), Metric.COSINE),
    "residual": lambda: started_codec(ResidualConfig(2, beam=4), Metric.COSINE),
}


def viewed(kind: str, items: int = N) -> View:
    codec = CODECS[kind]()
    return View.of(5, codec, items, np.arange(items), codec.encode(VECTORS[:items]))


def saw(view: View, probes: int | None = 40) -> bytes:
    """All that a search by buckets can see of a view."""
    look = view.probed(QUERIES, 10, probes)
    told = (*look.neighbours, look.probes, look.candidates, look.radius, look.cut)
    return b"".join(part.tobytes() for part in told)


def anew(index: BucketIndex, codes: Codes) -> HashTables:
    """The tables of codes, with nothing taken over."""
    return HashTables.of(index.codec.bucket_keys(codes, index.bits), index.codec.bucket_count(index.bits))


def same(one: HashTables, other: HashTables) -> bool:
    return all(np.array_equal(*parts) for parts in zip(one, other, strict=True))


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many codes keys were made of, call by call."""
    asked: list[int] = []

    def counted(made: Callable[..., NDArray[np.uint16]]) -> Callable[..., NDArray[np.uint16]]:
        def count(codec: Codec, codes: Codes, bits: int = 16) -> NDArray[np.uint16]:
            asked.append(len(codes))
            return made(codec, codes, bits)

        return count

    for owner in (Codec, SparseCodec, ResidualCodec):
        monkeypatch.setattr(owner, "bucket_keys", counted(owner.bucket_keys))
    return asked


@settings(max_examples=60)
@given(st.integers(0, 60), st.integers(1, 4), st.integers(1, 300), st.integers(0, 9))
def test_tables_are_their_keys(n: int, tables: int, buckets: int, seed: int) -> None:
    keys = np.random.default_rng(seed).integers(0, buckets, (n, tables)).astype(np.uint16)
    built = HashTables.of(keys, buckets)
    assert np.array_equal(built.keys(buckets), keys)
    numbers = keys.astype(np.int64) + buckets * np.arange(tables)
    slots = np.repeat(np.arange(n), tables)
    assert built.holds(slots, numbers.ravel()).all()
    others = np.random.default_rng(seed + 1).integers(0, buckets * tables, len(slots))
    expected = (numbers[slots] == others[:, None]).any(axis=1)
    assert np.array_equal(built.holds(slots, others), expected)


@pytest.mark.parametrize("kind", list(CODECS))
def test_a_snapshot_has_the_tables_that_a_search_would_make(kind: str, tmp_path: Path, hashed: list[int]) -> None:
    view = viewed(kind)
    assert (view.hashed, view.base.buckets.ram_bytes) == (False, 0)
    view = view.applied(N + 2, np.array([N, N + 1]), view.codec.encode(VECTORS[N : N + 2]), np.array([4, 400]))
    view.probed(QUERIES, 10)
    snapshot.write(view, tmp_path, hashed=True)
    fresh = View.of(5, view.codec, N + 2, view.live_rows(), view.codes_of(view.live_rows()))
    expected = saw(fresh)
    hashed.clear()
    manifest = snapshot.manifest_of(tmp_path)
    opened = snapshot.opened(tmp_path, manifest)
    assert (manifest.name, manifest.hashed, opened.hashed) == (f"5-{N + 2}-buckets", True, True)
    assert saw(opened) == expected
    assert hashed == [SAMPLE]  # a few keys were compared, and none was made for the search
    tables = anew(fresh.base.buckets, fresh.base.codes[:])
    assert same(HashTables.mapped(tmp_path), tables)
    assert opened.base.buckets.mapped_bytes == opened.base.buckets.ram_bytes == tables.ram_bytes
    without = opened.base.scan.mapped_bytes + opened.base.rows.nbytes
    assert opened.mapped_bytes == without + tables.ram_bytes


def test_one_without_tables_opens_and_makes_them(tmp_path: Path, hashed: list[int]) -> None:
    view = viewed("binary")
    snapshot.write(view, tmp_path)
    manifest = snapshot.manifest_of(tmp_path)
    opened = snapshot.opened(tmp_path, manifest)
    assert (manifest.name, opened.hashed, opened.base.buckets.mapped_bytes, hashed) == (f"5-{N}", False, 0, [])
    assert saw(opened) == saw(view)
    assert hashed == [N, N]


def test_an_empty_view_has_tables_too(tmp_path: Path) -> None:
    view = viewed("dense", 4)
    view.probed(QUERIES, 1)
    view = view.applied(9, np.empty(0, np.int64), view.base.codes[:0], np.arange(4))
    snapshot.write(view, tmp_path, hashed=True)
    opened = snapshot.opened(tmp_path, snapshot.manifest_of(tmp_path))
    assert (len(opened), len(opened.base.buckets)) == (0, 0)
    later = opened.applied(10, np.array([9]), view.codec.encode(VECTORS[:1]), np.empty(0, np.int64))
    assert later.probed(VECTORS[:1], 1).neighbours.rows.tolist() == [[9]]


def test_tables_of_other_codes_are_refused(tmp_path: Path) -> None:
    """Whole by their checksum; only their keys were made otherwise."""
    view = viewed("binary")
    view.probed(QUERIES, 10)
    (tmp_path / "a").mkdir()
    snapshot.write(view, tmp_path / "a", hashed=True)
    manifest = snapshot.manifest_of(tmp_path / "a")

    def reason(tables: HashTables) -> str:
        folder = Path(shutil.copytree(tmp_path / "a", tmp_path / "b", dirs_exist_ok=True))
        tables.write(folder)
        told = replace(manifest, files=described(folder, [*manifest.files]))
        with pytest.raises(SnapshotRefused) as refused:
            snapshot.opened(folder, told)
        return refused.value.detail

    index, codes = view.base.buckets, view.base.codes[:]
    assert reason(anew(index, codes[::-1].copy())) == "it cannot be read: its hash tables are not those of its codes"
    few = "it cannot be read: its hash tables are not as many as its codes have"
    assert reason(anew(index, codes[1:])) == few
    wider: Any = anew(index, codes).slots.astype(np.uint64)
    assert reason(anew(index, codes)._replace(slots=wider)) == few
    (tmp_path / "b" / FILES[0]).unlink()
    with pytest.raises(SnapshotRefused, match=f"its {FILES[0]} is not the file that was written"):
        snapshot.opened(tmp_path / "b", manifest)


def test_a_key_that_rounding_put_elsewhere_is_no_reason(tmp_path: Path) -> None:
    view = viewed("dense")
    view.probed(QUERIES, 10)
    index = view.base.buckets
    keys = index.codec.bucket_keys(view.base.codes[:], index.bits)
    for odd, refused in ((6, False), (64, True)):  # of 64 keys in each of four tables a tenth are 25
        moved = keys.copy()
        moved[np.linspace(0, N - 1, SAMPLE).astype(int)[:odd], 0] ^= 1
        HashTables.of(moved, index.codec.bucket_count(index.bits)).write(tmp_path)
        if refused:
            with pytest.raises(ValueError, match="not those of its codes"):
                BucketIndex.mapped(view.base.scan, tmp_path)
        else:
            assert BucketIndex.mapped(view.base.scan, tmp_path).known


@pytest.mark.parametrize("kind", list(CODECS))
def test_keys_go_along_as_a_view_changes(kind: str, monkeypatch: pytest.MonkeyPatch, hashed: list[int]) -> None:
    monkeypatch.setattr(view_module, "SMALLEST_TAIL", 80)
    view, rng, last = viewed(kind), np.random.default_rng(3), N
    never_searched = viewed(kind)
    saw(view)
    folds = carried = 0
    for _ in range(12):
        added = np.arange(last, last + int(rng.integers(1, 60)))
        last = int(added[-1]) + 1
        removed = rng.choice(view.live_rows(), 25, replace=False)
        codes = view.codec.encode(VECTORS[added])
        hashed.clear()
        before, tail = len(view.base), view.tail
        view = view.applied(last, added, codes, removed)
        if tail.buckets.known and len(view.base) == before and tail.buckets.bits == view.tail.buckets.bits:
            assert hashed == [len(added)]  # of the new ones alone
            carried += 1
        never_searched = never_searched.applied(last, added, codes, removed)
        folds += len(view.base) != before
        for segment in (view.base, view.tail):
            if segment.buckets.known:
                index = segment.buckets
                assert same(index._tables(), anew(index, segment.codes[:]))
        if rng.integers(2):
            saw(view)
        assert view.hashed
    assert (folds >= 2, carried >= 1) == (True, True)
    assert (never_searched.hashed, never_searched.tail.buckets.known) == (False, False)
    assert saw(view) == saw(never_searched)


def test_longer_keys_are_made_anew() -> None:
    codec = CODECS["dense"]()
    codes = codec.encode(VECTORS)
    index = Segment.of(codec, np.arange(100), codes[:100]).buckets
    assert index.carried(np.arange(100), codes[:100]) is None
    assert index.tables == 4
    for count in (100, 127, 128, 300):
        keys = index.carried(np.arange(50), np.concatenate((codes[:50], codes[200 : 150 + count])))
        bits = int(np.log2(count))
        assert keys is not None
        assert np.array_equal(keys, codec.bucket_keys(np.concatenate((codes[:50], codes[200 : 150 + count])), bits))
