"""A trace as Markdown: the stage table and the summary."""

from __future__ import annotations

from lws_sim.trace import Trace

from .table import LEGEND, stage_table
from .words import summary_lines, title


def to_markdown(trace: Trace) -> str:
    """A heading, the legend, the table, and the summary as a list."""
    table = stage_table(trace)
    lines = [f"### {_plain(title(trace))}", ""]
    if table.marks:
        lines += [*(f"- {mark} {LEGEND[mark]}" for mark in table.marks), ""]
    lines += [_row(table.headings), _row(tuple("---" for _ in table.headings))]
    lines += [_row(cells) for cells in table.rows]
    lines += ["", *(f"- {_plain(line)}" for line in summary_lines(trace))]
    return "\n".join(lines) + "\n"


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(_plain(cell) for cell in cells) + " |"


def _plain(text: str) -> str:
    """`text` on one line, without control characters, and with what Markdown or HTML would take for its own
    made harmless."""
    safe = text.replace("&", "&amp;").replace("<", "&lt;").replace("\\", "\\\\")
    for special in "|*_`[]":
        safe = safe.replace(special, f"\\{special}")
    return "".join(character for character in " ".join(safe.split()) if character.isprintable())
