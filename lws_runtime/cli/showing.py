"""How `lws simulate` prints traces."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

import click

from lws_core.values import FrozenMap, Json, freeze_map, thaw
from lws_runtime.yaml_values import to_yaml
from lws_sim.render.document import to_document
from lws_sim.render.html import to_html
from lws_sim.render.markdown import to_markdown
from lws_sim.render.svg import to_svg
from lws_sim.render.table import LEGEND, stage_table
from lws_sim.render.words import summary_lines, title
from lws_sim.scenario import API_VERSION
from lws_sim.trace import Trace

from .loading import printable

FORMATS: Final = ("table", "markdown", "json", "yaml", "html", "svg")
_WIDE: Final = 10_000  # columns, where no terminal sets a limit


def show(traces: Sequence[Trace], output: str) -> None:
    """Print traces in one of FORMATS."""
    match output:
        case "table":
            for index, trace in enumerate(traces):
                click.echo("" if index == 0 else "\n", nl=False)
                _show_table(trace)
        case "markdown":
            click.echo("\n".join(to_markdown(trace) for trace in traces), nl=False)
        case "json":
            click.echo(json.dumps(thaw(_listed(traces)), indent=2, ensure_ascii=False))
        case "yaml":
            click.echo(to_yaml(_listed(traces)), nl=False)
        case "html":
            click.echo(to_html(tuple(traces)), nl=False)
        case _:
            click.echo(to_svg(traces[0]), nl=False)


def _listed(traces: Sequence[Trace]) -> FrozenMap[Json]:
    items = [to_document(trace) for trace in traces]
    return freeze_map({"apiVersion": API_VERSION, "kind": "TraceList", "items": items})


def _show_table(trace: Trace) -> None:
    from rich import box  # noqa: PLC0415  # costs a tenth of a second
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    stages = stage_table(trace)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in stages.headings:
        numeric = heading in ("Time", "Partition", "Replicas")
        table.add_column(heading, justify="right" if numeric else "left", overflow="fold")
    for cells in stages.rows:
        table.add_row(*[Text(printable(cell)) for cell in cells])
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDE
    with console.capture() as printed:  # click writes it: rich would end the program where nobody reads
        console.print(Text(printable(title(trace)), style="bold"))
        if stages.marks:
            console.print(Text("  ".join(f"{mark} {LEGEND[mark]}" for mark in stages.marks)))
        console.print()
        console.print(table)
        console.print()
        for line in summary_lines(trace):
            console.print(Text(printable(line)))
    for line in printed.get().splitlines():
        click.echo(line.rstrip())
