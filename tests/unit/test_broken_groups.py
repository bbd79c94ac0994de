"""When an old group that is down counts as broken, in a simulated cluster: a ready one is given up for it,
never before it has had its time, and always once it has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from worlds import Shape

from lws_core import leading
from lws_core.bits import GroupSet
from lws_core.memory import Memory
from lws_core.options import Options
from lws_core.values import freeze_map
from lws_sim import scenario as script
from lws_sim.census import count
from lws_sim.simulation import Simulation

ROLLING = "spec.rolloutStrategy.rollingUpdateConfiguration"
POLICY = "spec.leaderWorkerTemplate.restartPolicy"
WORKER = {"group": 0, "worker": 1}
NEW: dict[str, Any] = {"template": {}}
Step = dict[str, Any]


def after(seconds: float) -> Step:
    return {"after": f"{seconds}s"}


class Case:
    """A set of two groups of which one may be missing, at rest, and what has happened to it."""

    def __init__(
        self,
        *steps: Step,
        load_s: float = 60.0,
        stop_s: float = 5.0,
        options: Options = Options(),
        **shape: Any,
    ) -> None:
        self._run = Simulation(script.Cluster(load_s=load_s, stop_s=stop_s), options=options, strict=True)
        self._run.bring_up(Shape(**{"replicas": 2, **shape}).manifest)
        self.go_on(*steps)

    def go_on(self, *steps: Step) -> None:
        for step in steps:
            timed = step if {"after", "events"} & step.keys() else {"events": 0, **step}
            document = {"apiVersion": script.API_VERSION, "kind": script.KIND, "steps": [timed]}
            for one in script.read_scenario(freeze_map(document)).steps:
                self._run.take(one)

    @property
    def groups(self) -> str:
        return count(self._run.player.world.store, "serve").standing.groups

    def given_up_after(self, limit_s: int = 2000) -> int:
        """In which ten seconds from now the ready group is given up."""
        for passed_s in range(0, limit_s, 10):
            if self.groups[1] != "o":
                return passed_s
            self.go_on(after(10))
        raise AssertionError(f"never in {limit_s} s: {self.groups}")

    def finishes(self) -> bool:
        """Whether the rollout comes to its end."""
        return self._run.finish().summary.finished

    @property
    def broken_rules(self) -> list[str]:
        return [violation.rule for violation in self._run.violations]

    def serves_for(self, seconds: int) -> bool:
        """Whether one of the two is ready all the time, for so long from now."""
        for _ in range(0, seconds, 5):
            if not {"o", "n"} & {*self.groups}:
                return False
            self.go_on(after(5))
        return True


@pytest.mark.parametrize("early_s", [0.0, 20.0])
def test_operator_that_gives_a_group_up_too_early_must_break_its_budget(
    monkeypatch: pytest.MonkeyPatch, early_s: float
) -> None:
    """The judge has a clock of its own: what the operator remembers might be wrong."""
    right = leading._broken_from

    def hasty(memory: Memory, unready: GroupSet) -> Iterator[tuple[GroupSet, float]]:
        return ((groups, at_s - early_s) for groups, at_s in right(memory, unready))

    monkeypatch.setattr(leading, "_broken_from", hasty)
    case = Case(after(3600), {"unready": 0}, NEW, after(1))  # at rest nobody looks
    assert case.given_up_after() == 300 - early_s
    assert case.broken_rules == (["budget"] if early_s else [])


def test_group_that_came_up_between_two_looks_always_has_its_time_when_it_falls() -> None:
    """Its workers and their StatefulSet are first seen together, when they are ready."""
    case = Case(after(3600), {"unready": 0}, NEW, after(1))
    assert case.given_up_after() == 300


@pytest.mark.parametrize("limited", [False, True])
def test_failure_that_nothing_answers_never_counts_once_the_group_is_ready_again(limited: bool) -> None:
    """A container restarted, and its group is not recreated: by its policy, or as that has a limit."""
    held = {f"{ROLLING}.partition": 2}
    if limited:
        steps = [{"crash": WORKER}, after(180), {"crash": WORKER}, after(1200), {"set": held, **NEW}]
        case = Case(*steps, after(1), options=Options(recreation_limit=1))
    else:
        case = Case({"set": {POLICY: "None", **held}}, after(1), {"crash": WORKER}, after(1200))
    case.go_on({"unready": 0}, after(5), {"set": {f"{ROLLING}.partition": 0}}, after(1))
    assert case.given_up_after() in (290, 300)


def test_failure_of_a_leader_that_loads_alone_never_shortens_the_time_of_its_group() -> None:
    case = Case(
        {"kill": {"group": 0}},
        NEW,
        after(50),
        {"crash": {"group": 0}},
        after(380),
        load_s=200.0,
        restart_policy="None",
        startup_policy="LeaderReady",
    )
    assert case.serves_for(300)


def test_group_that_was_back_unseen_always_has_all_its_time_again() -> None:
    kill = {"kill": WORKER}
    case = Case(kill, NEW, after(1), {"holdWatch": ["Pod"]}, after(288), kill, restart_policy="None")
    assert case.serves_for(100)


@pytest.mark.parametrize("policy", ["None", "RecreateGroupOnPodRestart"])
@pytest.mark.parametrize("before", [False, True])
def test_group_always_has_its_time_once_a_worker_has_drained(before: bool, policy: str) -> None:
    """Also where one has before, and the group has been well for hours since."""
    drained = {"delete": WORKER}
    steps = [drained, after(7200)] if before else []
    case = Case(*steps, drained, after(10), NEW, after(385), stop_s=400.0, grace_s=600, restart_policy=policy)
    assert case.serves_for(120)


def test_group_that_was_scaled_away_always_has_its_time_when_it_comes_back() -> None:
    canary = {"set": {f"{ROLLING}.partition": 4}, **NEW}
    case = Case(
        {"crash": {"group": 2, "worker": 1}}, after(90), {"scale": 2}, after(3600), canary, replicas=4
    )
    case.go_on({"load": {"2": "200s"}}, {"scale": 4}, after(70), {"set": {f"{ROLLING}.partition": 0}})
    case.go_on(after(60))
    assert case.groups.count("o") == 3


def test_simulation_never_ends_before_a_group_counts_as_broken() -> None:
    """That may be later than the progress deadline."""
    shape = {"replicas": 4, "size": 3, "grace_s": 400, "restart_policy": "None"}
    case = Case({"unready": 0}, {"delete": WORKER}, after(1), NEW, load_s=20.0, stop_s=380.0, **shape)
    assert case.finishes()
    assert case.groups == "nnnn"


def test_group_always_has_its_time_once_the_statefulset_of_its_workers_is_made_again() -> None:
    case = Case(
        {"template": {"load": "never"}},
        after(1),
        {"revert": True},
        after(1200),
        {"deleteObject": "StatefulSet/serve-0"},
        after(1),
        NEW,
        after(398),
        load_s=100.0,
        stop_s=400.0,
        size=3,
        grace_s=600,
        restart_policy="None",
    )
    assert case.serves_for(150)


@pytest.mark.parametrize("verb", ["delete", "kill"])
@pytest.mark.parametrize("policy", ["None", "RecreateGroupOnPodRestart"])
def test_leader_that_is_ended_again_and_again_never_holds_a_rollout_up(verb: str, policy: str) -> None:
    ended = {verb: {"group": 0}}
    case = Case(ended, after(1), NEW, after(1), restart_policy=policy)
    for _ in range(9):
        case.go_on(after(50), ended)
        if case.groups[1] != "o":
            return
    raise AssertionError("it is still waited for after 450 s")
