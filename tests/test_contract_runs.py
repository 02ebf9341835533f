"""The benchmark of contracts on real sets: what is ingested is never asked, and what a row says of its interval."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.contract_runs import RealSet, Row
from models import Estimate


def test_a_fifth_of_the_documents_is_asked_for_instead_of_being_ingested(tmp_path: Path) -> None:
    documents = [{"id": str(n), "title": f"title {n}", "text": f"text {n}"} for n in range(20)]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, documents)))
    (tmp_path / "queries.jsonl").write_text('{"id": "q", "text": "asked"}\n{"id": "r", "text": "judged by nobody"}')
    (tmp_path / "qrels.tsv").write_text("query\tdocument\tgrade\nq\t3\t1\n")
    for name, count in (("emb.npy", 20), ("qemb.npy", 2)):
        np.save(tmp_path / name, np.zeros((count, 4), np.float16))
    chosen = RealSet.of_texts(tmp_path)
    ingested, apart = ({one["text"] for one in some} for some in (chosen.items, chosen.asked["other documents"]))
    assert (len(ingested), len(apart)) == (16, 4)
    assert ingested | apart == {f"title {n} text {n}" for n in range(20)}
    assert all(one["text"] == f"title {one['id']} text {one['id']}" for one in chosen.items)
    assert chosen.asked["judged queries"] == [{"text": "asked"}]


@pytest.mark.parametrize(
    ("fresh", "said"),
    [(0.92, "yes | kept"), (0.93, "yes | kept"), (0.9301, "above | kept"), (0.89, "below | not kept")],
)
def test_a_row_says_where_its_fresh_queries_are(fresh: float, said: str) -> None:
    row = Row("set", 20_000, 0.9, "dense", 32, Estimate(0.92, 0.91, 0.93), "others", 5_000, fresh)
    line = f"| set | 20,000 | 0.9 | dense | 32 | 0.9200 [0.9100, 0.9300] | 5,000 others | {fresh:.4f} | {said} |"
    assert row.line() == line
