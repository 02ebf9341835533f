"""Ids that stand twice in one file. Knows no codes and no format."""

import json
from collections.abc import Iterator, Sequence
from hashlib import blake2b

import numpy as np

from service.builds.inputs import Input
from service.builds.shard import Shard

Doubles = dict[int, dict[int, str]]
"""By shard and position in it, the line that rejects the item there."""


def duplicates(inputs: Sequence[Input], shards: Sequence[Shard]) -> Doubles:
    """For each shard the positions whose id stands earlier in the same file, with the line that rejects them.

    Ids are compared as hashes of 8 bytes first, so that a file takes 16 bytes an item here; only those whose hash
    comes twice are compared themselves.
    """
    doubles: Doubles = {}
    first = 0
    for source in inputs:
        own = range(first, first + len(source.parts))
        first += len(source.parts)
        named = [number for number in own if shards[number].named]
        twice = _twice([shards[number] for number in named])
        seen: set[str] = set()
        for number in named if twice else ():
            ids = shards[number].ids()
            for position, code in enumerate(_hashes(ids)):
                if code not in twice:
                    continue
                if ids[position] in seen:
                    doubles.setdefault(number, {})[position] = _line(source, shards[number], position, ids[position])
                seen.add(ids[position])
    return doubles


def _twice(shards: Sequence[Shard]) -> set[int]:
    counted = [np.fromiter(_hashes(shard.ids()), np.uint64, shard.items) for shard in shards]
    codes = np.sort(np.concatenate(counted)) if counted else np.empty(0, np.uint64)
    return set(codes[1:][codes[1:] == codes[:-1]].tolist())


def _hashes(ids: Sequence[str]) -> Iterator[int]:
    return (int.from_bytes(blake2b(one.encode(), digest_size=8).digest(), "little") for one in ids)


def _line(source: Input, shard: Shard, position: int, item_id: str) -> str:
    row = int(shard.rows[position])
    place = {"line": row + 1} if "json" in source.path.rpartition("/")[2].partition(".")[2] else {"row": row}
    reason = f"id: {item_id!r} stands earlier in this file"
    return json.dumps({"file": source.path} | place | {"reason": reason}, ensure_ascii=False)
