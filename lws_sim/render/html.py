"""Traces as one page that needs nothing else: picture, stage table and summary of each set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lws_sim.trace import Trace

from .svg import STYLE, WIDTH, escape, to_svg
from .table import LEGEND, stage_table
from .words import summary_lines, title

_PAGE_STYLE: Final = f"""\
:root{{color-scheme:light dark}}
body{{margin:2rem auto;padding:0 1rem;max-width:{WIDTH}px;font:15px/1.5 system-ui,-apple-system,"Segoe UI",\
sans-serif;color:#1b2733;background:#fff;overflow-wrap:anywhere}}
h1{{font-size:1.25rem}}svg{{max-width:100%;height:auto}}.scroll{{overflow-x:auto}}
table{{border-collapse:collapse;font-size:13px}}
th,td{{padding:.25rem .6rem;border-bottom:1px solid #d5dce3;text-align:left;white-space:nowrap}}
td.note{{white-space:normal;min-width:14rem}}ul{{padding-left:1.2rem}}
.failed{{border-left:4px solid #c8442b;padding-left:.8rem}}
@media (prefers-color-scheme:dark){{body{{color:#e6edf3;background:#0f1419}}th,td{{border-color:#39434d}}}}"""


def to_html(traces: tuple[Trace, ...]) -> str:
    """The page."""
    names = ", ".join(f"{trace.namespace}/{trace.name}" for trace in traces)
    lines = [
        "<!doctype html>",
        '<html lang="en">',
        '<head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Rollout of {escape(names)}</title>",
        f"<style>{_PAGE_STYLE}\n{STYLE}</style></head>",
        "<body>",
    ]
    for trace in traces:
        lines += _section(trace)
    return "\n".join([*lines, "</body></html>", ""])


def _section(trace: Trace) -> Iterator[str]:
    table = stage_table(trace)
    yield f"<section><h1>{escape(title(trace))}</h1>"
    yield f"<ul{' class=failed' if trace.failed else ''}>"
    yield from (f"<li>{escape(line)}</li>" for line in summary_lines(trace))
    yield "</ul>"
    yield to_svg(trace, embedded=True).rstrip()
    if table.marks:
        yield f"<p>{escape('   '.join(f'{mark} {LEGEND[mark]}' for mark in table.marks))}</p>"
    yield '<div class="scroll"><table><thead><tr>'
    yield "".join(f"<th>{escape(heading)}</th>" for heading in table.headings)
    yield "</tr></thead><tbody>"
    for cells in table.rows:
        *rest, note = cells
        row = "".join(f"<td>{escape(cell)}</td>" for cell in rest)
        yield f'<tr>{row}<td class="note">{escape(note)}</td></tr>'
    yield "</tbody></table></div></section>"
