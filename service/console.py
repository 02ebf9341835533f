"""What a user sees: progress, as bars or JSON lines, and answers. Knows no server and no file."""

import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

LINE_SECONDS = 1.0
"""Between two JSON lines of progress."""
JOBS_SHOWN = 5
PIPE_WIDTH = 160
"""Characters of a line where no terminal limits it."""
ID_WIDTH = 40
"""Characters of an id that a hit shows,"""
FEWEST_TEXT = 20
"""and of its text at least, however narrow the terminal is."""


class Progress:
    """How far a long job is, on stderr: a bar on a terminal, a JSON line a second elsewhere.

    With `unit`, numbers are counts of it and a rate is shown; without, `total` is 1 and shares are shown.
    """

    def __init__(self, label: str, total: float, unit: str | None = None) -> None:
        self._label = label
        self._total = total
        self._unit = unit
        self._began = time.monotonic()
        self._said = -LINE_SECONDS
        self._last: tuple[float, str] = 0, ""
        self._unsaid = True
        self._bar: Bar | None = None

    def __enter__(self) -> "Progress":
        self._began = time.monotonic()
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            state = TextColumn("{task.fields[state]}", markup=False)
            self._bar = Bar(TextColumn("{task.description}"), BarColumn(), state, console=Console(stderr=True))
            self._bar.add_task(self._label, total=self._total, state="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif kind is None and self._unsaid:
            self._line(*self._last)

    def to(self, done: float, message: str = "") -> None:
        """Says that `done` of the total is done."""
        self._last, self._unsaid = (done, message), True
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, state=self._state(done, message))
        elif time.monotonic() - self._said >= LINE_SECONDS:
            self._line(done, message)

    def _pace(self, done: float) -> tuple[float, float | None]:
        """Units a second, and the seconds that are left where that can be said."""
        rate = done / max(1e-9, time.monotonic() - self._began)
        return rate, (self._total - done) / rate if rate > 0 else None

    def _state(self, done: float, message: str) -> str:
        rate, left = self._pace(done)
        remaining = "" if left is None else f"  {timedelta(seconds=round(left))} left"
        if self._unit is None:
            return f"{done / self._total:4.0%}{remaining}  {message}"
        return f"{done:,.0f} of {self._total:,.0f} {self._unit}  {rate:,.0f}/s{remaining}  {message}"

    def _line(self, done: float, message: str) -> None:
        self._said, self._unsaid = time.monotonic(), False
        rate, left = self._pace(done)
        line = {
            "done": round(done, 4),
            "total": self._total,
            "rate": round(rate, 4),
            "seconds_left": None if left is None else round(left, 1),
        }
        sys.stderr.write(json.dumps(line | ({"message": message} if message else {})) + "\n")
        sys.stderr.flush()


def shown(text: str, width: int) -> str:
    """A text on one line of at most `width` characters; what could steer a terminal becomes a space."""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return line if len(line) <= width else line[: max(1, width - 1)] + "…"


def rate(share: object) -> str:
    """A share such as recall with three digits, or a dash."""
    return f"{share:.3f}" if isinstance(share, float | int) else "-"


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on stdout; columns of numbers are right-aligned."""
    from rich.console import Console
    from rich.table import Table

    table: Table = Table(title=title, title_justify="left")
    for position, column in enumerate(columns):
        numbers = bool(rows) and all(_is_number(row[position]) for row in rows)
        table.add_column(column, justify="right" if numbers else "left")
    for row in rows:
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else shown(str(cell), PIPE_WIDTH) for cell in row))
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    Console(markup=False, highlight=False, emoji=False, width=width).print(table)


def print_status(status: Mapping[str, Any]) -> None:
    """A server with its collections and newest jobs."""
    sys.stdout.write(f"{status['url']} is ready\n")
    rows: list[Sequence[object]] = []
    for one in status["collections"]:
        certificate = one["certificate"] or {}
        recall = rate(certificate.get("recall@10", {}).get("faiss", {}).get("rescore"))
        takes = one["dimension"], one["metric"], one["encoder"] or "-"
        rows.append(
            (one["name"], one["items"], *takes, one["generation"] or "-", certificate.get("code_bytes", "-"), recall)
        )
    columns = ("name", "items", "dimension", "metric", "encoder", "generation", "code bytes", "recall@10")
    print_table("collections", columns, rows)
    jobs = [
        (job["id"], job["collection"], job["kind"], job["state"], f"{job['progress']:.0%}", job["message"])
        for job in status["jobs"][:JOBS_SHOWN]
    ]
    if jobs:
        print_table("newest jobs", ("job", "collection", "kind", "state", "progress", "message"), jobs)


def print_certificate(certificate: Mapping[str, Any]) -> None:
    """The figures that were measured before a generation was published."""
    total = certificate["total_bytes"]
    rows = [
        (index, rate(of["refine"]), rate(of.get("rescore")), certificate["code_bytes"], f"{total[index]:.1f}")
        for index, of in certificate["recall@10"].items()
    ]
    fewer = certificate.get("originals_read")
    read = f"{fewer or certificate['k'] * certificate['oversample']:g} originals read"
    asked = "queries of users" if certificate.get("measured_by") == "queries" else "held-out items"
    print_table(
        f"recall@10 of {certificate['queries']:,} {asked} against exact search over {certificate['items']:,}",
        ("index", "codes only", read, "bytes a code", "bytes a vector in all"),
        rows,
    )
    for name, of in certificate.get("intervals", {}).items():
        least = certificate.get("contract", {}).get(name)
        sys.stdout.write(
            f"{name} of a default search is {of['value']:.3f}, 95% interval {of['low']:.3f} to {of['high']:.3f}"
            + (f"; the contract asks for {least:g}\n" if least is not None else "\n")
        )
    if (scan := certificate.get("scan", 1)) < 1:
        sys.stdout.write(f"A default search looks at {scan:.0%} of the codes.\n")
    sys.stdout.write(
        f"An original vector has {certificate['original_bytes']:,} bytes; 'in all' counts ids, tables and the codec.\n"
    )


def print_hits(answer: Mapping[str, Any]) -> None:
    """A line a hit, as wide as the terminal; why there are too few of them, on stderr."""
    hits = answer["hits"]
    ids = max((len(shown(hit["id"], ID_WIDTH)) for hit in hits), default=0)
    texts = max(FEWEST_TEXT, shutil.get_terminal_size((PIPE_WIDTH, 24)).columns - ids - 16)
    for rank, hit in enumerate(hits, 1):
        item_id, found = shown(hit["id"], ID_WIDTH), shown((hit["chunk"] or hit)["text"] or "", texts)
        sys.stdout.write(f"{rank:>3}  {hit['score']:7.4f}  {item_id:<{ids}}  {found}".rstrip() + "\n")
    if answer["partial"]:
        sys.stderr.write(f"fewer hits than asked for: {answer['partial_reason']}\n")
    elif not hits:
        sys.stderr.write("no hits: nothing in the collection fits\n")


def print_summary(summary: Mapping[str, Any]) -> None:
    """What became of an ingest: words on a terminal, a JSON line elsewhere."""
    if not sys.stdout.isatty():
        sys.stdout.write(json.dumps(summary) + "\n")
        return
    counts = ", ".join(f"{summary[name]:,} {name}" for name in ("inserted", "updated", "unchanged", "rejected"))
    sys.stdout.write(f"{summary['collection']}: {counts} in {summary['seconds']:.1f} s\n")
    if summary["shortened"]:
        sys.stdout.write(
            f"{summary['shortened']:,} texts were longer than the encoder reads; it read their beginning\n"
        )


def _is_number(cell: object) -> bool:
    return isinstance(cell, float | int) or str(cell).replace(",", "").replace(".", "").replace("-", "").isdigit()
