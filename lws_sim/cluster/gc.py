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
        namespace = namespace_of(dependent)
        present = tuple(ref for ref in owners(dependent) if store.exists(ref, namespace))
        if present:
            store, _ = store.replace(dependent, with_meta(dependent, ownerReferences=present))
        elif not terminating(dependent):
            store, _ = api.delete(store, key_of(dependent), now_s)
    return store


def collect(store: Store, key: str, now_s: float) -> Store:
    """The store after one look at an object that a finalizer of the collector keeps."""
    obj = store.objects.get(key)
    if obj is None or not terminating(obj):
        return store
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
