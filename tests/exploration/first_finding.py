"""Prints the first thing that the explorations for deliberate defects notice: the check and the case."""

from __future__ import annotations

import gc
import json
import sys

import attrs
from worlds import Shape

from exploration.cases import EVERYTHING, MEMBERS, Case
from lws_sim.checking.check import Scope


def cases() -> list[Case]:
    """Small sets in which the deliberate defects show, the quickest first."""
    template = Scope(edits=("template",))
    everything = Scope(edits=EVERYTHING)
    twice = Scope(edits=("template", "revert"), edit_count=2)
    member = Scope(edits=("template",), edit_count=0, faults=("member",), fault_count=1)
    faults = Scope(edits=("template",), faults=MEMBERS, fault_count=1)
    broken = Scope(edits=("broken", "template"), edit_count=2)
    created = Scope(edits=EVERYTHING, edit_count=0, from_creation=True)
    two, three = Shape(replicas=2, size=2), Shape(replicas=3, size=1)
    return [
        Case("created", two, created),
        Case("edits", Shape(replicas=1, size=1), everything),
        Case("rollout", three, template),
        Case("surge", attrs.evolve(three, max_surge=1), template),
        Case("surge alone", attrs.evolve(three, max_surge=1, max_unavailable=0), template),
        Case("two at once", attrs.evolve(three, max_unavailable=2, max_surge=2), everything),
        Case("gate", attrs.evolve(three, max_unavailable=2), attrs.evolve(template, gate=True)),
        Case("partition", attrs.evolve(three, partition=1), template),
        Case("percentages", attrs.evolve(three, max_unavailable="50%", max_surge="34%"), everything),
        Case("broken", three, broken),
        Case("stuck", three, attrs.evolve(member, edit_count=1, faults=("stuck",))),
        Case("member", two, member),
        Case("no restarts", attrs.evolve(two, restart_policy="None"), member),
        Case("whole groups", two, everything),
        Case("size", two, Scope(edits=("size", "template"), edit_count=2)),
        Case("twice", attrs.evolve(three, replicas=2), twice),
        Case("late", three, Scope(edits=EVERYTHING, slack=3)),
        Case("faults", attrs.evolve(three, replicas=2), faults),
        Case("late groups", two, Scope(edits=("template", "down"), slack=2)),
        Case("late surge", attrs.evolve(two, max_surge=1), Scope(edits=("template",), slack=2)),
        Case("faults in whole groups", two, attrs.evolve(faults, edits=EVERYTHING)),
    ]


def main() -> None:
    """Print it as JSON, two empty texts where nothing is noticed."""
    gc.disable()
    for case in cases():
        try:
            report = case.explore(limit=60_000)
        except (AssertionError, ValueError, KeyError, TypeError) as problem:
            print(json.dumps([f"it fails: {type(problem).__name__}: {problem}"[:200], case.name]))
            return
        if report.finding is not None:
            print(json.dumps([report.finding.check, case.name]))
            return
        if not report.complete:
            print(json.dumps(["it has no end", case.name]))
            return
    print(json.dumps(["", ""]))


if __name__ == "__main__":
    sys.exit(main())
