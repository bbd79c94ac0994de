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
from .names import REVISION_KEY
from .observed import LeaderStatefulSet, Revision, owned_by
from .spec import LeaderWorkerSet
from .values import EMPTY, FrozenMap, Json

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
    *,
    template_is_live: bool = False,
) -> Lineage:
    """The lineage of a set. `revisions` are all that carry its label, its own or not.

    `remembered` holds records, by key, of revisions that have been seen and are gone: one that is still
    named is restored from there. `template_is_live` says that the leader StatefulSet carries what the live
    spec renders, so that a lost record can be written again from it. Cost: the number of revisions.
    """
    own = sorted(
        (r for r in revisions if owned_by(r.owner, lws.metadata.uid) and not r.terminating),
        key=lambda r: (r.number, r.name),
    )
    records = {r.key: r.data for r in own}
    overlaid = {key: revision.overlay(lws, data) for key, data in records.items() if _readable(lws, data)}
    number = 1 + max((r.number for r in revisions), default=0)
    current = "" if statefulset is None else statefulset.labels.get(REVISION_KEY, "")
    live = revision.meaning(lws)
    if current and current not in overlaid:
        lost = remembered.get(current)
        restored = revision.overlay(lws, lost) if lost is not None and _readable(lws, lost) else None
        if restored is not None or template_is_live:
            back = lws if restored is None else restored
            return Lineage(
                current,
                False,
                FrozenMap({**overlaid, current: back}),
                revision.manifest(back, current, number),
                "Missing",
            )
    same = [key for key, then in overlaid.items() if revision.meaning(then) == live]
    sets = FrozenMap(overlaid)
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
    return Lineage(
        key,
        True,
        sets.with_(key, lws),
        revision.manifest(lws, key, number),
        "New" if not current else "Updated",
    )


def unneeded(
    lws: LeaderWorkerSet, revisions: Iterable[Revision], needed: Iterable[str]
) -> tuple[Revision, ...]:
    """The set's own revisions whose key is not among `needed`, by name."""
    keep = frozenset(needed)
    own = (r for r in revisions if owned_by(r.owner, lws.metadata.uid))
    return tuple(sorted((r for r in own if r.key not in keep and not r.terminating), key=lambda r: r.name))


def _readable(lws: LeaderWorkerSet, data: FrozenMap[Json]) -> bool:
    return revision.recorded_meaning(lws, data) is not None
