"""Codes as hash-table addresses: a code's keys name its buckets, and a query looks into the cheapest buckets first.

Knows no row ids, no FAISS and no SQL, and not what keys and costs mean: the codec does.
"""

from math import comb
from pathlib import Path
from threading import Lock
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from models import Codec, Codes, Neighbours, Scores, Vectors, top
from service.index.listed import ListedCodes
from service.index.look import Look, Over, never
from service.index.near import Near
from service.index.tables import HashTables

FEWEST_BITS, MOST_BITS = 2, 16
"""As many buckets as there are codes, within these: small buckets let the query's margins order the scan finely."""
ROUND = 16_384
"""Entries of tables read between two looks at the time: some milliseconds."""
SAMPLE, MOST_ODD = 64, 0.1
"""Codes whose keys are compared with given tables, and the share of them that rounding may have put elsewhere."""
FEWEST_PROBES = 64
"""Buckets asked for at first where a number of codes is wanted,"""
WIDER = 4
"""and how many times as many where they held too few."""


class ScanIndex(Protocol):
    """The index that scans all codes of a segment: the buckets let it score those that they choose."""

    @property
    def codec(self) -> Codec:
        """Whose codes they are."""
        ...

    @property
    def codes(self) -> Codes | ListedCodes:
        """(n, code_bytes) by slot."""
        ...

    def __len__(self) -> int: ...

    def near(self, queries: Vectors) -> list[Near]:
        """For each of (q, D) queries what scores slots."""
        ...


class BucketIndex:
    """An immutable index over n codes; slot i is code i. Its tables are mapped, or built by the first search: of
    (n, tables) `keys`, where somebody has them.
    """

    def __init__(self, scan: ScanIndex, keys: NDArray[np.uint16] | None = None) -> None:
        self.codec = scan.codec
        self._scan = scan
        self.bits = bits_for(len(scan))
        self._building = Lock()
        self._keys = keys
        self._built: HashTables | None = None
        self._is_mapped = False

    @classmethod
    def mapped(cls, scan: ScanIndex, folder: Path) -> "BucketIndex":
        """The index whose tables are in files that `HashTables.write` made.

        Raises:
            ValueError: they are not those of these codes; the same codes have other keys where numpy draws others, say.
        """
        index, tables = cls(scan), HashTables.mapped(folder)
        sample = np.linspace(0, len(scan) - 1, min(SAMPLE, len(scan))).astype(np.int64)
        keys, count = index.codec.bucket_keys(scan.codes[sample], index.bits), index.codec.bucket_count(index.bits)
        shapes = ((keys.shape[1] * len(scan),), (keys.shape[1] * count + 1,))
        if tuple((part.dtype, part.shape) for part in tables) != tuple((np.dtype(np.uint32), one) for one in shapes):
            raise ValueError("its hash tables are not as many as its codes have")
        buckets = keys + count * np.arange(keys.shape[1])
        held = tables.holds(np.repeat(sample, keys.shape[1]), buckets.ravel())
        if (~held).sum() > MOST_ODD * len(held):
            raise ValueError("its hash tables are not those of its codes")
        index._built, index._is_mapped = tables, True
        return index

    def __len__(self) -> int:
        return len(self._scan)

    @property
    def ram_bytes(self) -> int:
        """Bytes of the tables, or of keys to make them of, without the codes: none before the first search."""
        if self._built is not None:
            return self._built.ram_bytes
        return 0 if self._keys is None else self._keys.nbytes

    @property
    def mapped_bytes(self) -> int:
        """Those of them that are in files."""
        return self.ram_bytes if self._is_mapped else 0

    @property
    def known(self) -> bool:
        """Whether there are tables, or keys to make them of: somebody has searched by them, be it long ago."""
        return self._keys is not None or self._built is not None

    @property
    def tables(self) -> int:
        """How many a code stands in."""
        return self.buckets // self.codec.bucket_count(self.bits)

    @property
    def buckets(self) -> int:
        """Of all tables, empty ones too."""
        return len(self._tables().begins) - 1

    def _tables(self) -> HashTables:
        with self._building:
            if self._built is None:
                keys = self._keys
                if keys is None:
                    keys = self.codec.bucket_keys(self._scan.codes[:], self.bits)
                self._built = HashTables.of(keys, self.codec.bucket_count(self.bits))
                self._keys = None  # after the tables are there: `carried` waits for nobody
            return self._built

    def carried(self, slots: NDArray[np.int64], codes: Codes | ListedCodes) -> NDArray[np.uint16] | None:
        """(n, tables) keys of (n, code_bytes) codes of which the first stand at (s,) `slots` here, for an index over
        them; none where nobody has searched here.
        """
        keys, built, bits = self._keys, self._built, bits_for(len(codes))
        if built is not None:
            keys = built.keys(self.codec.bucket_count(self.bits))
        if keys is None:
            return None
        if bits != self.bits:
            return self.codec.bucket_keys(codes[:], bits)
        return np.concatenate((keys[slots], self.codec.bucket_keys(codes[len(slots) :], bits)))

    def search(
        self,
        queries: Vectors,
        k: int,
        live: NDArray[np.uint8],
        candidates: int,
        probes: int | None = None,
        over: Over = never,
    ) -> Look:
        """(q, D) queries to the best k slots of each among `candidates` slots, or fewer, from the nearest buckets; with
        `probes` from so many of them, however many codes these hold.

        Slots whose bit in `live` is not set are neither scored nor counted. Scores compare latents. When the time is
        over, no further bucket is read; of the first query some are.
        """
        alive = int(np.bitwise_count(live).sum())
        wanted = alive if probes is not None else min(candidates, alive)
        latents, near = self.codec.latents(queries), self._scan.near(queries)
        found = []
        for query in range(len(queries)):
            if query and over():
                found.append(_Found.nothing())
            elif wanted == alive and probes is None:
                found.append(self._everything(near[query], live))
            else:
                found.append(self._found(latents[query], near[query], live, wanted, probes, over))
        best = [top(one.scores[None], one.slots, k) for one in found]
        neighbours = Neighbours(*(np.concatenate(parts) for parts in zip(*best, strict=True)))
        probed = np.array([one.probes for one in found], np.int64)
        scored = np.array([len(one.slots) for one in found], np.int64)
        radius = np.array(
            [self._radius(latent, one.read) for latent, one in zip(latents, found, strict=True)], np.int64
        )
        cut = np.array([one.cut for one in found], np.bool_)
        return Look(neighbours, self.tables, probed, scored, radius, cut)

    def _everything(self, near: Near, live: NDArray[np.uint8]) -> "_Found":
        """Every live slot: there is nothing to choose."""
        slots = np.flatnonzero(np.unpackbits(live, count=len(self), bitorder="little"))
        return _Found(slots, near(slots) if len(slots) else np.empty(0, np.float32), 0, None, False)

    def _found(
        self,
        latents: NDArray[np.float32],
        near: Near,
        live: NDArray[np.uint8],
        wanted: int,
        probes: int | None,
        over: Over,
    ) -> "_Found":
        """Reads the buckets in rounds, cheapest first, until `wanted` live slots are scored or `probes` are read."""
        tables, alive = self._tables(), int(np.bitwise_count(live).sum())
        most = min(self.buckets, probes or self.buckets)
        order, sizes = np.empty(0, np.int64), np.empty(0, np.int64)
        slots, scores = np.empty(0, np.int64), np.empty(0, np.float32)
        read, done, cut = 0, 0, False
        guess = probes or 2 * wanted * self.codec.bucket_count(self.bits) // max(1, alive) + FEWEST_PROBES
        while len(slots) < wanted and done < most and not (cut := done > 0 and over()):
            if done == len(order):
                wider = self.codec.nearest_buckets(latents, self.bits, min(most, guess))
                known = np.zeros(self.buckets, np.bool_)
                known[order] = True
                order = np.concatenate((order, wider[~known[wider]]))
                sizes, guess = tables.size(order), guess * WIDER
            missing = wanted - len(slots)
            ends = np.cumsum(sizes[done:])
            step = int(np.searchsorted(ends, min(ROUND, missing + missing // 2 + FEWEST_PROBES))) + 1
            entries = tables.entries(order[done : done + step], sizes[done : done + step])
            fresh, edge = _fresh(entries, live, slots, missing)
            if edge is None:
                read = done = done + min(step, len(ends))
            else:  # so many slots were wanted: the last bucket may hold more of them
                read = done + int(np.searchsorted(ends, edge + 1, "right"))
                done = max(read, done + int(np.searchsorted(ends, edge, "right")) + 1)
            if len(fresh):
                slots, scores = np.concatenate((slots, fresh)), np.concatenate((scores, near(fresh)))
        return _Found(slots, scores, done, None if len(slots) == alive else order[:read], cut)

    def _radius(self, latents: NDArray[np.float32], read: NDArray[np.int64] | None) -> int:
        """The Hamming radius around a query's keys within which all of `read` buckets, or of every one, lie."""
        key, count = self.codec.query_key(latents, self.bits), self.codec.bucket_count(self.bits)
        if key is None:
            return -1
        if read is None:
            return self.bits
        tables = read // count
        distances = np.bitwise_count((read % count).astype(np.uint16) ^ key[tables])
        there = np.bincount((self.bits + 1) * tables + distances, minlength=(self.bits + 1) * len(key))
        ball = [comb(self.bits, distance) for distance in range(self.bits + 1)]
        whole = (there.reshape(len(key), -1) == ball).all(axis=0)
        return int(np.argmin(np.append(whole, False))) - 1


def bits_for(codes: int) -> int:
    """Bits of a key where there are so many codes."""
    return int(np.clip(np.log2(max(1, codes)), FEWEST_BITS, MOST_BITS))


class _Found(NamedTuple):
    """What one query's look came to."""

    slots: NDArray[np.int64]
    scores: Scores
    probes: int
    read: NDArray[np.int64] | None
    """The buckets that were read to their end; none where everything was."""
    cut: bool

    @classmethod
    def nothing(cls) -> "_Found":
        """There was no time to look."""
        none = np.empty(0, np.int64)
        return cls(none, np.empty(0, np.float32), 0, none, True)


def _fresh(
    entries: NDArray[np.int64], live: NDArray[np.uint8], known: NDArray[np.int64], most: int
) -> tuple[NDArray[np.int64], int | None]:
    """The first `most` different live slots of entries that are not `known`, ascending; where they end, if before the
    entries do.
    """
    alive = live[entries >> 3] >> (entries & 7).astype(np.uint8) & 1
    places = np.flatnonzero(alive)
    if len(known):
        seen = np.zeros(8 * len(live), np.bool_)
        seen[known] = True
        places = places[~seen[entries[places]]]
    pairs = np.sort(entries[places] << 32 | places)  # the first place of each slot
    firsts = pairs[np.flatnonzero(np.diff(pairs >> 32, prepend=-1))]
    if len(firsts) <= most:
        return firsts >> 32, None
    where = firsts & 0xFFFFFFFF
    edge = int(np.partition(where, most - 1)[most - 1])
    return firsts[where <= edge] >> 32, edge
