"""From actions to requests, and from answers to outcomes."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from building import a_set

from lws_core import names
from lws_core.actions import Action, Apply, Create, Delete, Emit, Event, PatchStatus, Read, Ref, TakeFields
from lws_core.memory import Unreadable
from lws_core.observed import Pod
from lws_core.sights import Outcome
from lws_core.spec import LeaderWorkerSet
from lws_core.values import freeze_map, thaw
from lws_runtime.kube.client import Answer
from lws_runtime.kube.resources import RESOURCES, path_of
from lws_runtime.operator.metrics import resource_in
from lws_runtime.operator.requests import Request, outcome_of, request_of

POD = Ref("Pod", "default", "serve-0")
SET = Ref("LeaderWorkerSet", "default", "serve")
SETS = "/apis/leaderworkerset.x-k8s.io/v1/namespaces/default/leaderworkersets"
SERVICE = freeze_map(
    {"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "default", "name": "serve"}}
)


def request(action: Action) -> Request:
    return request_of(action, event_name="serve.run.1", instance="host", now_s=1_000_000.5)


def body_of(action: Action) -> Any:
    found = request(action).body
    assert found is not None
    return json.loads(found)


def test_creations_must_be_posts_under_the_field_manager() -> None:
    made = request(Create(SERVICE, "why"))
    assert (made.method, made.path) == ("POST", "/api/v1/namespaces/default/services")
    assert dict(made.params) == {"fieldManager": "lws"}
    assert body_of(Create(SERVICE, "why")) == thaw(SERVICE)


def test_revisions_must_have_the_bytes_that_go_would_write() -> None:
    """Or nobody could patch one later: its data must stay as they are, to the byte."""
    metadata = {"name": "serve-1", "namespace": "default"}
    data = {"b": "<", "a": {"d": 1, "c": "&"}}
    manifest = {"kind": "ControllerRevision", "apiVersion": "apps/v1", "metadata": metadata, "data": data}
    found = request(Create(freeze_map(manifest), "new")).body
    assert found is not None
    assert b'"data":{"a":{"c":"\\u0026","d":1},"b":"\\u003c"}' in found
    assert json.loads(found) == manifest


def test_applies_must_be_forced_and_of_json_that_is_yaml() -> None:
    made = request(Apply(SERVICE, "why"))
    assert (made.method, made.path) == ("PATCH", "/api/v1/namespaces/default/services/serve")
    assert dict(made.params) == {"fieldManager": "lws", "force": "true"}
    assert made.content_type == "application/apply-patch+yaml"


def test_fields_must_be_taken_by_a_json_patch() -> None:
    made = request(TakeFields(Ref("Service", "default", "serve"), "u", "7", 1, "why"))
    assert (made.method, made.content_type) == ("PATCH", "application/json-patch+json")
    assert made.body is not None
    tests = [operation for operation in json.loads(made.body) if operation["op"] == "test"]
    assert [operation["value"] for operation in tests] == ["u", "7"]


@pytest.mark.parametrize("propagation", ["Foreground", "Background", "Orphan"])
def test_deletions_must_carry_both_preconditions(propagation: Any) -> None:
    action = Delete(POD, "u", "7", propagation, "why")
    assert (request(action).method, request(action).path) == (
        "DELETE",
        "/api/v1/namespaces/default/pods/serve-0",
    )
    assert body_of(action) == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "preconditions": {"uid": "u", "resourceVersion": "7"},
        "propagationPolicy": propagation,
    }


def test_status_must_be_merged_into_the_subresource_with_both_preconditions() -> None:
    action = PatchStatus(SET, "u", "7", freeze_map({"replicas": 3}), "why")
    made = request(action)
    assert (made.method, made.path) == ("PATCH", f"{SETS}/serve/status")
    assert made.content_type == "application/merge-patch+json"
    assert body_of(action) == {"metadata": {"uid": "u", "resourceVersion": "7"}, "status": {"replicas": 3}}


def test_reads_must_be_of_the_newest_state() -> None:
    made = request(Read(POD, "why"))
    assert (made.method, made.path, dict(made.params), made.body) == ("GET", path_of(POD), {}, None)
    assert request(Read(Ref("Node", "", "n"), "why")).path == "/api/v1/nodes/n"


def test_events_must_have_a_name_of_their_own_in_the_sets_namespace() -> None:
    action = Emit(SET, "u", Event("Warning", "Failed", "Create", "note"))
    made = request(action)
    assert (made.method, made.path) == ("POST", "/apis/events.k8s.io/v1/namespaces/default/events")
    told = body_of(action)
    assert told["metadata"]["name"] == "serve.run.1"
    assert (told["reason"], told["regarding"]["uid"], told["reportingInstance"]) == ("Failed", "u", "host")


def ok(obj: dict[str, Any], code: int = 200) -> Answer:
    return Answer(code, orjson.dumps(obj))


def pod(**metadata: Any) -> dict[str, Any]:
    labels = {names.SET_NAME: "serve", names.GROUP_INDEX: "0", names.WORKER_INDEX: "0"}
    known = {"namespace": "default", "name": "serve-0", "uid": "u", "resourceVersion": "9", "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {**known, **metadata}, "spec": {}, "status": {}}


def test_answers_must_hold_the_object_as_the_machine_knows_it() -> None:
    outcome = outcome_of(Delete(POD, "u", "7", "Foreground", "why"), ok(pod()), "serve", None)
    assert outcome.ok
    assert isinstance(outcome.thing, Pod)
    stored = thaw(a_set(metadata={"namespace": "default", "uid": "u", "resourceVersion": "9"}))
    outcome = outcome_of(PatchStatus(SET, "u", "7", freeze_map({}), "why"), ok(stored), "serve", None)
    assert isinstance(outcome.thing, LeaderWorkerSet | Unreadable)


def test_deletion_that_is_answered_by_a_status_must_count_as_done() -> None:
    status = {"kind": "Status", "status": "Success"}
    outcome = outcome_of(Delete(POD, "u", "7", "Foreground", "why"), ok(status), "serve", None)
    assert (outcome.code, outcome.thing) == (200, None)


@pytest.mark.parametrize(
    "action",
    [
        Create(SERVICE, "why"),
        Apply(SERVICE, "why"),
        Delete(POD, "u", "7", "Foreground", "why"),
        PatchStatus(SET, "u", "7", freeze_map({}), "why"),
        Read(POD, "why"),
    ],
    ids=lambda action: type(action).__name__,
)
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"kind":"Pod"', b'"Pod"'], ids=str)
def test_answer_that_is_no_object_must_leave_open_what_was_done(action: Action, body: bytes) -> None:
    """As of a proxy that answers with a page of its own."""
    assert outcome_of(action, Answer(200, body), "serve", None) == Outcome(
        0, None, "the answer makes no sense"
    )


@pytest.mark.parametrize(
    "change",
    [{"kind": "Status"}, {"metadata": None}, {"metadata": {"name": "serve-0"}}, {"metadata": {"name": 1}}],
    ids=str,
)
def test_answer_to_a_read_without_the_object_never_means_that_it_is_gone(change: dict[str, Any]) -> None:
    outcome = outcome_of(Read(POD, "why"), ok({**pod(), **change}), "serve", None)
    assert (outcome.code, outcome.thing) == (0, None)


def test_answer_to_an_event_never_matters_beyond_its_code() -> None:
    emit = Emit(SET, "u", Event("Warning", "Failed", "Create", "note"))
    assert outcome_of(emit, Answer(201, b"<html>"), "serve", None) == Outcome(201)


def test_refusals_must_keep_code_words_and_wait() -> None:
    answer = Answer(429, b'{"kind":"Status","message":"slow down"}', retry_after_s=3.0)
    outcome = outcome_of(Create(SERVICE, "why"), answer, "serve", None)
    assert (outcome.code, outcome.thing, outcome.message, outcome.retry_after_s) == (
        429,
        None,
        "slow down",
        3.0,
    )


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        ("/api/v1/pods", "pods"),
        ("/api/v1/namespaces/default/pods/serve-0", "pods"),
        ("/api/v1/namespaces/default/pods/pods", "pods"),
        ("/api/v1/namespaces/default", "namespaces"),
        ("/api/v1/nodes/n", "nodes"),
        (f"{SETS}/serve/status", "leaderworkersets/status"),
        ("/apis/leaderworkerset.x-k8s.io/v1", "/apis/leaderworkerset.x-k8s.io/v1"),
        ("/version", "/version"),
        ("/apis/coordination.k8s.io/v1/namespaces/lws-system/leases/x", "leases"),
        (
            "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/x",
            "mutatingwebhookconfigurations",
        ),
    ],
)
def test_paths_must_be_counted_by_what_they_are_about(path: str, resource: str) -> None:
    assert resource_in(path) == resource


def test_paths_must_name_namespace_object_and_subresource() -> None:
    nodes, sets = RESOURCES["Node"], RESOURCES["LeaderWorkerSet"]
    assert nodes.path("ignored", "n") == "/api/v1/nodes/n"
    assert sets.path("default", "serve", "status") == f"{SETS}/serve/status"
    assert sets.path() == "/apis/leaderworkerset.x-k8s.io/v1/leaderworkersets"
