"""The garbage collector: what goes when an owner goes.

Source: Kubernetes 1.36, pkg/controller/garbagecollector. Background deletion takes the owner first and its
dependents once it is gone; foreground deletion keeps the owner, marked, until the dependents that block it
are gone; orphan deletion cuts the references.
"""

from __future__ import annotations

from lws_core.values import as_list

from . import api
from .store import Object, Store, key_of, meta, namespace_of, owners, terminating, uid_of, with_meta


def after_deletion(store: Store, gone: Object, now_s: float) -> Store:
    """The store after the dependents of an object that is gone were looked at."""
    for dependent in store.owned_by(uid_of(gone)):
        store = _without_owners_gone(store, dependent, now_s)
    return store


def lacks_an_owner(store: Store, obj: Object) -> bool:
    """Whether an object names an owner that is not there (any more)."""
    return any(not store.exists(reference, namespace_of(obj)) for reference in owners(obj))


def _without_owners_gone(store: Store, obj: Object, now_s: float) -> Store:
    present = tuple(ref for ref in owners(obj) if store.exists(ref, namespace_of(obj)))
    if present:
        return store.replace(obj, with_meta(obj, ownerReferences=present))[0]
    return store if terminating(obj) else api.delete(store, key_of(obj), now_s)[0]


def collect(store: Store, key: str, now_s: float) -> Store:
    """The store after one look at an object: one that lacks an owner, or that a finalizer keeps."""
    obj = store.objects.get(key)
    if obj is None:
        return store
    if not terminating(obj):
        return _without_owners_gone(store, obj, now_s) if lacks_an_owner(store, obj) else store
    finalizers = as_list(meta(obj).get("finalizers"))
    if api.ORPHAN in finalizers:
        for dependent in store.owned_by(uid_of(obj)):
            left = tuple(ref for ref in owners(dependent) if ref["uid"] != uid_of(obj))
            store, _ = store.replace(dependent, with_meta(dependent, ownerReferences=left))
        return api.remove_finalizer(store, store.objects.get(key) or obj, api.ORPHAN)
    if api.FOREGROUND not in finalizers:
        return store
    blocking = [
        dependent
        for dependent in store.owned_by(uid_of(obj))
        if any(ref["uid"] == uid_of(obj) and ref.get("blockOwnerDeletion") for ref in owners(dependent))
    ]
    if not blocking:
        return api.remove_finalizer(store, obj, api.FOREGROUND)
    for dependent in blocking:
        if not terminating(dependent):
            way = "Foreground" if store.owned_by(uid_of(dependent)) else "Background"
            store, _ = api.delete(store, key_of(dependent), now_s, propagation=way)
    return store


def is_kept(obj: Object) -> bool:
    """Whether an object waits for the collector."""
    finalizers = as_list(meta(obj).get("finalizers"))
    return terminating(obj) and (api.FOREGROUND in finalizers or api.ORPHAN in finalizers)
