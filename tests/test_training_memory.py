"""Training streams: memory does not grow with the vectors of a memory-mapped array."""

import sys

import pytest

from benchmarks.training_memory import MB, measured


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_eight_times_the_vectors_take_hardly_more_memory() -> None:
    few, many = (measured(rows, 96, 2_000) for rows in (16_000, 128_000))
    # The larger file has 43 MB more; a permutation of its rows, which is held, and a few copies of it have 1 MB each.
    assert many.most - few.most < 15 * MB
    assert few.most > few.before > 50 * MB
