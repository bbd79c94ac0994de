"""A store whose names are the same whichever way led to it, so that equal situations are equal values.

UIDs, resourceVersions and generations grow with every write, and would tell apart what no controller can.
Here a UID follows from what an object is: its name, its owner, its revision, and a count that tells it
from those before it where all of these are the same. A resourceVersion follows from the content. A generation
is 1 where it has been observed, 2 where not.

What this leaves out: a write whose precondition names a state that has come back since is let through, as
if the view were fresh, which it then is; and one version cannot be said to be older than another, so that
late sights of an object are not explored (they are refused by resourceVersion, tests/unit/test_view.py).
"""

from __future__ import annotations

import zlib
from typing import Final, Generic, TypeVar

import attrs

from lws_core import names
from lws_core.times import rfc3339
from lws_core.values import EMPTY, FrozenMap, dig, evolve
from lws_sim.cluster.store import (
    Change,
    Object,
    Store,
    controller_uid,
    key_of,
    label,
    linked,
    meta,
    uid_of,
    with_meta,
)

V = TypeVar("V")

_MOST_LIVES: Final = 8  # more than the edits and faults of an exploration can cost one object
# Kinds of which another may come under the same owner, by the first letters of a key.
_RETURNING: Final = ("Pod", "Sta", "Ser")


class Numbers(Generic[V]):
    """Numbers values in the order in which they are met; equal ones have the same number."""

    def __init__(self) -> None:
        self._numbers: dict[V, int] = {}
        self.values: list[V] = []

    def of(self, value: V) -> int:
        """The number of a value, which `values` has at that place."""
        found = self._numbers.setdefault(value, len(self.values))
        if found == len(self.values):
            self.values.append(value)
        return found


@attrs.frozen(slots=False, kw_only=True)
class NamedStore(Store):
    """A store with names as above. `tombs`: by key, the UID and the owner's UID of objects that are gone,
    as long as another may come under the same owner. `counts_lives`: no UID comes back ever, as records of
    failures and views of any age outlast revisions; without it only no UID follows on itself."""

    counts_lives: bool = False
    contents: Numbers[Object] = attrs.field(factory=Numbers, eq=False)
    tombs: FrozenMap[str] = EMPTY

    def insert(self, obj: Object, now_s: float) -> tuple[Store, Object]:
        """A new object."""
        key = key_of(obj)
        stamped = with_meta(obj, creationTimestamp=rfc3339(now_s), generation=1)
        stamped = with_meta(stamped, uid=self._uid_of(key, stamped))
        stamped = self._stamped(stamped)
        store = evolve(
            self,
            objects=self.objects.put(key, stamped),
            dependents=linked(self.dependents, key, None, stamped),
            changes=(*self.changes, Change("ADDED", key, stamped)),
            tombs=self.tombs.without(key),
        )
        return store, stamped

    def replace(self, before: Object, after: Object) -> tuple[Store, Object]:
        """An object as it has become; the store itself where nothing has."""
        if before == after:
            return self, before
        stamped = self._stamped(_with_plain_generation(after))
        if before == stamped:
            return self, before
        key = key_of(stamped)
        store = evolve(
            self,
            objects=self.objects.put(key, stamped),
            dependents=linked(self.dependents, key, before, stamped),
            changes=(*self.changes, Change("MODIFIED", key, stamped, before)),
        )
        return store, stamped

    def remove(self, obj: Object) -> Store:
        """The store without an object."""
        key = key_of(obj)
        store = evolve(
            self,
            objects=self.objects.drop(key),
            dependents=linked(self.dependents, key, obj, None),
            changes=(*self.changes, Change("DELETED", key, obj, obj)),
        )
        tombs = {**self.tombs, key: f"{uid_of(obj)} {controller_uid(obj)}"}
        alive = {uid_of(other) for _, other in store.objects.items()}
        kept = {k: tombs[k] for k in sorted(tombs) if k[:3] in _RETURNING and tombs[k].split(" ")[1] in alive}
        return evolve(store, tombs=FrozenMap(kept))

    def _uid_of(self, key: str, obj: Object) -> str:
        before = self.tombs.get(key, "")
        lives = _lives(before)
        uid = _uid(key, obj, lives)
        if before and (self.counts_lives or before.startswith(uid)):
            uid = _uid(key, obj, (lives + 1) % _MOST_LIVES)
        return uid

    def _stamped(self, obj: Object) -> Object:
        bare = with_meta(obj, resourceVersion=None)
        return with_meta(bare, resourceVersion=f"v{self.contents.of(bare)}")


def _uid(key: str, obj: Object, lives: int) -> str:
    text = f"{key} {controller_uid(obj)} {label(obj, names.REVISION_KEY)} {lives}"
    return f"{zlib.crc32(text.encode()):08x}-0000-4000-8000-{lives:012x}"


def _lives(tomb: str) -> int:
    """How many lives before it an object of a tomb counted."""
    return int(tomb.split(" ", maxsplit=1)[0][-12:], 16) if tomb else 0


def _with_plain_generation(obj: Object) -> Object:
    if obj["kind"] != "StatefulSet":
        return obj
    observed = dig(obj, "status", "observedGeneration")
    if not isinstance(observed, int):
        return obj
    is_behind = meta(obj).get("generation") != observed
    status = obj["status"]
    assert isinstance(status, FrozenMap)
    plain = obj.with_("status", status.with_("observedGeneration", 1))
    return with_meta(plain, generation=2 if is_behind else 1)
