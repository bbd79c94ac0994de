"""A trace as the guide's stage table: headings and cells, for whoever draws the lines."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Final

import attrs

from lws_sim.scenario import duration
from lws_sim.trace import Trace

MARKS: Final = {"n": "✅", "o": "❎", "x": "❌", "l": "⏳", "t": "⏳", ".": "⏳"}
LEGEND: Final = {
    "✅": "Replica has been updated",
    "❎": "Replica hasn't been updated",
    "⏳": "Replica is in rolling update",
    "❌": "Replica hasn't been updated, and is not ready",
}
_MOST_COLUMNS: Final = 16


@attrs.frozen
class StageTable:
    """Headings, and as many cells in each row. `marks`: those that occur, in the legend's order."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marks: tuple[str, ...]


def stage_table(trace: Trace) -> StageTable:
    """The rows of a trace as cells.

    A column for each group, or above 16 groups for each range of groups that are equal in every row; where
    even those are more than 16, one column tells the ranges of each row. Where the scenario decides when pods
    are ready, times would be arbitrary, and have no column.
    """
    timed = trace.summary.load_s is not None
    ranges = _ranges(trace)
    if len(ranges) <= _MOST_COLUMNS:
        columns = [_name(first, last) for first, last in ranges]
        cells = [[_mark(row.groups[first : first + 1]) for first, _ in ranges] for row in trace.rows]
    else:
        columns = ["Groups"]
        cells = [[_told(row.groups)] for row in trace.rows]
    headings = ("Stage", *(("Time",) if timed else ()), "Partition", "Replicas", *columns, "Note")
    rows = tuple(
        (
            f"Stage{row.stage}",
            *((duration(row.at_s),) if timed else ()),
            str(row.partition),
            str(row.replicas),
            *groups,
            row.note,
        )
        for row, groups in zip(trace.rows, cells, strict=True)
    )
    seen = {_mark(letter) for row in trace.rows for letter in row.groups}
    return StageTable(headings, rows, tuple(mark for mark in LEGEND if mark in seen))


def _mark(letter: str) -> str:
    return MARKS.get(letter, "")


def _name(first: int, last: int) -> str:
    return f"R-{first}" if first == last else f"R-{first}..{last}"


def _ranges(trace: Trace) -> list[tuple[int, int]]:
    """One range for each group, or above 16 the ranges of neighbours that are equal in every row."""
    width = trace.width
    if width <= _MOST_COLUMNS:
        return [(index, index) for index in range(width)]
    columns = [tuple([_mark(row.groups[index : index + 1]) for row in trace.rows]) for index in range(width)]
    return list(_runs(columns))


def _runs(items: list[tuple[str, ...]] | str) -> Iterator[tuple[int, int]]:
    """First and last index of each run of equal items."""
    first = 0
    for _, run in groupby(items):
        last = first + len(list(run)) - 1
        yield first, last
        first = last + 1


def _told(groups: str) -> str:
    marks = "".join([_mark(letter) for letter in groups])
    return " ".join(f"{marks[first]} {_name(first, last)}" for first, last in _runs(marks))
