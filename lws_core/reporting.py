"""What the controller tells of a set: its status, and events that speak of many groups at once."""

from __future__ import annotations

from itertools import islice
from typing import Final

from . import names
from .actions import Create, Event, PatchStatus, Ref, Request
from .answers import action_key
from .bits import GroupSet, indexes
from .codec import encode_status
from .events import failure_event
from .explain import explain, stall_of
from .leading import own_statefulset
from .memory import Memory
from .rollout import Blocked
from .spec import LeaderWorkerSet, Status
from .status import Stall, is_urgent, next_status, unreadable_status
from .values import evolve

TELL_INTERVAL_S: Final = 1.0  # one event a second tells of what is created for groups, and of what fails
_NAMED: Final = 5
_SEVERAL: Final = {"StatefulSet": "worker statefulsets", "Service": "headless services"}


def report(memory: Memory, lws: LeaderWorkerSet, now_s: float) -> tuple[Request, ...]:
    """The status write that is due, or waits to be tried again: at once where a condition changes, else once
    in a while."""
    status = _status(memory, lws, now_s)
    if status == lws.status:
        return ()
    has_failed = action_key(_patch(lws, status, "")) in memory.retries
    if not has_failed and not is_urgent(lws.status, status) and _waits_s(memory) > now_s:
        return ()
    return (_patch(lws, status, explain(memory, now_s).text),)


def report_unreadable(memory: Memory, now_s: float) -> tuple[Request, ...]:
    """The status of a set that cannot be read: the condition Stalled, with every fault."""
    assert memory.unreadable is not None
    last = memory.unreadable.last
    text = "; ".join(str(error) for error in memory.unreadable.errors)
    status = unreadable_status(last.status, Stall("InvalidSpec", text), now_s)
    return () if status == last.status else (_patch(last, status, text),)


def tell_of_workers(memory: Memory, now_s: float) -> Memory:
    """The memory with a notice of all worker StatefulSets created since the last, as one event."""
    if not memory.begun or now_s < _told_next_s(memory):
        return memory
    assert memory.lws is not None
    count, listed = _leaders(memory.lws, memory.begun)
    if count == 1:
        index = next(indexes(memory.begun))
        leader = memory.groups.get(index).group.leader
        note = f"Created worker statefulset for leader pod {listed}"
        related = Ref("Pod", memory.lws.namespace, listed)
        uid = "" if leader is None else leader.uid
        event = Event("Normal", names.GROUPS_PROGRESSING, "Create", note, related, uid)
    else:
        note = f"Created {count} worker statefulsets for leader pods {listed}"
        event = Event("Normal", names.GROUPS_PROGRESSING, "Create", note)
    return evolve(memory, begun=0, told_at_s=now_s, notices=(*memory.notices, event))


def tell_of_failures(memory: Memory, now_s: float) -> Memory:
    """The memory with a notice of the writes for groups that failed: one for all of a kind that have within
    an interval from the first on."""
    for key, failure in memory.failures.items():
        if now_s < failure.since_s + TELL_INTERVAL_S:
            continue
        assert memory.lws is not None
        verb, _, kind = key.partition(" ")
        count, listed = _leaders(memory.lws, failure.groups)
        text = f"{count} {_SEVERAL.get(kind, f'{kind}s')} for leader pods {listed}"
        what = failure.what if count == 1 else text
        event = failure_event(what, failure.message, creates=verb == Create.__name__)
        memory = evolve(memory, failures=memory.failures.without(key), notices=(*memory.notices, event))
    return memory


def next_report_s(memory: Memory, lws: LeaderWorkerSet, now_s: float) -> tuple[float, ...]:
    """When something will be due without anything happening (epoch seconds)."""
    times = []
    if memory.unreadable is None and memory.lineage is not None:
        status = _status(memory, lws, now_s)
        key = action_key(_patch(lws, status, ""))
        if status != lws.status and key not in memory.pending and key not in memory.retries:
            times.append(_waits_s(memory))
    if memory.begun:
        times.append(_told_next_s(memory))
    times += [failure.since_s + TELL_INTERVAL_S for failure in memory.failures.values()]
    if memory.patience_s is not None:
        times.append(memory.patience_s)
    deadline_s = progress_deadline_s(memory)
    if deadline_s is not None and now_s < deadline_s:
        times.append(deadline_s)
    return tuple(times)


def progress_deadline_s(memory: Memory) -> float | None:
    """When a rollout that waits will count as stalled if nothing moves (epoch seconds); None if it does not
    wait."""
    if not isinstance(memory.decision, Blocked) or memory.progress_at_s is None:
        return None
    return memory.progress_at_s + memory.options.progress_deadline_s


def _status(memory: Memory, lws: LeaderWorkerSet, now_s: float) -> Status:
    assert memory.lineage is not None
    stall = stall_of(memory, now_s)
    return next_status(lws, memory.summary, memory.lineage.key, own_statefulset(memory, lws), stall, now_s)


def _patch(lws: LeaderWorkerSet, status: Status, why: str) -> PatchStatus:
    meta = lws.metadata
    ref = Ref("LeaderWorkerSet", lws.namespace, lws.name)
    return PatchStatus(ref, meta.uid, meta.resource_version, encode_status(status), why)


def _waits_s(memory: Memory) -> float:
    return 0.0 if memory.status_at_s is None else memory.status_at_s + memory.options.status_interval_s


def _leaders(lws: LeaderWorkerSet, groups: GroupSet) -> tuple[int, str]:
    """How many groups, and their leader pods by name up to a few."""
    count = groups.bit_count()
    pods = [names.leader_name(lws.name, index) for index in islice(indexes(groups), _NAMED)]
    return count, ", ".join(pods) + (f" and {count - _NAMED} more" if count > _NAMED else "")


def _told_next_s(memory: Memory) -> float:
    return 0.0 if memory.told_at_s is None else memory.told_at_s + TELL_INTERVAL_S
