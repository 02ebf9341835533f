"""The smallest route before an HNSW index: what a service of a few lines costs. Knows nothing of Codewell.

    python -m benchmarks.hnsw_route FILE.faiss|POSTGRES_URL PORT [--workers N]

FAISS's index is read into the process. pgvector's table `items` is asked by prepared statements, a connection a thread.
"""

import argparse
import base64
import os
import socket
from collections.abc import Callable
from threading import local
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI
from numpy.typing import NDArray
from pydantic import BaseModel
from uvicorn.supervisors import Multiprocess

SOURCE = "HNSW_ROUTE_SOURCE"
BACKLOG = 2048
Find = Callable[[NDArray[np.float32], int, int], list[tuple[int, float]]]
"""(D,) to k pairs of item and score, by an index that looks at `ef` candidates."""


class Question(BaseModel):
    """Base64 of little-endian float32, as Codewell takes it."""

    vector: str
    k: int = 10
    ef: int = 64


def create_app() -> FastAPI:
    """Called in each process that answers."""
    source = os.environ[SOURCE]
    find = by_pgvector(source) if source.startswith("postgres") else by_faiss(source)
    app = FastAPI()

    @app.post("/search")
    def search(asked: Question) -> list[tuple[int, float]]:
        return find(np.frombuffer(base64.b64decode(asked.vector), "<f4"), asked.k, asked.ef)

    return app


def by_faiss(file: str) -> Find:
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.read_index(file)

    def find(vector: NDArray[np.float32], k: int, ef: int) -> list[tuple[int, float]]:
        scores, rows = index.search(vector[None], k, params=faiss.SearchParametersHNSW(efSearch=ef))
        return list(zip(rows[0].tolist(), scores[0].tolist(), strict=True))

    return find


def by_pgvector(url: str) -> Find:
    import psycopg
    from psycopg.adapt import Dumper
    from psycopg.pq import Format
    from psycopg.types import TypeInfo

    with psycopg.connect(url) as connection:
        kind = TypeInfo.fetch(connection, "vector")
    assert kind is not None
    number = kind.oid

    class AsVector(Dumper):
        format = Format.BINARY
        oid = number

        def dump(self, obj: NDArray[np.float32]) -> bytes:
            return len(obj).to_bytes(2, "big") + bytes(2) + obj.astype(">f4").tobytes()

    here = local()

    def find(vector: NDArray[np.float32], k: int, ef: int) -> list[tuple[int, float]]:
        if not hasattr(here, "connection"):
            here.connection, here.ef = psycopg.connect(url, autocommit=True, prepare_threshold=0), 0
            here.connection.adapters.register_dumper(np.ndarray, AsVector)
        if here.ef != ef:
            here.connection.execute(f"SET hnsw.ef_search = {ef:d}".encode())
            here.ef = ef
        # The limit is no parameter: a plan made for any limit would read the whole table.
        statement = f"SELECT id, embedding <=> %b AS distance FROM items ORDER BY distance LIMIT {k:d}"  # noqa: S608
        rows: list[Any] = here.connection.execute(statement.encode(), (vector,)).fetchall()
        return rows

    return find


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("port", type=int)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    os.environ[SOURCE] = given.source
    config = uvicorn.Config(
        "benchmarks.hnsw_route:create_app", factory=True, workers=given.workers, log_level="error", access_log=False
    )
    # Workers would inherit a socket that does not say it is TCP's, and asyncio then waits 40 ms with every answer.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", given.port))
        listener.listen(BACKLOG)
        if given.workers > 1:
            Multiprocess(config, [listener]).run()
        else:
            uvicorn.Server(config).run([listener])


if __name__ == "__main__":
    main()
