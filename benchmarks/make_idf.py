"""Makes service/text/idf.npy from examples/wordnet.jsonl.gz.

    python -m benchmarks.make_idf

A table that differs makes other vectors: collections encoded with the old one must be ingested again.
"""

import gzip
import json
from pathlib import Path

import numpy as np

from service.text.tfidf import inverse_frequencies

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    with gzip.open(ROOT / "examples/wordnet.jsonl.gz", "rt", encoding="utf-8") as lines:
        idf = inverse_frequencies(json.loads(line)["text"] for line in lines)
    path = ROOT / "service/text/idf.npy"
    np.save(path, idf)
    print(f"{path.relative_to(ROOT)}: {len(idf)} rows, {idf.min():.2f} to {idf.max():.2f}, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
