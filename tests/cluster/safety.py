"""The rules that no fault may make the operator break, judged by the audit log of one set's life.

| Rule | What is judged |
| --- | --- |
| budget | who ends a ready group leaves as many ready as are promised; no more leaders than allowed |
| revision | pods and StatefulSets of workers are of the revision of their group's living leader |
| recreation | a group is recreated once for each failure, and never without one |
| target | a write carries the UID and version that were seen; it hits what is the set's, not terminating |
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import attrs
from audit import Entry
from client import Manifest
from history import LEADER_WORKER_SETS, STATEFUL_SETS, Change, World, replay
from sandbox import is_terminating
from sets import Snapshot, label, owner_uid, uid

from lws_core import names

Rule = Literal["budget", "revision", "recreation", "target"]
_OWN: Final = "operator"


@attrs.frozen
class Violation:
    """A rule that a write broke, in words."""

    rule: Rule
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.text}"


@attrs.define
class _Seen:
    """What of the past the rules need."""

    name: str
    leaders: dict[str, Manifest] = attrs.field(factory=dict)
    own: set[str] = attrs.field(factory=set)
    recreated: Counter[str] = attrs.field(factory=Counter)
    found: list[Violation] = attrs.field(factory=list)

    def say(self, rule: Rule, change: Change | Entry, text: str) -> None:
        entry = change.entry if isinstance(change, Change) else change
        self.found.append(Violation(rule, f"{entry} {entry.id}: {text}"))


def judge(entries: Iterable[Entry], name: str, failures: Mapping[str, int]) -> list[Violation]:
    """What was broken in the life of the set `name`, alone in its namespace. `failures`: how often a pod of
    each group has failed, by the leader's name."""
    entries = list(entries)
    seen = _Seen(name)
    for entry in entries:
        if entry.user == _OWN and entry.writes and entry.stage == "ResponseComplete":
            _judge_preconditions(seen, entry)
    for world, change in replay(entries):
        if change.entry.user == _OWN:
            _judge_target(seen, change)
            _judge_replicas(seen, world, change)
            _judge_workers(seen, change)
            _judge_recreation(seen, change)
        else:
            _judge_created(seen, world, change)
        _judge_budget(seen, world, change)
        _remember(seen, change)
    for leader in sorted({*seen.recreated, *failures}):
        if seen.recreated[leader] > failures.get(leader, 0):
            count, failed = seen.recreated[leader], failures.get(leader, 0)
            seen.found.append(Violation("recreation", f"{leader}: recreated {count}, failed {failed} times"))
    return seen.found


def _remember(seen: _Seen, change: Change) -> None:
    now = change.after or change.before or {}
    if change.key[0] == LEADER_WORKER_SETS or owner_uid(now) in seen.own:
        seen.own.add(uid(now))
    if change.key[0] == "pods" and _index(seen.name, change.key[1]) is not None:
        seen.leaders[uid(now)] = now


# -- what a write must carry, and what it may hit


def _judge_preconditions(seen: _Seen, entry: Entry) -> None:
    """Of every write that was sent, refused ones too."""
    if entry.resource == "events" or entry.verb == "create":
        return
    if entry.body is None and entry.code in (401, 403):
        return  # refused before its body was read
    if not all(_preconditions(entry)):
        seen.say("target", entry, "no precondition on UID and version")


def _preconditions(entry: Entry) -> tuple[str, str]:
    """UID and version that a write insists on, "" where it does not."""
    body = entry.body
    if isinstance(body, list):
        tests = {one.get("path"): one.get("value", "") for one in body if one.get("op") == "test"}
        return str(tests.get("/metadata/uid", "")), str(tests.get("/metadata/resourceVersion", ""))
    stated: Any = (body or {}).get("preconditions" if entry.verb == "delete" else "metadata") or {}
    return str(stated.get("uid", "")), str(stated.get("resourceVersion", ""))


def _judge_target(seen: _Seen, change: Change) -> None:
    entry = change.entry
    if entry.verb == "create":
        if owner_uid(change.after or {}) not in seen.own:
            seen.say("target", change, "it is created for an owner that is not of this set")
        return
    if change.before is None:
        return  # its creation is not in the log
    stated, _ = _preconditions(entry)
    if uid(change.before) != stated:
        seen.say("target", change, f"UID {stated} was meant, and {uid(change.before)} hit")
    if change.key[0] != LEADER_WORKER_SETS and owner_uid(change.before) not in seen.own:
        seen.say("target", change, "it does not belong to the set")
    if is_terminating(change.before):
        seen.say("target", change, "it is terminating")


# -- revisions


def _judge_workers(seen: _Seen, change: Change) -> None:
    """A StatefulSet of workers follows its leader."""
    if change.entry.verb != "create" or change.key[0] != STATEFUL_SETS or change.after is None:
        return
    leader = seen.leaders.get(owner_uid(change.after))
    if leader is not None and _revision(leader) != _revision(change.after):
        text = f"of revision {_revision(change.after)}, its leader of {_revision(leader)}"
        seen.say("revision", change, text)


def _judge_created(seen: _Seen, world: World, change: Change) -> None:
    """A worker pod is of its leader's revision, unless what made it is the heritage of a dead leader."""
    match = re.fullmatch(rf"({re.escape(seen.name)}-\d+)-\d+", change.key[1])
    if change.key[0] != "pods" or change.before is not None or change.after is None or match is None:
        return
    leader = world.get(("pods", match[1]))
    workers = world.get((STATEFUL_SETS, match[1]))
    if leader is None or workers is None or is_terminating(leader):
        return
    if owner_uid(workers) != uid(leader) or owner_uid(change.after) != uid(workers):
        return
    if _revision(change.after) != _revision(leader):
        text = f"of revision {_revision(change.after)}, its living leader of {_revision(leader)}"
        seen.say("revision", change, text)


def _revision(manifest: Manifest) -> str:
    return label(manifest, names.REVISION_KEY)


# -- recreations


def _judge_recreation(seen: _Seen, change: Change) -> None:
    is_pod = change.key[0] == "pods" and change.entry.verb == "delete"
    if is_pod and (change.entry.body or {}).get("propagationPolicy") == "Foreground":
        seen.recreated[change.key[1]] += 1


# -- the budget


def _judge_replicas(seen: _Seen, world: World, change: Change) -> None:
    if change.key != (STATEFUL_SETS, seen.name) or change.after is None:
        return
    lws = world.get((LEADER_WORKER_SETS, seen.name))
    if lws is None:
        return
    made_for = int(change.after["metadata"].get("annotations", {}).get(names.REPLICAS, "-1"))
    surge = _budget(lws)[1]
    if change.after["spec"]["replicas"] > made_for + surge:
        asked = change.after["spec"]["replicas"]
        seen.say("budget", change, f"{asked} leaders, {made_for} and a surge of {surge} allowed")


def _judge_budget(seen: _Seen, world: World, change: Change) -> None:
    """Of a pod that begins to end, and with it a ready group."""
    before, after = change.before, change.after
    if change.key[0] != "pods" or before is None or is_terminating(before):
        return
    if after is not None and not is_terminating(after):
        return
    lws, leaders = world.get((LEADER_WORKER_SETS, seen.name)), world.get((STATEFUL_SETS, seen.name))
    group = re.fullmatch(rf"{re.escape(seen.name)}-(\d+)(-\d+)?", change.key[1])
    if lws is None or is_terminating(lws) or leaders is None or is_terminating(leaders) or group is None:
        return
    size = int(lws["spec"]["leaderWorkerTemplate"]["size"])
    now = Snapshot(_of(world, "pods"), _of(world, STATEFUL_SETS))
    if not now.is_ready(seen.name, int(group[1]), size):
        return
    if change.entry.user == _OWN and (change.entry.body or {}).get("propagationPolicy") == "Foreground":
        return  # a recreation: its trigger lies in this group
    if group[2] is not None:
        seen.say("budget", change, "a worker of a ready group is ended")
        return
    count = range(int(leaders["spec"]["replicas"]))
    left = [i for i in count if i != int(group[1]) and now.is_ready(seen.name, i, size)]
    unavailable, _ = _budget(lws)
    floor = int(lws["spec"]["replicas"]) - unavailable
    if len(left) < floor:
        seen.say("budget", change, f"it leaves {len(left)} ready groups, {floor} are promised")


def _budget(lws: Manifest) -> tuple[int, int]:
    """U and S, which the tests give as counts."""
    rolling = lws["spec"]["rolloutStrategy"].get("rollingUpdateConfiguration", {})
    return int(rolling.get("maxUnavailable", 1)), int(rolling.get("maxSurge", 0))


def _of(world: World, resource: str) -> dict[str, Manifest]:
    return {name: manifest for (of, name), manifest in world.items() if of == resource}


def _index(set_name: str, pod: str) -> int | None:
    match = re.fullmatch(rf"{re.escape(set_name)}-(\d+)", pod)
    return None if match is None else int(match[1])
