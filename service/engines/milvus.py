"""A copy of codes as a collection of Milvus. Knows no Codewell database and no codec.

Milvus has no transactions. Every whole copy is a collection of its own, and a line of the collection `codewell_exports`
says which one is live: readers ask it first. It is written last, so that whatever was cut off is done again.
"""

import json
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import numpy as np

from service.engines.column import Column, Distance, Form, Type
from service.engines.engine import STATES, State
from service.engines.source import Batch, Row
from service.errors import EngineAway, EngineRefused, InvalidInput

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
TIMEOUT_SECONDS = 30
LONGEST_ID = 2_048
"""Bytes: 512 characters of at most 4."""
METRICS = {Distance.L2: "L2", Distance.IP: "IP", Distance.HAMMING: "HAMMING"}


class Copies(NamedTuple):
    """The line of `codewell_exports`."""

    state: State | None = None
    live: str | None = None
    """The collection that readers ask."""
    draft: str | None = None
    """One that was begun; to be removed where it did not become the live one."""

    def written(self) -> dict[str, Any]:
        """As JSON."""
        held = None if self.state is None else self.state._asdict()
        return {"state": held, "live": self.live, "draft": self.draft}

    @classmethod
    def read(cls, written: dict[str, Any]) -> "Copies":
        """What `written` wrote."""
        held = written["state"]
        state = None if held is None else State(**held | {"form": Form(held["form"])})
        return cls(state, written["live"], written["draft"])


class Milvus:
    """One name in `codewell_exports`, and the collection that is live under it."""

    def __init__(self, url: str, name: str) -> None:
        """`url` is `http://USER:PASSWORD@HOST:19530`, or a file that ends with .db for Milvus Lite.

        Raises:
            InvalidInput: pymilvus is not installed, or the URL or the name is none; EngineAway
        """
        if not NAME.fullmatch(name):
            detail = f"Milvus takes names of up to 200 letters, digits and _, not {name!r}: --table gives another"
            raise InvalidInput(detail, field="table")
        try:
            from pymilvus import MilvusClient
        except ImportError as error:
            raise InvalidInput("Milvus needs pymilvus: pip install 'codewell[milvus]'", field="to") from error
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it logs a traceback of what it raises as well
        self._name = name
        self._copies = Copies()
        uri, token = _address(url)
        with _told():
            self._client = MilvusClient(uri, token=token, timeout=TIMEOUT_SECONDS)

    @contextmanager
    def turn(self) -> Iterator[State | None]:
        """Nothing is locked: two that write one copy at the same time do the same twice."""
        with _told():
            self._copies = self._read()
            there = self._copies.live is not None and self._client.has_collection(self._copies.live)
            yield self._copies.state if there else None

    def replace(self, column: Column, state: State, batches: Iterable[Batch]) -> None:
        """Into a new collection, which then becomes the live one; the old one is removed.

        Raises:
            InvalidInput: Milvus compares no such values, or there is a collection of the new one's name.
        """
        if column.type is Type.SPARSE:
            raise InvalidInput(
                "Milvus takes no negative numbers in sparse vectors, and queries of sparse codes have them: --form "
                "vectors copies what they decode to, and --to pgvector takes them as they are",
                field="to",
            )
        before, draft = self._copies, f"{self._name}_{state.form}_{state.fingerprint}_{state.seq}"
        if before.draft is not None:
            self._client.drop_collection(before.draft)
        if self._client.has_collection(draft):
            raise InvalidInput(f"there is a collection {draft!r} already, and Codewell did not make it", field="table")
        self._keep(before._replace(draft=draft))
        self._create(draft, column)
        for batch in batches:
            self._upsert(draft, column, batch.rows)
        self._client.flush(draft)
        self._keep(Copies(state, draft))
        if before.live is not None and before.live != draft:
            self._client.drop_collection(before.live)

    def update(self, column: Column, state: State, batches: Iterable[Batch]) -> None:
        """In the live collection; what takes another's place comes before that goes."""
        live = str(self._copies.live)
        for batch in batches:
            self._upsert(live, column, batch.rows)
            if batch.gone:
                self._client.delete(live, ids=batch.gone)
        self._client.flush(live)
        self._keep(self._copies._replace(state=state))

    def close(self) -> None:
        """Ends the connection."""
        self._client.close()

    def _read(self) -> Copies:
        if not self._client.has_collection(STATES):
            return Copies()
        found = self._client.get(STATES, ids=[self._name], output_fields=["copies"])
        return Copies.read(found[0]["copies"]) if found else Copies()

    def _keep(self, copies: Copies) -> None:
        from pymilvus import DataType

        if not self._client.has_collection(STATES):
            schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field("name", DataType.VARCHAR, is_primary=True, max_length=255)
            schema.add_field("copies", DataType.JSON)
            schema.add_field("none", DataType.FLOAT_VECTOR, dim=2)  # Milvus asks for a vector in every collection
            self._make(STATES, schema, "none", "FLAT", "L2")
        self._client.upsert(STATES, [{"name": self._name, "copies": copies.written(), "none": [0.0, 0.0]}])
        self._client.flush(STATES)
        self._copies = copies

    def _create(self, name: str, column: Column) -> None:
        from pymilvus import DataType

        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("row_id", DataType.INT64, is_primary=True)
        schema.add_field("id", DataType.VARCHAR, max_length=LONGEST_ID)
        schema.add_field("metadata", DataType.JSON)
        bits = column.type is Type.BITS
        schema.add_field("code", DataType.BINARY_VECTOR if bits else DataType.FLOAT16_VECTOR, dim=column.width)
        self._make(name, schema, "code", "BIN_FLAT" if bits else "FLAT", METRICS[column.distance])

    def _make(self, name: str, schema: Any, field: str, index: str, metric: str) -> None:
        indexes = self._client.prepare_index_params()
        indexes.add_index(field, index_type=index, metric_type=metric)
        self._client.create_collection(name, schema=schema, index_params=indexes, consistency_level="Strong")

    def _upsert(self, name: str, column: Column, rows: Sequence[Row]) -> None:
        if not rows:
            return
        codes = np.frombuffer(bytearray().join(row.code for row in rows), np.uint8).reshape(len(rows), -1)
        values = np.asarray(column.values(codes))
        given = [value.tobytes() for value in values] if column.type is Type.BITS else list(values)
        self._client.upsert(
            name,
            [
                {"row_id": row.row_id, "id": row.item_id, "metadata": json.loads(row.metadata), "code": code}
                for row, code in zip(rows, given, strict=True)
            ],
        )


def _address(url: str) -> tuple[str, str]:
    """The URL without user and password, and these as Milvus takes them.

    Raises:
        InvalidInput, which does not repeat it.
    """
    if "://" not in url:
        return url, ""
    parts = urlsplit(url)
    if "@" in url.partition(parts.netloc)[2]:  # the rest of a password, which would be named in errors
        raise InvalidInput("that is no http://HOST:19530; in a password, / is %2F, ? is %3F, # is %23", field="target")
    token = ":".join(unquote(part) for part in (parts.username, parts.password) if part)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(), token


@contextmanager
def _told() -> Iterator[None]:
    """Says what Milvus says."""
    import grpc
    from pymilvus.exceptions import MilvusException

    try:
        yield
    except grpc.RpcError as error:
        details = error.details() if isinstance(error, grpc.Call) else None
        raise EngineAway(f"Milvus cannot be reached, or was lost: {details or 'no answer'}", field="target") from error
    except MilvusException as error:
        said = " ".join(error.message.splitlines()[:1])
        away = "onnect" in said or "navailable" in said
        raise (EngineAway if away else EngineRefused)(f"Milvus says: {said}", field="target") from error
