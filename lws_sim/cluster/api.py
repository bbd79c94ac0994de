"""The API server's rules: preconditions, immutable fields, defaults, admission, graceful deletion.

Each request is a function from a store to a store and an answer, which has the HTTP status, the object and
the server's words. What is modelled is what a controller can tell: docs/simulation.md lists what is not.
"""

from __future__ import annotations

from typing import Final

import attrs

from lws_core.admission import Denied, admit
from lws_core.options import Options
from lws_core.times import epoch_s, rfc3339
from lws_core.values import FrozenMap, Json, as_list, as_map, dig

from . import ownership
from .defaults import complete_service, complete_statefulset
from .store import Object, Store, key_of, meta, name_of, namespace_of, terminating, uid_of, with_meta

FOREGROUND: Final = "foregroundDeletion"
ORPHAN: Final = "orphan"
DEFAULT_GRACE_S: Final = 30

_IMMUTABLE: Final = ("serviceName", "selector", "podManagementPolicy", "volumeClaimTemplates")
_FORBIDDEN: Final = (
    "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
    "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' "
    "are forbidden"
)


@attrs.frozen
class Answer:
    """What the API server answers: an HTTP status, the object as it is now, and a message on failure."""

    code: int
    object: Object | None = None
    message: str = ""

    @property
    def ok(self) -> bool:
        """Whether the request was carried out."""
        return self.code < 300


@attrs.frozen
class Rules:
    """What a cluster is set up with.

    gate: the feature gate MaxUnavailableStatefulSet. options: of the pod webhook. webhook: whether it serves.
    """

    gate: bool = False
    options: Options = Options()
    webhook: bool = True


def create(store: Store, obj: Object, manager: str, rules: Rules, now_s: float) -> tuple[Store, Answer]:
    """POST."""
    key = key_of(obj)
    if key in store.objects:
        return store, Answer(409, store.objects.get(key), f'{obj["kind"]} "{name_of(obj)}" already exists')
    try:
        obj = _admitted(obj, rules)
    except Denied as denied:
        return store, Answer(403, None, f'admission webhook "mpod.kb.io" denied the request: {denied}')
    managed = ownership.record_update((), manager, obj) if obj["kind"] == "StatefulSet" else None
    completed = _completed(obj, rules)
    if managed is not None:
        completed = with_meta(completed, managedFields=managed)
    store, stored = store.insert(completed, now_s)
    return store, Answer(201, stored)


def apply(store: Store, patch: Object, manager: str, rules: Rules, now_s: float) -> tuple[Store, Answer]:
    """A forced server-side apply. Creates what is missing, unless the patch names a UID."""
    before = store.objects.get(key_of(patch))
    wanted_uid, wanted_version = meta(patch).get("uid"), meta(patch).get("resourceVersion")
    if before is None:
        if wanted_uid:
            message = f'{patch["kind"]} "{name_of(patch)}": uid mismatch: the object does not exist'
            return store, Answer(409, None, message)
        return create(store, patch, manager, rules, now_s)
    if wanted_version and wanted_version != meta(before)["resourceVersion"]:
        return store, Answer(409, None, _modified(before))
    if wanted_uid and wanted_uid != uid_of(before):
        words = f"metadata.uid: Invalid value: {wanted_uid!r}: field is immutable"
        return store, Answer(422, None, words)
    return _update(store, before, ownership.apply(before, patch, manager), rules)


def update(store: Store, before: Object, after: Object, rules: Rules) -> tuple[Store, Answer]:
    """PUT of an object that was just read: for users and for the controllers of Kubernetes itself."""
    return _update(store, before, after, rules)


def json_patch_managed(store: Store, key: str, uid: str, version: str, index: int) -> tuple[Store, Answer]:
    """The JSON patch that turns a managedFields entry from Update into Apply, its tests included."""
    before = store.objects.get(key)
    if before is None:
        return store, Answer(404, None, f'"{key}" not found')
    entries = as_list(meta(before).get("managedFields"))
    if (uid_of(before), meta(before)["resourceVersion"]) != (uid, version) or index >= len(entries):
        return store, Answer(422, None, "the server rejected our request: testing value failed")
    entry = as_map(entries[index]).with_("operation", "Apply")
    after = with_meta(before, managedFields=(*entries[:index], entry, *entries[index + 1 :]))
    store, stored = store.replace(before, after)
    return store, Answer(200, stored)


def patch_status(
    store: Store, key: str, uid: str, version: str, status: FrozenMap[Json]
) -> tuple[Store, Answer]:
    """A merge patch of the status subresource with preconditions; "" asks for none."""
    before = store.objects.get(key)
    if before is None:
        return store, Answer(404, None, f'"{key}" not found')
    if (uid and uid != uid_of(before)) or (version and version != meta(before)["resourceVersion"]):
        return store, Answer(409, None, _modified(before))
    store, stored = store.replace(before, before.with_("status", as_map(before.get("status")) | status))
    return store, Answer(200, stored)


def delete(
    store: Store,
    key: str,
    now_s: float,
    *,
    uid: str = "",
    version: str = "",
    propagation: str = "Background",
    grace_s: int | None = None,
) -> tuple[Store, Answer]:
    """DELETE: at once, or marked where a finalizer or a pod's grace period stands in the way.

    A pod that is being ended already stays as it is, finalizers too, unless a shorter grace period is asked
    for. Of anything else the propagation that was asked for last holds.
    """
    obj = store.objects.get(key)
    if obj is None:
        return store, Answer(404, None, f'"{key}" not found')
    if (uid and uid != uid_of(obj)) or (version and version != meta(obj)["resourceVersion"]):
        return store, Answer(409, None, f"the precondition on {key} does not hold")
    left_s = meta(obj).get("deletionGracePeriodSeconds")
    left_s = left_s if isinstance(left_s, int) else 0
    if left_s > 0 and (grace_s is None or grace_s >= left_s):
        return store, Answer(200, obj)
    wanted = {"Foreground": FOREGROUND, "Orphan": ORPHAN}.get(propagation)
    others = [name for name in as_list(meta(obj).get("finalizers")) if name not in (FOREGROUND, ORPHAN)]
    finalizers: tuple[Json, ...] = (*others, wanted) if wanted else tuple(others)
    begun = terminating(obj)
    grace = 0 if begun and left_s == 0 else _grace_s(obj, grace_s)
    if not finalizers and grace == 0:
        return store.remove(obj), Answer(200, obj)
    after = with_meta(obj, finalizers=finalizers or None)
    if not begun or left_s > 0:
        asked_s = (epoch_s(meta(obj)["deletionTimestamp"]) or now_s) - left_s if begun else now_s
        after = with_meta(
            after,
            deletionTimestamp=rfc3339(max(now_s, asked_s + grace)),
            deletionGracePeriodSeconds=grace,
            generation=meta(obj).get("generation") if begun else _next_generation(obj),
        )
    store, stored = store.replace(obj, after)
    return store, Answer(200, stored)


def remove_finalizer(store: Store, obj: Object, finalizer: str) -> Store:
    """The store after a finalizer was removed; with it the object, if nothing else keeps it."""
    left = tuple(name for name in as_list(meta(obj).get("finalizers")) if name != finalizer)
    graceful = meta(obj).get("deletionGracePeriodSeconds") not in (0, None)
    if terminating(obj) and not left and not graceful:
        return store.remove(obj)
    return store.replace(obj, with_meta(obj, finalizers=left or None))[0]


def finish_pod(store: Store, obj: Object, now_s: float) -> Store:
    """The kubelet's last word on a terminating pod: it is gone unless a finalizer keeps the object."""
    if as_list(meta(obj).get("finalizers")):
        ended = with_meta(obj, deletionTimestamp=rfc3339(now_s), deletionGracePeriodSeconds=0)
        return store.replace(obj, ended)[0]
    return store.remove(obj)


def _update(store: Store, before: Object, after: Object, rules: Rules) -> tuple[Store, Answer]:
    if before["kind"] == "StatefulSet":
        changed = [
            f for f in _IMMUTABLE if dig(before, "spec", f) != dig(_completed(after, rules), "spec", f)
        ]
        if changed:
            return store, Answer(422, None, f'StatefulSet.apps "{name_of(before)}" is invalid: {_FORBIDDEN}')
    after = _completed(after, rules)
    if before.get("spec") != after.get("spec"):
        after = with_meta(after, generation=_next_generation(before))
    store, stored = store.replace(before, after)
    return store, Answer(200, stored)


def _next_generation(obj: Object) -> int:
    generation = meta(obj).get("generation")
    return (generation if isinstance(generation, int) else 0) + 1


def _admitted(obj: Object, rules: Rules) -> Object:
    return admit(obj, rules.options) if obj["kind"] == "Pod" and rules.webhook else obj


def _completed(obj: Object, rules: Rules) -> Object:
    match obj["kind"]:
        case "StatefulSet":
            return complete_statefulset(obj, gate=rules.gate)
        case "Service":
            return complete_service(obj)
        case _:
            return obj


def _grace_s(obj: Object, asked_s: int | None) -> int:
    """The grace period of a pod that is on a node; anything else goes at once."""
    if obj["kind"] != "Pod" or not dig(obj, "spec", "nodeName"):
        return 0
    if dig(obj, "status", "phase") in ("Succeeded", "Failed"):
        return 0
    if asked_s is not None:
        return asked_s
    own = dig(obj, "spec", "terminationGracePeriodSeconds")
    return own if isinstance(own, int) else DEFAULT_GRACE_S


def _modified(obj: Object) -> str:
    name = f"{namespace_of(obj)}/{name_of(obj)}"
    return (
        f'Operation cannot be fulfilled on {obj["kind"]} "{name}": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
