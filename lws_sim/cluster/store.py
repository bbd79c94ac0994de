"""What a cluster holds: objects by kind, namespace and name, as the JSON that its API would show.

A store is a value. Each write gives a new one, with the next resourceVersion, and notes the change for the
watches; `changes` holds those that have not been taken yet.
"""

from __future__ import annotations

from typing import Literal

import attrs

from lws_core.times import rfc3339
from lws_core.values import EMPTY, FrozenMap, Json, as_map, dig, evolve
from lws_sim.persistent import PersistentMap

Object = FrozenMap[Json]


@attrs.frozen
class Change:
    """One entry of a watch. For DELETED, `object` is the last state, with the deletion's resourceVersion."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    key: str
    object: Object
    before: Object | None = None


@attrs.frozen(slots=False)
class Store:
    """The objects, by `key_of`; `dependents` has, by an owner's UID, those that name it as an owner."""

    objects: PersistentMap[Object] = attrs.field(factory=PersistentMap)
    dependents: PersistentMap[FrozenMap[Object]] = attrs.field(factory=PersistentMap)
    version: int = 0
    uids: int = 0
    changes: tuple[Change, ...] = ()

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """An object by kind, namespace ("" for a node) and name."""
        return self.objects.get(f"{kind}/{namespace}/{name}")

    def all(self, kind: str) -> tuple[Object, ...]:
        """All objects of a kind, by namespace and name. Cost: the whole store."""
        return tuple(obj for key, obj in self.objects.items() if key.startswith(kind + "/"))

    def owned_by(self, uid: str) -> tuple[Object, ...]:
        """The objects that name this UID as an owner, the oldest first."""
        return tuple((self.dependents.get(uid) or EMPTY).values())

    def exists(self, reference: FrozenMap[Json], namespace: str) -> bool:
        """Whether the very object of an owner reference is there."""
        return self.owner(reference, namespace) is not None

    def owner(self, reference: FrozenMap[Json], namespace: str) -> Object | None:
        """The object of an owner reference, by UID."""
        owner = self.objects.get(f"{reference['kind']}/{namespace}/{reference['name']}")
        return owner if owner is not None and uid_of(owner) == reference["uid"] else None

    def insert(self, obj: Object, now_s: float) -> tuple[Store, Object]:
        """A new object, with UID, creation time and resourceVersion."""
        uid = f"{self.uids + 1:08x}-0000-4000-8000-000000000000"
        stamped = with_meta(
            obj,
            uid=uid,
            creationTimestamp=rfc3339(now_s),
            resourceVersion=self._next_version(obj),
            generation=1,
        )
        key = key_of(stamped)
        store = evolve(
            self,
            objects=self.objects.put(key, stamped),
            dependents=linked(self.dependents, key, None, stamped),
            version=self.version + 1,
            uids=self.uids + 1,
            changes=(*self.changes, Change("ADDED", key, stamped)),
        )
        return store, stamped

    def replace(self, before: Object, after: Object) -> tuple[Store, Object]:
        """An object as it has become; the store itself where nothing has."""
        if before == after:
            return self, before
        stamped = with_meta(after, resourceVersion=self._next_version(after))
        key = key_of(stamped)
        store = evolve(
            self,
            objects=self.objects.put(key, stamped),
            dependents=linked(self.dependents, key, before, stamped),
            version=self.version + 1,
            changes=(*self.changes, Change("MODIFIED", key, stamped, before)),
        )
        return store, stamped

    def remove(self, obj: Object) -> Store:
        """The store without an object."""
        key = key_of(obj)
        last = with_meta(obj, resourceVersion=self._next_version(obj))
        return evolve(
            self,
            objects=self.objects.drop(key),
            dependents=linked(self.dependents, key, obj, None),
            version=self.version + 1,
            changes=(*self.changes, Change("DELETED", key, last, obj)),
        )

    def _next_version(self, _: Object) -> str:
        """The resourceVersion of the next write, which leaves an object so."""
        return str(self.version + 1)

    def take(self) -> tuple[Store, tuple[Change, ...]]:
        """The changes since the last time, and the store without them."""
        return evolve(self, changes=()), self.changes


def key_of(obj: Object) -> str:
    """What an object is stored under."""
    return f"{obj['kind']}/{meta(obj).get('namespace', '')}/{meta(obj)['name']}"


def meta(obj: Object) -> FrozenMap[Json]:
    """metadata"""
    return obj["metadata"]  # type: ignore[return-value]  # every object has it, as the API server sees to


def name_of(obj: Object) -> str:
    """metadata.name"""
    return str(meta(obj).get("name", ""))


def namespace_of(obj: Object) -> str:
    """metadata.namespace"""
    return str(meta(obj).get("namespace", ""))


def uid_of(obj: Object) -> str:
    """metadata.uid"""
    return str(meta(obj).get("uid", ""))


def label(obj: Object, key: str) -> str:
    """A label's value, "" where there is none."""
    value = dig(obj, "metadata", "labels", key)
    return value if isinstance(value, str) else ""


def owners(obj: Object) -> tuple[FrozenMap[Json], ...]:
    """The owner references."""
    return meta(obj).get("ownerReferences", ())  # type: ignore[return-value]


def controller_uid(obj: Object) -> str:
    """The UID of the controller owner, "" for none."""
    return next((str(ref["uid"]) for ref in owners(obj) if ref.get("controller") is True), "")


def terminating(obj: Object) -> bool:
    """Whether deletion has been asked for."""
    return "deletionTimestamp" in meta(obj)


def with_meta(obj: Object, **fields: Json) -> Object:
    """The object with metadata fields set; None removes one."""
    merged = {**meta(obj), **fields}
    return obj.with_("metadata", FrozenMap({k: v for k, v in merged.items() if v is not None}))


def with_status(obj: Object, **fields: Json) -> Object:
    """The object with status fields set."""
    return obj.with_("status", as_map(obj.get("status")) | fields)


def linked(
    dependents: PersistentMap[FrozenMap[Object]], key: str, before: Object | None, after: Object | None
) -> PersistentMap[FrozenMap[Object]]:
    """The dependents after an object has become another, or come, or gone (None)."""
    new = () if after is None else owners(after)
    kept = {str(reference["uid"]) for reference in new}
    for reference in () if before is None else owners(before):
        uid = str(reference["uid"])
        if uid not in kept:
            rest = (dependents.get(uid) or EMPTY).without(key)
            dependents = dependents.put(uid, rest) if rest else dependents.drop(uid)
    for uid in sorted(kept):
        assert after is not None
        dependents = dependents.put(uid, (dependents.get(uid) or EMPTY).with_(key, after))
    return dependents
