"""AdmissionReviews for tests: making them, and doing with the answer what an API server does with it."""

from __future__ import annotations

import base64
import json
from typing import Any

from lws_core import names
from lws_core.options import Options
from lws_core.values import Json, freeze, thaw
from lws_runtime.webhook.reviews import Reply, respond

MUTATE_SET = "/mutate-leaderworkerset-x-k8s-io-v1-leaderworkerset"
VALIDATE_SET = "/validate-leaderworkerset-x-k8s-io-v1-leaderworkerset"
MUTATE_POD = "/mutate--v1-pod"
VALIDATE_POD = "/validate--v1-pod"
PATHS = (MUTATE_SET, VALIDATE_SET, MUTATE_POD, VALIDATE_POD)


def request(path: str, *, operation: str = "CREATE", **fields: Any) -> dict[str, Any]:
    """A request such as is sent to `path`; `fields` replace or add to what it holds."""
    group, kind, resource = ("", "Pod", "pods")
    if path in (MUTATE_SET, VALIDATE_SET):
        group, kind, resource = names.GROUP, names.KIND, names.PLURAL
    return {
        "uid": "u-1",
        "kind": {"group": group, "version": "v1", "kind": kind},
        "resource": {"group": group, "version": "v1", "resource": resource},
        "name": "serve",
        "namespace": "default",
        "operation": operation,
        "userInfo": {"username": "somebody"},
        **fields,
    }


def review(path: str, **fields: Any) -> dict[str, Any]:
    """A whole review around `request`."""
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": request(path, **fields),
    }


def ask(path: str, *, options: Options = Options(), **fields: Any) -> dict[str, Any]:
    """The response to a review; `fields` as of `request`."""
    reply = respond(path, json.dumps(review(path, **fields)).encode(), options)
    assert reply.code == 200, reply
    return response_in(reply)


def response_in(reply: Reply) -> dict[str, Any]:
    """The response in a reply, checked as an API server checks it (VerifyAdmissionResponse)."""
    answered = json.loads(reply.body)
    assert (answered["apiVersion"], answered["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    response: dict[str, Any] = answered["response"]
    assert response["uid"]
    assert isinstance(response["allowed"], bool)
    assert ("patch" in response) == (response.get("patchType") == "JSONPatch")
    assert response["allowed"] or response["status"]["code"] >= 400
    assert response["allowed"] or response["status"]["message"]
    return response


def patched(found: Any, response: dict[str, Any]) -> Json:
    """An object with the response's patch applied (RFC 6902)."""
    value = thaw(freeze(found))
    for operation in json.loads(base64.b64decode(response.get("patch", ""), validate=True) or "[]"):
        value = _apply(value, operation)
    return freeze(value)


def _apply(value: Any, operation: dict[str, Any]) -> Any:
    if not operation["path"]:
        return operation["value"]
    *way, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    parent = value
    for part in way:
        parent = parent[int(part)] if isinstance(parent, list) else parent[part]
    at: Any = int(last) if isinstance(parent, list) else last
    match operation["op"]:
        case "add" if isinstance(parent, list):
            assert 0 <= at <= len(parent)
            parent.insert(at, operation["value"])
        case "add":
            parent[at] = operation["value"]
        case "replace":
            assert isinstance(parent, list) or at in parent
            parent[at] = operation["value"]
        case "remove":
            del parent[at]
        case other:
            raise AssertionError(other)
    return value


def denial(webhook: str, response: dict[str, Any]) -> str:
    """What a user reads of a denial, composed as an API server does (webhook/errors: ToStatusErr)."""
    return f'admission webhook "{webhook}" denied the request: {response["status"]["message"]}'
