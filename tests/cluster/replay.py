"""Whether the model permits what a real cluster did: its record is replayed through `lws_sim.world`.

What came from outside is done to the model at its place: edits of the set, deletions by somebody, and what
the kubelet reports. Everything else was decided by the operator, the StatefulSet controller or the garbage
collector, and for each of these marks (facets.py) there must be a task of the model that makes it. Tasks
that leave no mark are done at once. Which task is done when is searched for, depth first:

- A task may make several marks at once, as a sync does, where the real writes come one after another. The
  model is ahead then, and the rest of its marks is owed: each must be seen later, and nothing may be owed
  where the cluster is at rest.
- The operator looks when a mark of its is due, having seen all of its watch or any shorter part.
- A sync, a collection or a request may be done before it must be, as it was decided on an older view, and the
  operator may hear the answer to a request later than it takes effect.

The search ends with the first way through. Without one, the mark that no way comes past is told, with the
state before it; a search that takes too many steps is inconclusive, which is no pass.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeAlias

import attrs
from facets import Mark, difference, identity, kubelet_facets, marks, standing
from recorder import Event

from lws_core import names
from lws_core.actions import Emit
from lws_core.sights import Outcome
from lws_core.values import as_list, dig, evolve
from lws_sim.cluster import api, kubelet
from lws_sim.cluster.store import Object, key_of, meta, name_of, terminating, uid_of
from lws_sim.world import (
    START_S,
    Bereave,
    Collect,
    Deliver,
    End,
    Look,
    Place,
    Send,
    Sync,
    Task,
    Timing,
    World,
    advance,
    answer,
    carry_out,
    deliver,
    look,
    new_world,
    perform,
    put_set,
    tasks,
    write,
)

MOST_STEPS: Final = 8_000
MOST_BACK: Final = 400
LONGEST_S: Final = 20.0
_FURTHEST_BACK: Final = 60
_SHORTEST_VIEWS: Final = 12
_LOOKS: Final = 8
_OWN_TASKS: Final[tuple[type, ...]] = (Send, Sync, Bereave, Collect)
_RETRY_S: Final = 60.0  # how long the operator may wait before it tries again what has failed
_REPORT_S: Final = 1.5  # within which counts in the set's status are written


# -- the record


@attrs.frozen
class Put:
    """Somebody has created or edited the set."""

    manifest: Object


@attrs.frozen
class Kill:
    """Somebody has deleted an object."""

    key: str
    propagation: str = "Background"


@attrs.frozen
class Report:
    """What the kubelet told of a pod."""

    pod: Object


@attrs.frozen
class Stop:
    """The kubelet has ended a pod."""

    key: str


@attrs.frozen
class Tell:
    """The status of a StatefulSet names other revisions, and what it has become is no mark."""

    key: str


Outside: TypeAlias = Put | Kill | Report | Stop | Tell
Item: TypeAlias = Outside | Mark


@attrs.frozen
class Moment:
    """An item of the record; `at_s` counts from the record's beginning. `object`: that it is about, as it is
    then, or as it was before it went."""

    at_s: float
    item: Item
    object: Object


@attrs.define
class Reader:
    """Reads events as items. `killed`: the UIDs of pods that somebody has deleted."""

    killed: set[str]
    objects: dict[str, Object] = attrs.field(factory=dict)
    began_s: float | None = None

    def read(self, events: Iterable[Event]) -> list[Moment]:
        """The items of further events."""
        moments: list[Moment] = []
        for event in events:
            self.began_s = event.at_s if self.began_s is None else self.began_s
            key = key_of(event.object)
            before, after = self.objects.get(key), None if event.type == "DELETED" else event.object
            if after is None:
                self.objects.pop(key, None)
            else:
                self.objects[key] = after
            items = self._items(before, after, event.object)
            moments += [Moment(event.at_s - self.began_s, item, event.object) for item in items]
        return moments

    def _items(self, before: Object | None, after: Object | None, obj: Object) -> Iterator[Item]:
        if obj["kind"] == names.KIND:
            if _is_deletion(before, after):
                yield Kill(key_of(obj), propagation(after))
                yield from marks(before, after, self.objects)
            elif after is None:
                yield from marks(before, after, self.objects)
            elif before is None or _asked(before) != _asked(after):
                yield Put(after)
            return
        if obj["kind"] == "Pod" and before is not None:
            yield from _reports(before, after)
        if obj["kind"] == "Pod" and uid_of(obj) in self.killed and _is_deletion(before, after):
            self.killed.discard(uid_of(obj))
            yield Kill(key_of(obj))
        if not _is_deleted_at_once(after):
            found = tuple(marks(before, after, self.objects))
            if (
                before is not None
                and after is not None
                and not found
                and _revisions(before) != _revisions(after)
            ):
                yield Tell(key_of(obj))
            yield from found


def _asked(manifest: Object) -> Any:
    return manifest["spec"], meta(manifest).get("labels"), meta(manifest).get("annotations")


def _reports(before: Object, after: Object | None) -> Iterator[Item]:
    stopped = terminating(before) and _grace(before) != 0
    if after is None:
        if stopped:
            yield Stop(key_of(before))
        return
    if stopped and _grace(after) == 0:
        yield Stop(key_of(after))
    elif kubelet_facets(before) != kubelet_facets(after):
        yield Report(after)


def _revisions(obj: Object) -> Any:
    return dig(obj, "status", "currentRevision"), dig(obj, "status", "updateRevision")


def _is_deletion(before: Object | None, after: Object | None) -> bool:
    return before is not None and not terminating(before) and (after is None or terminating(after))


def propagation(after: Object | None) -> str:
    """How an object was deleted, told by what is left of it."""
    waits = after is not None and api.FOREGROUND in as_list(meta(after).get("finalizers"))
    return "Foreground" if waits else "Background"


def _is_deleted_at_once(after: Object | None) -> bool:
    """Whether the API server marks a pod only to remove it: it has no grace period, and nothing keeps it."""
    if after is None or after["kind"] != "Pod" or not terminating(after) or meta(after).get("finalizers"):
        return False
    return _grace(after) == 0


def _grace(pod: Object) -> Any:
    return meta(pod).get("deletionGracePeriodSeconds")


# -- the search


@attrs.frozen
class State:
    """A world on the way through the record, and the marks that it owes. `unheard`: requests that have been
    carried out, with answers that the operator has not heard yet."""

    world: World
    owed: tuple[Mark, ...] = ()
    unheard: tuple[tuple[Send, Outcome], ...] = ()


@attrs.frozen
class Permitted:
    """There is a way; `state` is its end."""

    state: State


@attrs.frozen
class Refused:
    """There is none: `moment` is the furthest that any comes to, `state` that before it."""

    index: int
    moment: Moment | None
    state: State

    def __str__(self) -> str:
        return f"the model does not permit item {self.index}, {_item(self.moment)}\n{describe(self.state)}"


@attrs.frozen
class Inconclusive:
    """The search was given up after too many steps."""

    index: int
    moment: Moment | None
    state: State

    def __str__(self) -> str:
        return f"given up at item {self.index}, {_item(self.moment)}\n{describe(self.state)}"


def _item(moment: Moment | None) -> str:
    return "the end" if moment is None else str(moment.item)


def begin(gate: bool) -> State:
    """An empty cluster, in which pods live as the record says."""
    return State(new_world(gate=gate, timing=Timing(load_s=None, stop_s=0.0)))


def replay(
    state: State, moments: list[Moment], is_end: Callable[[State], bool] = lambda _: True
) -> Permitted | Refused | Inconclusive:
    """Whether a way leads from a state through all moments to an end of the kind. Cost: a millisecond or so
    for each item and task, where the first choice is the right one each time."""
    search = _Search(moments, is_end)
    search.agenda.append(iter([[state]]))
    while search.agenda:
        way = next(search.agenda[-1], None)
        if way is None:
            search.agenda.pop()
            continue
        end = search.follow(way)
        if end is not None:
            return Permitted(end)
        if search.is_spent:
            break
        if search.has_come_further():
            search.agenda.append(search.repairs(search.longest))
    verdict = Inconclusive if search.was_cut or search.is_spent else Refused
    index = search.furthest
    return verdict(index, moments[index] if index < len(moments) else None, search.before)


@attrs.define
class _Search:
    """A search under way: `agenda` has the ways to try, the last ones first, each as the
    states before its items up to now."""

    moments: list[Moment]
    is_end: Callable[[State], bool]
    agenda: list[Iterator[list[State]]] = attrs.field(factory=list)
    repaired: int = -1
    last: dict[Item, int] = attrs.field(init=False)
    seen: set[int] = attrs.field(factory=set)
    longest: list[State] = attrs.field(factory=list)
    furthest: int = 0
    before: State = attrs.field(factory=lambda: State(World()))
    steps: int = 0
    was_cut: bool = False
    end_s: float = attrs.field(factory=lambda: time.thread_time() + LONGEST_S)

    def __attrs_post_init__(self) -> None:
        self.last = {m.item: index for index, m in enumerate(self.moments) if isinstance(m.item, Mark)}

    @property
    def is_spent(self) -> bool:
        return self.steps > MOST_STEPS or time.thread_time() > self.end_s

    def follow(self, way: list[State]) -> State | None:
        """The end that a way leads to, going back a little where it must; None for none."""
        self._note(way)
        if len(way) > len(self.moments):
            return way[-1] if self.is_end(way[-1]) else None
        forks = [self._ways(way)]
        most = self.steps + MOST_BACK
        while forks:
            state = next(forks[-1], None)
            self.steps += 1
            if state is None:
                forks.pop()
                way.pop()
            elif self._is_new(len(way), state):
                if len(way) == len(self.moments):
                    if self.is_end(state):
                        return state
                    self._note([*way, state])
                    continue
                way.append(state)
                most = self.steps + MOST_BACK if self._note(way) else most
                forks.append(self._ways(way))
            if self.steps > most or self.is_spent:
                self.was_cut = True
                return None
        return None

    def _ways(self, way: list[State]) -> Iterator[State]:
        """The states after the next item, the likely ones first: those in which nothing is on its way that
        the record does not tell of from here on."""
        index = len(way) - 1
        unlikely = []
        for state in _ways(way[-1], self.moments[index]):
            if all(self.last.get(mark, -1) > index for mark in _on_its_way(state)):
                yield state
            else:
                unlikely.append(state)
        yield from unlikely

    def _is_new(self, index: int, state: State) -> bool:
        trace = hash((index, _fingerprint(state)))
        new = trace not in self.seen
        self.seen.add(trace)
        return new

    def has_come_further(self) -> bool:
        """Whether the longest way has grown since this was last asked."""
        further, self.repaired = self.furthest > self.repaired, self.furthest
        return further

    def repairs(self, way: list[State]) -> Iterator[list[State]]:
        """Ways that may come past the mark at which the longest one ends: those in which that mark, or one
        whose making left something owed, was decided on an older view; the latest first."""
        owed = way[-1].owed
        yield from self._earlier(way, len(way) - 1)
        for index in range(len(way) - 2, max(-1, len(way) - _FURTHEST_BACK), -1):
            if any(mark not in way[index].owed and mark in owed for mark in way[index + 1].owed):
                yield from self._earlier(way, index)

    def _earlier(self, way: list[State], index: int) -> Iterator[list[State]]:
        """The ways in which the mark of an item is decided earlier than there."""
        mark = self.moments[index].item if index < len(self.moments) else None
        if not isinstance(mark, Mark):
            return
        for before in range(index, max(-1, index - _FURTHEST_BACK), -1):
            if self.is_spent:
                return
            state = way[before]
            if before < index:
                for early in _made_by(state, mark, _own_tasks(state.world)):
                    yield [*way[:before], quieten(attrs.evolve(early, owed=(*early.owed, mark)))]
            for sent in _sent(state, mark) if _may_be_the_operators(mark) else ():
                yield [*way[:before], sent]
        for before in range(index - 1, max(-1, index - _FURTHEST_BACK), -1):
            made = self.moments[before].item
            if self.is_spent:
                return
            if isinstance(made, Mark) and made.what == "spec" and _may_be_the_operators(mark):
                for sent in _sent(way[before], made):
                    for unheard in _unheard(sent, made):
                        yield [*way[: before + 1], unheard]

    def _note(self, way: list[State]) -> bool:
        """Whether it has come further than this way, and so than any before it."""
        index = len(way) - 1
        if index <= self.furthest and self.longest:
            return False
        self.longest, self.furthest, self.before = list(way), index, way[-1]
        return True


def _may_be_the_operators(mark: Mark) -> bool:
    return mark.what in ("made", "spec", "terminating", "gone") and not (
        mark.key.startswith("Pod/") and mark.what == "made"
    )


def _on_its_way(state: State) -> Iterator[Mark]:
    """What is owed, and what the operator's requests would do that have been sent."""
    yield from state.owed
    for task in state.world.sends:
        yield from difference(state.world.store, perform(state.world, task).store)


def _fingerprint(state: State) -> Any:
    """Two states of one fingerprint go on alike."""
    world = state.world
    objects = tuple((key, hash(obj)) for key, obj in world.store.objects.items())
    known = tuple((owner, hash(c.memory), len(c.inbox), c.unlooked) for owner, c in world.controllers.items())
    under_way = len(world.sends), len(state.unheard)
    return state.owed, objects, known, tuple(world.syncs), tuple(world.chores), under_way


def _ways(state: State, moment: Moment) -> Iterator[State]:
    """The states after an item, the likely ones first."""
    state = evolve_world(state, advance(state.world, START_S + moment.at_s))
    found = _making(state, moment.item) if isinstance(moment.item, Mark) else after_event(state, moment.item)
    for after in found:
        yield quieten(after)


def after_event(state: State, item: Outside) -> Iterator[State]:
    """The states after something that came from outside: one, or none where it cannot happen."""
    world = state.world
    match item:
        case Put(manifest):
            yield evolve_world(state, put_set(world, manifest))
        case Kill(key, propagation):
            store, told = api.delete(world.store, key, world.now_s, propagation=propagation)
            done = write(world, store)
            if told.ok:
                owed = (*state.owed, *difference(world.store, done.store))
                yield attrs.evolve(state, world=done, owed=owed)
        case Report(pod):
            known = world.store.objects.get(key_of(pod))
            if known is not None:
                yield evolve_world(state, _reported(world, known, pod))
            elif Mark(identity(pod), "gone") in state.owed:
                yield state  # who deletes it found it on no node: it goes at once, though it is bound by then
        case Tell():
            yield state
        case Stop(key):
            known = world.store.objects.get(key)
            if known is not None and terminating(known):
                done = perform(world, End(key, uid_of(known)))
                owed = (*state.owed, *difference(world.store, done.store))
                yield attrs.evolve(state, world=done, owed=owed)


def _reported(world: World, known: Object, pod: Object) -> World:
    """The world in which the kubelet has told of a pod what it has told in the cluster."""
    told = kubelet_facets(pod)
    if told["bound"] and not kubelet_facets(known)["bound"]:
        world = perform(world, Place(key_of(pod), uid_of(known)))
        known = world.store.objects.get(key_of(pod)) or known
    old, store = kubelet_facets(known), world.store
    if told["phase"] == "Failed" and old["phase"] != "Failed":
        store = kubelet.fail(store, known, str(dig(pod, "status", "reason") or ""), world.now_s)
    elif told["restarts"] > old["restarts"]:
        store = kubelet.restart_container(store, known, world.now_s)
    elif told["phase"] == "Running" and told["ready"] != old["ready"]:
        store = kubelet.set_ready(store, known, told["ready"], world.now_s)
    return write(world, store)


def _making(state: State, mark: Mark) -> Iterator[State]:
    """The states in which a mark has been made: long ago, by a task that can be done, or by the operator."""
    if mark.what == "spec":
        # a status that is written later tells of an older generation, which is no mark
        lapsed = Mark(mark.key, "observed", True)
        state = attrs.evolve(state, owed=tuple(one for one in state.owed if one != lapsed))
    if mark in state.owed:
        yield attrs.evolve(state, owed=_less(state.owed, mark))
        return
    yield from _made_by(state, mark, _own_tasks(state.world))
    if state.unheard:
        yield from _decided(state, mark)
        state = _hear(state)
    yield from _decided(state, mark)


def _decided(state: State, mark: Mark) -> Iterator[State]:
    """The states in which the operator has decided on a mark now, and made it."""
    for owner, known in state.world.controllers.items():
        for count in _views(len(known.inbox)):
            world = _see(state.world, owner, count)
            yield from _looking(evolve_world(state, world), owner, mark)


def _made_by(state: State, mark: Mark, able: Iterable[Task]) -> Iterator[State]:
    for task in able:
        done = perform(state.world, task)
        made = difference(state.world.store, done.store)
        if mark in made:
            yield attrs.evolve(state, world=done, owed=(*state.owed, *_less(made, mark)))


def _looking(state: State, owner: str, mark: Mark) -> Iterator[State]:
    """The states in which the operator has made a mark, within a few looks."""
    for _ in range(_LOOKS):
        state = quieten(evolve_world(state, look(state.world, owner)))
        yield from _made_by(state, mark, [send for send in state.world.sends if send.owner == owner])
        known = state.world.controllers[owner]
        if not known.unlooked:
            at_s = known.wake_at_s
            if at_s is None or at_s > state.world.now_s + _RETRY_S:
                return
            state = evolve_world(state, advance(state.world, at_s))


def _sent(state: State, mark: Mark) -> Iterator[State]:
    """The states in which the operator has looked, and a request that would make a mark is on its way."""
    for owner, known in state.world.controllers.items():
        for count in _views(len(known.inbox)):
            sent = quieten(evolve_world(state, look(_see(state.world, owner, count), owner)))
            new = [send for send in sent.world.sends if send not in state.world.sends]
            if any(True for _ in _made_by(sent, mark, new)):
                yield sent


def _views(count: int) -> Iterator[int]:
    """How many changes the operator may have seen of those that its watch holds."""
    yield from range(count, max(0, count - _SHORTEST_VIEWS), -1)
    yield 0


def _see(world: World, owner: str, count: int) -> World:
    """The world in which a controller has seen the first changes of its watch."""
    known = world.controllers[owner]
    if count == 0:
        return world
    first = evolve(known, inbox=known.inbox[:count])
    world = deliver(evolve(world, controllers=world.controllers.with_(owner, first)), owner)
    seen = evolve(world.controllers[owner], inbox=known.inbox[count:])
    return evolve(world, controllers=world.controllers.with_(owner, seen))


def _own_tasks(world: World, kinds: tuple[type, ...] = _OWN_TASKS) -> list[Task]:
    """What the operator's requests, the StatefulSet controller and the garbage collector may do now; what
    becomes of pods on nodes is in the record."""
    return [task for task in tasks(world) if isinstance(task, kinds)]


def quieten(state: State, kinds: tuple[type, ...] = _OWN_TASKS) -> State:
    """The state after all tasks of these kinds that leave no mark."""
    again = True
    while again:
        again = False
        for task in _own_tasks(state.world, kinds):
            done = perform(state.world, task)
            if not difference(state.world.store, done.store):
                state, again = evolve_world(state, done), True
                break
    return state


def evolve_world(state: State, world: World) -> State:
    return attrs.evolve(state, world=world)


def _hear(state: State) -> State:
    """The state in which the operator has heard all answers."""
    world = state.world
    for send, outcome in state.unheard:
        world = answer(world, send.owner, send.action, outcome)
    return attrs.evolve(state, world=world, unheard=())


def _unheard(state: State, mark: Mark) -> Iterator[State]:
    """The states in which a request of the operator has made a mark, and the answer is still on its way."""
    for send in state.world.sends:
        sends = list(state.world.sends)
        sends.remove(send)
        done, outcome = carry_out(evolve(state.world, sends=tuple(sends)), send.owner, send.action)
        made = difference(state.world.store, done.store)
        if mark in made:
            unheard = (*state.unheard, (send, outcome))
            yield State(done, (*state.owed, *_less(made, mark)), unheard)


def _less(all_marks: tuple[Mark, ...], mark: Mark) -> tuple[Mark, ...]:
    place = all_marks.index(mark)
    return (*all_marks[:place], *all_marks[place + 1 :])


# -- at rest


@attrs.frozen
class Restless:
    """The cluster rests, and the model would go on."""

    marks: tuple[Mark, ...]

    def __str__(self) -> str:
        return "the model would go on: " + ", ".join(map(str, self.marks))


def settle(state: State) -> State | Restless:
    """The state after all that the model still does by itself, none of which may leave a mark."""
    if state.owed:
        return Restless(state.owed)
    state = _hear(state)
    while True:
        state = quieten(state)
        world = state.world
        for task in tasks(world):
            match task:
                case Place() | End():
                    continue
                case Deliver() | Look():
                    world = perform(world, task)
                    break
                case _:
                    return Restless(difference(world.store, perform(world, task).store))
        else:
            # the timers of pods that end may be due: the kubelet has not told of their ends yet
            times = [at_s for at_s, _, task in world.timers if not isinstance(task, End)]
            times += [one.wake_at_s for one in world.controllers.values() if one.wake_at_s is not None]
            at_s = min(times, default=None)
            if at_s is None or not world.now_s < at_s <= world.now_s + _REPORT_S:
                return state
            world = advance(world, at_s)
        state = evolve_world(state, world)


def rest_of(world: World) -> dict[str, Any]:
    """Where the model has come to rest."""
    return standing(obj for _, obj in world.store.objects.items())


def describe(state: State) -> str:
    """A state in words."""
    lines = [f"  {key}: {told}" for key, told in rest_of(state.world).items()]
    able = [_named(task) for task in tasks(state.world)]
    owed = ", ".join(map(str, state.owed)) or "nothing"
    return "\n".join(["state:", *lines, f"tasks: {', '.join(able)}", f"owed: {owed}"])


def _named(task: Task) -> str:
    match task:
        case Send(_, action):
            if isinstance(action, Emit):
                return f"Emit {action.event.reason}"
            return f"{type(action).__name__} {action.ref.kind}/{action.ref.name}"
        case Bereave(gone):
            return f"Bereave {name_of(gone)}"
        case Sync(_, name):
            return f"Sync {name}"
        case Deliver() | Look():
            return type(task).__name__
        case _:
            return f"{type(task).__name__} {task.key}"
