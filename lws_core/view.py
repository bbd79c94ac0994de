"""How each sight of the cluster changes what a controller knows of it.

The view is never older than the controller's own last write: the object that the API server answers with
is folded in like a sight of the watch, and a sight that is older than what is known changes nothing. Age is
told by resourceVersion, which grows with every write of a kind; one that is no number counts as new.
"""

from __future__ import annotations

import attrs

from . import names
from .actions import Kind, Ref
from .bits import indexes, span, with_bit
from .memory import Memory, Record, Unreadable
from .observed import Child, LeaderStatefulSet, Node, Owner, Pod, Revision, WorkerStatefulSet, owned_by
from .restart import decode_recreations
from .sights import Gone, Thing
from .spec import LeaderWorkerSet
from .values import EMPTY, FrozenMap, evolve


def see(memory: Memory, thing: Thing, *, answer: bool = False) -> Memory:
    """The memory after an object was seen; `answer`: in the answer to an action, not in the watch."""
    if isinstance(thing, Node):
        return see_node(memory, thing)
    kind, name, uid, version = identity(thing)
    before = find(memory, kind, name)
    if before is not None and _is_older(version, identity(before)[3], same=identity(before)[2] == uid):
        return memory
    newest = memory.newest.get(kind, 0)
    if answer and before is None and version.isdecimal() and int(version) <= newest and _is_shown(thing):
        return memory  # the watch has shown this and more: it is gone again
    if not answer and version.isdecimal() and int(version) > newest:
        memory = evolve(memory, newest=memory.newest.with_(kind, int(version)))
    memory = _with_unshown(memory, kind, name, not _is_shown(thing))
    match thing:
        case LeaderWorkerSet():
            return _see_set(memory, thing)
        case Unreadable():
            return evolve(memory, unreadable=thing)
        case LeaderStatefulSet():
            return _see_statefulset(memory, thing)
        case WorkerStatefulSet():
            return _put(memory, thing.group_index, statefulset=thing)
        case Pod():
            return see_pod(memory, thing)
        case Revision():
            return _see_revision(memory, thing)
        case Child():
            return _see_child(memory, thing)


def _see_set(memory: Memory, lws: LeaderWorkerSet) -> Memory:
    before = memory.lws
    memory = evolve(memory, lws=lws, unreadable=None)
    if before is not None and before.metadata.uid != lws.metadata.uid:
        memory = evolve(_what_stands(memory), lws=lws)  # another set of the same name
    if before is not None and _decisive(before) == _decisive(lws):
        return memory
    if before is not None and before.spec != lws.spec:
        memory = _reconsider(memory)
    if not memory.remembered:  # revisions that were seen before the set was
        own = {
            revision.key: revision.data
            for revision in memory.revisions.values()
            if owned_by(revision.owner, lws.metadata.uid)
        }
        memory = evolve(memory, remembered=FrozenMap(own))
    return evolve(memory, lineage=None, dirty=memory.known)


def _reconsider(memory: Memory) -> Memory:
    """What was refused may be accepted after an edit, and is tried again at once."""
    retries = {
        key: attrs.evolve(retry, not_before_s=0.0) if retry.refused else retry
        for key, retry in memory.retries.items()
    }
    return evolve(memory, retries=FrozenMap(retries))


def _what_stands(memory: Memory) -> Memory:
    """What outlives a set, and waits for another of its name: what stands in the cluster, the requests that
    are under way, and nothing of what was decided or remembered."""
    return Memory(
        options=memory.options,
        synced=memory.synced,
        statefulset=memory.statefulset,
        service=memory.service,
        revisions=memory.revisions,
        natives=memory.natives,
        nodes=memory.nodes,
        groups=memory.groups,
        summary=memory.summary,
        known=memory.known,
        unshown=memory.unshown,
        newest=memory.newest,
        pending=memory.pending,
    )


def _decisive(lws: LeaderWorkerSet) -> tuple[object, ...]:
    meta = lws.metadata
    return meta.uid, meta.terminating, meta.labels, meta.annotations, lws.spec


def _see_statefulset(memory: Memory, statefulset: LeaderStatefulSet) -> Memory:
    before = memory.statefulset
    memory = evolve(memory, statefulset=statefulset)
    if before is None or before.annotations.get(names.RECREATIONS) != statefulset.annotations.get(
        names.RECREATIONS
    ):
        memory = _see_recreations(memory, statefulset.annotations.get(names.RECREATIONS, ""))
    if before is None or (before.uid, before.owner) != (statefulset.uid, statefulset.owner):
        return evolve(memory, lineage=None, dirty=memory.known, digest="", written=None)
    if before.replicas != statefulset.replicas:
        moved = span(*sorted((before.replicas, statefulset.replicas)))
        memory = evolve(memory, dirty=memory.dirty | (moved & memory.known))
    if before.labels.get(names.REVISION_KEY) != statefulset.labels.get(names.REVISION_KEY):
        memory = evolve(memory, lineage=None, digest="")
    return memory


def _see_recreations(memory: Memory, text: str) -> Memory:
    """What is recorded now; the groups whose recreation waited for its record are looked at."""
    dirty = memory.dirty
    for index in memory.recreating:
        dirty = with_bit(dirty, int(index), True)
    return evolve(memory, recorded=decode_recreations(text), dirty=dirty)


def see_pod(memory: Memory, pod: Pod) -> Memory:
    """The memory with this pod in its place, whatever was there."""
    if pod.worker_index == 0:
        before = memory.groups.get(pod.group_index).group.leader
        if before is None or before.uid != pod.uid:
            memory = _console(memory, pod.name)
        return _put(memory, pod.group_index, leader=pod)
    workers = memory.groups.get(pod.group_index).group.workers
    others = [other for other in workers if other.worker_index != pod.worker_index]
    ordered = tuple(sorted((*others, pod), key=lambda worker: worker.worker_index))
    return _put(memory, pod.group_index, workers=ordered)


def _see_revision(memory: Memory, revision: Revision) -> Memory:
    owner, lws = revision.owner, memory.lws
    if owner is not None and owner.kind == "StatefulSet":
        if memory.statefulset is not None and owner.uid != memory.statefulset.uid:
            return memory
        return evolve(memory, natives=memory.natives.with_(revision.name, revision))
    remembered = memory.remembered
    if lws is not None and owned_by(owner, lws.metadata.uid):
        remembered = remembered.with_(revision.key, revision.data)
    revisions = memory.revisions.with_(revision.name, revision)
    return evolve(memory, revisions=revisions, remembered=remembered, lineage=None)


def _see_child(memory: Memory, child: Child) -> Memory:
    if child.group_index is None:
        return evolve(memory, service=child)
    if child.kind == "Service":
        return _put(memory, child.group_index, service=child)
    others = [
        other for other in memory.groups.get(child.group_index).group.pod_groups if other.name != child.name
    ]
    ordered = tuple(sorted((*others, child), key=lambda pod_group: pod_group.name))
    return _put(memory, child.group_index, pod_groups=ordered)


def see_node(memory: Memory, node: Node) -> Memory:
    """The memory with this node; groups that wait for one are looked at again."""
    dirty = memory.dirty
    for index in memory.troubles:  # only groups that wait for something may wait for a node
        dirty = with_bit(dirty, int(index), True)
    return evolve(memory, nodes=memory.nodes.with_(node.name, node), dirty=dirty)


def _put(memory: Memory, index: int, **fields: object) -> Memory:
    record = memory.groups.get(index)
    group = attrs.evolve(record.group, **fields)  # type: ignore[arg-type]
    return evolve(
        memory,
        groups=memory.groups.put(Record(group, record.state, record.history)),
        dirty=with_bit(memory.dirty, index, True),
        known=with_bit(memory.known, index, True),
    )


def lose(memory: Memory, gone: Gone, *, ours: bool = False) -> Memory:
    """The memory after an object was found to be gone; nothing changes if another stands under its name.
    `ours`: by an own deletion."""
    version, newest = gone.resource_version, memory.newest.get(gone.kind, 0)
    if version.isdecimal() and int(version) > newest:
        memory = evolve(memory, newest=memory.newest.with_(gone.kind, int(version)))
    thing = find(memory, gone.kind, gone.name)
    if thing is None or (gone.uid and not isinstance(thing, Node) and identity(thing)[2] != gone.uid):
        return memory
    memory = _with_unshown(memory, gone.kind, gone.name, False)
    if not ours and f"Delete {gone.kind} {gone.name}" not in memory.pending:
        memory = _doubt_owner(memory, thing)
    match thing:
        case LeaderWorkerSet() | Unreadable():
            return _what_stands(memory)
        case LeaderStatefulSet():
            return evolve(memory, statefulset=None, lineage=None, dirty=memory.known, digest="", written=None)
        case WorkerStatefulSet():
            return _put(memory, thing.group_index, statefulset=None)
        case Pod():
            return _lose_pod(memory, thing)
        case Revision():
            return evolve(
                memory,
                revisions=memory.revisions.without(gone.name),
                natives=memory.natives.without(gone.name),
                lineage=None,
            )
        case Child():
            return _lose_child(memory, thing)
        case Node():
            return see_node(memory, Node(thing.name, EMPTY, ready=False))


def _lose_pod(memory: Memory, pod: Pod) -> Memory:
    if pod.worker_index == 0:
        return evolve(
            _put(memory, pod.group_index, leader=None),
            deleting=with_bit(memory.deleting, pod.group_index, False),
        )
    workers = memory.groups.get(pod.group_index).group.workers
    return _put(memory, pod.group_index, workers=tuple(w for w in workers if w.uid != pod.uid))


def _lose_child(memory: Memory, child: Child) -> Memory:
    if child.group_index is None:
        lws = memory.lws
        own = lws is not None and owned_by(child.owner, lws.metadata.uid)
        memory = _mourn(memory, child.name) if own else memory
        return evolve(memory, service=None)
    if child.kind == "Service":
        leader = memory.groups.get(child.group_index).group.leader
        lives = leader is not None and not leader.terminating
        if leader is not None and lives and owned_by(child.owner, leader.uid):
            memory = _mourn(memory, child.name)
        return _put(memory, child.group_index, service=None)
    others = memory.groups.get(child.group_index).group.pod_groups
    return _put(memory, child.group_index, pod_groups=tuple(c for c in others if c.uid != child.uid))


def _doubt_owner(memory: Memory, thing: Thing) -> Memory:
    """The owner of a child that has vanished may have gone before it, which a late watch does not show: the
    garbage collector would take each child that is made for it."""
    if isinstance(thing, LeaderWorkerSet | Unreadable | Pod | Node) or thing.owner is None:
        return memory
    if not is_in_view(memory, thing.owner) or thing.owner in memory.doubted:
        return memory
    doubted = tuple(owner for owner in memory.doubted if is_in_view(memory, owner))
    return evolve(memory, doubted=(*doubted, thing.owner))


def is_in_view(memory: Memory, owner: Owner) -> bool:
    """Whether the owner of children is in view, and not terminating."""
    lws = memory.lws
    if owner.kind == names.KIND:
        return lws is not None and lws.metadata.uid == owner.uid and not lws.metadata.terminating
    pod = find(memory, "Pod", owner.name)
    return isinstance(pod, Pod) and pod.uid == owner.uid and not pod.terminating


def _mourn(memory: Memory, service: str) -> Memory:
    return memory if service in memory.bereft else evolve(memory, bereft=(*memory.bereft, service))


def _console(memory: Memory, leader: str) -> Memory:
    """Another leader has no Service yet: that of the one before it went with it."""
    if leader not in memory.bereft:
        return memory
    return evolve(memory, bereft=tuple(name for name in memory.bereft if name != leader))


def identity(thing: Thing) -> tuple[Kind, str, str, str]:
    """Kind, name, UID and resourceVersion."""
    match thing:
        case LeaderWorkerSet():
            return "LeaderWorkerSet", thing.name, thing.metadata.uid, thing.metadata.resource_version
        case Unreadable(last):
            return "LeaderWorkerSet", last.name, last.metadata.uid, last.metadata.resource_version
        case Node():
            return "Node", thing.name, "", ""
        case Child():
            return thing.kind, thing.name, thing.uid, thing.resource_version
        case Pod():
            kind: Kind = "Pod"
        case Revision():
            kind = "ControllerRevision"
        case _:
            kind = "StatefulSet"
    return kind, thing.name, thing.uid, thing.resource_version


def find(memory: Memory, kind: Kind, name: str) -> Thing | None:
    """What the view has under a name. What a set left behind is found without it."""
    match kind:
        case "LeaderWorkerSet":
            return memory.unreadable or memory.lws
        case "ControllerRevision":
            return memory.revisions.get(name) or memory.natives.get(name)
        case "Node":
            return memory.nodes.get(name)
        case "StatefulSet" if memory.statefulset is not None and memory.statefulset.name == name:
            return memory.statefulset
        case "Service" if memory.service is not None and memory.service.name == name:
            return memory.service
        case "PodGroup":
            return _find_pod_group(memory, name)
    parent, ordinal = names.parent_and_ordinal(name)
    if ordinal is None:
        return None
    group = memory.groups.get(ordinal).group
    found = {"Pod": group.leader, "StatefulSet": group.statefulset, "Service": group.service}.get(kind)
    if found is not None and found.name == name:
        return found
    index = names.parent_and_ordinal(parent)[1]
    if kind != "Pod" or index is None:
        return None
    workers = memory.groups.get(index).group.workers
    return next((worker for worker in workers if worker.name == name), None)


def _find_pod_group(memory: Memory, name: str) -> Child | None:
    group = _pod_group_index(memory, name)
    groups = indexes(memory.known) if group is None else (group,)
    children = (child for index in groups for child in memory.groups.get(index).group.pod_groups)
    return next((child for child in children if child.name == name), None)


def _pod_group_index(memory: Memory, name: str) -> int | None:
    """The group of a PodGroup `<set>-<group>-<revision key>`."""
    if memory.lws is None or not name.startswith(memory.lws.name + "-"):
        return None
    index = name.removeprefix(memory.lws.name + "-").partition("-")[0]
    return int(index) if index.isdecimal() and index.isascii() else None


def group_of(memory: Memory, ref: Ref) -> int:
    """The group that an object belongs to, -1 for one of the set itself."""
    lws = memory.lws
    if lws is None or ref.kind in ("LeaderWorkerSet", "ControllerRevision", "Node"):
        return -1
    if ref.kind == "PodGroup":
        index = _pod_group_index(memory, ref.name)
        return -1 if index is None else index
    parent, ordinal = names.parent_and_ordinal(ref.name)
    if ref.kind == "Pod" and parent != lws.name:  # a worker's parent is its leader
        parent, ordinal = names.parent_and_ordinal(parent)
    return ordinal if ordinal is not None and parent == lws.name else -1


def _with_unshown(memory: Memory, kind: Kind, name: str, unshown: bool) -> Memory:
    if unshown == ((kind, name) in memory.unshown):
        return memory
    others = tuple(one for one in memory.unshown if one != (kind, name))
    return evolve(memory, unshown=(*others, (kind, name)) if unshown else others)


def _is_shown(thing: Thing) -> bool:
    """Whether a watch shows an object: not one without the set's label, be it foreign or stripped of it."""
    match thing:
        case LeaderStatefulSet():
            return names.SET_NAME in thing.labels
        case WorkerStatefulSet() | Child() | Revision():
            return thing.labelled
        case _:
            return True


def _is_older(version: str, known: str, *, same: bool) -> bool:
    """Whether a sight tells nothing new of an object known at another resourceVersion."""
    if not (version.isdecimal() and known.isdecimal()):
        return same and version == known
    return int(version) <= int(known) if same else int(version) < int(known)
