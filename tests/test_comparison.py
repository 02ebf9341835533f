"""What a code keeps, by the measure that the benchmark and `codewell compare` share."""

import numpy as np
import pytest

from models import Code, DenseConfig, LatentType, Metric, exact_neighbours, factories, kept, prepared
from tests.conftest import clustered, started_codec


@pytest.mark.parametrize("metric", list(Metric))
def test_what_is_kept_is_that_of_the_decoded_vectors(metric: Metric) -> None:
    codec = started_codec(DenseConfig(4, LatentType.INT8, decoder_hidden=()), metric)
    vectors, queries = prepared(clustered(300, 8, 2), metric), prepared(clustered(20, 8, 3), metric)
    code = Code.of(codec)
    found = kept(code, vectors, queries, metric)
    decoded = codec.decode(codec.encode(vectors))
    assert np.array_equal(found.decoded, decoded)
    assert np.array_equal(np.concatenate(found.codes), codec.encode(vectors))
    assert np.array_equal(found.rows, exact_neighbours(decoded, queries, 100, metric).rows)
    assert found.error == pytest.approx(((vectors - decoded) ** 2).sum() / vectors.var(axis=0).sum() / 300, rel=1e-4)
    assert code.total_bytes(1_000) == 4 + len(codec.to_bytes()) / 1_000


def test_nothing_lost_is_an_error_of_0() -> None:
    constant = np.ones((20, 3), np.float32)
    found = kept(Code(lambda x: x, lambda x: x, 12, 0), constant, constant[:2], Metric.L2)
    assert found.error == 0
    assert found.rows[:, :20].tolist() == [list(range(20))] * 2


def test_faiss_has_these_codes_of_so_many_bytes() -> None:
    assert factories(384, 32) == [
        "OPQ32_128,PQ32x8",
        "OPQ32_192,PQ32x8",
        "OPQ32_384,PQ32x8",
        "PQ32x8",
        "PCA256,RQ32x8",
        "PCAR192,RaBitQ",
        "PCAR48,RaBitQ2",
        "PCAR64,SQ4",
        "PCAR32,SQ8",
    ]
    assert factories(6, 8) == ["PCA6,RQ8x8", "PCA6,LSQ8x8", "PCAR6,SQ4", "PCAR6,SQ8"]
