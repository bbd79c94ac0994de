"""How the API server's answer to an action changes what a controller knows, tells and tries again.

What failed is tried again with back-off: at once where the view was stale, after it has been read afresh;
from half a second to 30 s where the server was out of reach or busy; from 1 s to 5 minutes where it refused.
"""

from __future__ import annotations

from typing import Final

import attrs

from . import names
from .actions import Action, Apply, Create, Delete, Emit, PatchStatus, Read, Ref, Request, TakeFields
from .bits import members, with_bit
from .events import event_of, failure_event, recreation_event
from .memory import Failure, Memory, Retry
from .observed import Child, LeaderStatefulSet, Node, Pod
from .sights import Gone, Outcome, Thing
from .values import EMPTY, FrozenMap, Json, dig, evolve, strings
from .view import find, group_of, identity, lose, see, see_node, see_pod

_UNCHANGED_UID: Final = "metadata.uid"
_REFUSALS: Final = frozenset({400, 403, 404, 405, 406, 413, 415, 422})
UNDONE: Final = "what is written is not stored: something, such as a mutating webhook, undoes it"


def action_key(action: Request) -> str:
    """What a request is remembered by until it is answered: its verb and its object. A template may be
    refused where the rest of the object is not."""
    part = " template" if isinstance(action, Apply) and action.writes_template else ""
    return f"{type(action).__name__} {action.ref.kind} {action.ref.name}{part}"


def failure_message(outcome: Outcome) -> str:
    """Why a request failed: in the server's words, or by its status where it said nothing."""
    return outcome.message or f"HTTP status {outcome.code}"


def hear(memory: Memory, action: Action, outcome: Outcome, now_s: float) -> Memory:
    """The memory after an action was answered."""
    if isinstance(action, Emit):
        return memory
    key = action_key(action)
    is_early = key in memory.early
    early = tuple(other for other in memory.early if other != key)
    memory = evolve(memory, pending=memory.pending.without(key), early=early)
    group = group_of(memory, action.ref)  # none where the set has gone meanwhile
    if isinstance(action, Delete) and action.ref.kind == "Pod" and group >= 0:
        memory = evolve(memory, deleting=with_bit(memory.deleting, group, False))
    if outcome.ok or (outcome.code == 404 and isinstance(action, Delete | Read)):
        after = _succeed(memory, action, outcome, now_s)
        if _is_undone(action, outcome.thing, memory.basis):
            return _wait_out(after, key, action, memory.retries.get(key), now_s)
        return evolve(after, verified=after.verified.without(key)) if is_early else after
    return _fail(memory, key, action, outcome, now_s)


def _is_undone(action: Request, thing: Thing | None, basis: LeaderStatefulSet | None) -> bool:
    """Whether a write has left its object at the resourceVersion at which it should have changed, as nothing
    of it was stored; or nothing of what was applied to the leader StatefulSet, as it was at `basis`."""
    match action:
        case Apply():
            version = dig(action.manifest, "metadata", "resourceVersion")
        case PatchStatus():
            version = action.resource_version
        case _:
            return False
    if isinstance(action, Apply) and isinstance(thing, LeaderStatefulSet) and basis is not None:
        pairs = _applied_and_stored(action.manifest, thing)
        lacks = any(applied != stored for applied, stored in pairs)
        if lacks and pairs == _applied_and_stored(action.manifest, basis):
            return True
    return thing is not None and version != "" and identity(thing)[3] == version


def _applied_and_stored(manifest: FrozenMap[Json], leaders: LeaderStatefulSet) -> list[tuple[object, object]]:
    """Numbers, labels and annotations of a leader StatefulSet that is applied, each beside what is stored."""
    partition = dig(manifest, "spec", "updateStrategy", "rollingUpdate", "partition")
    pairs: list[tuple[object, object]] = [
        (dig(manifest, "spec", "replicas"), leaders.replicas),
        (partition, leaders.partition),
    ]
    for field, stored in (("labels", leaders.labels), ("annotations", leaders.annotations)):
        applied = strings(dig(manifest, "metadata", field))
        pairs += [(value, stored.get(key)) for key, value in applied.items()]
    return pairs


def _wait_out(memory: Memory, key: str, action: Request, before: Retry | None, now_s: float) -> Memory:
    """The memory in which a write that changed nothing waits before it is sent again, if it is still wanted:
    ever longer, and from the second time on as one that is refused. That of a status is no trouble to tell:
    it would be told by a status that can be written."""
    attempts = before.attempts + 1 if before is not None and before.message == UNDONE else 1
    delay_s = 0.0 if attempts == 1 else _refused_delay_s(attempts - 1)
    refused = attempts > 1 and isinstance(action, Apply)
    retry = Retry(action, attempts, now_s + delay_s, UNDONE, refused=refused)
    memory = _put_off(memory, key, retry)
    return _complain(memory, action, retry, now_s) if refused else memory


def _refused_delay_s(attempts: int) -> float:
    return min(300.0, 2.0 ** min(attempts - 1, 10))


def _succeed(memory: Memory, action: Request, outcome: Outcome, now_s: float) -> Memory:
    memory = evolve(memory, retries=memory.retries.without(action_key(action)))
    before, thing = memory, outcome.thing
    match action:
        case Delete():
            if action.evidence is not None and outcome.ok:
                notice = recreation_event(action, action.evidence)
                memory = evolve(memory, notices=(*memory.notices, notice))
            return _deleted(memory, action, outcome, now_s)
        case Read():
            return _read(memory, action, outcome, now_s)
        case PatchStatus():
            memory = evolve(memory, status_at_s=now_s)
    if thing is None:
        return memory
    memory = see(memory, thing, answer=True)
    if isinstance(thing, LeaderStatefulSet) and _is_seen(memory, thing):
        memory = evolve(  # from the answer: the view may hold what came after this write
            memory,
            written=(thing.replicas, thing.partition),
            digest=thing.template_digest if _writes_template(before, action) else memory.digest,
        )
    if isinstance(action, Create) and isinstance(thing, Child) and thing.name in memory.bereft:
        memory = evolve(memory, bereft=tuple(name for name in memory.bereft if name != thing.name))
    event = event_of(before, action, thing)
    notices = memory.notices if event is None else (*memory.notices, event)
    group = group_of(memory, action.ref)  # none where the set has gone meanwhile
    if isinstance(action, Create) and action.ref.kind == "StatefulSet" and event is None and group >= 0:
        return evolve(memory, begun=with_bit(memory.begun, group, True))
    return evolve(memory, notices=notices)


def _is_seen(memory: Memory, thing: LeaderStatefulSet) -> bool:
    return memory.statefulset is not None and memory.statefulset.uid == thing.uid


def _writes_template(before: Memory, action: Request) -> bool:
    if not isinstance(action, Create | Apply):
        return False
    stored = None if before.basis is None else before.basis.template
    return dig(action.manifest, "spec", "template") != stored


def _deleted(memory: Memory, action: Delete, outcome: Outcome, now_s: float) -> Memory:
    """The view without the object, or, for a pod that takes its time, with the pod terminating."""
    before = find(memory, action.ref.kind, action.ref.name)
    if before is None or isinstance(before, Node) or identity(before)[2] != action.uid:
        return memory
    if outcome.code == 404 or not isinstance(before, Pod):
        return lose(memory, Gone(action.ref.kind, action.ref.name, action.uid), ours=True)
    if isinstance(outcome.thing, Pod) and outcome.thing.terminating:
        return see(memory, outcome.thing, answer=True)
    return see_pod(memory, attrs.evolve(before, deletion_s=now_s))


def _read(memory: Memory, action: Read, outcome: Outcome, now_s: float) -> Memory:
    """The object as it is now; retries that waited for it may go on."""
    retries = {
        key: attrs.evolve(retry, read=False) if retry.action.ref == action.ref else retry
        for key, retry in memory.retries.items()
    }
    doubted = tuple(
        owner for owner in memory.doubted if (owner.kind, owner.name) != (action.ref.kind, action.ref.name)
    )
    group = group_of(memory, action.ref)
    if len(doubted) < len(memory.doubted) and group >= 0:  # its children have been waiting for this
        memory = evolve(memory, dirty=with_bit(memory.dirty, group, True))
    memory = evolve(memory, retries=FrozenMap(retries), doubted=doubted)
    if action.ref.kind in ("Pod", "StatefulSet"):
        memory = evolve(memory, verified=memory.verified.with_(action_key(action), now_s))
    before = memory
    if outcome.thing is not None:
        memory = see(memory, outcome.thing, answer=True)
    elif action.ref.kind == "Node":
        return see_node(memory, Node(action.ref.name, EMPTY, ready=False))
    elif action.uid:
        memory = lose(memory, Gone(action.ref.kind, action.ref.name, action.uid))
    if group >= 0 and _uid(memory, action.ref) != _uid(before, action.ref):
        return _judge_afresh(memory, group, now_s)
    return memory


def _uid(memory: Memory, ref: Ref) -> str:
    thing = find(memory, ref.kind, ref.name)
    return "" if thing is None else identity(thing)[2]


def _judge_afresh(memory: Memory, index: int, now_s: float) -> Memory:
    """The memory with a group that has all the time again until it counts as broken: what kept it
    unready has changed unseen, so that it may not have had that time."""
    record = memory.groups.get(index)
    if record.history.unready_since_s is None:
        return memory
    history = attrs.evolve(record.history, unready_since_s=now_s)
    return evolve(memory, groups=memory.groups.put(attrs.evolve(record, history=history)))


def _fail(memory: Memory, key: str, action: Request, outcome: Outcome, now_s: float) -> Memory:
    before = memory.retries.get(key)
    attempts = 1 if before is None else before.attempts + 1
    stale = (
        outcome.code == 409
        or (outcome.code == 404 and not isinstance(action, Create))
        or (
            # a test of the patch failed, or the object of the name is another
            outcome.code == 422 and (isinstance(action, TakeFields) or _UNCHANGED_UID in outcome.message)
        )
    )
    is_dying = names.NAMESPACE_TERMINATING in outcome.causes  # the set goes too: there is nothing to tell
    refused = outcome.code in _REFUSALS and not stale and not is_dying
    if stale:
        delay_s = 0.0 if attempts == 1 else min(30.0, 0.1 * 2 ** min(attempts, 10))
    elif refused or is_dying:
        delay_s = _refused_delay_s(attempts)
    else:
        delay_s = min(30.0, 0.5 * 2 ** min(attempts - 1, 10))
    retry = Retry(
        action=action,
        attempts=attempts,
        not_before_s=now_s + max(delay_s, outcome.retry_after_s),
        message=failure_message(outcome),
        refused=refused,
        read=(stale or outcome.code in (0, 500, 502, 503, 504)) and not isinstance(action, Read),
    )
    memory = _put_off(memory, key, retry)
    if action.ref.kind == "StatefulSet" and group_of(memory, action.ref) < 0 and retry.read and not stale:
        memory = evolve(memory, written=None)  # it may have taken effect: what is found then is no drift
    return memory if stale or is_dying else _complain(memory, action, retry, now_s)


def _put_off(memory: Memory, key: str, retry: Retry) -> Memory:
    """The memory in which a request is to be tried again. The groups that it was for are looked at, and where
    that lasts those that wait for a record, as none may come of it."""
    ref, dirty = retry.action.ref, memory.dirty
    group = group_of(memory, ref)
    if group >= 0:
        dirty = with_bit(dirty, group, True)
    if retry.lasts and ref.kind in ("StatefulSet", "ControllerRevision"):
        dirty |= members(*map(int, memory.recreating))
    return evolve(memory, retries=memory.retries.with_(key, retry), dirty=dirty)


def _complain(memory: Memory, action: Request, retry: Retry, now_s: float) -> Memory:
    """The Warning event of a write that failed; that of one for a group waits for those of other groups."""
    lws, ref = memory.lws, action.ref
    if lws is None or isinstance(action, Read | PatchStatus | Delete):
        return memory
    what = _in_words(ref, lws.name)
    group = group_of(memory, ref)
    if group < 0:
        event = failure_event(what, retry.message, creates=isinstance(action, Create))
        return evolve(memory, notices=(*memory.notices, event))
    key = f"{type(action).__name__} {ref.kind}"
    before = memory.failures.get(key, Failure(0, now_s, what, retry.message))
    failure = attrs.evolve(before, groups=with_bit(before.groups, group, True))
    return evolve(memory, failures=memory.failures.with_(key, failure))


def _in_words(ref: Ref, leader: str) -> str:
    """What could not be written; `leader` names the leader StatefulSet."""
    text = f"{ref.kind} {ref.name}"
    if ref.kind == "StatefulSet" and ref.name == leader:
        text = f"leader statefulset {leader}"
    elif ref.kind == "StatefulSet":
        text = f"worker statefulset for leader pod {ref.name}"
    elif ref.kind == "Service":
        text = "headless service for error"
    return text
