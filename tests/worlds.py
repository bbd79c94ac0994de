"""Runs of the machine in simulated clusters: random orders, edits, failures, and what must hold throughout.

A `Run` drives one world with one set, `default/serve`. Each look is judged, each state of the store can be
watched for the number of groups that are really ready, and a run that is over is compared with another by
what it left (lws_sim/ends.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final, Literal

import attrs
from building import a_set

from lws_core import names
from lws_core.actions import Apply, Create, Delete, Emit
from lws_core.answers import action_key
from lws_core.codec import decode
from lws_core.defaulting import apply_defaults
from lws_core.options import Options
from lws_core.sights import Outcome
from lws_core.validation import validate_create
from lws_core.values import Json, as_map, as_maps, dig, evolve
from lws_sim import world as cluster
from lws_sim.cluster import api, kubelet
from lws_sim.cluster.store import (
    Object,
    controller_uid,
    key_of,
    label,
    meta,
    name_of,
    terminating,
    uid_of,
)
from lws_sim.judging import Limits, Violation, judge, limits_of
from lws_sim.waiting import Clock

OWNER: Final = "default/serve"
LEADERS: Final = "StatefulSet/default/serve"
MOST_TASKS: Final = 60_000
LATEST_S: Final = 700.0  # for which things that can be done may be left undone at a time
PATIENCE_S: Final = 40_000.0  # within which a world comes to rest once nothing happens to it any more

Style = Literal["cluster first", "looks first", "any", "late"]


@attrs.frozen
class Shape:
    """A set and its cluster. `template` counts the changes of its pod templates; pods of a `broken` one are
    never ready."""

    replicas: int = 3
    size: int = 2
    max_unavailable: int | str = 1
    max_surge: int | str = 0
    partition: int = 0
    restart_policy: str = "RecreateGroupOnPodRestart"
    template: int = 1
    broken: bool = False
    grace_s: int = 3
    gate: bool = False
    startup_policy: str = "LeaderCreated"
    subdomain_policy: str = "Shared"

    @property
    def manifest(self) -> Object:
        notes = {cluster.LOAD: "never"} if self.broken else {}
        template = {
            "metadata": {"annotations": notes},
            "spec": {
                "containers": [{"name": "main", "image": f"img:{self.template}"}],
                "terminationGracePeriodSeconds": self.grace_s,
            },
        }
        return apply_defaults(
            a_set(
                spec={
                    "replicas": self.replicas,
                    "startupPolicy": self.startup_policy,
                    "networkConfig": {"subdomainPolicy": self.subdomain_policy},
                },
                template={
                    "size": self.size,
                    "workerTemplate": template,
                    "restartPolicy": self.restart_policy,
                },
                metadata={"namespace": "default"},
                rolling={
                    "maxUnavailable": self.max_unavailable,
                    "maxSurge": self.max_surge,
                    "partition": self.partition,
                },
            )
        )

    @property
    def limits(self) -> Limits:
        """What a rollout may do."""
        return limits_of(decode(self.manifest).spec)

    @property
    def floor(self) -> int:
        """The number of groups that a rollout must leave ready."""
        return self.limits.floor

    @property
    def is_stuck(self) -> bool:
        """Whether nothing may move, and admission refuses it."""
        return bool(validate_create(self.manifest).errors)


class Run:
    """One world while it runs."""

    def __init__(
        self, shape: Shape, seed: int = 0, style: Style = "any", *, options: Options = Options()
    ) -> None:
        self.random = random.Random(seed)
        self.shape, self.style = shape, style
        timing = cluster.Timing(load_s=None, stop_s=4.0)
        self.world = cluster.new_world(gate=shape.gate, timing=timing, options=options)
        self.violations: list[Violation] = []
        self.clock = Clock()
        self.floor: int | None = None
        self.fail: Callable[[], str | int | None] | None = None
        self.recreated: list[str] = []  # UIDs of leaders that were deleted in the foreground
        self.replaced: list[str] = []  # and in the background
        self.leaders_seen: set[str] = set()
        self.written = self.done = 0
        self.lossy = False
        self.heard = 0  # the version of the leader StatefulSet that the last write of it was answered with
        self.trace: list[str] = []
        self.world = cluster.put_set(self.world, shape.manifest)

    # -- driving

    def step(self, until_s: float = float("inf")) -> bool:
        """Do one of the things that can be done; False where there is none."""
        tasks = list(cluster.tasks(self.world))
        if self.style == "late" and self.random.random() < 0.1:
            soon_s = min(until_s, self.world.now_s + LATEST_S)
            if self.advance(soon_s):
                return True
        if not tasks:
            return False
        self.done += 1
        assert self.done < MOST_TASKS, f"the world does not come to rest: {self.trace[-30:]}"
        self._perform(tasks[self._choose(len(tasks))])
        return True

    def advance(self, until_s: float = float("inf")) -> bool:
        """Let the clock go on to the next thing that is due; False where there is none until then."""
        next_s = cluster.next_timer_s(self.world)
        if next_s is None or next_s > until_s:
            return False
        self.world = cluster.advance(self.world, next_s)
        return True

    def steps(self, count: int) -> None:
        """Some tasks, the clock going on where there are none."""
        for _ in range(count):
            if not self.step() and not self.advance():
                return

    def wait(self, seconds: float) -> None:
        """Do all that can be done in some seconds."""
        until_s = self.world.now_s + seconds
        while self.step(until_s) or self.advance(until_s):
            pass
        self.world = cluster.advance(self.world, until_s)

    def rest(self) -> None:
        """Go on until nothing happens any more."""
        until_s = self.world.now_s + PATIENCE_S
        while self.step() or self.advance():
            assert self.world.now_s < until_s, f"the world does not come to rest: {self.trace[-30:]}"

    def look_again(self) -> int:
        """Three more looks, long after one another; the number of actions that came of them."""
        before = self.written
        for later_s in (1.0, 100.0, 10_000.0):
            self.world = cluster.advance(self.world, self.world.now_s + later_s)
            known = evolve(self.world.controllers[OWNER], unlooked=True)
            self.world = evolve(self.world, controllers=self.world.controllers.with_(OWNER, known))
            while self.step():
                pass
        return self.written - before

    def _choose(self, count: int) -> int:
        match self.style:
            case "cluster first":
                return 0
            case "looks first":
                return count - 1
            case _:
                return self.random.randrange(count)

    def _perform(self, task: cluster.Task) -> None:
        match task:
            case cluster.Look():
                self._look()
            case cluster.Send():
                self._send(task)
            case cluster.Deliver() if self.style in ("any", "late"):
                self._deliver()
            case cluster.Place():
                self._follow(cluster.perform(self.world, task))
                self._load(task.key)
            case _:
                self._follow(cluster.perform(self.world, task))
        if self.floor is not None:
            ready = len(ready_groups(self.world))
            assert ready >= self.floor, (
                f"{ready} ready groups of {self.floor} after {task!r:.200}: {self.trace[-20:]}"
            )

    def _deliver(self) -> None:
        """Each kind has a watch of its own: one of them shows some of what it holds, in its order."""
        known = self.world.controllers[OWNER]
        kind = self.random.choice(known.inbox).object["kind"]
        own = [change for change in known.inbox if change.object["kind"] == kind]
        shown = own[: self.random.randint(1, len(own))]
        left = tuple(change for change in known.inbox if not any(change is one for one in shown))
        only = evolve(known, inbox=tuple(shown))
        world = evolve(self.world, controllers=self.world.controllers.with_(OWNER, only))
        world = cluster.deliver(world, OWNER)
        rest = evolve(world.controllers[OWNER], inbox=left)
        self.world = evolve(world, controllers=world.controllers.with_(OWNER, rest))

    def _follow(self, world: cluster.World) -> None:
        """Go on with a world, having counted the leaders that are new in it."""
        if world.tally.created != self.world.tally.created:
            leaders = (world.store.get("Pod", "default", f"serve-{index}") for index in range(30))
            self.leaders_seen |= {uid_of(pod) for pod in leaders if pod is not None}
        self.world = world

    def _look(self) -> None:
        memory, before = self.world.controllers[OWNER].memory, len(self.world.sends)
        self.world = cluster.look(self.world, OWNER)
        actions = tuple(send.action for send in self.world.sends[before:])
        self.written += len(actions)
        for action in actions:
            self.trace.append(_line(self.world.now_s, action))
            if isinstance(action, Delete) and action.ref.kind == "Pod":
                (self.recreated if action.propagation == "Foreground" else self.replaced).append(action.uid)
            if isinstance(action, Create | Apply) and action.ref.name == "serve" and memory.lws is not None:
                replicas = dig(action.manifest, "spec", "replicas")
                ceiling = limits_of(memory.lws.spec).ceiling
                assert not isinstance(replicas, int) or replicas <= ceiling, self.trace[-20:]
        if not self.lossy:
            assert not any(retry.refused for retry in memory.retries.values()), self.trace[-20:]
        if memory.statefulset is not None:
            version = int(memory.statefulset.resource_version)
            assert version >= self.heard, f"a view of {version}, older than the own write {self.heard}"
        sent = [action_key(send.action) for send in self.world.sends if not isinstance(send.action, Emit)]
        assert len(set(sent)) == len(sent), f"sent twice before it was answered: {sorted(sent)}"
        self.clock.look(memory, self.world.now_s)
        self.violations += judge(memory, actions, self.world.now_s, self.clock.was_waited_for)
        assert not self.violations, f"{self.violations}: {self.trace[-30:]}"

    def _send(self, task: cluster.Send) -> None:
        failure = None if self.fail is None or isinstance(task.action, Emit) else self.fail()
        if failure is None:
            before = self.world.store
            self.world = cluster.perform(self.world, task)
            leaders = self.world.store.objects.get(LEADERS)
            if leaders is not None and leaders is not before.objects.get(LEADERS):
                self.heard = int(str(meta(leaders)["resourceVersion"]))
        elif failure == "lost":  # carried out, but the answer does not arrive
            sends = list(self.world.sends)
            sends.remove(task)
            world, _ = cluster.carry_out(evolve(self.world, sends=tuple(sends)), OWNER, task.action)
            self.world = cluster.answer(world, OWNER, task.action, Outcome(0))
        else:
            outcome = Outcome(int(failure), message="injected")
            self.world = cluster.perform(self.world, task, lambda _: outcome)
        if failure is not None:
            self.lossy = True
            self.trace.append(f"{failure}: {type(task.action).__name__} {task.action}"[:80])

    # -- what happens to it

    def edit(self, **fields: Any) -> None:
        """A user changes the set."""
        self.shape = attrs.evolve(self.shape, **fields)
        self.trace.append(f"{self.world.now_s:.0f} edit {fields}")
        self.world = cluster.put_set(self.world, self.shape.manifest)

    def pods(self) -> list[Object]:
        """The pods of the set, by name."""
        return [pod for pod in self.world.store.all("Pod") if label(pod, names.SET_NAME) == "serve"]

    def hurt(self, how: str, pod: Object) -> None:
        """Something befalls a pod."""
        store, now_s = self.world.store, self.world.now_s
        running = dig(pod, "status", "phase") == "Running" and not terminating(pod)
        self.trace.append(f"{now_s:.0f} {how} {name_of(pod)}")
        if how == "delete":
            self.world = cluster.write(self.world, api.delete(store, key_of(pod), now_s)[0])
        elif how == "kill":
            self.world = cluster.write(self.world, api.delete(store, key_of(pod), now_s, grace_s=0)[0])
        elif running and how == "evict":
            self.world = cluster.write(self.world, kubelet.fail(store, pod, "Evicted", now_s))
        elif running and how in ("crash", "unready"):
            fall = (
                kubelet.restart_container(store, pod, now_s)
                if how == "crash"
                else kubelet.set_ready(store, pod, False, now_s)
            )
            self.world = cluster.write(self.world, fall)
            self._load(key_of(pod))

    def _load(self, key: str) -> None:
        """A pod that runs will be ready after a while, unless it is broken."""
        pod = self.world.store.objects.get(key)
        if pod is None or dig(pod, "status", "phase") != "Running" or terminating(pod):
            return
        if dig(pod, "metadata", "annotations", cluster.LOAD) != "never":
            at_s = self.world.now_s + self.random.choice((0.5, 5.0, 10.0, 25.0))
            self.world = cluster.set_timer(self.world, at_s, cluster.Ready(key, uid_of(pod)))

    def restart_controller(self) -> None:
        """The controller starts anew."""
        self.trace.append(f"{self.world.now_s:.0f} the controller restarts")
        if OWNER in self.world.controllers:
            self.world = cluster.restart_controller(self.world, OWNER)


# -- what there is


def leaders_of(world: cluster.World) -> Object:
    """The leader StatefulSet."""
    found = world.store.objects.get(LEADERS)
    assert found is not None
    return found


def ready_groups(world: cluster.World) -> set[int]:
    """The groups that really serve now: leader and all workers Ready, none terminating, of one revision, and
    each the other's by UID."""
    return {group for group in range(30) if _is_ready(world, group)}


def _is_ready(world: cluster.World, group: int) -> bool:
    leaders = world.store.objects.get(LEADERS)
    leader = world.store.get("Pod", "default", f"serve-{group}")
    if leader is None or leaders is None or not _serves(leader, leaders):
        return False
    size = int(str(dig(leader, "metadata", "annotations", names.SIZE)))
    if size == 1:
        return True
    workers = world.store.get("StatefulSet", "default", f"serve-{group}")
    if workers is None or controller_uid(workers) != uid_of(leader) or terminating(workers):
        return False
    pods = [world.store.get("Pod", "default", f"serve-{group}-{index}") for index in range(1, size)]
    return all(pod is not None and _serves(pod, workers) and _key(pod) == _key(leader) for pod in pods)


def _serves(pod: Object, owner: Object) -> bool:
    ready = any(
        c.get("type") == "Ready" and c.get("status") == "True"
        for c in as_maps(dig(pod, "status", "conditions"))
    )
    running = dig(pod, "status", "phase") == "Running"
    return ready and running and not terminating(pod) and controller_uid(pod) == uid_of(owner)


def _key(obj: Object) -> str:
    return label(obj, names.REVISION_KEY)


def assert_at_rest(run: Run) -> None:
    """All that is to be true of a set that nothing happens to: everything on the newest spec, no surge,
    Available, and a controller that has nothing to do."""
    world, shape = run.world, run.shape
    leaders = leaders_of(world)
    trace = run.trace[-40:]
    assert dig(leaders, "spec", "replicas") == shape.replicas, trace
    assert dig(leaders, "spec", "updateStrategy", "rollingUpdate", "partition") == shape.partition, trace
    assert ready_groups(world) == set(range(shape.replicas)), trace
    assert dig(leaders, "spec", "template", "spec", "containers")[0]["image"] == f"img:{shape.template}"
    for index in range(shape.partition, shape.replicas):
        leader = world.store.get("Pod", "default", f"serve-{index}")
        assert leader is not None
        assert _key(leader) == _key(leaders), trace
        assert dig(leader, "metadata", "annotations", names.SIZE) == str(shape.size), trace
    pods = run.pods()
    if shape.partition == 0:
        assert len(pods) == shape.replicas * shape.size, trace
    status = as_map(as_map(world.store.get(names.KIND, "default", "serve")).get("status"))
    conditions = {str(c["type"]): c["status"] for c in as_maps(status.get("conditions"))}
    assert conditions[names.AVAILABLE] == "True", trace
    assert conditions.get(names.PROGRESSING, "False") == "False", trace
    assert conditions.get(names.STALLED, "False") == "False", trace
    assert status["replicas"] == status["readyReplicas"] == shape.replicas, trace
    owners = [o for o in world.store.all("ControllerRevision") if _owner_kind(o) == names.KIND]
    if shape.partition == 0:
        assert len(owners) == 1, trace
    assert run.look_again() == 0, run.trace[-10:]


def _owner_kind(obj: Object) -> Json:
    return next((ref["kind"] for ref in as_maps(meta(obj).get("ownerReferences"))), None)


def _line(now_s: float, action: object) -> str:
    if isinstance(action, Emit):
        return f"{now_s - cluster.START_S:.1f} event {action.event.note}"
    why = getattr(action, "why", "")
    return f"{now_s - cluster.START_S:.1f} {type(action).__name__} {getattr(action, 'ref', '')}: {why}"[:200]
