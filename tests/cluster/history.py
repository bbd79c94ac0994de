"""What became of the objects of a namespace, as the API server's audit log tells it.

Needs audit.WHOLE_POLICY. Writes that took effect are put in the order of their resourceVersions, in which the
API server has carried them out. A request that was under way when an API server was killed may be missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeAlias

import attrs
from audit import Entry
from client import Manifest

from lws_core import names

LEADER_WORKER_SETS: Final = names.PLURAL
STATEFUL_SETS: Final = "statefulsets"
FOLLOWED: Final = (LEADER_WORKER_SETS, STATEFUL_SETS, "pods", "services", "controllerrevisions")

Key: TypeAlias = tuple[str, str]
"""Resource and name."""


@attrs.frozen
class Change:
    """A write that took effect: the object before it and after it, None where there was or is none."""

    entry: Entry
    version: int
    before: Manifest | None
    after: Manifest | None

    @property
    def key(self) -> Key:
        return self.entry.resource, self.entry.name or _name(self.after)

    @property
    def touched(self) -> Manifest:
        """The object that was written, as it was before where it was there."""
        return self.before or self.after or {}


World: TypeAlias = dict[Key, Manifest]
"""The objects at one moment."""


def replay(entries: Iterable[Entry]) -> Iterator[tuple[World, Change]]:
    """Each change, with the world that it was made in; the world changes with the next step."""
    world: World = {}
    gone: set[str] = set()
    for version, entry in _in_order(entries):
        answer = entry.answer
        key = entry.resource, entry.name or _name(answer)
        before = world.get(key)
        after = None if _is_deletion_of_all(entry) else _with_kind(answer)
        if after is None and before is not None and not _deletes(entry, before):
            continue
        if after is not None and (
            _uid(after) in gone or (before is not None and version <= _version(before))
        ):
            continue  # nothing changed, or it had gone by then
        if after is not None and _is_gone(after):
            gone.add(_uid(after))
            after = None
        if before is None and after is None:
            continue
        change = Change(entry, version, before, after)
        yield world, change
        if after is None:
            gone.add(_uid(before or {}))
            world.pop(key, None)
        else:
            world[key] = after


def _in_order(entries: Iterable[Entry]) -> list[tuple[int, Entry]]:
    """By version. What is answered without one, as many deletions are, follows what was answered before."""
    found, newest = [], 0
    for entry in sorted(filter(_took_effect, entries), key=lambda one: one.at):
        version = _version(entry.answer)
        newest = max(newest, version)
        found.append((version or newest, entry))
    return sorted(found, key=lambda pair: pair[0])


def _took_effect(entry: Entry) -> bool:
    return (
        entry.writes
        and entry.stage == "ResponseComplete"
        and 200 <= entry.code < 300
        and entry.resource in FOLLOWED
        and entry.subresource in ("", "status")
        and isinstance(entry.answer, dict)
    )


def _is_deletion_of_all(entry: Entry) -> bool:
    """A deletion that is answered by a Status has left nothing."""
    return entry.verb == "delete" and entry.answer.get("kind") == "Status"


def _deletes(entry: Entry, before: Manifest) -> bool:
    uid = (entry.answer.get("details") or {}).get("uid")
    return uid in (None, _uid(before))


def _is_gone(manifest: Manifest) -> bool:
    metadata = manifest["metadata"]
    return (
        "deletionTimestamp" in metadata
        and not metadata.get("finalizers")
        and not metadata.get("deletionGracePeriodSeconds")
    )


def _with_kind(answer: Any) -> Manifest | None:
    return answer if isinstance(answer, dict) and "metadata" in answer else None


def _name(manifest: Manifest | None) -> str:
    return str((manifest or {}).get("metadata", {}).get("name", ""))


def _uid(manifest: Manifest) -> str:
    return str(manifest.get("metadata", {}).get("uid", ""))


def _version(manifest: Any) -> int:
    version = manifest.get("metadata", {}).get("resourceVersion", "") if isinstance(manifest, dict) else ""
    return int(version) if str(version).isdecimal() else 0
