"""Codes as FAISS itself makes them, of any factory string: to measure beside ours. Knows no codec of ours."""

import faiss

from models.comparison import Code
from models.factory import BEAM
from models.metric import Metric, Vectors


def faiss_code(factory: str, vectors: Vectors, metric: Metric) -> Code:
    """What `faiss.index_factory` makes, trained on (n, D) vectors, prepared for the metric."""
    index = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_L2 if metric is Metric.L2 else 0)
    if "RQ" in factory:
        inner = faiss.downcast_index(faiss.extract_index_ivf(index) if "IVF" in factory else index.index)
        inner.rq.max_beam_size = BEAM
    index.train(vectors)
    return Code(index.sa_encode, index.sa_decode, index.sa_code_size(), faiss.serialize_index(index).nbytes)
