"""The sets and scopes that the explorations of this project go through."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import attrs
from worlds import Shape

from lws_sim.checking.check import Scope, check
from lws_sim.checking.explorer import MOST_STATES, Report
from lws_sim.checking.model import FAULTS

EVERYTHING = ("template", "revert", "up", "down")
MEMBERS = tuple(fault for fault in FAULTS if fault != "stuck")  # what heals by itself


@attrs.frozen
class Case:
    """One exploration: a set, and what may happen to it."""

    family: str
    shape: Shape
    scope: Scope

    @property
    def name(self) -> str:
        """What it is, in one line."""
        shape, scope = self.shape, self.scope
        budget = f"U={shape.max_unavailable} S={shape.max_surge} P={shape.partition}"
        happens = f"{scope.edit_count} of {','.join(scope.edits)}"
        if scope.fault_count:
            happens += f", {scope.fault_count} of {','.join(scope.faults)}"
        return (
            f"{self.family}: R={shape.replicas} size={shape.size} {budget} gate={int(scope.gate)} "
            f"{shape.restart_policy} {shape.startup_policy}, {happens}, slack {scope.slack}"
            f"{', created' * scope.from_creation}{', reports late' * (not scope.reports_at_once)}"
            f"{', answers late' * scope.late_answers}"
        )

    @property
    def changes(self) -> int:
        """How often a group may be made anew by its edits: so many groups there may be, for each edit."""
        added = self.scope.edit_count if "up" in self.scope.edits else 0
        return (self.shape.replicas + added) * max(1, self.scope.edit_count)

    def explore(self, limit: int = MOST_STATES) -> Report:
        """Go through it, or through so many states of it."""
        return check(self.shape.manifest, self.scope, limit=limit)


def distinct(cases: list[Case]) -> list[Case]:
    """Each case once."""
    return list({case.name: case for case in cases}.values())


def shapes(replicas: int, size: int, *, partitions: bool = True) -> Iterator[Shape]:
    """A set with every budget, and with every partition."""
    amounts = range(replicas + 1)
    for unavailable, surge, partition in itertools.product(amounts, amounts, amounts if partitions else (0,)):
        if unavailable or surge:
            yield Shape(
                replicas=replicas,
                size=size,
                max_unavailable=unavailable,
                max_surge=surge,
                partition=partition,
            )


def _is_narrow(shape: Shape) -> bool:
    """Whether one group at most may be missing, and one be extra: three whole groups are many states."""
    return shape.max_unavailable in (0, 1) and shape.max_surge in (0, 1)


def _is_modest(shape: Shape) -> bool:
    """Whether all orders of events of its rollout are at most some ten thousands of states. Where a group may
    be missing, a second surge group changes nothing in a set of two."""
    if shape.replicas * shape.size < 3:
        return shape.max_surge < 2 or shape.max_unavailable == 0
    return shape.size == 1 and shape.max_surge == 0


def as_late_as_can_be() -> list[Case]:
    """The controller may be so late as it likes: every order of events that there is."""
    cases = []
    for gate in (False, True):
        rollout = Scope(gate=gate, edits=("template",), slack=None)
        for replicas, size in ((1, 1), (1, 2), (2, 1), (3, 1)):
            known = shapes(replicas, size, partitions=replicas < 3)
            cases += [Case("any order", shape, rollout) for shape in known if _is_modest(shape)]
        one, two = Shape(replicas=1, size=1), Shape(replicas=2, size=1)
        surge = attrs.evolve(one, max_unavailable=0, max_surge=1)
        edits = attrs.evolve(rollout, edits=EVERYTHING)
        cases += [
            Case("any order, edits", one, attrs.evolve(edits, edit_count=2)),
            Case("any order, edits", two, attrs.evolve(edits, edits=("template", "up", "down"))),
            Case("any order, edits", two, attrs.evolve(edits, edits=("template", "revert"), edit_count=2)),
            Case("any order, edits", surge, attrs.evolve(edits, edits=("template", "revert"), edit_count=2)),
            Case("any order, faults", one, attrs.evolve(edits, faults=MEMBERS, fault_count=1)),
            Case("any order, faults", two, attrs.evolve(rollout, faults=("crash", "request"), fault_count=1)),
            Case("any order, creation", one, attrs.evolve(edits, from_creation=True)),
            Case("any order, creation", Shape(replicas=1, size=2), attrs.evolve(rollout, from_creation=True)),
        ]
    other = Scope(edits=(), edit_count=2, slack=None)
    late = Shape(replicas=2, size=1, max_unavailable=0, max_surge=1)
    return [
        *cases,
        Case("any order, size", one, attrs.evolve(other, edits=("size", "template"))),
        Case("any order, canary", late, attrs.evolve(other, edits=("template", "partition"))),
        Case("any order, broken", one, attrs.evolve(other, edits=("broken", "partition", "template"))),
    ]


def answers_late() -> list[Case]:
    """Requests are carried out in any order, and answered in any later one: watches are faster than answers,
    and reads are overtaken by writes."""
    any_order = Scope(edits=("template",), slack=None, late_answers=True)
    twice = attrs.evolve(any_order, edits=("template", "revert"), edit_count=2, slack=1)
    moved = attrs.evolve(twice, edits=("template", "partition"))
    failing = attrs.evolve(twice, edits=EVERYTHING, edit_count=1, faults=MEMBERS, fault_count=1)
    one, two = Shape(replicas=1, size=1), Shape(replicas=2, size=1)
    surges = {"max_unavailable": 0, "max_surge": 1}
    known = [
        (attrs.evolve(one, **surges), any_order),
        (two, any_order),
        (Shape(replicas=1, size=2), any_order),
        (one, attrs.evolve(twice, slack=2)),
        (one, attrs.evolve(failing, slack=2)),
        (two, twice),
        (two, moved),
        (attrs.evolve(two, **surges), moved),
        (two, attrs.evolve(failing, edits=("template", "up", "down"), faults=("crash", "request"))),
        (Shape(replicas=2, size=2), attrs.evolve(twice, edits=("template",), edit_count=1)),
    ]
    return [Case("late answers", shape, scope) for shape, scope in known]


def bounded() -> list[Case]:
    """What every change of the project must pass."""
    cases = as_late_as_can_be() + answers_late()
    for gate, size, replicas in itertools.product((False, True), (1, 2), (1, 2, 3)):
        rollout = Scope(gate=gate, edits=("template",))
        cases += [
            Case("budgets", shape, rollout)
            for shape in shapes(replicas, size, partitions=replicas * size < 6)
            if replicas * size < 6 or _is_narrow(shape)
        ]
        twice = attrs.evolve(rollout, edits=("template", "revert"), edit_count=2)
        if replicas * size <= 2:
            cases += [Case("budgets, two edits", shape, twice) for shape in shapes(replicas, size)]
    for gate, replicas in itertools.product((False, True), (1, 2, 3)):
        rollout = Scope(gate=gate, edits=("template",))
        edits = Scope(gate=gate, edits=EVERYTHING, edit_count=2)
        broken = Scope(gate=gate, edits=("broken", "template", "revert"), edit_count=2)
        other = Scope(gate=gate, edits=("partition", "size", "template"), edit_count=2)
        failing = Scope(gate=gate, edits=EVERYTHING, edit_count=1, faults=MEMBERS, fault_count=1)
        stuck = {"faults": ("stuck",), "fault_count": 1}
        late = Scope(gate=gate, edits=("template", "down"), edit_count=1, slack=2)
        for surge in (0, 1):
            small = Shape(replicas=replicas, size=1, max_surge=surge)
            whole = Shape(replicas=replicas, size=2, max_surge=surge)
            cases += [Case("broken", small, broken), Case("late", small, late)]
            cases += [
                Case("faults", small, failing),
                Case("stuck", small, attrs.evolve(late, slack=1, **stuck)),
            ]
            if replicas < 3:
                cases += [Case("edits", small, edits), Case("late", whole, late)]
            if replicas == 1 or not surge:
                cases.append(
                    Case("other", small, other if replicas < 3 else attrs.evolve(other, edit_count=1))
                )
            if replicas == 1 or (not surge and not gate and replicas == 2):
                cases.append(Case("faults", whole, failing))
        percent = Shape(replicas=replicas, size=1, max_unavailable="50%", max_surge="34%")
        cases.append(Case("percentages", percent, attrs.evolve(edits, edit_count=1)))
        alone = Shape(replicas=replicas, size=2, restart_policy="None")
        if replicas < 3:
            cases.append(Case("no restarts", alone, attrs.evolve(failing, faults=("member", "object"))))
        if replicas == 2:
            starts = Scope(gate, ("template", "revert"), 2, ("crash", "request"), 1)
            cases += [
                Case("restarts in mid-rollout", Shape(replicas=2, size=1), starts),
                Case(
                    "restarts in mid-rollout",
                    Shape(replicas=2, size=1, max_unavailable=0, max_surge=1),
                    starts,
                ),
            ]
            kept = Scope(gate=gate, edits=("template", "partition"), edit_count=2)
            cases += [
                Case(
                    "canary in mid-rollout",
                    Shape(replicas=2, size=1, max_unavailable=u, max_surge=2 - u),
                    kept,
                )
                for u in (0, 1)
            ]
            canary = Shape(replicas=3, size=1, max_unavailable=0, max_surge=1, partition=1)
            one_failure = Scope(gate=gate, edits=("template",), faults=("member",), fault_count=1)
            old = Shape(replicas=2, size=2, partition=1)
            cases += [
                Case("old groups", old, one_failure),
                Case("canary with surge", canary, one_failure),
                Case("canary with surge", canary, attrs.evolve(one_failure, faults=("stuck",))),
            ]
            late_reports = attrs.evolve(starts, edit_count=1, reports_at_once=False)
            cases += [Case("late reports", Shape(replicas=2, size=1), late_reports)]
        if replicas < 3:
            waiting = Shape(replicas=replicas, size=2, startup_policy="LeaderReady")
            many = Shape(replicas=replicas, size=3)
            anything = attrs.evolve(failing, edits=("template", "revert"))
            cases += [
                Case("workers wait", waiting, anything if replicas == 1 else rollout),
                Case("workers wait", waiting, attrs.evolve(rollout, from_creation=True)),
                Case("several workers", many, anything if replicas == 1 else rollout),
                Case("several workers", many, attrs.evolve(rollout, from_creation=True)),
            ]
        created = Scope(gate=gate, edits=EVERYTHING, edit_count=1, from_creation=True)
        cases.append(Case("creation", Shape(replicas=min(replicas, 2), size=1), created))
    member = Scope(edits=("template",), faults=("member",), fault_count=1)
    unique = Shape(replicas=1, size=2, subdomain_policy="UniquePerReplica")
    starting = Shape(
        replicas=1, size=2, restart_policy="RecreateGroupAfterStart", startup_policy="LeaderReady"
    )
    return [
        *cases,
        Case("subdomains", unique, attrs.evolve(member, faults=("crash", "request", "object"))),
        Case("subdomains", unique, attrs.evolve(member, fault_count=0, from_creation=True)),
        Case("after start", starting, attrs.evolve(member, faults=("member", "crash", "object"))),
        Case("after start", starting, attrs.evolve(member, edit_count=0, from_creation=True)),
    ]


def every_order() -> list[Case]:
    """Every order of events of larger sets, and of more edits: up to four million states each."""
    cases = []
    for gate in (False, True):
        rollout = Scope(gate=gate, edits=("template",), slack=None)
        twice = attrs.evolve(rollout, edits=("template", "revert"), edit_count=2)
        moved = attrs.evolve(rollout, edits=("template", "partition"), edit_count=2)
        cases += [Case("every order", shape, rollout) for shape in shapes(2, 1)]
        cases += [Case("every order", shape, rollout) for shape in shapes(3, 1) if not shape.max_surge]
        cases += [
            Case("every order", Shape(replicas=replicas, size=size, max_unavailable=unavailable), rollout)
            for replicas, size in ((2, 2), (4, 1))
            for unavailable in range(1, replicas + 1)
        ]
        for unavailable in (0, 1):
            surging = Shape(replicas=3, size=1, max_unavailable=unavailable, max_surge=1)
            cases += [Case("every order", attrs.evolve(surging, partition=p), rollout) for p in (0, 1, 2)]
            two = Shape(replicas=2, size=1, max_unavailable=unavailable, max_surge=1 - unavailable)
            cases += [Case("every order, two edits", two, edits) for edits in (twice, moved)]
        late = attrs.evolve(twice, slack=2, late_answers=True)
        cases += [
            Case("late answers, wide", Shape(replicas=2, size=1), one_late)
            for one_late in (late, attrs.evolve(late, faults=("request",), fault_count=1))
        ]
        created = attrs.evolve(rollout, late_answers=True, from_creation=True)
        cases.append(Case("late answers, wide", Shape(replicas=1, size=1), created))
        whole = Shape(replicas=1, size=2)
        three, one = Shape(replicas=3, size=1), Shape(replicas=1, size=1)
        edits = attrs.evolve(rollout, edits=EVERYTHING, edit_count=2)
        failing = attrs.evolve(rollout, faults=("crash", "request"), fault_count=1)
        cases += [
            Case("every order, two edits", whole, twice),
            Case("every order, two edits", whole, moved),
            Case("every order, two edits", three, twice),
            Case("every order, two edits", Shape(replicas=2, size=1), edits),
            Case("every order, faults", three, failing),
            Case("every order, faults", one, attrs.evolve(twice, faults=MEMBERS, fault_count=1)),
            Case("every order, faults", whole, attrs.evolve(failing, faults=("member",))),
            Case("every order, faults", whole, failing),
        ]
    return cases


def wide() -> list[Case]:
    """The long exploration: larger sets, two edits with two faults, more slack. Every order of events comes
    first, as it is the quickest, and faults last: with them a set has the most states."""
    cases = bounded() + every_order()
    for gate, replicas in itertools.product((False, True), (1, 2, 3)):
        rollout = Scope(gate=gate, edits=EVERYTHING, edit_count=2)
        failing = Scope(gate=gate, edits=EVERYTHING, edit_count=2, faults=FAULTS, fault_count=1)
        for size in (1, 2, 3):
            cases += [Case("budgets, wide", shape, rollout) for shape in shapes(replicas, size)]
            for surge in (0, 1):
                shape = Shape(replicas=replicas, size=size, max_surge=surge)
                cases += [
                    Case("faults, wide", shape, failing),
                    Case("two faults", shape, attrs.evolve(failing, edit_count=1, fault_count=2)),
                    Case("late, wide", shape, attrs.evolve(rollout, edit_count=1, slack=3)),
                ]
    return sorted(
        cases,
        key=lambda case: (
            case.scope.slack is not None,
            case.scope.fault_count,
            case.shape.replicas * case.shape.size,
        ),
    )
