"""Writes a collection's items to a file that `codewell ingest` and `codewell build` read. Knows no HTTP and no view."""

import gzip
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from service.errors import InvalidInput, OriginalsDropped
from service.originals import Originals, decoded
from service.store import payload, store
from service.store.database import Database

PAGE = 2_000
SUFFIXES = (".ndjson", ".jsonl", ".ndjson.gz", ".jsonl.gz", ".parquet")


class Exported(NamedTuple):
    """What was written."""

    items: int
    seq: int
    """The file is the collection after this change."""


def export(database: Database, name: str, path: Path) -> Exported:
    """Writes every item as it was in one moment; `path` appears once it is whole, and replaces what was there.

    Raises:
        CollectionNotFound; InvalidInput: the suffix is none of SUFFIXES, or Parquet needs the extra `build`;
        OriginalsDropped: there are only codes.
    """
    if not path.name.endswith(SUFFIXES):
        raise InvalidInput(f"{path.name!r} ends with none of {', '.join(SUFFIXES)}", field="file")
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    writing = _parquet if path.suffix == ".parquet" else _ndjson
    items = 0
    try:
        with database.reading() as session, writing(draft) as write:
            row = store.found_collection(session, name)
            if row.originals == Originals.DROP and row.generation_id is not None and row.chunking is None:
                raise OriginalsDropped(f"only codes are left of the vectors of {row.name!r}", field="collection")
            last, seq = 0, row.seq
            while page := store.items_after(session, row.id, last, PAGE):
                items_out = [{"id": item.item_id, "text": item.text, "metadata": item.metadata} for item in page]
                if row.chunking is None:  # else its encoder makes the vectors again
                    stored = payload.vectors_by_row(session, row.id, [item.row_id for item in page])
                    vectors = decoded([stored[item.row_id] for item in page], row.dimension)
                    for given, vector in zip(items_out, vectors, strict=True):
                        given["vector"] = vector.tolist()
                write(items_out)
                items, last = items + len(page), page[-1].row_id
        with draft.open("rb") as whole:
            os.fsync(whole.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return Exported(items, seq)


@contextmanager
def _ndjson(path: Path) -> Iterator[Any]:
    with gzip.open(path, "wb") if ".gz" in path.name else path.open("wb") as file:

        def write(rows: list[dict[str, Any]]) -> None:
            for row in rows:
                kept = row | {"metadata": json.loads(row["metadata"])}
                line = json.dumps({key: value for key, value in kept.items() if value is not None}, ensure_ascii=False)
                file.write(line.encode() + b"\n")

        yield write


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InvalidInput("Parquet needs pyarrow: pip install 'codewell[build]'", field="file") from error
    fields = [("id", pa.string()), ("text", pa.string()), ("metadata", pa.string()), ("vector", pa.list_(pa.float32()))]
    schema = pa.schema(fields)
    with pq.ParquetWriter(path, schema) as writer:
        yield lambda rows: writer.write_table(pa.Table.from_pylist(rows, schema=schema))
