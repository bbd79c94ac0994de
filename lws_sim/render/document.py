"""A trace as a document for programs, and as the golden file that a repository keeps.

A golden file is one document for each set, without anything that changes from one run to the next: no clock,
no version of this program, no width of a terminal. `version` grows when its form changes.
"""

from __future__ import annotations

from itertools import groupby
from typing import Final

from lws_core.values import FrozenMap, Json, freeze_map
from lws_sim.scenario import API_VERSION
from lws_sim.trace import Row, Summary, Trace

GOLDEN_VERSION: Final = 1
GOLDEN_HEADER: Final = """\
# What a rollout does, one row for each stage. A letter for each group, R-0 first:
#   n up to date and ready         l up to date, not ready
#   o older and ready              x older, not ready
#   t leader terminating           . leader missing
"""
_LONGEST_PLAIN: Final = 32


def to_document(trace: Trace) -> FrozenMap[Json]:
    """Everything in a trace; times in seconds."""
    return freeze_map(
        {
            "apiVersion": API_VERSION,
            "kind": "Trace",
            "metadata": {"namespace": trace.namespace, "name": trace.name},
            "strategy": trace.strategy,
            "stages": [_stage(row) for row in trace.rows],
            "summary": _summary(trace.summary),
            "events": [{"time": _number(mark.at_s), "text": mark.text} for mark in trace.marks],
            "samples": [
                {
                    "time": _number(sample.at_s),
                    "partition": sample.partition,
                    "replicas": sample.replicas,
                    "groups": sample.groups,
                    "ready": sample.ready,
                    "pods": sample.pods,
                }
                for sample in trace.samples
            ],
        }
    )


def to_golden(trace: Trace) -> FrozenMap[Json]:
    """What a golden file records of a trace."""
    return freeze_map(
        {
            "apiVersion": API_VERSION,
            "kind": "Golden",
            "version": GOLDEN_VERSION,
            "metadata": {"namespace": trace.namespace, "name": trace.name},
            "strategy": trace.strategy,
            "stages": [_stage(row) | {"groups": _short(row.groups)} for row in trace.rows],
            "summary": _summary(trace.summary),
        }
    )


def _stage(row: Row) -> dict[str, Json]:
    return {
        "stage": row.stage,
        "time": _number(row.at_s),
        "partition": row.partition,
        "replicas": row.replicas,
        "groups": row.groups,
        "note": row.note,
    }


def _summary(summary: Summary) -> dict[str, object]:
    loads = summary.duration_loads
    return {
        "finished": summary.finished,
        "seconds": _number(summary.duration_s),
        **({} if loads is None else {"loadTimes": _number(round(loads, 2))}),
        "lowestReady": summary.lowest_ready,
        "floor": summary.floor,
        "highestPods": summary.highest_pods,
        "podsCreated": summary.pods_created,
        **({"accelerators": summary.accelerators} if summary.accelerators else {}),
        **({"blockedBy": summary.blocked_by} if summary.blocked_by else {}),
        **(
            {"violations": [{"rule": v.rule, "text": v.text} for v in summary.violations]}
            if summary.violations
            else {}
        ),
    }


def _short(groups: str) -> str:
    """Letters as they are, or for many groups with counts: "o*490 l*10"."""
    if len(groups) <= _LONGEST_PLAIN:
        return groups
    return " ".join(f"{letter}*{len(list(run))}" for letter, run in groupby(groups))


def _number(seconds: float) -> int | float:
    rounded = round(seconds, 3)
    return int(rounded) if rounded == int(rounded) else rounded
