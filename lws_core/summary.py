"""What decisions about a whole set read of its groups, kept up to date one group at a time.

A `Summary` holds a group set for each question. Folding in one changed group costs the same for 10 groups
as for 10,000, so that a decision about the set never walks over its groups.
"""

from __future__ import annotations

import attrs

from .bits import GroupSet, with_bit
from .observed import Group, Pod, WorkerStatefulSet, owned_by
from .values import EMPTY, FrozenMap


@attrs.frozen
class GroupState:
    """One group's answers.

    present: its leader pod exists. terminating: that pod is terminating. whole: its worker StatefulSet is
    the leader's own and of its revision (always, for a group of one). ready: the whole group serves.
    keys: every revision key that its leader, worker StatefulSet or worker pods carry.
    """

    present: bool = False
    terminating: bool = False
    whole: bool = False
    ready: bool = False
    revision_key: str = ""
    native_revision: str = ""
    keys: tuple[str, ...] = ()


ABSENT = GroupState()


@attrs.frozen
class Summary:
    """All groups' answers as group sets; `by_key` and `by_native` tell leaders by revision key and by the
    StatefulSet controller's own revision, `using` tells which groups hold any object of a revision key."""

    present: GroupSet = 0
    terminating: GroupSet = 0
    whole: GroupSet = 0
    ready: GroupSet = 0
    by_key: FrozenMap[GroupSet] = EMPTY
    by_native: FrozenMap[GroupSet] = EMPTY
    using: FrozenMap[GroupSet] = EMPTY

    def fold(self, index: int, before: GroupState, after: GroupState) -> Summary:
        """The summary after one group went from one state to another."""
        if before == after:
            return self
        return Summary(
            present=with_bit(self.present, index, after.present),
            terminating=with_bit(self.terminating, index, after.terminating),
            whole=with_bit(self.whole, index, after.whole),
            ready=with_bit(self.ready, index, after.ready),
            by_key=_moved(self.by_key, index, _one(before.revision_key), _one(after.revision_key)),
            by_native=_moved(
                self.by_native, index, _one(before.native_revision), _one(after.native_revision)
            ),
            using=_moved(self.using, index, before.keys, after.keys),
        )

    def of_key(self, key: str) -> GroupSet:
        """The groups whose leader carries this revision key."""
        return self.by_key.get(key, 0)


def group_state(group: Group, statefulset_uid: str, size: int | None) -> GroupState:
    """What a group's objects amount to.

    `statefulset_uid`: the leader StatefulSet that leaders must belong to. `size`: pods in a group of the
    leader's revision; None where that revision is unknown, and the group cannot count as ready.
    """
    leader, workers = group.leader, group.statefulset
    keys = {pod.revision_key for pod in group.workers}
    if workers is not None:
        keys.add(workers.revision_key)
    if leader is None:
        return GroupState(keys=tuple(sorted(keys)))
    keys.add(leader.revision_key)
    whole = size == 1 or (workers is not None and _is_own(workers, leader))
    return GroupState(
        present=True,
        terminating=leader.terminating,
        whole=whole,
        ready=whole
        and size is not None
        and _serves(leader, statefulset_uid)
        and (size == 1 or (workers is not None and _all_serve(group.workers, workers, leader, size))),
        revision_key=leader.revision_key,
        native_revision=leader.native_revision,
        keys=tuple(sorted(keys)),
    )


def is_member(worker: Pod, statefulset: WorkerStatefulSet, leader: Pod) -> bool:
    """Whether a worker pod belongs to this leader: worker pod, its StatefulSet, the leader, each by UID."""
    return owned_by(worker.owner, statefulset.uid) and _is_own(statefulset, leader)


def _is_own(statefulset: WorkerStatefulSet, leader: Pod) -> bool:
    return owned_by(statefulset.owner, leader.uid) and statefulset.revision_key == leader.revision_key


def _serves(pod: Pod, owner_uid: str) -> bool:
    return pod.ready and not pod.terminating and owned_by(pod.owner, owner_uid)


def _all_serve(pods: tuple[Pod, ...], statefulset: WorkerStatefulSet, leader: Pod, size: int) -> bool:
    """Whether workers 1..size-1 are all there, serving, of the leader's revision and of its StatefulSet."""
    if statefulset.terminating or statefulset.observed_generation < statefulset.generation:
        return False
    if statefulset.replicas < size - 1:  # more are members of nothing, and set back
        return False
    serving = [
        pod.worker_index
        for pod in pods
        if _serves(pod, statefulset.uid) and pod.revision_key == leader.revision_key
    ]
    return len(serving) >= size - 1 and set(range(1, size)).issubset(serving)


def _one(key: str) -> tuple[str, ...]:
    return (key,) if key else ()


def _moved(
    sets: FrozenMap[GroupSet], index: int, before: tuple[str, ...], after: tuple[str, ...]
) -> FrozenMap[GroupSet]:
    """`sets` with a group taken out of the sets named before and put into those named after."""
    if before == after:
        return sets
    moved = dict(sets)
    for key in before:
        moved[key] = with_bit(moved.get(key, 0), index, False)
    for key in after:
        moved[key] = with_bit(moved.get(key, 0), index, True)
    return FrozenMap({key: moved[key] for key in sorted(moved) if moved[key]})
