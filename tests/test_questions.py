"""Queries that are items: asked without themselves, over all others as the collection has them."""

import numpy as np
import pytest

from models import Codec, Metric, ResidualConfig, exact_neighbours, recall
from service.index.segment import IndexKind
from service.index.view import View
from service.questions import HeldOut, Questions
from service.search import Plan, Stage
from tests.conftest import clustered, started_codec

N, DIM, K, OVERSAMPLE = 600, 16, 10, 2
VECTORS = clustered(N, DIM)
ROWS = np.arange(100, 100 + N)
OWN = np.arange(0, N, 5)


@pytest.fixture(scope="module")
def codec() -> Codec:
    return started_codec(ResidualConfig(8, beam=8), Metric.L2, DIM)


@pytest.mark.parametrize("stage", [Stage.REFINE, Stage.RESCORE])
def test_held_out_items_are_searched_among_by_all_but_themselves(stage: Stage, codec: Codec) -> None:
    codes = codec.encode(VECTORS)
    codes[OWN] = codes[OWN[::-1]]  # as if the codec knew nothing of what it was not trained on
    view = View.of(1, codec, 0, ROWS, codes)
    asked = Questions.of(
        view, HeldOut(ROWS[OWN], VECTORS[OWN]), [(ROWS[:400], VECTORS[:400]), (ROWS[400:], VECTORS[400:])]
    )
    width = K * OVERSAMPLE if stage is Stage.RESCORE else K
    truth, found = [], []
    for row in OWN:
        others = np.delete(np.arange(N), row)
        question = VECTORS[row : row + 1]
        truth.append(ROWS[others[exact_neighbours(VECTORS[others], question, K, Metric.L2).rows[0]]])
        found.append(ROWS[others[exact_neighbours(codec.decode(codes)[others], question, width, Metric.L2).rows[0]]])
    assert np.array_equal(asked.truth[:, :K], np.array(truth))
    shares = asked.recall(Plan(K, OVERSAMPLE, IndexKind.FAISS, stage))
    assert shares == pytest.approx(recall(np.array(found), np.array(truth)), abs=1e-9)
    tuning, certifying = asked.halves()
    assert np.array_equal(certifying.recall(Plan(K, OVERSAMPLE, IndexKind.FAISS, stage)), shares[1::2])
    assert len(tuning) == len(certifying) == 60

    late = np.isin(asked.truth[:, :K], ROWS[OWN])
    assert 0.1 < late.mean() < 0.3
    kept = (asked.truth[:, :K, None] == np.array(found)[:, None, :]).any(axis=2)
    assert kept[late].mean() < 0.3 < kept[~late].mean()
    apart = asked.apart()
    assert (len(view), len(apart)) == (N, N - len(OWN))
    assert not apart.holds(ROWS[OWN]).any()
