"""The garbage collector: what goes when an owner goes.

Source: Kubernetes 1.36, pkg/controller/garbagecollector. Background deletion takes the owner first and its
dependents once it is gone; foreground deletion keeps the owner, marked, until the dependents that block it
are gone; orphan deletion cuts the references.
"""

from __future__ import annotations

from lws_core.values import FrozenMap, Json, as_list

from . import api
from .store import Object, Store, key_of, meta, namespace_of, owners, terminating, uid_of, with_meta


def after_deletion(store: Store, gone: Object, now_s: float) -> Store:
    """The store after the dependents of an object that is gone were looked at."""
    for dependent in store.owned_by(uid_of(gone)):
        store = _look_at(store, dependent, now_s)
    return store


def lacks_an_owner(store: Store, obj: Object) -> bool:
    """Whether an object names an owner that is not there (any more)."""
    return any(not store.exists(reference, namespace_of(obj)) for reference in owners(obj))


def no_longer_blocked(before: Object, after: Object) -> tuple[FrozenMap[Json], ...]:
    """The references to owners that an object kept from going, and does no more."""
    blocked = {ref["uid"] for ref in owners(after) if ref.get("blockOwnerDeletion") is True}
    return tuple(
        ref for ref in owners(before) if ref.get("blockOwnerDeletion") is True and ref["uid"] not in blocked
    )


def collect(store: Store, key: str, now_s: float) -> Store:
    """The store after one look at an object: one that lacks an owner, or that a finalizer keeps."""
    obj = store.objects.get(key)
    if obj is None:
        return store
    if api.ORPHAN in _finalizers(obj):
        return _orphan(store, obj) if terminating(obj) else store
    return _wait_for_dependents(store, obj, now_s) if _waits(obj) else _look_at(store, obj, now_s)


def _look_at(store: Store, obj: Object, now_s: float) -> Store:
    """An object stays while one owner is there that does not wait for it to go; the references to others
    are cut then. Without such an owner it goes; as its owner does, where that waits and it has dependents.
    Its owner does not wait for it where one of these is being deleted in the foreground already, which may be
    a circle, and often is none, as in a set of which a group is being recreated."""
    if terminating(obj):
        return store
    present = {}
    for reference in owners(obj):
        owner = store.owner(reference, namespace_of(obj))
        if owner is not None:
            present[reference] = owner
    solid = tuple(reference for reference, owner in present.items() if not _waits(owner))
    if len(solid) == len(owners(obj)):
        return store
    if solid:
        return store.replace(obj, with_meta(obj, ownerReferences=solid))[0]
    dependents = store.owned_by(uid_of(obj))
    way = "Background"
    if present and dependents:
        way = "Foreground"
        if any(map(_waits, dependents)):
            store = _unblocked(store, obj)
    elif api.ORPHAN in _finalizers(obj):
        way = "Orphan"
    elif api.FOREGROUND in _finalizers(obj):
        way = "Foreground"
    return api.delete(store, key_of(obj), now_s, propagation=way)[0]


def _unblocked(store: Store, obj: Object) -> Store:
    """The store with an object that keeps no owner from going: it might be part of a circle."""
    references = tuple(
        ref.with_("blockOwnerDeletion", False) if ref.get("blockOwnerDeletion") is True else ref
        for ref in owners(obj)
    )
    return store.replace(obj, with_meta(obj, ownerReferences=references))[0]


def _wait_for_dependents(store: Store, obj: Object, now_s: float) -> Store:
    """An object that is deleted in the foreground goes once no dependent blocks it: at a later look, where
    this one takes dependents away, as others may act in between."""
    blocking = _blocking(store, obj)
    for dependent in store.owned_by(uid_of(obj)):
        store = _look_at(store, dependent, now_s)
    gone = any(key_of(dependent) not in store.objects for dependent in blocking)
    return store if gone or _blocking(store, obj) else api.remove_finalizer(store, obj, api.FOREGROUND)


def _blocking(store: Store, obj: Object) -> list[Object]:
    """The dependents that keep an object which is deleted in the foreground."""
    return [
        dependent
        for dependent in store.owned_by(uid_of(obj))
        if any(
            ref["uid"] == uid_of(obj) and ref.get("blockOwnerDeletion") is True for ref in owners(dependent)
        )
    ]


def _orphan(store: Store, obj: Object) -> Store:
    for dependent in store.owned_by(uid_of(obj)):
        left = tuple(ref for ref in owners(dependent) if ref["uid"] != uid_of(obj))
        store, _ = store.replace(dependent, with_meta(dependent, ownerReferences=left or None))
    return api.remove_finalizer(store, obj, api.ORPHAN)


def _waits(obj: Object) -> bool:
    """Whether an object is being deleted once its dependents are."""
    return terminating(obj) and api.FOREGROUND in _finalizers(obj)


def _finalizers(obj: Object) -> tuple[Json, ...]:
    return as_list(meta(obj).get("finalizers"))


def is_kept(obj: Object) -> bool:
    """Whether an object waits for the collector."""
    return _waits(obj) or (terminating(obj) and api.ORPHAN in _finalizers(obj))
