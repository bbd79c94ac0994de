"""The simulation against the real thing: the same script is played in both, and compared after each step.

Only scripts that need no model of time: pods become ready when a step says so, one group after another, as
two in one moment may be seen in either order. Compared are the numbers that the leader StatefulSet went
through, in order, and where the set comes to rest after each step: the groups by the letters of
lws_sim.trace, and the status of the set.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import attrs
import pytest
import yaml
from conftest import StartKubelet
from kubelet import Kubelet
from operator_process import Operator
from sandbox import Sandbox
from sets import group_ready

from lws_core import names
from lws_core.defaulting import apply_defaults
from lws_core.values import freeze, freeze_map, thaw
from lws_sim import scenario as script
from lws_sim.census import Census
from lws_sim.cluster.store import Change
from lws_sim.deeds import Player, take
from lws_sim.simulation import simulate
from lws_sim.world import World

SCRIPTS = {
    "rollout": """
        - template: {}
        - ready: [5]
        - ready: [4]
        - ready: [3]
        - ready: [2]
        - ready: [1]
        - ready: [0]
    """,
    "third-template": """
        - template: {}
        - template: {}
        - ready: [5]
        - ready: [4]
        - ready: [3]
        - ready: [2]
        - ready: [1]
        - ready: [0]
    """,
    "revert": """
        - template: {}
        - revert: true
        - ready: [3]
        - ready: [2]
    """,
    "scale-up-in-mid-flight": """
        - template: {}
        - ready: [5]
        - scale: 7
        - ready: [6]
        - ready: [4]
        - ready: [3]
        - ready: [2]
        - ready: [1]
        - ready: [0]
    """,
    "scale-down-in-mid-flight": """
        - template: {}
        - ready: [4]
        - ready: [5]
        - scale: 2
        - ready: [1]
        - ready: [0]
    """,
    "falls-unready": """
        - template: {}
        - unready: [0]
        - ready: [5]
        - ready: [4]
        - ready: [3]
        - ready: [2]
        - ready: [1]
        - ready: [0]
    """,
    "canary": """
        - set: {spec.rolloutStrategy.rollingUpdateConfiguration.partition: 2}
        - template: {}
        - ready: [3]
        - ready: [2]
        - set: {spec.rolloutStrategy.rollingUpdateConfiguration.partition: 0}
        - ready: [1]
        - ready: [0]
    """,
    "budget": """
        - set: {spec.rolloutStrategy.rollingUpdateConfiguration.maxSurge: 0}
        - template: {}
        - set: {spec.rolloutStrategy.rollingUpdateConfiguration.maxUnavailable: 3}
        - ready: [3]
        - ready: [2]
        - ready: [1]
        - ready: [0]
    """,
    "crash": """
        - crash: [{group: 1, worker: 1}]
        - ready: [1]
        - evict: [2]
        - ready: [2]
    """,
}


def manifest(namespace: str) -> Any:
    template = {
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "main", "image": "i:1"}]}
    }
    rolling = {"maxUnavailable": 2, "maxSurge": 2, "partition": 0}
    return apply_defaults(
        freeze_map(
            {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "metadata": {"name": "both", "namespace": namespace},
                "spec": {
                    "replicas": 4,
                    "leaderWorkerTemplate": {"size": 2, "workerTemplate": template},
                    "rolloutStrategy": {"rollingUpdateConfiguration": rolling},
                },
            }
        )
    )


def steps_of(text: str) -> tuple[script.Step, ...]:
    document = {
        "apiVersion": script.API_VERSION,
        "kind": script.KIND,
        "cluster": {"load": "manual"},
        "steps": yaml.safe_load(text),
    }
    return script.read_scenario(freeze(document)).steps


@attrs.frozen
class Rest:
    """Where a set has come to rest."""

    partition: int
    replicas: int
    groups: str
    ready: int
    updated: int
    available: bool


class Real:
    """The set in the real cluster."""

    def __init__(self, sandbox: Sandbox, kubelet: Kubelet) -> None:
        self.sandbox, self.kubelet = sandbox, kubelet
        self.player = Player(World(), manifest(sandbox.name))
        self.mark = sandbox.plane.audit.mark()

    def do(self, step: script.Step) -> None:
        edits = [deed for deed in step.deeds if not isinstance(deed, Faults)]
        if edits:
            edited = take(self.player, script.Step(tuple(edits)))
            self.player = attrs.evolve(edited, world=World())
            self.sandbox.apply(thaw(edited.manifest))
        for deed in step.deeds:
            if isinstance(deed, Faults):
                self.suffer(deed)

    def suffer(self, deed: Any) -> None:
        match deed:
            case script.TurnReady(groups, ready):
                for group in groups:
                    if ready:
                        group_ready(self.sandbox, self.kubelet, "both", group, 2)
                    else:
                        self.kubelet.make_unready(f"both-{group}")
            case script.Crash(pods):
                for place in pods:
                    self.kubelet.restart_container(name_of(place))
            case script.Evict(pods):
                for place in pods:
                    self.kubelet.evict(name_of(place))

    def rest(self) -> Rest:
        """The state as it is now, by the census that the simulation is counted with."""
        census = Census("both")
        for kind in ("ControllerRevision", "StatefulSet", "Pod"):
            for obj in self.sandbox.all(kind):
                found = freeze_map({**obj, "kind": kind})
                census.note(Change("ADDED", "", found))
        standing = census.standing
        status = self.sandbox.must_get(names.KIND, "both").get("status", {})
        return Rest(
            standing.partition,
            standing.replicas,
            standing.groups.replace("t", ".").replace(".", "l"),
            status.get("readyReplicas", 0),
            status.get("updatedReplicas", 0),
            any(c["type"] == "Available" and c["status"] == "True" for c in status.get("conditions", ())),
        )

    def must_come_to(self, when: str, expected: Rest) -> None:
        """Wait until it is at rest there, and stays."""
        self.sandbox.wait(f"{when}: {expected}", partial(self._stays_at, expected), 120)

    def _stays_at(self, expected: Rest) -> bool:
        for _ in range(3):
            found = self.rest()
            if found != expected:
                raise OSError(f"it is {found}")
            time.sleep(0.15)
        return True

    def numbers(self) -> list[tuple[int, int]]:
        """Partition and replicas of the leader StatefulSet, as the operator wrote them, in order."""
        found: list[tuple[int, int]] = []
        for one in self.sandbox.writes("operator", self.mark, resources=("statefulsets",)):
            spec = (one.body or {}).get("spec", {}) if isinstance(one.body, dict) else {}
            if one.name == "both" and one.code in (200, 201) and "updateStrategy" in spec:
                now = spec["updateStrategy"]["rollingUpdate"]["partition"], spec["replicas"]
                if found[-1:] != [now]:
                    found.append(now)
        return found


Faults = script.TurnReady | script.Crash | script.Evict


def name_of(place: script.Place) -> str:
    return f"both-{place.group}" + (f"-{place.worker}" if place.worker else "")


def model_rests(namespace: str, steps: tuple[script.Step, ...], gate: bool) -> Iterator[Rest]:
    """Where the model comes to rest after each step."""
    setting = script.Cluster(gate=gate, load_s=None, stop_s=0.1)
    for count in range(len(steps) + 1):
        trace = simulate(manifest(namespace), steps[:count], setting)
        last, sample = trace.rows[-1], trace.samples[-1]
        yield Rest(
            last.partition,
            last.replicas,
            last.groups.replace("t", ".").replace(".", "l"),
            sample.ready,
            sum(sample.groups.count(letter) for letter in "nl"),
            trace.summary.finished,
        )


def model_numbers(namespace: str, steps: tuple[script.Step, ...], gate: bool) -> list[tuple[int, int]]:
    trace = simulate(manifest(namespace), steps, script.Cluster(gate=gate, load_s=None, stop_s=0.1))
    found: list[tuple[int, int]] = []
    for row in trace.rows:
        if found[-1:] != [(row.partition, row.replicas)]:
            found.append((row.partition, row.replicas))
    return found


def play(sandbox: Sandbox, start_kubelet: StartKubelet, text: str, gate: bool) -> None:
    kubelet = start_kubelet(sandbox, load_s=0.0, stop_s=0.1)
    real = Real(sandbox, kubelet)
    sandbox.apply(thaw(real.player.manifest))
    sandbox.wait_ready("both", 4)
    kubelet.manual = True
    steps = steps_of(text)
    for index, expected in enumerate(model_rests(sandbox.name, steps, gate)):
        if index:
            real.do(steps[index - 1])
        real.must_come_to(f"after step {index}", expected)
    assert real.numbers() == model_numbers(sandbox.name, steps, gate)


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_script_always_comes_to_rest_as_simulated(
    sandbox: Sandbox, start_kubelet: StartKubelet, operator: Operator, name: str
) -> None:
    play(sandbox, start_kubelet, SCRIPTS[name], gate=False)


@pytest.mark.parametrize("name", ["rollout", "third-template", "falls-unready"])
def test_script_always_comes_to_rest_as_simulated_with_the_gate_on(
    gated_sandbox: Sandbox, start_kubelet: StartKubelet, gated_operator: Operator, name: str
) -> None:
    play(gated_sandbox, start_kubelet, SCRIPTS[name], gate=True)


def test_comparison_can_fail() -> None:
    rests = list(model_rests("a", steps_of(SCRIPTS["rollout"]), gate=False))
    assert all(one != other for one, other in pairwise(rests)), "a step that is missed would be seen"
