"""A comparison as one HTML page without script, font or picture from outside. Knows no training."""

import json
from collections.abc import Callable, Sequence
from html import escape
from math import floor

from service.compare.comparison import DEPTHS, Failed, Measured, Split
from service.compare.report import Report

LABEL, PANEL, GAP, LINE, HEAD, FOOT = 200, 170, 26, 26, 30, 26
"""Of the plot: widths of names and of a panel, between panels; heights of a line, above the first, below the last."""
STYLE = """
:root { color-scheme: light dark; --text: #1d2127; --quiet: #5c6470; --line: #dde1e7; --page: #fff; --soft: #f4f6f9;
  --ours: #1f6fb4; --theirs: #b3590a; --bad: #a82a2a }
@media (prefers-color-scheme: dark) { :root { --text: #e4e7ec; --quiet: #9ba4b1; --line: #363c46; --page: #15181d;
  --soft: #1e232a; --ours: #6db3f2; --theirs: #f0a35e; --bad: #f28b8b } }
body { margin: 0 auto; max-width: 72rem; padding: 2rem 1.2rem 4rem; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif }
h1 { font-size: 1.5rem; margin: 0 0 .3rem } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
p { margin: .4rem 0 } .quiet { color: var(--quiet); font-size: .9rem }
.verdict { margin: .8rem 0; padding: .7rem 1rem; background: var(--soft); border-left: 4px solid var(--quiet) }
.wins { border-color: var(--ours) } .loses, .missing { border-color: var(--bad) }
code { background: var(--soft); padding: .1rem .3rem; overflow-wrap: anywhere }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .5rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
th:first-child, td:first-child, td.reason { text-align: left } td.reason { color: var(--bad); white-space: normal }
th { color: var(--quiet); font-weight: 600; vertical-align: bottom } th[colspan] { text-align: center }
tr.ours td:first-child { color: var(--ours) } tr.theirs td:first-child { color: var(--theirs) }
td.top { font-weight: 700 }
svg { min-width: 44rem; width: 100%; font: 12px system-ui, sans-serif } svg text { fill: var(--text) }
svg .axis { fill: var(--quiet) } svg line { stroke: var(--line) }
svg .ours { fill: var(--ours); stroke: var(--ours) } svg .theirs { fill: var(--theirs); stroke: var(--theirs) }
svg text.ours, svg text.theirs { stroke: none } svg .ring { fill: var(--page); stroke-width: 1.6 }
svg .tables { fill-opacity: .35; stroke: none } svg rect { stroke: none }
"""


def page(report: Report) -> str:
    """The whole page."""
    title, measured = report.title, report.measured
    said = "".join(f'<p class="verdict {one.outcome}">{escape(one.sentence)}</p>' for one in report.verdicts)
    if report.caveat is not None:
        said = f'<p class="verdict missing">{escape(report.caveat)}</p>{said}'
    if report.taken is not None:
        taken = json.dumps(report.taken.candidate.codec)
        said += f'<p>Most neighbours of late items are kept by <code>"codec": {escape(taken, quote=False)}</code></p>'
        said += f'<h2>Neighbours kept, and what they cost</h2><div class="wide">{_plot(measured)}</div>'
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body><h1>{escape(title)}</h1>{said}"
        f'<h2>All figures</h2><div class="wide">{_table(report)}</div>'
        + "".join(f'<p class="quiet">{escape(note)}</p>' for note in report.notes)
        + "</body></html>\n"
    )


def _table(report: Report) -> str:
    recalls = "".join(f"<th>@{k}</th>" for k in DEPTHS)
    head = (
        '<tr><th rowspan="2">code</th><th colspan="3">bytes a vector</th><th colspan="3">recall, late</th>'
        '<th colspan="3">recall, trained</th><th colspan="2">error</th><th colspan="2">seconds</th>'
        '<th rowspan="2">search<br>ms</th></tr>'
        f"<tr><th>code</th><th>in all</th><th>at 1 million</th>{recalls}{recalls}<th>late</th><th>trained</th>"
        "<th>training</th><th>encoding</th></tr>"
    )
    tops = {
        (split, k): max((row.recall[split][k] for row in report.measured), default=0) for split in Split for k in DEPTHS
    }
    lines = []
    for row in report.rows:
        if isinstance(row, Failed):
            cells = f'<td class="reason" colspan="14">{escape(row.reason)}</td>'
        else:
            kept = [(row.recall[split][k], tops[split, k]) for split in Split for k in DEPTHS]
            cells = "".join(
                (
                    f"<td>{row.code_bytes}</td><td>{row.total_bytes:,.1f}</td>",
                    f"<td>{row.total_bytes_at_a_million:,.1f}</td>",
                    *(f'<td class="{"top" if share == top else ""}">{share:.3f}</td>' for share, top in kept),
                    f"<td>{row.error[Split.LATE]:.3f}</td><td>{row.error[Split.TRAINED]:.3f}</td>",
                    f"<td>{row.train_seconds:,.1f}</td><td>{row.encode_seconds:,.2f}</td><td>{row.search_ms:,.2f}</td>",
                )
            )
        lines.append(f'<tr class="{_side(row)}"><td>{escape(row.candidate.name)}</td>{cells}</tr>')
    return f"<table><thead>{head}</thead><tbody>{''.join(lines)}</tbody></table>"


def _plot(rows: Sequence[Measured]) -> str:
    """A line a code: its recall at each depth, late as a dot and trained as a ring, and its bytes as a bar."""
    rows = sorted(rows, key=lambda row: -row.recall[Split.LATE][10])
    width, height = LABEL + (len(DEPTHS) + 1) * (PANEL + GAP), HEAD + LINE * len(rows) + FOOT
    drawn = [
        f'<text x="0" y="{_middle(n) + 4}" class="{_side(row)}">{escape(row.candidate.name)}</text>'
        f'<line x1="{LABEL}" x2="{width - GAP}" y1="{_middle(n)}" y2="{_middle(n)}"/>'
        for n, row in enumerate(rows)
    ]
    for number, k in enumerate(DEPTHS):
        shares = [row.recall[split][k] for row in rows for split in Split]
        low, high = min(0.9, floor(min(shares) * 10) / 10), min(1.0, floor(max(shares) * 10 + 1) / 10)  # in tenths
        place, axis = _panel(number, f"recall@{k}", low, high, "{:.2f}", height)
        drawn.append(axis)
        for n, row in enumerate(rows):
            drawn += [
                f'<circle class="{_side(row)}{style}" cx="{place(row.recall[split][k]):.1f}" cy="{_middle(n)}" r="4.5">'
                f"<title>{escape(row.candidate.name)}: {row.recall[split][k]:.3f}, {split} items</title></circle>"
                for split, style in ((Split.TRAINED, " ring"), (Split.LATE, ""))
            ]
    place, axis = _panel(
        len(DEPTHS), "bytes a vector in all", 0, max(row.total_bytes for row in rows), "{:,.0f}", height
    )
    drawn.append(axis)
    for n, row in enumerate(rows):
        code, end = place(row.code_bytes), place(row.total_bytes)
        drawn.append(
            f'<g class="{_side(row)}"><title>{row.code_bytes} of code, {row.total_bytes - row.code_bytes:,.1f} of '
            f'tables</title><rect x="{place(0)}" y="{_middle(n) - 6}" width="{code - place(0):.1f}" height="12"/>'
            f'<rect class="tables" x="{code:.1f}" y="{_middle(n) - 6}" width="{end - code:.1f}" height="12"/></g>'
        )
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Recall and bytes of each code; the table below '
        f'has the figures">{"".join(drawn)}</svg><p class="quiet">Dots: late items, which no training saw. Rings: '
        "items trained on. Bars: bytes of code, and paler, of codebooks and networks, shared by these vectors.</p>"
    )


def _panel(
    number: int, title: str, low: float, high: float, form: str, height: int
) -> tuple[Callable[[float], float], str]:
    """Where a value stands in a panel, and the panel's title and axis."""
    left = LABEL + number * (PANEL + GAP)

    def place(value: float) -> float:
        return left + PANEL * (value - low) / (high - low)

    axis = f'<text x="{left}" y="14" class="axis">{title}</text>'
    for value, anchor in ((low, "start"), ((low + high) / 2, "middle"), (high, "end")):
        x = place(value)
        axis += f'<line x1="{x}" x2="{x}" y1="{HEAD - 8}" y2="{height - FOOT + 4}"/>'
        axis += f'<text x="{x}" y="{height - 8}" text-anchor="{anchor}" class="axis">{form.format(value)}</text>'
    return place, axis


def _middle(line: int) -> int:
    return HEAD + LINE * line + LINE // 2


def _side(row: Measured | Failed) -> str:
    return "ours" if row.candidate.is_ours else "theirs"
