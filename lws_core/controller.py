"""The controller of one set as a machine without I/O.

    look = step(memory, sight, now_s)  # look.memory, look.actions, look.wake_at_s

Whoever drives it delivers every sight of the cluster in order, sends the actions of a step in any order or at
once, and delivers the answer to each. If nothing happens before `wake_at_s`, it looks again then. Several
sights may be observed before one look. That is all: waiting, retrying, backing off, and not trusting a view
that is older than an own write, are inside.

Guarantees, for any order of sights and answers that an API server can produce:
- Equal calls give equal results, to the byte.
- An action is sent once, and not again before it is answered and, if it failed, its retry is due.
- No decision about an object while a write to it is under way or its outcome is unknown.
- Once nothing changes any more, no action comes out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

import attrs

from . import names, view
from .actions import Action, Apply, Create, Delete, Emit, Kind, PatchStatus, Read, Ref, Request
from .answers import action_key, hear
from .bits import GroupSet, below, indexes, members, with_bit
from .leading import early_reads, lead, own_statefulset
from .lineage import trace
from .memory import Memory
from .observed import Owner
from .options import Options
from .plan import Trouble, renders_live
from .reporting import next_report_s, report, report_unreadable, tell_of_failures, tell_of_workers
from .sights import Answered, Gone, Seen, Sight, Synced, Thing
from .spec import LeaderWorkerSet
from .tending import tend
from .values import FrozenMap, as_maps, dig, evolve

_MOST_REMEMBERED: Final = 10


@attrs.frozen
class Look:
    """What comes of a look: the memory after it, what to send, and when to look again (epoch seconds)."""

    memory: Memory
    actions: tuple[Action, ...] = ()
    wake_at_s: float | None = None


def start(options: Options = Options()) -> Memory:
    """The memory of a controller that has seen nothing yet."""
    return Memory(options=options)


def begin(things: Iterable[Thing], now_s: float, options: Options = Options()) -> Memory:
    """The memory of a controller that has just listed all that exists: for one that starts, and for one that
    keeps no memory between two looks. What only time tells (history.py) begins anew."""
    memory = start(options)
    for thing in things:
        memory = observe(memory, Seen(thing), now_s)
    return observe(memory, Synced(), now_s)


def step(memory: Memory, sight: Sight | None, now_s: float) -> Look:
    """One sight, and the look at what it changed; None only looks."""
    return look(memory if sight is None else observe(memory, sight, now_s), now_s)


def observe(memory: Memory, sight: Sight, now_s: float) -> Memory:
    """The memory after one sight. Decides nothing. Cost: the size of one group."""
    match sight:
        case Seen(thing):
            return view.see(memory, thing)
        case Gone():
            return view.lose(memory, sight)
        case Synced():
            exposed = memory.exposed | _may_be_replaced(memory)
            return evolve(memory, synced=True, dirty=memory.known, exposed=exposed)
        case Answered(action, outcome):
            return hear(memory, action, outcome, now_s)


def _may_be_replaced(memory: Memory) -> GroupSet:
    """The groups that the StatefulSet controller may be replacing unseen by a template that was written over,
    as it has not seen the one that is stored. Cost: the number of groups."""
    statefulset = memory.statefulset
    if statefulset is None or statefulset.observed_generation >= statefulset.generation:
        return 0
    key = statefulset.labels.get(names.REVISION_KEY, "")
    leaders = ((index, memory.groups.get(index).group.leader) for index in indexes(memory.known))
    return members(*(index for index, pod in leaders if pod is not None and pod.revision_key != key))


def look(memory: Memory, now_s: float) -> Look:
    """Decide what to do now. Cost: that of the groups that have changed since the last look, and of a few
    operations on group sets."""
    if not memory.synced:
        return Look(memory)
    if memory.unreadable is not None:
        wanted = (*_reads(memory), *report_unreadable(memory, now_s))
        return _send(_forget(memory, wanted, 0), wanted, now_s)
    lws = memory.lws
    if lws is None or lws.metadata.terminating:
        return Look(memory)
    memory = _wake(_miss(_trace(memory, lws), lws, now_s), now_s)
    looked_at = memory.dirty
    memory, of_groups = tend(memory, lws, now_s)
    memory, of_set, held = lead(_restore(memory, lws), lws, now_s)
    memory, of_strangers = _strangers(memory, now_s)
    doubted = [owner for owner in memory.doubted if view.is_in_view(memory, owner)]
    of_owners = tuple(_read_owner(memory, lws.namespace, owner) for owner in doubted)
    planned = (*of_set, *of_groups)
    wanted = (
        *_reads(memory),
        *of_strangers,
        *of_owners,
        *(action for action in planned if not _is_for(action, doubted)),
        *report(memory, lws, now_s),
    )
    held = (*held, *(action_key(action) for action in planned if _is_for(action, doubted)))
    memory = tell_of_failures(tell_of_workers(memory, now_s), now_s)
    memory = _forget(memory, wanted, looked_at, held)
    return _send(memory, wanted, now_s, held)


def _trace(memory: Memory, lws: LeaderWorkerSet) -> Memory:
    """Trace the lineage again if something of it has changed; groups are then judged afresh."""
    if memory.lineage is not None:
        return memory
    statefulset = own_statefulset(memory, lws)
    lineage = trace(
        lws,
        statefulset,
        tuple(memory.revisions.values()),
        memory.remembered,
        memory.summary.using,
        template_is_live=statefulset is not None and renders_live(lws, statefulset),
    )
    # Of what no pod is of any more a few are kept: one that is on its way may still be of it.
    needed = {lineage.key, *lineage.sets, *memory.summary.using}
    surplus = [key for key in memory.remembered if key not in needed][:-_MOST_REMEMBERED]
    remembered = memory.remembered.without(*surplus)
    return evolve(memory, lineage=lineage, remembered=remembered, dirty=memory.known)


def _restore(memory: Memory, lws: LeaderWorkerSet) -> Memory:
    """The memory with a revision that is gone, is remembered, and that a leader has just come back on."""
    assert memory.lineage is not None
    lost = (key for key in memory.summary.using if key not in memory.lineage.sets)
    if not any(key in memory.remembered for key in lost):
        return memory
    after = _trace(evolve(memory, lineage=None), lws)
    assert after.lineage is not None
    return memory if after.lineage.create is None else after


def _miss(memory: Memory, lws: LeaderWorkerSet, now_s: float) -> Memory:
    """Groups that should be there, and of which nothing was ever seen, have a history too: their absence. It
    is kept for all at once until one of them is seen, as there may be a million."""
    statefulset = own_statefulset(memory, lws)
    unseen = 0 if statefulset is None else below(statefulset.replicas) & ~memory.known
    if not unseen and not memory.unseen:
        return memory
    groups = memory.groups
    kept, new = [], unseen
    for absent, since_s in memory.unseen:
        for index in indexes(absent & memory.known):
            record = groups.get(index)
            history = attrs.evolve(record.history, unready_since_s=since_s, absent_since_s=since_s)
            groups = groups.put(attrs.evolve(record, history=history))
        if absent & unseen:
            kept.append((absent & unseen, since_s))
        new &= ~absent
    if new:
        kept.append((new, now_s))
    return evolve(memory, groups=groups, unseen=tuple(kept))


def _wake(memory: Memory, now_s: float) -> Memory:
    """The groups whose time has come are looked at, and those with a failed request that is due again."""
    due = [index for index, at_s in memory.wakes.items() if at_s <= now_s]
    dirty = memory.dirty | members(*map(int, due))
    for retry in memory.retries.values():
        if not retry.read and retry.not_before_s <= now_s:
            dirty |= _groups_of(memory, retry.action.ref)
    return evolve(memory, wakes=memory.wakes.without(*due), dirty=dirty)


def _groups_of(memory: Memory, ref: Ref) -> GroupSet:
    """The groups that a request is for: one, those that wait for a node, or none for the set's own."""
    if ref.kind == "Node":
        waiting = memory.troubles.items()
        return members(*(int(i) for i, t in waiting if isinstance(t, Trouble) and t.node == ref.name))
    index = view.group_of(memory, ref)
    return with_bit(0, index, True) if index >= 0 else 0


def _forget(
    memory: Memory, wanted: tuple[Request, ...], looked_at: GroupSet, held: tuple[str, ...] = ()
) -> Memory:
    """Failures of requests that are wanted no more, as far as was looked at, are no trouble any more. `held`:
    the keys of those that are wanted, and only wait."""
    keys = {*(action_key(action) for action in wanted), *held}
    kept = {
        key: retry
        for key, retry in memory.retries.items()
        if key in keys or retry.read or _groups_of(memory, retry.action.ref) & ~looked_at
    }
    return memory if len(kept) == len(memory.retries) else evolve(memory, retries=FrozenMap(kept))


def _send(memory: Memory, wanted: tuple[Request, ...], now_s: float, held: tuple[str, ...] = ()) -> Look:
    """Of the requests wanted, those that may go now, and the events."""
    lws = memory.lws if memory.unreadable is None else memory.unreadable.last
    assert lws is not None
    sent: list[Request] = []
    pending = dict(memory.pending)
    for action in wanted:
        key = action_key(action)
        if key in pending or not _is_due(memory, key, now_s):
            continue
        pending[key] = action
        sent.append(action)
        if isinstance(action, Delete):
            memory = _expect(memory, lws, action)
        elif isinstance(action, Apply) and action.ref.name == lws.name:
            memory = evolve(memory, basis=memory.statefulset)
        elif isinstance(action, PatchStatus):
            memory = evolve(memory, status_basis=lws.status)
    regarding = Ref("LeaderWorkerSet", lws.namespace, lws.name)
    events = tuple(Emit(regarding, lws.metadata.uid, notice) for notice in memory.notices)
    memory = evolve(memory, pending=FrozenMap(pending), notices=())
    if memory.exposed or memory.early:
        memory = evolve(memory, early=early_reads(memory, lws))
    return Look(memory, (*sent, *events), _next_wake_s(memory, lws, wanted, held, now_s))


def _reads(memory: Memory) -> tuple[Read, ...]:
    """What failed writes want read before they are tried again."""
    refs = dict.fromkeys(retry.action.ref for retry in memory.retries.values() if retry.read)
    return tuple(_read(memory, ref, "a write to it failed, or its answer was lost") for ref in refs)


def _read(memory: Memory, ref: Ref, why: str) -> Read:
    thing = view.find(memory, ref.kind, ref.name)
    return Read(ref, why, "" if thing is None else view.identity(thing)[2])


def _read_owner(memory: Memory, namespace: str, owner: Owner) -> Read:
    kind: Kind = "LeaderWorkerSet" if owner.kind == names.KIND else "Pod"
    return _read(memory, Ref(kind, namespace, owner.name), "a child of it has vanished")


def _is_for(action: Request, owners: Collection[Owner]) -> bool:
    """Whether an action creates a child of one of these."""
    if not owners or not isinstance(action, Create):
        return False
    references = as_maps(dig(action.manifest, "metadata", "ownerReferences"))
    return any(reference.get("uid") == owner.uid for reference in references for owner in owners)


def _strangers(memory: Memory, now_s: float) -> tuple[Memory, tuple[Read, ...]]:
    """What no watch tells of, as it has not the set's label, is read again once in a while: foreign objects
    that stand in the way, and own ones that somebody has stripped of it."""
    troubles = (*memory.foreign, *(t for t in memory.troubles.values() if isinstance(t, Trouble)))
    strangers = dict.fromkeys(trouble.stranger for trouble in troubles if trouble.stranger is not None)
    if memory.lws is not None:
        strangers |= dict.fromkeys(Ref(kind, memory.lws.namespace, name) for kind, name in memory.unshown)
    if not strangers:
        return evolve(memory, strangers_at_s=None), ()
    if memory.strangers_at_s is None:
        return evolve(memory, strangers_at_s=now_s), ()
    if now_s < memory.strangers_at_s + memory.options.foreign_object_interval_s:
        return memory, ()
    reads = tuple(_read(memory, ref, "no watch tells of it") for ref in strangers)
    return evolve(memory, strangers_at_s=now_s), reads


def _is_due(memory: Memory, key: str, now_s: float) -> bool:
    retry = memory.retries.get(key)
    return retry is None or (not retry.read and retry.not_before_s <= now_s)


def _expect(memory: Memory, lws: LeaderWorkerSet, action: Delete) -> Memory:
    """A leader counts as terminating from the moment that its deletion is sent."""
    index = view.group_of(memory, action.ref)
    if action.ref.kind != "Pod" or index < 0:
        return memory
    return evolve(memory, deleting=with_bit(memory.deleting, index, True))


def _next_wake_s(
    memory: Memory,
    lws: LeaderWorkerSet,
    wanted: tuple[Request, ...],
    held: tuple[str, ...],
    now_s: float,
) -> float | None:
    retries = {key: r for key, r in memory.retries.items() if not r.read and key not in memory.pending}
    if memory.unreadable is not None:  # all else waits until the set can be read again
        keys = {action_key(action) for action in wanted}
        times = [retry.not_before_s for key, retry in retries.items() if key in keys]
    else:
        times = [
            *memory.wakes.values(),
            # What is due, and held back, waits for what will be seen.
            *(r.not_before_s for key, r in retries.items() if r.not_before_s > now_s or key not in held),
            *next_report_s(memory, lws, now_s),
        ]
        if memory.strangers_at_s is not None:
            times.append(memory.strangers_at_s + memory.options.foreign_object_interval_s)
    return max(min(times), now_s) if times else None
