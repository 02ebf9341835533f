"""The same vectors as files of every format that a build reads."""

import base64
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from models import Vectors
from tests.conftest import clustered

N, DIM = 1_200, 16
VECTORS = clustered(N, DIM)


def npy(path: Path, vectors: Vectors) -> Path:
    np.save(path, vectors)
    return path


def ndjson(path: Path, vectors: Vectors) -> Path:
    def line(row: int, vector: Any) -> str:
        packed = base64.b64encode(vector.tobytes()).decode() if row % 2 else vector.tolist()
        return json.dumps({"id": row, "vector": packed, "text": "ignored"}) + "\n"

    content = "".join(line(row, vector) for row, vector in enumerate(vectors)).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def table(path: Path, vectors: Vectors, *, fixed: bool = False) -> Path:
    import pyarrow as pa
    import pyarrow.feather as feather
    import pyarrow.parquet as pq

    numbers = pa.array(vectors.ravel())
    lists = pa.FixedSizeListArray.from_arrays(numbers, vectors.shape[1]) if fixed else pa.array(vectors.tolist())
    content = pa.table(
        {"id": [str(row) for row in range(len(vectors))], "vector": lists, "other": [1.5] * len(vectors)}
    )
    if path.suffix == ".parquet":
        pq.write_table(content, path, row_group_size=250)
    elif path.suffix == ".feather":
        feather.write_feather(content, path, chunksize=250)
    else:  # as datasets' save_to_disk leaves it
        path.mkdir()
        (path / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
        with (
            pa.OSFile(str(path / "data-00000-of-00001.arrow"), "wb") as file,
            pa.ipc.new_stream(file, content.schema) as to,
        ):
            to.write_table(content, max_chunksize=250)
    return path


FORMATS: dict[str, Callable[[Path], Path]] = {
    "ndjson": lambda folder: ndjson(folder / "v.ndjson", VECTORS),
    "ndjson.gz": lambda folder: ndjson(folder / "v.ndjson.gz", VECTORS),
    "float16": lambda folder: npy(folder / "v.npy", VECTORS.astype(np.float16)),
    "parquet": lambda folder: table(folder / "v.parquet", VECTORS),
    "parquet, fixed": lambda folder: table(folder / "v.parquet", VECTORS, fixed=True),
    "feather": lambda folder: table(folder / "v.feather", VECTORS, fixed=True),
    "dataset": lambda folder: table(folder / "dataset", VECTORS),
}
