from __future__ import annotations

from typing import Any

import pytest
from clusters import NOW_S, a_pod, a_statefulset, an_object, put

from lws_core import names
from lws_core.values import FrozenMap, Json, as_list, as_map, dig, freeze_map, thaw
from lws_sim.cluster import api
from lws_sim.cluster.store import Object, Store, key_of, meta, terminating, uid_of, with_meta, with_status

RULES = api.Rules()


def create(obj: Object, rules: api.Rules = RULES, store: Store | None = None) -> tuple[Store, Object]:
    store, answer = api.create(store or Store(), obj, "lws", rules, NOW_S)
    assert answer.code == 201
    assert answer.object is not None
    return store, answer.object


def patch_of(obj: Object, spec: dict[str, Any], **metadata: Any) -> Object:
    return freeze_map(
        {
            "apiVersion": "apps/v1",
            "kind": obj["kind"],
            "metadata": {"name": meta(obj)["name"], "namespace": "ns", **metadata},
            "spec": spec,
        }
    )


def apply(store: Store, patch: Object, manager: str = "lws", rules: api.Rules = RULES) -> api.Answer:
    return api.apply(store, patch, manager, rules, NOW_S)[1]


# -- create


def test_creating_what_is_there_is_always_a_conflict() -> None:
    store, pod = create(a_pod())
    again, answer = api.create(store, a_pod(phase="Failed"), "lws", RULES, NOW_S)
    assert (answer.code, answer.object, again) == (409, pod, store)
    assert not answer.ok


def test_created_statefulsets_are_always_completed() -> None:
    _, obj = create(a_statefulset().with_("spec", freeze_map({"template": {"spec": {"containers": [{}]}}})))
    spec = as_map(obj["spec"])
    assert spec["replicas"] == 1
    assert spec["podManagementPolicy"] == "OrderedReady"
    assert spec["revisionHistoryLimit"] == 10
    assert dig(spec, "updateStrategy", "rollingUpdate", "partition") == 0
    assert dig(spec, "template", "spec", "terminationGracePeriodSeconds") == 30
    (container,) = as_list(dig(spec, "template", "spec", "containers"))
    assert as_map(container)["imagePullPolicy"] == "Always"


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("img", "Always"),
        ("img:latest", "Always"),
        ("registry:5000/img", "Always"),
        ("img:1", "IfNotPresent"),
        ("img@sha256:abc", "IfNotPresent"),
    ],
)
def test_the_pull_policy_always_follows_the_tag(image: str, policy: str) -> None:
    _, obj = create(a_statefulset(image=image))
    (container,) = as_list(dig(obj, "spec", "template", "spec", "containers"))
    assert as_map(container)["imagePullPolicy"] == policy


def test_max_unavailable_is_dropped_unless_the_gate_is_on() -> None:
    asked = a_statefulset(max_unavailable=2)
    path = ("spec", "updateStrategy", "rollingUpdate", "maxUnavailable")
    assert dig(create(asked)[1], *path) is None
    assert dig(create(asked, api.Rules(gate=True))[1], *path) == 2


def test_max_unavailable_must_be_one_where_it_is_not_given_and_the_gate_is_on() -> None:
    path = ("spec", "updateStrategy", "rollingUpdate", "maxUnavailable")
    assert dig(create(a_statefulset(), api.Rules(gate=True))[1], *path) == 1
    assert dig(create(a_statefulset())[1], *path) is None


def test_pods_are_admitted_only_with_what_the_webhook_needs() -> None:
    labels = {names.SET_NAME: "serve", names.WORKER_INDEX: "0"}
    bare = a_pod("serve-1", metadata={"labels": labels})
    store, answer = api.create(Store(), bare, "lws", RULES, NOW_S)
    assert (answer.code, len(store.objects)) == (403, 0)
    assert "size annotation" in answer.message
    assert create(bare, api.Rules(webhook=False))[1]
    whole = a_pod("serve-1", metadata={"labels": labels, "annotations": {names.SIZE: "2"}})
    assert dig(create(whole)[1], "metadata", "labels", names.GROUP_INDEX) == "1"


# -- apply


def test_an_apply_without_a_uid_creates_what_is_missing() -> None:
    assert apply(Store(), a_statefulset()).code == 201


def test_an_apply_never_lands_on_another_object_than_the_one_observed() -> None:
    store, obj = create(a_statefulset())
    version = meta(obj)["resourceVersion"]
    assert apply(Store(), patch_of(obj, {}, uid=uid_of(obj))).code == 409
    other = apply(store, patch_of(obj, {}, uid="another"))
    assert other.code == 422
    assert "metadata.uid" in other.message
    assert "immutable" in other.message
    assert apply(store, patch_of(obj, {}, uid="another", resourceVersion="99")).code == 409
    assert apply(store, patch_of(obj, {}, uid=uid_of(obj), resourceVersion="99")).code == 409
    assert apply(store, patch_of(obj, {}, uid=uid_of(obj), resourceVersion=version)).code == 200


@pytest.mark.parametrize("field", ["serviceName", "selector", "podManagementPolicy", "volumeClaimTemplates"])
def test_some_fields_of_statefulsets_never_change(field: str) -> None:
    changed: dict[str, Json] = {
        "serviceName": "other",
        "selector": freeze_map({"matchLabels": {"app": "other"}}),
        "podManagementPolicy": "OrderedReady",
        "volumeClaimTemplates": (freeze_map({"metadata": {"name": "more"}}),),
    }
    store, obj = create(a_statefulset(claims=["data"]))
    answer = apply(store, patch_of(obj, {field: changed[field]}))
    assert answer.code == 422
    assert "Forbidden: updates to statefulset spec" in answer.message
    same = {field: thaw(dig(obj, "spec", field))}
    assert apply(store, patch_of(obj, same)).code == 200


def test_an_apply_that_changes_nothing_never_makes_a_version() -> None:
    store, obj = create(a_statefulset())
    store, answer = api.apply(store, patch_of(obj, {"replicas": 3}), "lws", RULES, NOW_S)
    version = store.version
    store, answer = api.apply(store, patch_of(obj, {"replicas": 3}), "lws", RULES, NOW_S)
    assert (answer.code, store.version) == (200, version)


def test_the_generation_rises_only_with_the_spec() -> None:
    store, obj = create(a_statefulset())
    labelled = apply(store, patch_of(obj, {}, labels={"a": "b"})).object
    scaled = apply(store, patch_of(obj, {"replicas": 4})).object
    assert labelled is not None
    assert scaled is not None
    assert (meta(labelled)["generation"], meta(scaled)["generation"]) == (1, 2)
    store, answer = api.patch_status(store, key_of(obj), "", "", freeze_map({"replicas": 1}))
    assert answer.object is not None
    assert meta(answer.object)["generation"] == 1


# -- managed fields: a POST, then applies


def test_an_apply_never_takes_what_a_post_wrote_until_the_fields_are_taken_over() -> None:
    store, obj = create(with_meta(a_statefulset(), labels=freeze_map({"keep": "1", "drop": "1"})))
    smaller = with_meta(a_statefulset(), labels=freeze_map({"keep": "1"}))
    store, answer = api.apply(store, smaller, "lws", RULES, NOW_S)
    assert answer.object is not None
    assert dig(answer.object, "metadata", "labels", "drop") == "1"

    version = str(meta(answer.object)["resourceVersion"])
    entries = [as_map(entry) for entry in as_list(meta(answer.object)["managedFields"])]
    posted = [entry["operation"] for entry in entries].index("Update")
    store, taken = api.json_patch_managed(store, key_of(obj), uid_of(obj), version, posted)
    assert taken.code == 200
    store, answer = api.apply(store, smaller, "lws", RULES, NOW_S)
    assert answer.object is not None
    assert dig(answer.object, "metadata", "labels") == freeze_map({"keep": "1"})


def test_taking_over_fields_is_always_refused_on_another_version() -> None:
    store, obj = create(a_statefulset())
    key, uid, version = key_of(obj), uid_of(obj), str(meta(obj)["resourceVersion"])
    for arguments in ((uid, "99", 0), ("another", version, 0), (uid, version, 1)):
        after, answer = api.json_patch_managed(store, key, *arguments)
        assert (answer.code, after) == (422, store)
    assert api.json_patch_managed(Store(), key, uid, version, 0)[1].code == 404


# -- status


def test_status_is_patched_only_on_the_version_asked_for() -> None:
    store, obj = create(a_statefulset())
    status = freeze_map({"replicas": 1})
    key = key_of(obj)
    assert api.patch_status(store, key, "another", "", status)[1].code == 409
    assert api.patch_status(store, key, uid_of(obj), "99", status)[1].code == 409
    assert api.patch_status(Store(), key, "", "", status)[1].code == 404
    store, answer = api.patch_status(store, key, uid_of(obj), str(meta(obj)["resourceVersion"]), status)
    assert answer.object is not None
    assert answer.object["status"] == status
    _, answer = api.patch_status(store, key, "", "", freeze_map({"readyReplicas": 2}))
    assert answer.object is not None
    assert answer.object["status"] == freeze_map({"replicas": 1, "readyReplicas": 2})


# -- delete


def deleted(obj: Object, **options: Any) -> Object | None:
    """What is left of an object after its deletion was asked for."""
    store, stored = put(Store(), obj)
    after, answer = api.delete(store, key_of(stored), NOW_S, **options)
    assert answer.code == 200
    return after.objects.get(key_of(stored))


def test_deletes_carry_their_preconditions() -> None:
    store, pod = put(Store(), a_pod(node="n"))
    key = key_of(pod)
    assert api.delete(store, key, NOW_S, uid="another")[1].code == 409
    assert api.delete(store, key, NOW_S, uid=uid_of(pod), version="99")[1].code == 409
    assert api.delete(Store(), key, NOW_S)[1].code == 404
    assert api.delete(store, key, NOW_S, uid=uid_of(pod), version="1")[1].code == 200


@pytest.mark.parametrize(
    ("pod", "grace_s"),
    [
        (a_pod(node="n"), 30),
        (a_pod(node="n", terminationGracePeriodSeconds=3), 3),
        (a_pod(node="n", terminationGracePeriodSeconds=0), 0),
        (a_pod(), 0),
        (a_pod(node="n", phase="Failed"), 0),
        (a_pod(node="n", phase="Succeeded"), 0),
    ],
)
def test_pods_are_always_deleted_after_their_grace_period(pod: Object, grace_s: int) -> None:
    left = deleted(pod)
    if grace_s == 0:
        assert left is None
    else:
        assert left is not None
        assert meta(left)["deletionGracePeriodSeconds"] == grace_s
        assert meta(left)["deletionTimestamp"] == f"2027-01-15T08:00:{grace_s:02}Z"
        assert meta(left)["generation"] == 2


def test_anything_but_a_pod_goes_at_once() -> None:
    assert deleted(a_statefulset()) is None


@pytest.mark.parametrize(
    ("propagation", "finalizer"), [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")]
)
def test_propagation_always_stands_in_a_finalizer(propagation: str, finalizer: str) -> None:
    for obj in (a_statefulset(), a_pod(), a_pod(node="n")):
        left = deleted(obj, propagation=propagation)
        assert left is not None
        assert terminating(left)
        assert as_list(meta(left)["finalizers"]) == (finalizer,)
        assert meta(left)["generation"] == 2


def test_the_last_propagation_always_holds_for_what_has_no_grace_period() -> None:
    store, obj = put(Store(), a_statefulset())
    store, _ = api.delete(store, key_of(obj), NOW_S, propagation="Foreground")
    waiting = store.objects.get(key_of(obj))
    store, _ = api.delete(store, key_of(obj), NOW_S + 5, propagation="Orphan")
    orphaning = store.objects.get(key_of(obj))
    assert waiting is not None
    assert orphaning is not None
    assert meta(orphaning)["finalizers"] == ("orphan",)
    assert meta(orphaning)["deletionTimestamp"] == meta(waiting)["deletionTimestamp"]
    assert meta(orphaning)["generation"] == 2
    store, _ = api.delete(store, key_of(obj), NOW_S + 5, propagation="Background")
    assert store.objects.get(key_of(obj)) is None


def test_an_ending_pod_never_changes_by_another_delete() -> None:
    store, pod = put(Store(), a_pod(node="n"))
    store, _ = api.delete(store, key_of(pod), NOW_S)
    for options in ({}, {"propagation": "Foreground"}, {"grace_s": 30}, {"grace_s": 60}):
        again, answer = api.delete(store, key_of(pod), NOW_S + 5, **options)  # type: ignore[arg-type]
        assert (answer.code, again) == (200, store)
    failed, _ = store.replace(
        store.objects.get(key_of(pod)) or pod,
        with_status(store.objects.get(key_of(pod)) or pod, phase="Failed"),
    )
    assert api.delete(failed, key_of(pod), NOW_S)[0] is failed


def test_a_grace_period_can_only_be_shortened_from_when_it_began() -> None:
    store, pod = put(Store(), a_pod(node="n"))
    store, _ = api.delete(store, key_of(pod), NOW_S)
    store, _ = api.delete(store, key_of(pod), NOW_S + 5, grace_s=10)
    shorter = store.objects.get(key_of(pod))
    assert shorter is not None
    assert meta(shorter)["deletionTimestamp"] == "2027-01-15T08:00:10Z"
    assert meta(shorter)["deletionGracePeriodSeconds"] == 10
    assert meta(shorter)["generation"] == 2
    late, _ = api.delete(store, key_of(pod), NOW_S + 9, grace_s=2)
    left = late.objects.get(key_of(pod))
    assert left is not None
    assert meta(left)["deletionTimestamp"] == "2027-01-15T08:00:09Z"
    gone, _ = api.delete(store, key_of(pod), NOW_S + 5, grace_s=0)
    assert gone.objects.get(key_of(pod)) is None


def test_a_pod_goes_once_its_containers_and_its_finalizers_have() -> None:
    store, pod = put(Store(), a_pod(node="n"))
    store, answer = api.delete(store, key_of(pod), NOW_S, propagation="Foreground")
    assert answer.object is not None
    running = api.remove_finalizer(store, answer.object, api.FOREGROUND)
    assert running.objects.get(key_of(pod)) is not None
    assert (
        api.finish_pod(running, running.objects.get(key_of(pod)) or pod, NOW_S + 5).objects.get(key_of(pod))
        is None
    )
    ended = api.finish_pod(store, answer.object, NOW_S + 5)
    kept = ended.objects.get(key_of(pod))
    assert kept is not None
    assert meta(kept)["deletionGracePeriodSeconds"] == 0
    assert meta(kept)["deletionTimestamp"] == "2027-01-15T08:00:05Z"
    assert api.remove_finalizer(ended, kept, api.FOREGROUND).objects.get(key_of(pod)) is None


def test_foreign_finalizers_always_keep_an_object() -> None:
    store, obj = put(Store(), an_object("Service", "s", {"finalizers": ["example.com/mine"]}))
    store, _ = api.delete(store, key_of(obj), NOW_S)
    left = store.objects.get(key_of(obj))
    assert left is not None
    assert terminating(left)
    assert meta(left)["finalizers"] == ("example.com/mine",)
    assert api.remove_finalizer(store, left, "example.com/mine").objects.get(key_of(obj)) is None
    living = with_meta(obj, deletionTimestamp=None)
    still = api.remove_finalizer(put(Store(), living)[0], living, "example.com/mine")
    assert still.objects.get(key_of(obj)) is not None


def test_services_are_always_completed() -> None:
    _, obj = create(an_object("Service", "s", spec={"clusterIP": "None"}))
    assert as_map(obj["spec"]) == FrozenMap(
        {
            "type": "ClusterIP",
            "sessionAffinity": "None",
            "internalTrafficPolicy": "Cluster",
            "clusterIP": "None",
        }
    )
