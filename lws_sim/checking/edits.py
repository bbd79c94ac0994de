"""What a user may make of a set: a tree of manifests, each an edit away from the one before."""

from __future__ import annotations

from typing import Final

import attrs

from lws_core.codec import decode
from lws_core.validation import validate_update
from lws_core.values import FrozenMap, Json, as_map, dig
from lws_sim.cluster.store import Object
from lws_sim.deeds import CHANGE, set_field
from lws_sim.judging import limits_of
from lws_sim.world import LOAD

EDITS: Final = ("template", "revert", "broken", "up", "down", "partition", "size")

_HARMLESS: Final = ("template", "revert", "partition")


@attrs.frozen
class Draft:
    """A manifest that a user has come to, and the edits that may follow: what each is, and its place.

    floor: how many groups must always be ready, None where an edit so far takes groups away or breaks them.
    kept: the floor of the fewest replicas so far, 0 for a set that is created: more groups may not have been
    ready when a broken template came. has_one_end: whatever happened before, the same is left. Not of a
    template whose pods never become ready, and not with a partition, below which groups stay on what they
    were when it rose."""

    manifest: Object
    children: tuple[tuple[str, int], ...] = ()
    floor: int | None = None
    kept: int = 0
    has_one_end: bool = True


def drafts(
    manifest: Object, edits: tuple[str, ...], depth: int, *, from_creation: bool = False
) -> tuple[Draft, ...]:
    """All that up to `depth` edits of these kinds can make of a set; itself first. Equal ends are one.
    `from_creation`: it is not at rest before the first of them, and no group was ever ready."""
    found: list[Draft] = []
    places: dict[tuple[Object, Object | None, int, bool, int], int] = {}
    breaks = "broken" in edits

    def add(now: Object, before: Object, left: int, keeps: bool, kept: int) -> int:
        kept = min(kept, _floor(now)) if breaks else 0  # else it tells nothing apart
        key = (now, before if left else None, left, keeps, kept)
        if key in places:
            return places[key]
        place = places[key] = len(found)
        has_one_end = not is_broken(now) and _partition(now) == 0
        found.append(Draft(now, (), _floor(now) if keeps else None, kept, has_one_end))
        children: list[tuple[str, int]] = []
        for edit in edits if left else ():
            after = _edited(now, before, edit, depth - left + 1)
            if after is not None and after != now and validate_update(after, now).admitted:
                child = add(after, now, left - 1, keeps and edit in _HARMLESS, kept)
                if child not in [place for _, place in children]:
                    children.append((edit, child))
        found[place] = attrs.evolve(found[place], children=tuple(children))
        return place

    add(manifest, manifest, depth, True, 0 if from_creation else _floor(manifest))
    return tuple(found)


def _edited(now: Object, before: Object, edit: str, count: int) -> Object | None:
    replicas, partition = _int(now, "replicas"), _partition(now)
    match edit:
        case "template" | "broken":
            return _with_template(now, count, broken=edit == "broken")
        case "revert":
            return set_field(now, "spec.leaderWorkerTemplate", dig(before, "spec", "leaderWorkerTemplate"))
        case "up" | "down":
            after = replicas + (1 if edit == "up" else -1)
            return set_field(now, "spec.replicas", after) if after >= 0 else None
        case "partition":
            wanted = 0 if partition else 1
            return set_field(now, f"{_ROLLING}.partition", wanted)
        case "size":
            size = dig(now, "spec", "leaderWorkerTemplate", "size")
            return set_field(now, "spec.leaderWorkerTemplate.size", 2 if size == 1 else 1)
    raise ValueError(f"{edit!r} is no edit; there are {', '.join(EDITS)}")


_ROLLING: Final = "spec.rolloutStrategy.rollingUpdateConfiguration"


def _with_template(manifest: Object, count: int, *, broken: bool) -> Object:
    template = as_map(dig(manifest, "spec", "leaderWorkerTemplate"))
    for field in ("leaderTemplate", "workerTemplate"):
        if field in template:
            pod = as_map(template[field])
            metadata = as_map(pod.get("metadata"))
            notes: FrozenMap[Json] = as_map(metadata.get("annotations")).without(LOAD)
            notes |= {CHANGE: str(count)} | ({LOAD: "never"} if broken else {})
            template = template.with_(field, pod.with_("metadata", metadata.with_("annotations", notes)))
    return set_field(manifest, "spec.leaderWorkerTemplate", template)


def _floor(manifest: Object) -> int:
    return limits_of(decode(manifest).spec).floor


def is_broken(manifest: Object) -> bool:
    """Whether the pods of a set never become ready."""
    note = dig(manifest, "spec", "leaderWorkerTemplate", "workerTemplate", "metadata", "annotations", LOAD)
    return note == "never"


def _int(manifest: Object, field: str) -> int:
    value = dig(manifest, "spec", field)
    return value if isinstance(value, int) else 0


def _partition(manifest: Object) -> int:
    value = dig(manifest, "spec", "rolloutStrategy", "rollingUpdateConfiguration", "partition")
    return value if isinstance(value, int) else 0
