"""Whether each write of a real cluster, looked at by itself, is one that the model makes.

replay.py searches for a way of the model through a whole record. It may find none where caches were late in a
way that it does not try, or give up. Then the model's store follows the cluster, write by write:

- What came from outside is done to it as there. So is what the operator asked for, which the audit log tells.
- For each write of the StatefulSet controller or the garbage collector there must be a sync, or a look of the
  collector, that makes it on a view of the last moments: the StatefulSet as it was at one of them, and all
  else as it was at another, as a controller has a cache for each kind.
- Where the cluster rests, no sync and no look of the collector may change anything, and all is alike.

That is less than a way through all: a sync need not be finished, a status is taken as it is until both rest,
and of the operator nothing is claimed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import attrs
from audit import MANAGER, Entry
from facets import Mark, apart, difference, identity, is_observed, kubelet_facets, standing
from replay import Moment, Restless, State, Tell, after_event, evolve_world, propagation, quieten

from lws_core import names
from lws_core.values import FrozenMap, dig
from lws_sim.cluster import api, gc, statefulset
from lws_sim.cluster.store import (
    Object,
    Store,
    key_of,
    meta,
    name_of,
    namespace_of,
    owners,
    terminating,
    uid_of,
    with_meta,
    with_status,
)
from lws_sim.world import START_S, Bereave, Collect, Sync, advance, perform, tasks, write

VIEWS: Final = 60
"""How many moments a cache may be late."""

_OPERATORS: Final = ("operator", MANAGER)
_ENDS: Final = ("terminating", "gone")
_TOLD: Final = ("observed", "current")


class Unexplained(Exception):
    """A write that the model does not make, or that cannot be done to it."""


def deletions(writes: Iterable[Entry]) -> dict[str, str]:
    """How the operator asked for deletions, by UID of what was to be deleted."""
    return {
        entry.body["preconditions"]["uid"]: entry.body["propagationPolicy"]
        for entry in writes
        if entry.verb == "delete" and entry.user in _OPERATORS and entry.code < 300
    }


@attrs.define
class Follower:
    """A model that follows a cluster. `uids` and `revisions`: what objects of the cluster, and by name the
    revisions of StatefulSets, are called in it; `deleted`: as from `deletions`."""

    state: State
    deleted: Mapping[str, str]
    uids: dict[str, str] = attrs.field(factory=dict)
    revisions: dict[str, str] = attrs.field(factory=dict)
    views: deque[Store] = attrs.field(factory=lambda: deque(maxlen=VIEWS))

    def __attrs_post_init__(self) -> None:
        self.views.append(self.store)

    @classmethod
    def since(cls, state: State, real: Iterable[Object], deleted: Mapping[str, str]) -> Follower:
        """One that begins where both rest."""
        follower = cls(state, deleted)
        for obj in real:
            follower._learn(obj)
        return follower

    @property
    def store(self) -> Store:
        """The model's objects."""
        return self.state.world.store

    def follow(self, moments: Iterable[Moment]) -> None:
        """Do what happened. Raises Unexplained."""
        for moment in moments:
            self.state = evolve_world(self.state, advance(self.state.world, START_S + moment.at_s))
            if isinstance(moment.item, Mark):
                self._make(moment.item, moment)
            elif isinstance(moment.item, Tell):
                self.state = evolve_world(self.state, write(self.state.world, self._told(moment.object)))
            else:
                state = next(after_event(self.state, moment.item), None)
                if state is None:
                    raise Unexplained(f"{moment.item} cannot be done to the model")
                self.state = state
            self._learn(moment.object)
            # The collector takes the revisions of a StatefulSet that goes, which leaves no mark.
            self.state = quieten(self.state, (Bereave, Collect))
            if self.views[-1].version != self.store.version:
                self.views.append(self.store)

    def _learn(self, real: Object) -> None:
        known = self.store.objects.get(key_of(real))
        if known is not None:
            self.uids.setdefault(uid_of(real), uid_of(known))
        if real["kind"] == "ControllerRevision" and (known := _find(self.store, identity(real))) is not None:
            self.revisions[name_of(real)] = name_of(known)

    def rest(self, seen: Iterator[Object]) -> str:
        """What keeps the model from resting where the cluster does, "" for nothing."""
        if self.state.owed:
            return str(Restless(self.state.owed))
        state = quieten(self.state)
        for task in tasks(state.world):
            if isinstance(task, Sync | Bereave | Collect):
                return str(Restless(difference(state.world.store, perform(state.world, task).store)))
        mine = _standing(obj for _, obj in state.world.store.objects.items())
        theirs = _standing(seen)
        self.state = state
        return apart(mine, theirs)

    # -- writes

    def _make(self, mark: Mark, moment: Moment) -> None:
        if mark.what == "spec":  # a status that is written later tells of an older generation: no mark
            lapsed = Mark(mark.key, "observed", True)
            self.state = attrs.evolve(self.state, owed=tuple(m for m in self.state.owed if m != lapsed))
        owed = list(self.state.owed)
        if mark in owed:
            owed.remove(mark)
            self.state = attrs.evolve(self.state, owed=tuple(owed))
            return
        before = self.store
        if mark.what in _TOLD:
            after = self._told(moment.object)
        else:
            after = self._asked_for(mark, moment.object) or self._explained(mark, moment.object)
        made = list(difference(before, after))
        if mark not in made:
            told = ", ".join(map(str, made)) or "nothing"
            raise Unexplained(f"{mark}: done to the model, it makes {told}")
        made.remove(mark)
        self.state = attrs.evolve(
            self.state, world=write(self.state.world, after), owed=(*self.state.owed, *made)
        )

    def _asked_for(self, mark: Mark, real: Object) -> Store | None:
        """The store after what the operator asked for; None where it did not."""
        store, now_s = self.store, self.state.world.now_s
        known = store.objects.get(key_of(real))
        if (
            mark.what in _ENDS
            and uid_of(real) in self.deleted
            and known is not None
            and not terminating(known)
        ):
            return api.delete(store, key_of(real), now_s, propagation=self.deleted[uid_of(real)])[0]
        if not _is_the_operators(real):
            return None
        if mark.what == "made":
            return store.insert(self._translated(real.without("status")), now_s)[0]
        if mark.what in ("spec", "number") and known is not None:
            return store.replace(known, _changed(known, real))[0]
        return None

    def _translated(self, real: Object) -> Object:
        """A real object, its owners called as they are in the model."""
        references = tuple(
            reference.with_("uid", self.uids.get(str(reference["uid"]), reference["uid"]))
            for reference in owners(real)
        )
        return with_meta(real, ownerReferences=references or None)

    def _explained(self, mark: Mark, real: Object) -> Store:
        """The store after a write of the StatefulSet controller or the collector, as a view explains it."""
        for view in self._views(real):
            for done in self._done_by_the_cluster(view, real):
                after = self._with(mark, view, done)
                if after is not None and mark in difference(self.store, after):
                    return after
        raise Unexplained(f"no sync and no look of the collector makes {mark}")

    def _told(self, real: Object) -> Store:
        """The store with what the status of a StatefulSet tells of its generation and its revisions."""
        mine = self.store.objects.get(key_of(real))
        if mine is None:
            raise Unexplained(f"{identity(real)} tells of itself, and is not there")
        generation = meta(mine).get("generation")
        status = {"observedGeneration": generation if is_observed(real) else 0}
        for field in ("currentRevision", "updateRevision"):
            told = dig(real, "status", field)
            status[field] = self.revisions.get(str(told), told)
        return self.store.replace(mine, with_status(mine, **status))[0]

    def _views(self, real: Object) -> Iterator[Store]:
        """What a controller may have seen, the latest first."""
        key = _statefulset_of(real)
        views = list(self.views)[::-1]
        yield from views
        known = {meta(obj)["resourceVersion"]: obj for view in views if (obj := view.objects.get(key))}
        for view in views:
            mine = view.objects.get(key)
            for other in known.values():
                if mine is not None and uid_of(mine) == uid_of(other) and mine != other:
                    yield view.replace(mine, other)[0]

    def _done_by_the_cluster(self, view: Store, real: Object) -> Iterator[Store]:
        now_s, rules = self.state.world.now_s, self.state.world.rules
        _, namespace, name = _statefulset_of(real).split("/")
        if name:
            yield statefulset.sync(view, namespace, name, rules, now_s).store
        for key in (key_of(real), *(f"{o['kind']}/{namespace_of(real)}/{o['name']}" for o in owners(real))):
            yield gc.collect(view, key, now_s)

    def _with(self, mark: Mark, view: Store, done: Store) -> Store | None:
        """The store with what a mark tells of, as a task has done it on its view; None if it has not."""
        store, now_s = self.store, self.state.world.now_s
        mine, before, after = (_find(objects, mark.key) for objects in (store, view, done))
        match mark.what:
            case "made" if before is None and after is not None and mine is None:
                return store.insert(after, now_s)[0]
            case "number" if mine is not None and after is not None:
                return store.replace(mine, mine.with_("revision", after["revision"]))[0]
            case "terminating" | "gone" if mine is not None and before is not None and before != after:
                if uid_of(before) != uid_of(mine):
                    return None
                if terminating(mine):  # a finalizer has gone
                    return store.remove(mine) if after is None and mark.what == "gone" else None
                if after is not None and not terminating(after):
                    return None
                if mark.what == "gone" and self._was_on_no_node(mine):
                    return store.remove(mine)
                return api.delete(store, key_of(mine), now_s, propagation=propagation(after))[0]
            case _:
                return None

    def _was_on_no_node(self, pod: Object) -> bool:
        """Whether the API server, asked to delete a pod, may still have found it on no node: it goes at once
        then, though it is bound by now."""
        found = (view.objects.get(key_of(pod)) for view in self.views)
        return any(
            known is not None and uid_of(known) == uid_of(pod) and not kubelet_facets(known)["bound"]
            for known in found
        )


def _standing(objects: Iterable[Object]) -> dict[str, Any]:
    """Where a set stands; its own status is the operator's."""
    return standing(obj for obj in objects if obj["kind"] != names.KIND)


def _find(store: Store, wanted: str) -> Object | None:
    kind = wanted.partition("/")[0]
    return next((obj for obj in store.all(kind) if identity(obj) == wanted), None)


def _is_the_operators(real: Object) -> bool:
    """Whether nobody but the operator creates and changes such objects."""
    if real["kind"] == "ControllerRevision":
        return any(reference["kind"] == names.KIND for reference in owners(real))
    return real["kind"] in ("StatefulSet", "Service")


def _changed(known: Object, real: Object) -> Object:
    """An object of the model with what the operator has changed of the real one."""
    changed = {field: meta(real).get(field) for field in ("labels", "annotations")}
    if real["kind"] == "ControllerRevision":
        return with_meta(known, **changed).with_("revision", real["revision"])
    if known["spec"] != real["spec"]:
        generation = meta(known).get("generation")
        changed["generation"] = (generation if isinstance(generation, int) else 0) + 1
    return with_meta(known, **changed).with_("spec", real["spec"])


def _statefulset_of(real: Object) -> str:
    """The key of the StatefulSet that an object belongs to, or is."""
    if real["kind"] == "StatefulSet":
        return key_of(real)
    owner = next((o for o in owners(real) if o["kind"] == "StatefulSet"), FrozenMap({"name": ""}))
    return f"StatefulSet/{namespace_of(real)}/{owner['name']}"
