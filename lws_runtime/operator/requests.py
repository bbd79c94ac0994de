"""From actions to requests, and from answers to what the machine hears of them. No decisions."""

from __future__ import annotations

import attrs
import orjson

from lws_core.actions import (
    Action,
    Apply,
    Create,
    Delete,
    Emit,
    PatchStatus,
    Read,
    TakeFields,
    event_manifest,
)
from lws_core.names import FIELD_MANAGER
from lws_core.reading import read
from lws_core.sights import Outcome
from lws_core.spec import LeaderWorkerSet
from lws_core.values import EMPTY, FrozenMap, Labels, as_go_writes
from lws_runtime.kube.client import APPLY_PATCH, JSON, JSON_PATCH, MERGE_PATCH, Answer
from lws_runtime.kube.resources import RESOURCES, is_object, path_of

_MANAGER = {"fieldManager": FIELD_MANAGER}


@attrs.frozen
class Request:
    """One HTTP request."""

    method: str
    path: str
    body: bytes | None = None
    content_type: str = JSON
    params: Labels = EMPTY


def request_of(action: Action, *, event_name: str, instance: str, now_s: float) -> Request:
    """The request that carries out an action. The last three are for events: a name that is new in the
    namespace, this process, and the time (epoch seconds)."""
    match action:
        case Create(manifest):
            ref = action.ref
            path = RESOURCES[ref.kind].path(ref.namespace)
            is_revision = ref.kind == "ControllerRevision"
            body = as_go_writes(manifest).encode() if is_revision else orjson.dumps(manifest)
            return Request("POST", path, body, params=FrozenMap(_MANAGER))
        case Apply(manifest):
            params = FrozenMap({**_MANAGER, "force": "true"})
            return Request("PATCH", path_of(action.ref), orjson.dumps(manifest), APPLY_PATCH, params)
        case TakeFields(ref):
            body = orjson.dumps(action.patch)
            return Request("PATCH", path_of(ref), body, JSON_PATCH, FrozenMap(_MANAGER))
        case Delete(ref, uid, version, propagation):
            options = {
                "apiVersion": "v1",
                "kind": "DeleteOptions",
                "preconditions": {"uid": uid, "resourceVersion": version},
                "propagationPolicy": propagation,
            }
            return Request("DELETE", path_of(ref), orjson.dumps(options))
        case PatchStatus(ref, uid, version, status):
            patch = {"metadata": {"uid": uid, "resourceVersion": version}, "status": status}
            body = orjson.dumps(patch)
            return Request("PATCH", path_of(ref, "status"), body, MERGE_PATCH, FrozenMap(_MANAGER))
        case Read(ref):
            return Request("GET", path_of(ref))
        case Emit(regarding):
            body = orjson.dumps(event_manifest(action, event_name, instance, now_s))
            return Request("POST", RESOURCES["Event"].path(regarding.namespace), body)


def outcome_of(action: Action, answer: Answer, set_name: str, known: LeaderWorkerSet | None) -> Outcome:
    """What the machine hears of an answer. `known` is the set as it was last read."""
    if not answer.ok:
        return Outcome(answer.code, None, answer.message, answer.retry_after_s, answer.causes)
    if isinstance(action, Emit):
        return Outcome(answer.code)
    body = answer.json()
    if is_object(body, action.ref.kind):
        return Outcome(answer.code, read(body, set_name, known))
    if isinstance(action, Delete) and isinstance(body, dict):  # it may be answered by a Status
        return Outcome(answer.code)
    # As of a proxy that answers in the server's place: nobody knows what was done.
    return Outcome(0, None, "the answer makes no sense")
