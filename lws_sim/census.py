"""What really stands in a simulated cluster of one set, as an onlooker would count it.

The controller has a view of its own, which may lag behind; what a simulation shows is counted here, from each
change of an object, by rules that share no code with the controller's (judging.is_ready).
"""

from __future__ import annotations

import attrs

from lws_core import names
from lws_core.observed import Child, Group, LeaderStatefulSet, Pod, Revision, WorkerStatefulSet
from lws_core.projection import thing
from lws_core.sights import Thing
from lws_core.values import dig

from .cluster.store import Change, Store
from .judging import is_ready


@attrs.frozen
class Standing:
    """A set at one moment: `groups` has a letter for each of `replicas` groups (trace.py)."""

    partition: int = 0
    replicas: int = 0
    groups: str = ""


class Census:
    """The groups of one set, kept up to date change by change. Cost of a change: the size of its group."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._statefulset: LeaderStatefulSet | None = None
        self._groups: dict[int, Group] = {}
        self._sizes: dict[str, int] = {}
        self._letters: dict[int, str] = {}
        self._ready: set[int] = set()

    @property
    def key(self) -> str:
        """The revision key that the leader StatefulSet carries, "" without one."""
        return "" if self._statefulset is None else self._statefulset.labels.get(names.REVISION_KEY, "")

    @property
    def ready_count(self) -> int:
        """How many groups serve, surge included."""
        return len(self._ready)

    @property
    def ready(self) -> frozenset[int]:
        """The groups that serve."""
        return frozenset(self._ready)

    @property
    def standing(self) -> Standing:
        """Where the set stands. Cost: the number of groups."""
        if self._statefulset is None:
            return Standing()
        partition, replicas = self._statefulset.partition, self._statefulset.replicas
        return Standing(
            partition, replicas, "".join([self._letters.get(index, ".") for index in range(replicas)])
        )

    @property
    def with_leaving(self) -> str:
        """A letter for each group as in `standing`, and for each beyond that was scaled away, while it has
        pods. Cost: the number of groups."""
        groups = self.standing.groups
        beyond = {
            index: "t" if group.leader is None else self._letters[index]
            for index, group in self._groups.items()
            if index >= len(groups) and (group.leader is not None or group.workers)
        }
        last = max(beyond, default=-1)
        return groups + "".join([beyond.get(index, ".") for index in range(len(groups), last + 1)])

    def numbers(self) -> tuple[int, int]:
        """Partition and replicas of the leader StatefulSet."""
        if self._statefulset is None:
            return 0, 0
        return self._statefulset.partition, self._statefulset.replicas

    def note(self, change: Change) -> None:
        """Take in one change of an object."""
        seen = thing(change.object, self._name)
        gone = change.type == "DELETED"
        match seen:
            case LeaderStatefulSet():
                self._note_leaders(None if gone else seen)
            case Revision(key=key, data=data) if seen.owner is not None and seen.owner.kind == names.KIND:
                size = dig(data, "spec", "leaderWorkerTemplate", "size")
                if isinstance(size, int):
                    self._sizes[key] = size
            case Pod() | WorkerStatefulSet():
                self._note_member(seen, gone)
            case Child() | None | _:
                pass

    def _note_leaders(self, statefulset: LeaderStatefulSet | None) -> None:
        key, uid = self.key, "" if self._statefulset is None else self._statefulset.uid
        self._statefulset = statefulset
        if statefulset is None or (key, uid) != (self.key, statefulset.uid):
            for group in self._groups.values():
                self._judge(group)

    def _note_member(self, seen: Thing, gone: bool) -> None:
        assert isinstance(seen, Pod | WorkerStatefulSet)
        group = self._groups.get(seen.group_index, Group(seen.group_index))
        if isinstance(seen, WorkerStatefulSet):
            group = attrs.evolve(group, statefulset=None if gone else seen)
        elif seen.worker_index == 0:
            group = attrs.evolve(group, leader=None if gone else seen)
        else:
            others = [pod for pod in group.workers if pod.worker_index != seen.worker_index]
            group = attrs.evolve(group, workers=tuple(others if gone else [*others, seen]))
        self._groups[group.index] = group
        self._judge(group)

    def _judge(self, group: Group) -> None:
        uid = "" if self._statefulset is None else self._statefulset.uid
        ready = is_ready(group, uid, self._sizes)
        (self._ready.add if ready else self._ready.discard)(group.index)
        self._letters[group.index] = self._letter(group, ready)

    def _letter(self, group: Group, ready: bool) -> str:
        leader = group.leader
        if leader is None:
            return "."
        if leader.terminating:
            return "t"
        if leader.revision_key == self.key:
            return "n" if ready else "l"
        return "o" if ready else "x"


def count(store: Store, name: str) -> Census:
    """The groups of a set as they stand in a store. Cost: all its objects."""
    census = Census(name)
    for key, obj in store.objects.items():  # revisions before pods, as those tell the sizes of groups
        census.note(Change("ADDED", key, obj))
    return census
