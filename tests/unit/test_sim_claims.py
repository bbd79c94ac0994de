from __future__ import annotations

import pytest
from clusters import NOW_S, Cluster, a_pod, a_statefulset, owned_by

from lws_core.values import as_list, as_map, dig, freeze_map
from lws_sim.cluster import api, gc
from lws_sim.cluster.store import Store, key_of, meta, name_of, owners, uid_of, with_meta

POLICIES = [(deleted, scaled) for deleted in ("Retain", "Delete") for scaled in ("Retain", "Delete")]


def running(deleted: str, scaled: str, replicas: int = 2) -> Cluster:
    cluster = Cluster()
    cluster.put(a_statefulset(replicas=replicas, claims=["data"], retention=(deleted, scaled)))
    cluster.settle()
    return cluster


def scale(cluster: Cluster, replicas: int, deleted: str, scaled: str) -> None:
    cluster.put(a_statefulset(replicas=replicas, claims=["data"], retention=(deleted, scaled)))


def owners_of(cluster: Cluster, ordinal: int) -> list[str]:
    """The owners of a pod's claim, by kind."""
    claim = cluster.store.get("PersistentVolumeClaim", "ns", f"data-web-{ordinal}")
    assert claim is not None
    return [str(reference["kind"]) for reference in owners(claim)]


def test_each_pod_always_gets_its_claims_with_the_selectors_labels() -> None:
    cluster = running("Retain", "Retain")
    claims = cluster.store.all("PersistentVolumeClaim")
    assert [name_of(claim) for claim in claims] == ["data-web-0", "data-web-1"]
    assert meta(claims[0])["labels"] == freeze_map({"app": "web"})
    assert dig(claims[0], "spec", "volumeMode") == "Filesystem"


@pytest.mark.parametrize(("deleted", "scaled"), POLICIES)
def test_claims_always_belong_to_whom_they_are_to_go_with(deleted: str, scaled: str) -> None:
    cluster = running(deleted, scaled)
    of_set = ["StatefulSet"] if deleted == "Delete" else []
    assert owners_of(cluster, 0) == owners_of(cluster, 1) == of_set
    scale(cluster, 1, deleted, scaled)
    cluster.sync()
    assert owners_of(cluster, 0) == of_set
    assert owners_of(cluster, 1) == (["Pod"] if scaled == "Delete" else of_set)


@pytest.mark.parametrize(("deleted", "scaled"), POLICIES)
def test_claims_always_go_back_when_the_scale_does_before_the_pod_is_gone(deleted: str, scaled: str) -> None:
    cluster = running(deleted, scaled)
    before = owners_of(cluster, 1)
    scale(cluster, 1, deleted, scaled)
    cluster.sync()
    scale(cluster, 2, deleted, scaled)
    cluster.sync()
    assert owners_of(cluster, 1) == before


def test_claims_always_follow_a_changed_policy() -> None:
    cluster = running("Retain", "Retain")
    scale(cluster, 2, "Delete", "Retain")
    cluster.sync()
    assert owners_of(cluster, 0) == ["StatefulSet"]
    scale(cluster, 2, "Retain", "Retain")
    cluster.sync()
    assert owners_of(cluster, 0) == []


def test_a_pod_never_starts_on_a_claim_that_goes_with_an_earlier_one() -> None:
    cluster = running("Retain", "Delete")
    scale(cluster, 1, "Retain", "Delete")
    cluster.sync()
    old = cluster.pod(1)
    cluster.end(1)
    scale(cluster, 2, "Retain", "Delete")
    assert cluster.sync()
    assert sorted(cluster.pods) == [0]
    cluster.store = gc.after_deletion(cluster.store, old, NOW_S)
    assert cluster.store.get("PersistentVolumeClaim", "ns", "data-web-1") is None
    assert cluster.sync()
    assert sorted(cluster.pods) == [0, 1]
    assert owners_of(cluster, 1) == []


def test_claims_of_a_stranger_are_never_taken() -> None:
    cluster = running("Delete", "Retain")
    claim = cluster.store.get("PersistentVolumeClaim", "ns", "data-web-0")
    assert claim is not None
    stranger = owned_by(with_meta(a_pod("stranger"), uid="x"))
    mine = owned_by(cluster.obj)
    cluster.store, _ = cluster.store.replace(
        claim, with_meta(claim, ownerReferences=freeze_map({"x": [stranger, mine]})["x"])
    )
    cluster.sync()
    assert owners_of(cluster, 0) == ["Pod"]


def test_claims_that_an_earlier_statefulset_has_are_never_touched() -> None:
    cluster = running("Delete", "Retain")
    old = uid_of(cluster.obj)
    cluster.store = cluster.store.remove(cluster.obj)
    for name in ("web-0", "web-1"):
        cluster.store = cluster.store.remove(cluster.store.get("Pod", "ns", name) or a_pod())
    scale(cluster, 2, "Delete", "Retain")
    cluster.sync()
    claim = cluster.store.get("PersistentVolumeClaim", "ns", "data-web-0")
    assert claim is not None
    assert [reference["uid"] for reference in owners(claim)] == [old]


def test_a_pending_pods_missing_claim_is_always_made_again() -> None:
    cluster = Cluster()
    scale(cluster, 1, "Retain", "Retain")
    cluster.sync()
    claim = cluster.store.get("PersistentVolumeClaim", "ns", "data-web-0")
    assert claim is not None
    cluster.store = cluster.store.remove(claim)
    cluster.sync()
    assert cluster.store.get("PersistentVolumeClaim", "ns", "data-web-0") is not None


def test_claims_always_go_with_the_statefulset_that_has_them() -> None:
    for deleted, left in (("Delete", 0), ("Retain", 2)):
        cluster = running(deleted, "Retain")
        gone = cluster.obj
        cluster.store, _ = api.delete(cluster.store, key_of(gone), NOW_S)
        cluster.store = gc.after_deletion(cluster.store, gone, NOW_S)
        assert len(cluster.store.all("PersistentVolumeClaim")) == left


def test_a_claim_template_must_say_what_it_is() -> None:
    _, answer = api.create(Store(), a_statefulset(claims=["data"]), "user", api.Rules(), 0.0)
    assert answer.object is not None
    (claim,) = as_list(dig(answer.object, "spec", "volumeClaimTemplates"))
    assert (as_map(claim)["apiVersion"], as_map(claim)["kind"]) == ("v1", "PersistentVolumeClaim")
