"""Prints the first thing that the checks for deliberate defects notice: the check and the case."""

from __future__ import annotations

import gc
import json
import sys

import attrs
from golden.test_stages import STAGES, test_stage_always_is_answered_as_the_guide_has_it
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
    stuck = Scope(edits=("template",), faults=("stuck",), fault_count=1)
    two_faults = Scope(edits=("template",), faults=("member", "stuck"), fault_count=2)
    broken = Scope(edits=("broken", "template"), edit_count=2)
    created = Scope(edits=EVERYTHING, edit_count=0, from_creation=True)
    late_reports = Scope(edits=("template",), faults=("request",), fault_count=1, reports_at_once=False)
    two, three = Shape(replicas=2, size=2), Shape(replicas=3, size=1)
    waiting = Shape(replicas=1, size=2, startup_policy="LeaderReady")
    return [
        Case("created", two, created),
        Case("edits", Shape(replicas=1, size=1), everything),
        Case("workers wait", attrs.evolve(two, startup_policy="LeaderReady"), created),
        Case("several workers", Shape(replicas=2, size=3), created),
        Case("late reports", Shape(replicas=1, size=1), late_reports),
        Case("rollout", three, template),
        Case("surge", attrs.evolve(three, max_surge=1), template),
        Case("surge alone", attrs.evolve(three, max_surge=1, max_unavailable=0), template),
        Case("two at once", attrs.evolve(three, max_unavailable=2, max_surge=2), everything),
        Case("gate", attrs.evolve(three, max_unavailable=2), attrs.evolve(template, gate=True)),
        Case("partition", attrs.evolve(three, partition=1, max_unavailable=2), template),
        Case("percentages", attrs.evolve(three, max_unavailable="50%", max_surge="34%"), everything),
        Case("broken", three, broken),
        Case("canary with surge", attrs.evolve(three, max_unavailable=0, max_surge=1, partition=1), stuck),
        Case("stuck", three, stuck),
        Case("member", two, member),
        Case("old groups", attrs.evolve(two, partition=1), attrs.evolve(member, edit_count=1)),
        Case("no restarts", attrs.evolve(two, restart_policy="None"), member),
        Case("deletions", attrs.evolve(two, restart_policy="None"), attrs.evolve(member, faults=("object",))),
        Case("subdomains", Shape(replicas=1, size=2, subdomain_policy="UniquePerReplica"), created),
        Case(
            "after start",
            attrs.evolve(waiting, restart_policy="RecreateGroupAfterStart"),
            attrs.evolve(member, from_creation=True),
        ),
        Case("whole groups", two, everything),
        Case("size", two, Scope(edits=("size", "template"), edit_count=2)),
        Case("twice", attrs.evolve(three, replicas=2), twice),
        Case("late", three, Scope(edits=EVERYTHING, slack=3)),
        Case("faults", attrs.evolve(three, replicas=2), faults),
        Case(
            "late revert",
            Shape(replicas=1, size=1, max_unavailable=0, max_surge=1),
            attrs.evolve(twice, slack=None),
        ),
        Case(
            "restarts in mid-rollout",
            attrs.evolve(three, replicas=2),
            attrs.evolve(twice, faults=("crash", "request"), fault_count=1),
        ),
        Case(
            "canary, late",
            Shape(replicas=2, size=1, max_unavailable=0, max_surge=1),
            Scope(edits=("template", "partition"), edit_count=2, slack=2),
        ),
        Case(
            "canary, late",
            Shape(replicas=2, size=1, max_unavailable=0, max_surge=2),
            Scope(edits=("template", "partition"), edit_count=2),
        ),
        Case("late groups", two, Scope(edits=("template", "down"), slack=2)),
        Case("late surge", attrs.evolve(two, max_surge=1), Scope(edits=("template",), slack=2)),
        Case("faults in whole groups", two, attrs.evolve(faults, edits=EVERYTHING)),
        Case("two faults", attrs.evolve(three, max_unavailable=2), two_faults),
    ]


def first_finding(wanted: list[str]) -> tuple[str, str]:
    """The check and the case, two empty texts where nothing is noticed. `wanted`: families of cases, "stages"
    for the guide's table; all if it is empty."""
    if not wanted or "stages" in wanted:
        try:
            for stage in STAGES:
                test_stage_always_is_answered_as_the_guide_has_it(stage)
        except AssertionError:
            return "stage table", f"stage {stage['stage']}"
    for case in cases():
        if wanted and case.family not in wanted:
            continue
        try:
            report = case.explore(limit=200_000)
        except Exception as problem:  # a defect may break anything
            return f"it fails: {type(problem).__name__}: {problem}"[:200], case.name
        if report.finding is not None:
            return report.finding.check, case.name
        if not report.complete:
            return "it has no end", case.name
    return "", ""


def main() -> None:
    """Print it as JSON."""
    gc.disable()
    print(json.dumps(first_finding(sys.argv[1:])))


if __name__ == "__main__":
    sys.exit(main())
