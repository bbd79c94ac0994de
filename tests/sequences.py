"""Random sequences of edits, failures, faults of the API server and drift, as steps of a scenario.

A sequence is a state machine of Hypothesis whose every rule is one step that a scenario file can hold, taken
in a strict simulation: what docs/rollout.md promises is judged as it goes, and at the end, once faults are
over, the set must come to its goal and stay there. A sequence that fails is written to a folder as a manifest
and a scenario; Hypothesis shrinks it, and the last one written is the smallest:

    lws simulate sequence-manifest.yaml --scenario sequence-scenario.yaml

`python tests/sequences.py --sequences 10000 --steps 200` takes many, and says how far it came. What a batch
does follows from its number alone; `--first` goes on from one.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path
from typing import Any, ClassVar, Final

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from worlds import Shape

from lws_core import names
from lws_core.values import FrozenMap, Json, dig, freeze_map
from lws_runtime.yaml_values import to_yaml
from lws_sim import scenario as script
from lws_sim.cluster import scheduler
from lws_sim.cluster.store import Object, label, name_of, terminating
from lws_sim.deeds import ImpossibleStep
from lws_sim.simulation import Simulation

POLICIES: Final = ("RecreateGroupOnPodRestart", "RecreateGroupAfterStart", "None")
ANSWERS: Final = (409, 429, 500, 503, script.LOST, script.UNSENT, script.REPEATED)
HELD: Final = (
    ("StatefulSet",),
    ("Pod",),
    ("Pod", "StatefulSet"),
    (names.KIND,),
    ("ControllerRevision",),
    ("Service",),
    script.WATCHED,
)
"""Watches that stand still together."""

HARMS: Final = ("crash", "evict", "delete", "kill")
_BUDGETS: Final = st.integers(0, 3) | st.sampled_from(("25%", "50%", "100%"))
_WHICH: Final = st.integers(0, 11)
_MOST_FAILURES: Final = 12
_Step = dict[str, Any]


class Sequence(RuleBasedStateMachine):
    """One set, brought up and at rest, and what happens to it from then on."""

    folder: ClassVar[Path] = Path(".cache/sequences")
    """Where a sequence that fails is written."""

    done: ClassVar[dict[str, int]] = {"sequences": 0, "steps": 0, "pods": 0}
    """What all sequences of this process came to."""

    def __init__(self) -> None:
        super().__init__()
        self.simulation: Simulation | None = None
        self.manifest: FrozenMap[Json] = FrozenMap()
        self.cluster: _Step = {}
        self.steps: list[_Step] = []
        self.calm = self.failed = self.broken = False
        self.template_edited = self.partition_moved = False
        self.fallen: set[int] = set()

    @initialize(
        replicas=st.integers(1, 4),
        size=st.integers(1, 3),
        unavailable=_BUDGETS,
        surge=_BUDGETS,
        policy=st.sampled_from(POLICIES),
        gate=st.booleans(),
        order=st.integers(0, 2**16),
        calm=st.booleans(),
    )
    def bring_up(
        self,
        replicas: int,
        size: int,
        unavailable: int | str,
        surge: int | str,
        policy: str,
        gate: bool,
        order: int,
        calm: bool,
    ) -> None:
        shape = Shape(replicas, size, unavailable, surge, restart_policy=policy)
        if shape.is_stuck:
            shape = Shape(replicas, size, 1, surge, restart_policy=policy)
        self.manifest, self.calm = shape.manifest, calm
        self.cluster = {"maxUnavailableStatefulSet": gate, "seed": order}
        scenario = self.scenario({"scale": replicas})
        self.simulation = Simulation(scenario.cluster, choose=random.Random(order).randrange, strict=True)
        self.simulation.bring_up(self.manifest)

    # -- time

    @rule(seconds=st.sampled_from((0, 1, 5, 10, 30, 60, 100)))
    def time_passes(self, seconds: int) -> None:
        self.take({"after": f"{seconds}s"})

    @rule(count=st.integers(1, 10))
    def events_happen(self, count: int) -> None:
        self.take({"events": count})

    @rule(count=st.integers(11, 60))
    def more_events_happen(self, count: int) -> None:
        self.take({"events": count})

    @rule()
    def all_comes_to_rest(self) -> None:
        self.take({"after": "10m"})

    # -- users

    @rule()
    def user_changes_template(self) -> None:
        self.take({"template": {}})

    @rule()
    def user_reverts_template(self) -> None:
        self.take({"revert": True})

    @rule(replicas=st.integers(0, 4))
    def user_scales(self, replicas: int) -> None:
        self.take({"scale": replicas})

    @rule(unavailable=_BUDGETS, surge=_BUDGETS)
    def user_changes_budget(self, unavailable: int | str, surge: int | str) -> None:
        rolling = "spec.rolloutStrategy.rollingUpdateConfiguration"
        self.take({"set": {f"{rolling}.maxUnavailable": unavailable, f"{rolling}.maxSurge": surge}})

    @rule(partition=st.integers(0, 4))
    def user_moves_partition(self, partition: int) -> None:
        self.take({"set": {"spec.rolloutStrategy.rollingUpdateConfiguration.partition": partition}})

    @rule(size=st.integers(1, 3))
    def user_changes_size(self, size: int) -> None:
        self.take({"set": {"spec.leaderWorkerTemplate.size": size}})

    @rule(policy=st.sampled_from(POLICIES))
    def user_changes_restart_policy(self, policy: str) -> None:
        self.take({"set": {"spec.leaderWorkerTemplate.restartPolicy": policy}})

    @rule(startup=st.sampled_from(("LeaderCreated", "LeaderReady")))
    def user_changes_startup_policy(self, startup: str) -> None:
        self.take({"set": {"spec.startupPolicy": startup}})

    # -- the way to the API server and back

    @rule(answer=st.sampled_from(ANSWERS), count=st.integers(1, 4))
    def requests_fail(self, answer: int | str, count: int) -> None:
        assert self.simulation is not None
        if len(self.simulation.player.faults.answers) > _MOST_FAILURES:
            return  # as these are not over before the end
        self.take({"failRequests": {"with": answer, "count": count}})

    @rule(kinds=st.sampled_from(HELD))
    def watches_stand_still(self, kinds: tuple[str, ...]) -> None:
        self.take({"holdWatch": list(kinds)})

    @rule()
    def watches_go_on(self) -> None:
        self.take({"releaseWatch": list(script.WATCHED)})

    @rule()
    def operator_restarts(self) -> None:
        self.take({"restartOperator": True})

    # -- failures

    @precondition(lambda self: not self.calm)
    @rule(how=st.sampled_from(HARMS), which=_WHICH)
    def pod_fails(self, how: str, which: int) -> None:
        running = how in ("crash", "evict")
        pods = [pod for pod in self.pods() if not running or _is_running(pod)]
        if pods:
            self.take({how: _place(pods[which % len(pods)])})

    @precondition(lambda self: not self.calm)
    @rule(which=_WHICH)
    def group_falls_unready(self, which: int) -> None:
        leaders = [pod for pod in self.pods() if _place(pod)["worker"] == 0]
        if leaders:
            group = _place(leaders[which % len(leaders)])["group"]
            self.fallen.add(group)
            self.take({"unready": group})

    @precondition(lambda self: self.fallen)
    @rule()
    def fallen_groups_recover(self) -> None:
        self.recover()

    @precondition(lambda self: not self.calm)
    @rule(which=_WHICH)
    def node_is_lost(self, which: int) -> None:
        pods = [pod for pod in self.pods() if dig(pod, "spec", "nodeName")]
        if pods:
            self.take({"loseNode": _place(pods[which % len(pods)])})

    @precondition(lambda self: not self.calm)
    @rule()
    def nodes_come_back(self) -> None:
        self.restore()

    @precondition(lambda self: not self.calm)
    @rule()
    def template_breaks(self) -> None:
        self.broken = True
        self.take({"template": {"load": "never"}})

    @precondition(lambda self: not self.calm)
    @rule(deleted=st.booleans())
    def set_comes_and_goes(self, deleted: bool) -> None:
        self.take({"deleteSet": True} if deleted and self.is_there else {"createSet": True})

    # -- hand edits

    @precondition(lambda self: not self.calm)
    @rule(which=_WHICH, replicas=st.integers(0, 5))
    def somebody_scales_a_stateful_set(self, which: int, replicas: int) -> None:
        if found := self.children("StatefulSet"):
            name = name_of(found[which % len(found)])
            self.take({"edit": {f"StatefulSet/{name}": {"spec.replicas": replicas}}})

    @precondition(lambda self: not self.calm and not self.template_edited)
    @rule(partition=st.integers(0, 5))
    def somebody_moves_the_partition(self, partition: int) -> None:
        path = "spec.updateStrategy.rollingUpdate.partition"
        self.partition_moved = True
        self.take({"edit": {"StatefulSet/serve": {path: partition}}})

    @precondition(lambda self: not self.calm and not self.partition_moved)
    @rule()
    def somebody_changes_the_leader_template(self) -> None:
        path = "spec.template.spec.containers[0].image"
        # Where the operator restarts before it has seen it, only a new template heals it. And not together
        # with the partition: the judge cannot tell that leaders which are exposed then are not replaced.
        self.broken = self.template_edited = True
        self.take({"edit": {"StatefulSet/serve": {path: "by-hand"}}})

    @precondition(lambda self: not self.calm)
    @rule(kind=st.sampled_from(("Service", "ControllerRevision", "StatefulSet")), which=_WHICH)
    def somebody_deletes_an_object(self, kind: str, which: int) -> None:
        if found := self.children(kind):
            self.take({"deleteObject": f"{kind}/{name_of(found[which % len(found)])}"})

    @precondition(lambda self: not self.calm)
    @rule(which=_WHICH)
    def somebody_takes_a_label(self, which: int) -> None:
        if found := self.children("StatefulSet"):
            target = f"StatefulSet/{name_of(found[which % len(found)])}"
            self.take({"edit": {target: {f"metadata.labels.{names.SET_NAME}": None}}})

    # -- the end

    def teardown(self) -> None:
        if self.simulation is None or self.failed:
            return
        self.take({"releaseWatch": list(script.WATCHED)})
        self.take({"createSet": True})
        self.restore()
        self.take({"set": {"spec.rolloutStrategy.rollingUpdateConfiguration.partition": 0}})
        if self.broken:
            self.take({"template": {}})
        if not self.replicas:
            self.take({"scale": 2})
        self.take({"after": "20m"})
        self.recover()
        self.finish()

    def finish(self) -> None:
        assert self.simulation is not None
        try:
            trace = self.simulation.finish()
            told = trace.summary
            assert not told.violations, told.violations
            assert told.finished, told.blocked_by
        except Exception:
            self.write()
            raise
        self.done["sequences"] += 1
        self.done["steps"] += len(self.steps)
        self.done["pods"] += told.pods_created

    def recover(self) -> None:
        """Groups that fell unready become ready."""
        there = {_place(pod)["group"] for pod in self.pods() if _place(pod)["worker"] == 0}
        fallen, self.fallen = sorted(self.fallen & there), set()
        if fallen:
            self.take({"ready": fallen})

    def restore(self) -> None:
        """Nodes that are lost come back."""
        assert self.simulation is not None
        store = self.simulation.player.world.store
        for pod in self.children("Pod", also_terminating=True):
            node = str(dig(pod, "spec", "nodeName") or "")
            if node and not scheduler.node_is_ready(store, node):
                self.take({"restoreNode": _place(pod)})

    # -- steps

    def take(self, step: _Step) -> None:
        """Take one step at this very moment unless it waits. A step that is not possible now is none."""
        assert self.simulation is not None
        if not {"after", "events"} & step.keys():
            step = {"events": 0, **step}
        try:
            self.simulation.take(self.scenario(step).steps[0])
        except ImpossibleStep:
            return
        except Exception:
            self.steps.append(step)
            self.write()
            raise
        self.steps.append(step)
        if self.simulation.violations:
            self.write()
            raise AssertionError(f"{self.simulation.violations}: see {self.folder}")

    def scenario(self, *steps: _Step) -> script.Scenario:
        """Steps as a scenario, read from the form that a file holds."""
        return script.read_scenario(self.document(*steps))

    def document(self, *steps: _Step) -> FrozenMap[Json]:
        head = {"apiVersion": script.API_VERSION, "kind": script.KIND, "strict": True}
        return freeze_map({**head, "cluster": self.cluster, "steps": list(steps)})

    def write(self) -> None:
        """What was done so far, as files for `lws simulate`."""
        self.failed = True
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, value in (("manifest", self.manifest), ("scenario", self.document(*self.steps))):
            (self.folder / f"sequence-{name}.yaml").write_text(to_yaml(value), encoding="utf-8")

    # -- what there is

    @property
    def is_there(self) -> bool:
        """Whether the set exists."""
        assert self.simulation is not None
        return self.simulation.player.world.store.get(names.KIND, "default", "serve") is not None

    @property
    def replicas(self) -> int:
        """The replicas that the set asks for."""
        assert self.simulation is not None
        found = dig(self.simulation.player.manifest, "spec", "replicas")
        return found if isinstance(found, int) else 0

    def pods(self) -> list[Object]:
        """The pods of the set, by name."""
        return self.children("Pod")

    def children(self, kind: str, *, also_terminating: bool = False) -> list[Object]:
        """The objects of a kind that bear the set's label, by name."""
        assert self.simulation is not None
        found = [
            obj
            for obj in self.simulation.player.world.store.all(kind)
            if label(obj, names.SET_NAME) == "serve"
        ]
        return [obj for obj in found if also_terminating or not terminating(obj)]


def _place(pod: Object) -> dict[str, int]:
    return {
        "group": int(label(pod, names.GROUP_INDEX)),
        "worker": int(label(pod, names.WORKER_INDEX)),
    }


def _is_running(pod: Object) -> bool:
    return dig(pod, "status", "phase") == "Running"


def settings_for(sequences: int, steps: int) -> settings:
    """So many sequences of so many steps each; the first that fails is shrunk."""
    return settings(
        max_examples=sequences,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sequences", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=200, help="of each sequence, those of its end apart")
    parser.add_argument("--first", type=int, default=0, help="the number of the first batch")
    parser.add_argument("--batch", type=int, default=50, help="sequences in a batch")
    parser.add_argument("--folder", type=Path, default=Sequence.folder)
    asked = parser.parse_args()
    if asked.first * asked.batch >= asked.sequences:
        parser.error(f"--sequences: batch {asked.first} begins after {asked.first * asked.batch} sequences")
    Sequence.folder = asked.folder
    began_s = time.monotonic()
    for number in range(asked.first, -(-asked.sequences // asked.batch)):
        try:
            run_state_machine_as_test(seed(number)(Sequence), settings=settings_for(asked.batch, asked.steps))
        except Exception as problem:
            print(f"batch {number} failed, see {asked.folder}: {problem}", file=sys.stderr)
            return 1
        told = ", ".join(f"{count} {what}" for what, count in Sequence.done.items())
        print(f"batch {number}: {told} in {time.monotonic() - began_s:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
