"""Answers to AdmissionReviews (admission.k8s.io/v1), as functions of the review alone.

Flow: path and body -> review -> verdict -> reply. The verdicts are lws_core's (`admit`, `apply_defaults`,
`validate_create`, `validate_update`); here they become what an API server understands. It composes a
denial's text itself, from the webhook's name and the message given here (apiserver:
pkg/admission/plugin/webhook/errors).

Guarantees: whatever bytes come, there is a reply. What is no review gets status 400; a review that is about
something else, holds no object or one nested too deep, or makes the code fail is denied. Nothing is allowed
that was not judged.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Final

import attrs
import orjson

from lws_core import names
from lws_core.admission import Denied, admit
from lws_core.defaulting import apply_defaults
from lws_core.errors import join
from lws_core.jsonpatch import json_patch
from lws_core.options import Options
from lws_core.validation import validate_create, validate_update
from lws_core.values import FrozenMap, Json, as_map, freeze_decoded

API_VERSION: Final = "admission.k8s.io/v1"
KIND: Final = "AdmissionReview"
MAX_DEPTH: Final = 100
"""Levels of nesting that an object under review may have; one of the API has some 20. An API server asks
about deeper ones too, as it asks before it looks at the types of fields."""

MAX_VALUES: Final = 400_000
"""Values that a review may hold; decoded they take up to half a kilobyte each."""

_LONGEST_TOLD: Final = 400
_LONGEST_MESSAGE: Final = 2**16
_LONGEST_WARNING: Final = 2**10
_MAX_WARNINGS: Final = 100
_OPERATIONS: Final = ("CREATE", "UPDATE", "DELETE", "CONNECT")
_JUDGED: Final = ("CREATE", "UPDATE")
_OBJECTS: Final = ("object", "oldObject")


class Malformed(ValueError):
    """Why something is no AdmissionReview that can be answered."""


@attrs.frozen
class Reply:
    """What to answer over HTTP. code: the status; body: a review, or for an error a Status.

    about: what was asked, in words for a log, on one line and without what the object holds.
    failure: the exception behind a denial that is our own fault.
    """

    code: int
    body: bytes
    content_type: str = "application/json"
    about: str = ""
    allowed: bool = False
    failure: Exception | None = None


@attrs.frozen
class _Verdict:
    """What becomes of an object: `patched` where it is changed, a denial's message and code, warnings."""

    patched: FrozenMap[Json] | None = None
    message: str = ""
    code: int = 0
    reason: str = ""
    warnings: tuple[str, ...] = ()


@attrs.frozen
class _Request:
    """The parts of a review's request that answers depend on; too_deep: without its objects."""

    uid: str
    operation: str
    what: str
    request: FrozenMap[Json]
    too_deep: bool = False

    def object(self, field: str = "object") -> FrozenMap[Json] | None:
        found = self.request.get(field)
        return found if isinstance(found, FrozenMap) else None


Judge = Callable[[_Request, FrozenMap[Json], Options], _Verdict]


@attrs.frozen
class _Endpoint:
    """What one path is for: the kind and the resource of its objects, and who judges them."""

    group: str
    kind: str
    resource: str
    judge: Judge


def respond(path: str, body: bytes, options: Options) -> Reply:
    """The reply to a POST of `body` at `path`. Never raises. Cost: 0.1 to 0.5 ms for objects of usual
    size."""
    endpoint = ENDPOINTS.get(path)
    if endpoint is None:
        return _refusal(404, "there is no webhook at this path")
    try:
        request = _request(body)
    except Malformed as problem:
        return _refusal(400, str(problem))
    about = f"{request.operation} of {request.what}"
    failure = None
    try:
        verdict = _judged(endpoint, request, options)
        response = _response(request, verdict)
    except Exception as problem:  # whatever it is: the object was not judged, so it must not pass
        failure = problem
        verdict = _denied("internal error; the operator's log says more", 500, "InternalError")
        response = _response(request, verdict)
    review = {"apiVersion": API_VERSION, "kind": KIND, "response": response}
    return Reply(200, orjson.dumps(review), about=about, allowed=not verdict.code, failure=failure)


def _refusal(code: int, text: str) -> Reply:
    # A Status, as API servers hand on the message of nothing else (client-go: rest/request.go).
    status = {"apiVersion": "v1", "kind": "Status", **_failure(text, code, "BadRequest")}
    return Reply(code, orjson.dumps(status))


# -- reading a review


def _request(body: bytes) -> _Request:
    """The request in a review. Raises Malformed."""
    review = _decoded(body)
    for field, wanted in (("kind", KIND), ("apiVersion", API_VERSION)):
        if review.get(field) != wanted:
            raise Malformed(f"{field} must be {wanted}")
    found = review.get("request")
    if not isinstance(found, dict):
        raise Malformed("the review holds no request")
    request, too_deep = _frozen_request(found)
    uid, operation = request.get("uid"), request.get("operation")
    if not isinstance(uid, str) or not uid:
        raise Malformed("request.uid must be a text")
    if operation not in _OPERATIONS:
        raise Malformed(f"request.operation must be one of {', '.join(_OPERATIONS)}")
    return _Request(uid, str(operation), _what(request), request, too_deep)


def _decoded(body: bytes) -> dict[str, object]:
    if body.count(b",") + body.count(b"{") + body.count(b"[") > MAX_VALUES:
        raise Malformed(f"the body holds more than {MAX_VALUES} values")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as problem:
        raise Malformed(f"the body is not JSON: {problem}") from None
    if not isinstance(value, dict):
        raise Malformed(f"the body is not an {KIND} but a JSON value of another type")
    return value


def _frozen_request(request: dict[str, object]) -> tuple[FrozenMap[Json], bool]:
    """A request as immutable values, and whether it is so without its objects, which are nested too deep."""
    try:
        return FrozenMap({key: freeze_decoded(item, MAX_DEPTH) for key, item in request.items()}), False
    except RecursionError:
        pass
    about = {key: item for key, item in request.items() if key not in _OBJECTS}
    try:
        return FrozenMap({key: freeze_decoded(item, MAX_DEPTH) for key, item in about.items()}), True
    except RecursionError:
        raise Malformed(f"the request is nested more than {MAX_DEPTH} levels deep") from None


def _what(request: FrozenMap[Json]) -> str:
    """What a request is about, for people: `LeaderWorkerSet ns/name`."""
    kind = _word(as_map(request.get("kind")).get("kind")) or "an object"
    metadata = as_map(as_map(request.get("object")).get("metadata"))
    name = _word(request.get("name")) or _word(metadata.get("name")) or _word(metadata.get("generateName"))
    told = f"{kind} {_word(request.get('namespace'))}/{name}"
    return "".join(c if c.isprintable() else "?" for c in told[:_LONGEST_TOLD])


def _word(value: Json) -> str:
    return value if isinstance(value, str) else ""


# -- judging what it is about


def _judged(endpoint: _Endpoint, request: _Request, options: Options) -> _Verdict:
    if misplaced := _misplaced(endpoint, request):
        return _denied(misplaced, 400, "BadRequest")
    if request.operation not in _JUDGED:
        return _Verdict()
    if request.too_deep:
        return _denied(f"the object is nested more than {MAX_DEPTH} levels deep", 422, "Invalid")
    found = request.object()
    if found is None:
        return _denied("request.object must be an object", 400, "BadRequest")
    return endpoint.judge(request, found, options)


def _misplaced(endpoint: _Endpoint, request: _Request) -> str:
    """Why a request is not for this path, or ""."""
    for field, last, wanted in (
        ("kind", "kind", endpoint.kind),
        ("resource", "resource", endpoint.resource),
    ):
        found = as_map(request.request.get(field))
        if (found.get("group", ""), found.get("version"), found.get(last)) != (
            endpoint.group,
            "v1",
            wanted,
        ):
            return f"request.{field} must be {'/'.join(filter(None, (endpoint.group, 'v1', wanted)))}"
    if request.request.get("subResource"):
        return "request.subResource must be empty"
    return ""


def _default_set(_: _Request, found: FrozenMap[Json], __: Options) -> _Verdict:
    return _Verdict(patched=apply_defaults(found))


def _validate_set(request: _Request, found: FrozenMap[Json], _: Options) -> _Verdict:
    if request.operation == "CREATE":
        verdict = validate_create(found)
    else:
        old = request.object("oldObject")
        if old is None:
            return _denied("request.oldObject must be an object", 400, "BadRequest")
        if _only_leaves(found, old):
            return _Verdict()
        verdict = validate_update(found, old)
    warnings = tuple([_cut(text, _LONGEST_WARNING) for text in verdict.warnings[:_MAX_WARNINGS]])
    if verdict.errors:
        return attrs.evolve(_denied(join(verdict.errors), 403, "Forbidden"), warnings=warnings)
    return _Verdict(warnings=warnings)


def _only_leaves(found: FrozenMap[Json], old: FrozenMap[Json]) -> bool:
    """Whether a set is being deleted and keeps its spec, as when a finalizer is taken from it: one that was
    stored while no webhook served, whatever is wrong with it, must be able to go."""
    leaves = as_map(found.get("metadata")).get("deletionTimestamp") is not None
    return leaves and apply_defaults(found).get("spec") == apply_defaults(old).get("spec")


def _admit_pod(request: _Request, found: FrozenMap[Json], options: Options) -> _Verdict:
    if request.operation != "CREATE":
        return _Verdict()
    try:
        return _Verdict(patched=admit(found, options))
    except Denied as denied:
        return _denied(str(denied), 403, "Forbidden")


def _allow_pod(_: _Request, __: FrozenMap[Json], ___: Options) -> _Verdict:
    """Nothing about a pod is validated; the path is there for registrations that name it."""
    return _Verdict()


ENDPOINTS: Final = {
    "/mutate-leaderworkerset-x-k8s-io-v1-leaderworkerset": _Endpoint(
        names.GROUP, names.KIND, names.PLURAL, _default_set
    ),
    "/validate-leaderworkerset-x-k8s-io-v1-leaderworkerset": _Endpoint(
        names.GROUP, names.KIND, names.PLURAL, _validate_set
    ),
    "/mutate--v1-pod": _Endpoint("", "Pod", "pods", _admit_pod),
    "/validate--v1-pod": _Endpoint("", "Pod", "pods", _allow_pod),
}
"""What is served at each path; the webhook configurations name these."""


# -- writing a response


def _denied(message: str, code: int, reason: str) -> _Verdict:
    return _Verdict(message=_cut(message, _LONGEST_MESSAGE), code=code, reason=reason)


def _cut(text: str, longest: int) -> str:
    """A text that may quote the object, in bounds."""
    return text if len(text) <= longest else f"{text[:longest]}..."


def _failure(message: str, code: int, reason: str) -> dict[str, object]:
    """A Status of the API, without its kind."""
    return {"status": "Failure", "message": message, "reason": reason, "code": code}


def _response(request: _Request, verdict: _Verdict) -> dict[str, object]:
    response: dict[str, object] = {"uid": request.uid, "allowed": not verdict.code}
    if verdict.code:
        response["status"] = _failure(verdict.message, verdict.code, verdict.reason)
    if verdict.patched is not None:
        patch = json_patch(request.object(), verdict.patched)
        if patch:
            response["patchType"] = "JSONPatch"
            response["patch"] = base64.b64encode(orjson.dumps(patch)).decode()
    if verdict.warnings:
        response["warnings"] = verdict.warnings
    return response
