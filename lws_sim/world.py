"""A cluster with its controllers, as one value, and everything that can happen in it, as steps.

A world has tasks that could be done at once (a request to carry out, a StatefulSet to sync, a sight to
deliver, a look) and timers for what takes time. `perform` does one task and gives the world after it; who
drives the world chooses which. A task that nothing calls for any more does nothing.

The controllers are lws_core's machine, unchanged: they see the cluster through a watch that is delivered
when the driver pleases, and their own requests through the API server's answers.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import Final, TypeAlias

import attrs

from lws_core import controller, names
from lws_core.actions import Action, Apply, Create, Delete, Emit, PatchStatus, Read, TakeFields
from lws_core.memory import Memory
from lws_core.options import Options
from lws_core.reading import read
from lws_core.sights import Answered, Gone, Outcome, Seen, Sight, Synced
from lws_core.spec import LeaderWorkerSet
from lws_core.times import epoch_s
from lws_core.values import EMPTY, FrozenMap, dig, evolve

from .cluster import api, gc, kubelet, scheduler, statefulset
from .cluster.store import (
    Change,
    Object,
    Store,
    key_of,
    label,
    meta,
    name_of,
    namespace_of,
    owners,
    terminating,
    uid_of,
)

Choose: TypeAlias = Callable[[int], int]
"""Picks one of n possibilities, 0..n-1. Where there is nothing to choose it is not asked."""

START_S: Final = 1_800_000_000.0  # when every simulation begins: some second, the same for all
LOAD: Final = "simulation.lws.x-k8s.io/load"  # pod annotation: seconds until ready, or "never"
_BACK_OFF_S: Final = 0.005
_LONGEST_BACK_OFF_S: Final = 1000.0
_MOST_DOUBLINGS: Final = 20  # the longest wait comes before


@attrs.frozen
class Send:
    """Carry out a request of a controller, and answer it."""

    owner: str
    action: Action


@attrs.frozen
class Deliver:
    """Let a controller see what its watch holds."""

    owner: str


@attrs.frozen
class Look:
    """Let a controller decide."""

    owner: str


@attrs.frozen
class Sync:
    """Let the StatefulSet controller sync one StatefulSet."""

    namespace: str
    name: str


@attrs.frozen
class Bereave:
    """Let the garbage collector see to the dependents of an object that is gone."""

    gone: Object


@attrs.frozen
class Collect:
    """Let the garbage collector see to an object that it keeps."""

    key: str


@attrs.frozen
class Place:
    """Let the scheduler place a pod, and the kubelet start it."""

    key: str
    uid: str


@attrs.frozen
class Ready:
    """A pod has loaded."""

    key: str
    uid: str


@attrs.frozen
class End:
    """A terminating pod has stopped."""

    key: str
    uid: str


Task: TypeAlias = Send | Deliver | Look | Sync | Bereave | Collect | Place | Ready | End


@attrs.frozen
class Timing:
    """How long things take, in seconds. `load_s` None: pods become ready only when something else says so;
    `loads` says otherwise for groups, by "namespace/set/group", infinite for never."""

    load_s: float | None = 60.0
    stop_s: float = 5.0
    loads: FrozenMap[float] = EMPTY


@attrs.frozen
class Tally:
    """Counts of pods: that exist, that were ever created, and what they take of extended resources."""

    pods: int = 0
    created: int = 0
    resources: FrozenMap[Fraction] = EMPTY


@attrs.frozen(slots=False)
class Controller:
    """One set's controller: what it knows, what its watch holds, whether it has something to look at."""

    memory: Memory
    inbox: tuple[Change, ...] = ()
    unlooked: bool = True
    wake_at_s: float | None = None


@attrs.frozen(slots=False)
class World:
    """A cluster at one moment. `back_offs` counts failed syncs in a row, by StatefulSet."""

    store: Store = Store()
    rules: api.Rules = api.Rules()
    timing: Timing = Timing()
    endless: bool = True
    now_s: float = START_S
    controllers: FrozenMap[Controller] = EMPTY
    sends: tuple[Send, ...] = ()
    chores: FrozenMap[Task] = EMPTY
    syncs: FrozenMap[Sync] = EMPTY
    timers: tuple[tuple[float, str, Task], ...] = ()
    back_offs: FrozenMap[int] = EMPTY
    events: tuple[Emit, ...] = ()
    tally: Tally = Tally()

    def set_of(self, owner: str) -> LeaderWorkerSet | None:
        """The set that a controller knows."""
        return self.controllers[owner].memory.lws


def new_world(
    *,
    gate: bool = False,
    options: Options = Options(),
    timing: Timing = Timing(),
    nodes: tuple[Object, ...] = (),
) -> World:
    """An empty cluster. Without nodes it always has another that suits a pod."""
    store = Store()
    for node in nodes:
        store, _ = store.insert(node, START_S)
    store, _ = store.take()
    rules = api.Rules(gate=gate, options=options)
    return World(store=store, rules=rules, timing=timing, endless=not nodes)


# -- what a user does


def put_set(world: World, manifest: Object) -> World:
    """Create a LeaderWorkerSet, or replace its spec, labels and annotations. Defaults must be filled in."""
    before = world.store.get(names.KIND, namespace_of(manifest), name_of(manifest))
    if before is None:
        store, _ = api.create(world.store, manifest.without("status"), "user", world.rules, world.now_s)
    else:
        changed = {field: meta(manifest).get(field) for field in ("labels", "annotations")}
        after = before.with_("spec", manifest["spec"]).with_(
            "metadata",
            FrozenMap({k: v for k, v in {**meta(before), **changed}.items() if v is not None}),
        )
        store, _ = api.update(world.store, before, after, world.rules)
    return settle_changes(evolve(world, store=store))


def write(world: World, store: Store) -> World:
    """The world after somebody changed the store."""
    return settle_changes(evolve(world, store=store))


def lose_node(world: World, name: str) -> World:
    """The kubelet of a node goes silent: its pods fall unready, and what terminates there does not end."""
    store = scheduler.lose_node(world.store, name, world.now_s)
    for pod in _pods_on(world, name):
        store = kubelet.set_ready(store, pod, False, world.now_s)
    return write(world, store)


def restore_node(world: World, name: str) -> World:
    """The kubelet of a lost node is back: it ends what was to end, and reports the rest as ready again."""
    world = write(world, scheduler.restore_node(world.store, name))
    for pod in _pods_on(world, name):
        if terminating(pod):
            world = set_timer(world, world.now_s, End(key_of(pod), uid_of(pod)))
        elif dig(pod, "status", "phase") == "Running":
            world = set_timer(world, world.now_s, Ready(key_of(pod), uid_of(pod)))
    return world


def _pods_on(world: World, node: str) -> list[Object]:
    return [pod for pod in world.store.all("Pod") if dig(pod, "spec", "nodeName") == node]


# -- tasks


def tasks(world: World) -> Iterator[Task]:
    """What could be done now, the cluster's own work first and looks last."""
    yield from world.sends
    for at_s, _, task in world.timers:
        if at_s > world.now_s:
            break
        yield task
    yield from world.chores.values()
    yield from world.syncs.values()
    for owner, known in world.controllers.items():
        if known.inbox:
            yield Deliver(owner)
    for owner, known in world.controllers.items():
        if known.unlooked:
            yield Look(owner)


def perform(world: World, task: Task, fail: Callable[[Action], Outcome | None] | None = None) -> World:
    """The world after one task. `fail` may answer a request in the API server's place, which then never
    sees it."""
    match task:
        case Send(owner, action):
            sends = list(world.sends)
            sends.remove(task)
            world = evolve(world, sends=tuple(sends))
            outcome = None if fail is None else fail(action)
            if outcome is None:
                world, outcome = carry_out(world, owner, action)
            return answer(world, owner, action, outcome)
        case Deliver(owner):
            return deliver(world, owner)
        case Look(owner):
            return look(world, owner)
        case _:
            return _do_chore(_without(world, task), task)


def _without(world: World, task: Task) -> World:
    """The world in which a chore, or a timer that is due, is being seen to."""
    key = _chore_key(task)
    if key in world.syncs:
        return evolve(world, syncs=world.syncs.without(key))
    if key in world.chores:
        return evolve(world, chores=world.chores.without(key))
    for place, (at_s, other, _) in enumerate(world.timers):
        if at_s > world.now_s:
            break
        if other == key:
            return evolve(world, timers=(*world.timers[:place], *world.timers[place + 1 :]))
    return world


def next_timer_s(world: World) -> float | None:
    """When the next thing happens by itself, if nothing else does."""
    times = [at_s for at_s, _, _ in world.timers[:1]]
    times += [c.wake_at_s for c in world.controllers.values() if c.wake_at_s is not None]
    return min(times, default=None)


def advance(world: World, now_s: float) -> World:
    """The world at a later moment: what is due by then can be done."""
    controllers = {
        owner: evolve(known, unlooked=True, wake_at_s=None)
        if known.wake_at_s is not None and known.wake_at_s <= now_s
        else known
        for owner, known in world.controllers.items()
    }
    return evolve(
        world,
        now_s=max(now_s, world.now_s),
        controllers=FrozenMap(controllers),
    )


# -- controllers


def look(world: World, owner: str) -> World:
    """The world after a controller has looked: its requests are on their way."""
    known = world.controllers[owner]
    seen = controller.look(known.memory, world.now_s)
    sends = tuple(Send(owner, action) for action in seen.actions)
    known = evolve(known, memory=seen.memory, unlooked=False, wake_at_s=seen.wake_at_s)
    return evolve(world, controllers=world.controllers.with_(owner, known), sends=(*world.sends, *sends))


def deliver(world: World, owner: str) -> World:
    """The world after a controller has seen all that its watch held.

    Of an object that changed several times only the last state is shown: without a look between them, the
    others would make no difference.
    """
    known = world.controllers[owner]
    memory, name = known.memory, owner.split("/")[1]
    for change in {f"{change.key}/{uid_of(change.object)}": change for change in known.inbox}.values():
        sight = _sight(change, name, memory)
        memory = controller.observe(memory, sight, world.now_s) if sight is not None else memory
    known = evolve(known, memory=memory, inbox=(), unlooked=True)
    return evolve(world, controllers=world.controllers.with_(owner, known))


def answer(world: World, owner: str, action: Action, outcome: Outcome) -> World:
    """The world after a controller has heard what came of a request."""
    if isinstance(action, Emit):
        return evolve(world, events=(*world.events, action))
    known = world.controllers[owner]
    memory = controller.observe(known.memory, Answered(action, outcome), world.now_s)
    known = evolve(known, memory=memory, unlooked=True)
    return evolve(world, controllers=world.controllers.with_(owner, known))


def restart_controller(world: World, owner: str) -> World:
    """The world after a controller lost its memory and listed everything again."""
    known = world.controllers[owner]
    namespace, name = owner.split("/")
    objects = (obj for _, obj in world.store.objects.items())
    seen = [read(obj, name) for obj in objects if namespace_of(obj) == namespace and _belongs_to(obj) == name]
    things = [thing for thing in seen if thing is not None]
    memory = controller.begin(things, world.now_s, known.memory.options)
    fresh = Controller(memory)
    sends = tuple(send for send in world.sends if send.owner != owner)
    return evolve(world, controllers=world.controllers.with_(owner, fresh), sends=sends)


def carry_out(world: World, owner: str, action: Action) -> tuple[World, Outcome]:
    """What the API server makes of a request."""
    store, rules, now_s = world.store, world.rules, world.now_s
    match action:
        case Create(manifest):
            store, result = api.create(store, manifest, names.FIELD_MANAGER, rules, now_s)
        case Apply(manifest):
            store, result = api.apply(store, manifest, names.FIELD_MANAGER, rules, now_s)
        case TakeFields(ref, uid, version, index):
            key = f"{ref.kind}/{ref.namespace}/{ref.name}"
            store, result = api.json_patch_managed(store, key, uid, version, index)
        case Delete(ref, uid, version, propagation):
            key = f"{ref.kind}/{ref.namespace}/{ref.name}"
            store, result = api.delete(store, key, now_s, uid=uid, version=version, propagation=propagation)
        case PatchStatus(ref, uid, version, status):
            key = f"{ref.kind}/{ref.namespace}/{ref.name}"
            store, result = api.patch_status(store, key, uid, version, status)
        case Read(ref):
            found = store.get(ref.kind, ref.namespace, ref.name)
            if found is None and ref.kind == "Node" and world.endless:
                found = scheduler.make_node(ref.name)  # it is there, and like any other
            result = api.Answer(404) if found is None else api.Answer(200, found)
        case Emit():
            return world, Outcome(201)
    name = owner.split("/")[1]
    asks = world.controllers.get(owner)
    known = None if asks is None else asks.memory.lws
    told = None if result.object is None else read(result.object, name, known)
    outcome = Outcome(result.code, told if result.ok else None, result.message)
    return settle_changes(evolve(world, store=store)), outcome


# -- the cluster's own work


def settle_changes(world: World) -> World:
    """The world after every change of the store has been noted by those whom it concerns."""
    while world.store.changes:
        store, changes = world.store.take()
        world = evolve(world, store=store)
        chores: dict[str, Task] = {}
        syncs: dict[str, Sync] = {}
        for change in changes:
            for task in _chores_after(world, change):
                if isinstance(task, Sync):
                    syncs[_chore_key(task)] = task
                else:
                    chores[_chore_key(task)] = task
            world = _count(_time(_notify(world, change), change), change)
        world = evolve(world, chores=world.chores | chores, syncs=world.syncs | syncs)
    return world


def _chores_after(world: World, change: Change) -> Iterator[Task]:
    obj = change.object
    kind, gone = obj["kind"], change.type == "DELETED"
    if kind == "StatefulSet" and not gone:
        yield Sync(namespace_of(obj), name_of(obj))
    for reference in owners(obj):
        # A pod of an earlier one concerns nobody, though it may be what a failing sync waits for.
        is_of_set = reference["kind"] == "StatefulSet" and kind == "Pod"
        if is_of_set and world.store.exists(reference, namespace_of(obj)):
            yield Sync(namespace_of(obj), str(reference["name"]))
        if gone:
            yield Collect(f"{reference['kind']}/{namespace_of(obj)}/{reference['name']}")
    if gone and world.store.dependents.get(uid_of(obj)):
        yield Bereave(obj)
    before = change.before
    for reference in () if before is None else gc.no_longer_blocked(before, obj):
        yield Collect(f"{reference['kind']}/{namespace_of(obj)}/{reference['name']}")
    begins_to_wait = gc.is_kept(obj) and (before is None or not gc.is_kept(before))
    named = before is None or owners(obj) != owners(before)
    if not gone and (begins_to_wait or (named and gc.lacks_an_owner(world.store, obj))):
        yield Collect(change.key)
    if kind == "Pod" and change.type == "ADDED":
        yield Place(change.key, uid_of(obj))
    makes_room = kind == "Pod" and (gone or dig(obj, "status", "phase") in kubelet.FINISHED)
    if not world.endless and (kind == "Node" or makes_room):
        for pod in world.store.all("Pod"):
            if not dig(pod, "spec", "nodeName") and not terminating(pod):
                yield Place(key_of(pod), uid_of(pod))


def _do_chore(world: World, task: Task) -> World:
    store, now_s = world.store, world.now_s
    match task:
        case Sync(namespace, name):
            return _sync(world, namespace, name)
        case Bereave(gone):
            store = gc.after_deletion(store, gone, now_s)
        case Collect(key):
            store = gc.collect(store, key, now_s)
        case Place() | Ready() | End():
            pod = store.objects.get(task.key)
            if pod is not None and uid_of(pod) == task.uid:
                return _do_with_pod(world, task, pod)
        case _:
            raise TypeError(f"{task!r} is no chore")
    return settle_changes(evolve(world, store=store))


def _do_with_pod(world: World, task: Place | Ready | End, pod: Object) -> World:
    store, now_s = world.store, world.now_s
    if isinstance(task, Place):
        return _place(world, task, pod)
    reachable = scheduler.node_is_ready(store, str(dig(pod, "spec", "nodeName")))
    match task:
        case Ready() if reachable and not terminating(pod) and dig(pod, "status", "phase") == "Running":
            store = kubelet.set_ready(store, pod, True, now_s)
        case End() if reachable:
            store = kubelet.end(store, pod, now_s)
        case _:
            return world
    return settle_changes(evolve(world, store=store))


def _place(world: World, task: Place, pod: Object) -> World:
    if dig(pod, "spec", "nodeName") or terminating(pod):
        return world
    now_s = world.now_s
    store, node = scheduler.find_node(world.store, pod, endless=world.endless, now_s=now_s)
    if not node:
        return settle_changes(evolve(world, store=kubelet.leave_pending(store, pod)))
    world = settle_changes(evolve(world, store=kubelet.start(store, pod, node, now_s)))
    wait_s = load_of_s(world, pod)
    return world if wait_s is None else set_timer(world, now_s + wait_s, Ready(task.key, task.uid))


def load_of_s(world: World, pod: Object) -> float | None:
    """How long a pod takes to become ready once it has started, in seconds; None for never by itself."""
    own = f"{namespace_of(pod)}/{label(pod, names.SET_NAME)}/{label(pod, names.GROUP_INDEX)}"
    asked = dig(pod, "metadata", "annotations", LOAD)
    wait_s: float | None = world.timing.load_s
    if own in world.timing.loads:
        wait_s = world.timing.loads[own]
    elif asked == "never":
        wait_s = None
    elif isinstance(asked, str):
        wait_s = float(asked)
    return None if wait_s is None or math.isinf(wait_s) else wait_s


def set_timer(world: World, at_s: float, task: Task) -> World:
    """The world in which a task becomes possible at a moment."""
    timers = list(world.timers)
    bisect.insort(timers, (at_s, _chore_key(task), task), key=lambda timer: timer[:2])
    return evolve(world, timers=tuple(timers))


def _sync(world: World, namespace: str, name: str) -> World:
    result = statefulset.sync(world.store, namespace, name, world.rules, world.now_s)
    key = f"{namespace}/{name}"
    world = evolve(world, store=result.store)
    if not result.failed:
        world = evolve(world, back_offs=world.back_offs.without(key))
        return settle_changes(world)
    failures = world.back_offs.get(key, 0) + 1
    world = evolve(world, back_offs=world.back_offs.with_(key, failures))
    again = Sync(namespace, name)
    if any(task == again for _, _, task in world.timers):
        return settle_changes(world)  # it waits already, and not as long
    wait_s = min(_LONGEST_BACK_OFF_S, _BACK_OFF_S * 2 ** min(failures - 1, _MOST_DOUBLINGS))
    return settle_changes(set_timer(world, world.now_s + wait_s, again))


def _notify(world: World, change: Change) -> World:
    """Put a change into the watches of the controllers that it concerns."""
    obj = change.object
    if obj["kind"] == "Node":
        concerned = [o for o, known in world.controllers.items() if name_of(obj) in known.memory.nodes]
        return _show(world, concerned, change)
    name, before = _belongs_to(obj), "" if change.before is None else _belongs_to(change.before)
    if before and before != name:  # a watch of labels tells of what has lost its label that it is gone
        lost = Change("DELETED", change.key, obj, change.before)
        world = _show(world, [f"{namespace_of(obj)}/{before}"], lost)
    return _show(world, [f"{namespace_of(obj)}/{name}"], change) if name else world


def _show(world: World, concerned: Iterable[str], change: Change) -> World:
    for owner in concerned:
        known = world.controllers.get(owner)
        if known is None:
            if change.object["kind"] != names.KIND:
                continue
            memory = controller.observe(controller.start(world.rules.options), Synced(), world.now_s)
            known = Controller(memory)
        known = evolve(known, inbox=(*known.inbox, change))
        world = evolve(world, controllers=world.controllers.with_(owner, known))
    return world


def _sight(change: Change, name: str, memory: Memory) -> Sight | None:
    obj = change.object
    if change.type == "DELETED":
        version = str(meta(obj)["resourceVersion"])
        return Gone(obj["kind"], name_of(obj), uid_of(obj), version)  # type: ignore[arg-type]
    seen = read(obj, name, memory.lws)
    return None if seen is None else Seen(seen)


def _belongs_to(obj: Object) -> str:
    return name_of(obj) if obj["kind"] == names.KIND else label(obj, names.SET_NAME)


def _time(world: World, change: Change) -> World:
    """Set the timer of a pod that has begun to terminate."""
    obj = change.object
    if obj["kind"] != "Pod" or change.type != "MODIFIED" or not terminating(obj):
        return world
    ends_s = epoch_s(meta(obj)["deletionTimestamp"]) or world.now_s
    if change.before is not None and terminating(change.before):
        was = epoch_s(meta(change.before)["deletionTimestamp"]) or world.now_s
        if was <= ends_s or meta(obj)["deletionGracePeriodSeconds"] == 0:
            return world
    return set_timer(world, min(ends_s, world.now_s + world.timing.stop_s), End(change.key, uid_of(obj)))


def _count(world: World, change: Change) -> World:
    if change.object["kind"] != "Pod" or change.type == "MODIFIED":
        return world
    tally, sign = world.tally, 1 if change.type == "ADDED" else -1
    resources = dict(tally.resources)
    for name, amount in scheduler.requests_of(change.object["spec"]).items():
        if "/" in name:
            resources[name] = resources.get(name, Fraction(0)) + sign * amount
    counted = Tally(tally.pods + sign, tally.created + max(sign, 0), FrozenMap(resources))
    return evolve(world, tally=counted)


def _chore_key(task: Task) -> str:
    match task:
        case Sync(namespace, name):
            return f"Sync/{namespace}/{name}"
        case Bereave(gone):
            return f"Bereave/{uid_of(gone)}"
        case Collect(key):
            return f"Collect/{key}"
        case Place() | Ready() | End():
            return f"{type(task).__name__}/{task.key}/{task.uid}"
        case _:
            raise TypeError(f"{task!r} is no chore")
