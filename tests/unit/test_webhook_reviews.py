"""Answers to AdmissionReviews: patches, verdicts, and whatever is none of either."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hostile import nested
from reviewing import (
    MUTATE_POD,
    MUTATE_SET,
    PATHS,
    VALIDATE_POD,
    VALIDATE_SET,
    ask,
    denial,
    patched,
    request,
    review,
)

from lws_core import names
from lws_core.admission import admit
from lws_core.defaulting import apply_defaults
from lws_core.options import Options
from lws_core.values import FrozenMap, Json, freeze, freeze_map
from lws_runtime.webhook import reviews
from lws_runtime.webhook.reviews import ENDPOINTS, MAX_DEPTH, MAX_VALUES, respond

SET: dict[str, Any] = {
    "apiVersion": names.API_VERSION,
    "kind": names.KIND,
    "metadata": {"name": "serve", "namespace": "default"},
    "spec": {
        "replicas": 2,
        "leaderWorkerTemplate": {
            "size": 4,
            "workerTemplate": {"spec": {"containers": [{"name": "main", "image": "img:1"}]}},
        },
    },
}

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "serve-0",
        "namespace": "default",
        "labels": {names.SET_NAME: "serve", names.WORKER_INDEX: "0", names.REVISION_KEY: "k"},
        "annotations": {names.SIZE: "4"},
    },
    "spec": {"subdomain": "serve", "containers": [{"name": "main", "image": "img:1"}]},
}


def a_set(**spec: Any) -> dict[str, Any]:
    return {**SET, "spec": {**SET["spec"], **spec}}


def frozen(value: Any) -> FrozenMap[Json]:
    return freeze_map(value)


# -- sets


def test_set_must_be_patched_to_what_defaulting_gives() -> None:
    response = ask(MUTATE_SET, object=SET)
    assert response["allowed"]
    assert patched(SET, response) == apply_defaults(frozen(SET))
    assert "status" not in response


@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
def test_set_with_every_default_must_get_no_patch(operation: str) -> None:
    full = json.loads(json.dumps(apply_defaults(frozen(SET))))
    response = ask(MUTATE_SET, operation=operation, object=full, oldObject=full)
    assert response == {"uid": "u-1", "allowed": True}


def test_valid_set_must_be_allowed() -> None:
    assert ask(VALIDATE_SET, object=SET) == {"uid": "u-1", "allowed": True}
    assert ask(VALIDATE_SET, operation="UPDATE", object=a_set(replicas=3), oldObject=SET)["allowed"]


def test_denial_must_read_as_the_go_controller_s() -> None:
    response = ask(VALIDATE_SET, object=a_set(replicas=-1))
    assert response["status"] == {
        "status": "Failure",
        "reason": "Forbidden",
        "code": 403,
        "message": "spec.replicas: Invalid value: -1: replicas must be equal or greater than 0",
    }
    assert denial("vleaderworkerset.kb.io", response) == (
        'admission webhook "vleaderworkerset.kb.io" denied the request: '
        "spec.replicas: Invalid value: -1: replicas must be equal or greater than 0"
    )


def test_denial_must_name_every_fault() -> None:
    bad = a_set(replicas=-1, rolloutStrategy={"rollingUpdateConfiguration": {"partition": -1}})
    message = ask(VALIDATE_SET, object=bad)["status"]["message"]
    assert message == (
        "[spec.replicas: Invalid value: -1: replicas must be equal or greater than 0, "
        "spec.rolloutStrategy.rollingUpdateConfiguration.partition: Invalid value: -1: "
        "must be greater than or equal to 0]"
    )


def test_update_must_be_judged_against_the_old_set() -> None:
    subgroup = {"subGroupSize": 2, "subGroupPolicyType": "LeaderWorker"}
    template = {**SET["spec"]["leaderWorkerTemplate"], "subGroupPolicy": subgroup}
    response = ask(
        VALIDATE_SET, operation="UPDATE", object=a_set(leaderWorkerTemplate=template), oldObject=SET
    )
    assert response["status"]["message"].endswith(
        "cannot enable subGroupSize after the lws is already created"
    )


def test_what_only_warns_must_be_a_warning() -> None:
    budget = {"rollingUpdateConfiguration": {"maxUnavailable": "25%", "maxSurge": "0%"}}
    stored = a_set(replicas=3, rolloutStrategy=budget)
    response = ask(VALIDATE_SET, operation="UPDATE", object=stored, oldObject=stored)
    assert response["allowed"]
    [warning] = response["warnings"]
    assert "as if maxUnavailable were 1" in warning
    assert not ask(VALIDATE_SET, object=stored)["allowed"]


def test_set_that_is_being_deleted_always_may_lose_its_finalizers() -> None:
    """Whatever is wrong with it: it was stored while no webhook served, without the webhook's defaults."""
    wrong = a_set(replicas=-1, leaderWorkerTemplate={"size": 0, "restartPolicy": "Default"})
    gone = {**SET["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
    old = {**wrong, "metadata": {**gone, "finalizers": ["example.com/hold"]}}
    new = json.loads(json.dumps(apply_defaults(frozen({**wrong, "metadata": gone}))))
    assert ask(VALIDATE_SET, operation="UPDATE", object=new, oldObject=old)["allowed"]
    still = {**old, "metadata": SET["metadata"]}
    assert not ask(VALIDATE_SET, operation="UPDATE", object=still, oldObject=still)["allowed"]
    changed = {**new, "spec": {**new["spec"], "replicas": -2}}
    assert not ask(VALIDATE_SET, operation="UPDATE", object=changed, oldObject=old)["allowed"]


# -- pods


def test_pod_must_be_patched_to_what_admission_gives() -> None:
    response = ask(MUTATE_POD, object=POD)
    assert patched(POD, response) == admit(frozen(POD), Options())
    admitted = json.loads(json.dumps(admit(frozen(POD), Options())))
    assert ask(MUTATE_POD, object=admitted) == {"uid": "u-1", "allowed": True}


def test_pod_must_be_admitted_by_the_options_of_the_installation() -> None:
    options = Options(gang_scheduling=True)
    found = patched(POD, ask(MUTATE_POD, object=POD, options=options))
    assert found == admit(frozen(POD), options) != admit(frozen(POD), Options())


def test_pod_that_cannot_have_its_place_must_be_denied() -> None:
    pod = {**POD, "metadata": {**POD["metadata"], "annotations": {}}}
    response = ask(MUTATE_POD, object=pod)
    assert denial("mpod.kb.io", response) == (
        'admission webhook "mpod.kb.io" denied the request: '
        "size annotation is unexpectedly missing for pod serve-0"
    )
    assert response["status"]["code"] == 403


def test_pod_of_no_set_must_be_left_alone() -> None:
    assert ask(MUTATE_POD, object={"metadata": {"name": "x"}}) == {"uid": "u-1", "allowed": True}


def test_pod_must_not_be_changed_after_its_creation() -> None:
    assert ask(MUTATE_POD, operation="UPDATE", object=POD, oldObject=POD) == {"uid": "u-1", "allowed": True}


@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
def test_pod_must_always_be_valid(operation: str) -> None:
    assert ask(VALIDATE_POD, operation=operation, object={}, oldObject={})["allowed"]


# -- what is not judged


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("operation", ["DELETE", "CONNECT"])
def test_deletion_must_always_be_allowed(path: str, operation: str) -> None:
    assert ask(path, operation=operation, object=None) == {"uid": "u-1", "allowed": True}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "fields",
    [
        {"kind": {"group": "apps", "version": "v1", "kind": "StatefulSet"}},
        {"kind": {"group": names.GROUP, "version": "v2", "kind": names.KIND}},
        {"kind": {"group": [], "version": "v1", "kind": "Pod"}},
        {"kind": None},
        {"resource": {"group": "", "version": "v1", "resource": "nodes"}},
        {"resource": "pods"},
        {"subResource": "status"},
    ],
)
@pytest.mark.parametrize("operation", ["CREATE", "DELETE"])
def test_review_of_something_else_must_be_denied(path: str, operation: str, fields: dict[str, Any]) -> None:
    found = SET if path in (MUTATE_SET, VALIDATE_SET) else POD
    response = ask(path, operation=operation, object=found, **fields)
    assert not response["allowed"]
    assert response["status"]["code"] == 400
    assert response["status"]["message"].startswith("request.")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("missing", [None, [], "x", 5])
def test_review_without_an_object_must_be_denied(path: str, missing: Any) -> None:
    response = ask(path, object=missing)
    assert (response["allowed"], response["status"]["code"]) == (False, 400)


def test_update_without_the_old_set_must_be_denied() -> None:
    response = ask(VALIDATE_SET, operation="UPDATE", object=SET, oldObject=None)
    assert response["status"]["message"] == "request.oldObject must be an object"


# -- what is no review


def spoiled(**fields: Any) -> bytes:
    return json.dumps({**review(MUTATE_SET, object=SET), **fields}).encode()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "not JSON"),
        (b"not json", "not JSON"),
        (b'{"kind": ', "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"a": NaN}', "not JSON"),
        (b'"\\ud800"', "not JSON"),
        (b"[]", "not an AdmissionReview"),
        (b"null", "not an AdmissionReview"),
        (b"{}", "kind must be AdmissionReview"),
        (spoiled(kind="Pod"), "kind must be AdmissionReview"),
        (spoiled(apiVersion="admission.k8s.io/v1beta1"), "apiVersion must be admission.k8s.io/v1"),
        (spoiled(request=None), "holds no request"),
        (spoiled(request=[]), "holds no request"),
        (spoiled(request=request(MUTATE_SET, uid="")), "request.uid"),
        (spoiled(request=request(MUTATE_SET, uid=7)), "request.uid"),
        (spoiled(request=request(MUTATE_SET, operation="create")), "request.operation"),
        (spoiled(request=request(MUTATE_SET, operation=["CREATE"])), "request.operation"),
        (b"[" * 100_000, "not JSON"),
        (
            spoiled(request=request(MUTATE_SET, userInfo=nested(MAX_DEPTH + 1, in_lists=False))),
            f"more than {MAX_DEPTH} levels",
        ),
        (b"[" + b"0," * MAX_VALUES + b"0]", f"more than {MAX_VALUES} values"),
    ],
)
def test_what_is_no_review_must_get_status_400(body: bytes, told: str) -> None:
    for path in PATHS:
        reply = respond(path, body, Options())
        assert (reply.code, reply.allowed, reply.failure) == (400, False, None)
        status = json.loads(reply.body)
        assert (status["apiVersion"], status["kind"], status["code"]) == ("v1", "Status", 400)
        assert told in status["message"]
        assert len(reply.body) < 300


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("field", ["object", "oldObject"])
def test_object_nested_too_deep_must_be_denied(path: str, field: str) -> None:
    objects = {"object": SET, "oldObject": SET, field: {"spec": nested(MAX_DEPTH, in_lists=False)}}
    response = ask(path, operation="UPDATE", **objects)
    assert (response["allowed"], response["status"]["code"]) == (False, 422)
    assert response["status"]["message"] == "the object is nested more than 100 levels deep"
    assert ask(path, operation="DELETE", **objects)["allowed"]


def test_unknown_path_must_get_status_404() -> None:
    assert respond("/", spoiled(), Options()).code == 404
    assert respond(f"{MUTATE_SET}/", spoiled(), Options()).code == 404


@pytest.mark.parametrize("path", PATHS)
def test_error_of_our_own_must_be_a_denial(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a secret")

    endpoint = ENDPOINTS[path]
    monkeypatch.setitem(
        reviews.ENDPOINTS,
        path,
        type(endpoint)(endpoint.group, endpoint.kind, endpoint.resource, fail),  # type: ignore[arg-type]
    )
    reply = respond(path, json.dumps(review(path, object=SET)).encode(), Options())
    assert isinstance(reply.failure, RuntimeError)
    assert not reply.allowed
    response = json.loads(reply.body)["response"]
    assert (response["allowed"], response["status"]["code"]) == (False, 500)
    assert b"secret" not in reply.body


def test_what_is_told_of_a_request_never_breaks_a_line() -> None:
    body = json.dumps(review(VALIDATE_SET, object={}, name="a\nb\x1b[31m" + "x" * 10_000)).encode()
    about = respond(VALIDATE_SET, body, Options()).about
    assert about.startswith("CREATE of LeaderWorkerSet default/a?b?[31mxxx")
    assert len(about) < 500


def test_large_review_must_be_answered() -> None:
    labels = {f"key-{index}": "x" * 60 for index in range(20_000)}
    big = {**SET, "metadata": {**SET["metadata"], "annotations": labels}}
    response = ask(VALIDATE_SET, operation="UPDATE", object=big, oldObject=big)
    assert not response["allowed"]  # annotations of that size are refused
    assert patched(big, ask(MUTATE_SET, object=big)) == apply_defaults(frozen(big))


@pytest.mark.parametrize(
    "metadata",
    [
        {"finalizers": [f"_{index}" for index in range(50_000)]},
        {"labels": {f"{index}{'_' * 10_000}": "" for index in range(50)}},
        {"ownerReferences": [{"kind": "x" * 1_000_000, "controller": True}, *[{"controller": True}] * 200]},
    ],
)
def test_denial_must_be_short_whatever_is_wrong(metadata: dict[str, Any]) -> None:
    bad = {**SET, "metadata": {**SET["metadata"], **metadata}}
    body = json.dumps(review(VALIDATE_SET, object=bad)).encode()
    reply = respond(VALIDATE_SET, body, Options())
    assert not reply.allowed
    assert len(reply.body) < 100_000


def test_warnings_must_be_few_and_short() -> None:
    claims = [{"metadata": {"name": f"_{'x' * 2000}"}} for _ in range(200)]
    template = {**SET["spec"]["leaderWorkerTemplate"], "volumeClaimTemplates": claims}
    bad = a_set(leaderWorkerTemplate=template)
    response = ask(VALIDATE_SET, operation="UPDATE", object=bad, oldObject=bad)
    assert len(response["warnings"]) == 100
    assert max(len(warning) for warning in response["warnings"]) < 1100


def test_patch_must_escape_keys() -> None:
    pod = {**POD, "metadata": {**POD["metadata"], "labels": {**POD["metadata"]["labels"], "a/b~c": "d"}}}
    assert patched(pod, ask(MUTATE_POD, object=pod)) == freeze(admit(frozen(pod), Options()))
