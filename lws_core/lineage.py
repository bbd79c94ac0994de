"""Which revision a set is at, which it goes to, and which are no longer needed.

The leader StatefulSet's label names the revision that is being rolled out. The live spec is compared with
what that revision recorded; if it means something else, it becomes a revision of its own, an old one where
one means the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import attrs

from . import revision
from .names import REVISION_KEY, SUBDOMAIN_POLICY
from .observed import LeaderStatefulSet, Revision, owned_by
from .spec import LeaderWorkerSet, SubdomainPolicy
from .values import EMPTY, FrozenMap, Json, dig

Occasion = Literal["New", "Updated", "Missing"]


@attrs.frozen
class Lineage:
    """The revisions of a set, seen from its live spec.

    key: the revision that the live spec means. changes: the leader StatefulSet does not carry it yet.
    create: the ControllerRevision to create before anything else, and on what occasion.
    raise_to: an older revision comes back, and its number must rise to this.
    sets: for each known revision key, the set as that revision recorded it.
    """

    key: str
    changes: bool
    sets: FrozenMap[LeaderWorkerSet]
    create: FrozenMap[Json] | None = None
    occasion: Occasion | None = None
    reused: Revision | None = None
    raise_to: int = 0

    def size_of(self, key: str) -> int | None:
        """Pods in a group of that revision, None where the revision is unknown."""
        then = self.sets.get(key)
        return None if then is None else then.spec.leader_worker_template.size


def trace(
    lws: LeaderWorkerSet,
    statefulset: LeaderStatefulSet | None,
    revisions: Iterable[Revision],
    remembered: FrozenMap[FrozenMap[Json]] = EMPTY,
    used: Iterable[str] = (),
    *,
    template_is_live: bool = False,
) -> Lineage:
    """The lineage of a set. `revisions` are all that carry its label, its own or not.

    `remembered` holds records, by key, of revisions that have been seen and are gone: one that the leader
    StatefulSet or an object of a group (`used`, keys) still names is restored from there. `template_is_live`
    says that the leader StatefulSet carries what the live spec renders, so that a lost record can be written
    again from it. Cost: the number of revisions.
    """
    own = sorted(
        (r for r in revisions if owned_by(r.owner, lws.metadata.uid) and not r.terminating),
        key=lambda r: (r.number, r.name),
    )
    records = {r.key: r.data for r in own}
    number = 1 + max((r.number for r in revisions), default=0)
    current = "" if statefulset is None else statefulset.labels.get(REVISION_KEY, "")
    overlaid = {
        key: revision.overlay(_below(lws, statefulset, key, data), data)
        for key, data in records.items()
        if _readable(lws, data)
    }
    if current and current not in overlaid:
        back = _restored(lws, statefulset, current, remembered) or (lws if template_is_live else None)
        if back is not None:
            return _with_missing(Lineage(current, False, FrozenMap(overlaid)), current, back, number)
    lineage = _newest(lws, own, records, FrozenMap(overlaid), current, number)
    if lineage.create is None:
        for key in sorted(set(used) - {*overlaid, current}):
            back = _restored(lws, statefulset, key, remembered)
            if back is not None:
                return _with_missing(lineage, key, back, number)
    return lineage


def _newest(
    lws: LeaderWorkerSet,
    own: list[Revision],
    records: dict[str, FrozenMap[Json]],
    sets: FrozenMap[LeaderWorkerSet],
    current: str,
    number: int,
) -> Lineage:
    """Where the live spec leads: it is what the leaders are of, or an earlier revision, or a new one."""
    live = revision.meaning(lws)
    same = [key for key, then in sets.items() if revision.meaning(then) == live]
    if current in same:
        return Lineage(current, False, sets)
    if same:
        reused = next(r for r in reversed(own) if r.key in same)
        newest = own[-1]
        return Lineage(
            reused.key,
            True,
            sets,
            reused=None if reused is newest else reused,
            raise_to=0 if reused is newest else newest.number + 1,
        )
    key = revision.new_key(live, records)
    occasion: Occasion = "New" if not current else "Updated"
    return Lineage(key, True, sets.with_(key, lws), revision.manifest(lws, key, number), occasion)


def _restored(
    lws: LeaderWorkerSet,
    statefulset: LeaderStatefulSet | None,
    key: str,
    remembered: FrozenMap[FrozenMap[Json]],
) -> LeaderWorkerSet | None:
    lost = remembered.get(key)
    if lost is None or not _readable(lws, lost):
        return None
    return revision.overlay(_below(lws, statefulset, key, lost), lost)


def _below(
    lws: LeaderWorkerSet, statefulset: LeaderStatefulSet | None, key: str, data: FrozenMap[Json]
) -> LeaderWorkerSet:
    """What a record is laid over: the live set, but for the network of a record without one. Were that the
    live one too, a change of it would roll nothing out; so the leader template tells which one its revision
    has. Of other revisions each leader tells (plan.py), and the default is said here."""
    if revision.records_network(data):
        return lws
    unique = False
    if statefulset is not None and statefulset.labels.get(REVISION_KEY) == key:
        unique = dig(statefulset.template, "metadata", "annotations", SUBDOMAIN_POLICY) == "UniquePerReplica"
    policy: SubdomainPolicy = "UniquePerReplica" if unique else "Shared"
    return revision.with_subdomain_policy(lws, policy)


def _with_missing(lineage: Lineage, key: str, then: LeaderWorkerSet, number: int) -> Lineage:
    """The lineage with a revision that is gone and is written again."""
    create = revision.manifest(then, key, number)
    return attrs.evolve(lineage, sets=lineage.sets.with_(key, then), create=create, occasion="Missing")


def unneeded(
    lws: LeaderWorkerSet, revisions: Iterable[Revision], needed: Iterable[str]
) -> tuple[Revision, ...]:
    """The set's own revisions whose key is not among `needed`, by name."""
    keep = frozenset(needed)
    own = (r for r in revisions if owned_by(r.owner, lws.metadata.uid))
    return tuple(sorted((r for r in own if r.key not in keep and not r.terminating), key=lambda r: r.name))


def _readable(lws: LeaderWorkerSet, data: FrozenMap[Json]) -> bool:
    return revision.recorded_meaning(lws, data) is not None
