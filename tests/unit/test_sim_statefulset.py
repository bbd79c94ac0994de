"""The StatefulSet controller, against pkg/controller/statefulset of Kubernetes 1.36."""

from __future__ import annotations

import pytest
from clusters import NOW_S, Cluster, a_pod, a_statefulset, image_of, revision_of

from lws_core.values import as_list, dig, freeze_map
from lws_sim.cluster import api, kubelet
from lws_sim.cluster.statefulset import pods_of, sync
from lws_sim.cluster.store import controller_uid, key_of, meta, name_of, terminating, uid_of, with_meta


def running(*, gate: bool = False, **fields: object) -> Cluster:
    """A cluster whose StatefulSet is at rest."""
    cluster = Cluster(rules=api.Rules(gate=gate))
    cluster.put(a_statefulset(**fields))  # type: ignore[arg-type]
    cluster.settle()
    return cluster


# -- pods and their ordinals


def test_all_pods_are_created_and_deleted_at_once() -> None:
    cluster = Cluster()
    cluster.put(a_statefulset(replicas=4))
    assert cluster.sync()
    assert sorted(cluster.pods) == [0, 1, 2, 3]
    cluster.start_all()
    cluster.put(a_statefulset(replicas=1))
    assert cluster.sync()
    assert [terminating(cluster.pod(ordinal)) for ordinal in range(4)] == [False, True, True, True]


def test_ordinals_always_begin_at_their_start() -> None:
    cluster = running(replicas=2, start=1)
    assert sorted(cluster.pods) == [1, 2]
    cluster.put(a_statefulset(replicas=2, start=0))
    cluster.settle()
    assert sorted(cluster.pods) == [0, 1]


def test_pods_always_carry_the_identity_that_their_controller_gives_them() -> None:
    pod = running(replicas=2).pod(1)
    labels = meta(pod)["labels"]
    assert labels == freeze_map(
        {
            "app": "web",
            "controller-revision-hash": revision_of(pod),
            "statefulset.kubernetes.io/pod-name": "web-1",
            "apps.kubernetes.io/pod-index": "1",
        }
    )
    assert (dig(pod, "spec", "hostname"), dig(pod, "spec", "subdomain")) == ("web-1", "web")


def test_a_terminating_statefulset_never_touches_a_pod() -> None:
    cluster = running(replicas=2)
    cluster.store, _ = api.delete(cluster.store, key_of(cluster.obj), NOW_S, propagation="Foreground")
    cluster.put(a_statefulset(replicas=4))
    assert cluster.sync()
    assert sorted(cluster.pods) == [0, 1]
    assert cluster.status["observedGeneration"] == meta(cluster.obj)["generation"]


def test_a_missing_statefulset_is_never_an_error() -> None:
    cluster = running()
    assert sync(cluster.store, "ns", "other", cluster.rules, NOW_S).store is cluster.store


def test_finished_pods_are_always_replaced() -> None:
    cluster = running(replicas=2)
    old = uid_of(cluster.pod(1))
    cluster.store = kubelet.fail(cluster.store, cluster.pod(1), "Evicted", NOW_S)
    assert cluster.sync()
    assert sorted(cluster.pods) == [0]
    assert cluster.sync()
    assert uid_of(cluster.pod(1)) != old


def test_a_terminating_pod_is_never_replaced_before_it_is_gone() -> None:
    cluster = running(replicas=1)
    cluster.store, _ = api.delete(cluster.store, key_of(cluster.pod(0)), NOW_S)
    old = cluster.pod(0)
    assert cluster.sync()
    assert cluster.pod(0) == old
    cluster.end(0)
    assert cluster.sync()
    assert uid_of(cluster.pod(0)) != uid_of(old)


# -- creation that fails


def test_after_a_failed_batch_the_rest_always_waits() -> None:
    """Batches of 1, 2, 4 and so on: what is beside the failure is created, what comes after is not."""
    cluster = Cluster()
    cluster.store, _ = api.create(cluster.store, a_pod("web-1"), "user", cluster.rules, NOW_S)
    cluster.put(a_statefulset(replicas=7))
    assert not cluster.sync()
    assert sorted(cluster.pods) == [0, 2]
    cluster.store = cluster.store.remove(cluster.store.objects.get("Pod/ns/web-1") or a_pod())
    assert cluster.sync()
    assert sorted(cluster.pods) == [0, 1, 2, 3, 4, 5, 6]


def test_a_failed_sync_never_deletes_but_always_reports() -> None:
    cluster = running(replicas=3)
    cluster.store = cluster.store.remove(cluster.pod(0))
    cluster.store, _ = api.create(cluster.store, a_pod("web-0"), "user", cluster.rules, NOW_S)
    cluster.put(a_statefulset(replicas=2, image="img:2"))
    assert not cluster.sync()
    assert cluster.images == {1: "img:1", 2: "img:1"}
    assert cluster.status["observedGeneration"] == 2
    assert cluster.status["replicas"] == 2


def test_orphans_are_adopted_only_if_the_selector_means_them() -> None:
    cluster = running(replicas=2)
    old = dict(cluster.pods)
    for pod in old.values():
        cluster.store, _ = cluster.store.replace(pod, with_meta(pod, ownerReferences=None))
    stranger = cluster.store.objects.get("Pod/ns/web-1") or a_pod()
    other = with_meta(stranger, labels=freeze_map({"app": "other"}))
    cluster.store, _ = cluster.store.replace(stranger, other)
    assert not cluster.sync()
    assert sorted(cluster.pods) == [0]
    assert controller_uid(cluster.pod(0)) == uid_of(cluster.obj)
    assert uid_of(cluster.pod(0)) == uid_of(old[0])


# -- rolling updates


def test_with_the_gate_off_one_pod_is_replaced_at_a_time_from_the_top() -> None:
    cluster = running(replicas=3)
    cluster.put(a_statefulset(replicas=3, image="img:2"))
    assert cluster.sync()
    assert cluster.images == {0: "img:1", 1: "img:1", 2: "-img:1"}
    cluster.end(2)
    cluster.sync()
    cluster.start_all()
    cluster.sync()
    assert cluster.images == {0: "img:1", 1: "img:1", 2: "img:2"}, "it waits for the new pod"
    cluster.ready(2)
    cluster.sync()
    assert cluster.images == {0: "img:1", 1: "-img:1", 2: "img:2"}


def test_with_the_gate_off_an_outdated_pod_goes_even_if_unready() -> None:
    cluster = running(replicas=3)
    cluster.ready(2, ready=False)
    cluster.put(a_statefulset(replicas=3, image="img:2"))
    cluster.sync()
    assert terminating(cluster.pod(2))


def test_with_the_gate_off_an_unready_pod_below_the_partition_never_matters() -> None:
    cluster = running(replicas=3)
    cluster.ready(0, ready=False)
    cluster.put(a_statefulset(replicas=3, image="img:2", partition=1))
    cluster.sync()
    assert cluster.images == {0: "img:1", 1: "img:1", 2: "-img:1"}


def test_pods_below_the_partition_are_never_replaced() -> None:
    cluster = running(replicas=3)
    cluster.put(a_statefulset(replicas=3, image="img:2", partition=2))
    cluster.settle()
    assert cluster.images == {0: "img:1", 1: "img:1", 2: "img:2"}
    cluster.put(a_statefulset(replicas=3, image="img:2", partition=5))
    cluster.settle()
    assert cluster.images == {0: "img:1", 1: "img:1", 2: "img:2"}, "nor is anything taken back"


@pytest.mark.parametrize(
    ("unready", "expected"),
    [
        ((), {0: "img:1", 1: "img:1", 2: "-img:1", 3: "-img:1"}),
        ((3,), {0: "img:1", 1: "img:1", 2: "img:1", 3: "-img:1"}),
        ((0,), {0: "img:1", 1: "img:1", 2: "img:1", 3: "-img:1"}),
        ((0, 1), {0: "img:1", 1: "img:1", 2: "img:1", 3: "img:1"}),
        ((2, 3), {0: "img:1", 1: "img:1", 2: "img:1", 3: "img:1"}),
    ],
)
def test_with_the_gate_on_unavailable_pods_of_all_ordinals_always_count(
    unready: tuple[int, ...], expected: dict[int, str]
) -> None:
    cluster = running(gate=True, replicas=4, max_unavailable=2)
    cluster.ready(*unready, ready=False)
    cluster.put(a_statefulset(replicas=4, image="img:2", max_unavailable=2, partition=1))
    cluster.sync()
    assert cluster.images == expected


def test_with_the_gate_on_without_a_number_one_pod_goes_at_a_time() -> None:
    cluster = running(gate=True, replicas=3)
    cluster.put(a_statefulset(replicas=3, image="img:2"))
    cluster.sync()
    assert cluster.images == {0: "img:1", 1: "img:1", 2: "-img:1"}


def test_a_finished_outdated_pod_always_counts_as_one_that_is_replaced() -> None:
    cluster = running(gate=True, replicas=3, max_unavailable=2)
    cluster.store = kubelet.fail(cluster.store, cluster.pod(2), "Evicted", NOW_S)
    cluster.put(a_statefulset(replicas=3, image="img:2", max_unavailable=2))
    cluster.sync()
    assert cluster.images == {0: "img:1", 1: "img:1"}
    cluster.sync()
    assert cluster.images == {0: "img:1", 1: "-img:1", 2: "img:2"}


# -- revisions


def revisions(cluster: Cluster) -> dict[str, int]:
    owned = cluster.store.owned_by(uid_of(cluster.obj))
    return {name_of(obj): int(str(obj["revision"])) for obj in owned if obj["kind"] == "ControllerRevision"}


def test_the_current_revision_moves_only_when_all_is_updated_and_ready() -> None:
    cluster = running(replicas=2)
    first = cluster.status["currentRevision"]
    cluster.put(a_statefulset(replicas=2, image="img:2"))
    cluster.sync()
    second = cluster.status["updateRevision"]
    assert cluster.status["currentRevision"] == first != second
    cluster.end(1)
    cluster.sync()
    cluster.start_all()
    cluster.ready(1)
    cluster.sync()
    cluster.end(0)
    cluster.sync()
    cluster.start_all()
    cluster.sync()
    assert cluster.status["updatedReplicas"] == 2
    assert cluster.status["currentRevision"] == first, "one is not ready"
    cluster.ready(0)
    cluster.sync()
    assert cluster.status["currentRevision"] == second
    assert cluster.status["currentReplicas"] == 2


def test_the_current_revision_never_moves_while_a_surplus_pod_is_there() -> None:
    cluster = running(replicas=3)
    cluster.ready(2, ready=False)
    first = cluster.status["currentRevision"]
    cluster.put(a_statefulset(replicas=2, image="img:2"))
    cluster.sync()
    assert cluster.images == {0: "img:1", 1: "-img:1", 2: "-img:1"}
    cluster.end(1)
    for _ in range(3):
        cluster.sync()
        cluster.start_all()
        cluster.ready(1)
    cluster.end(0)
    for _ in range(3):
        cluster.sync()
        cluster.start_all()
        cluster.ready(0)
    assert cluster.status["updatedReplicas"] == cluster.status["readyReplicas"] == 2
    assert (cluster.status["replicas"], cluster.status["currentRevision"]) == (3, first)
    cluster.end(2)
    cluster.sync()
    assert cluster.status["currentRevision"] != first


def test_below_the_partition_a_pod_can_come_back_two_templates_behind() -> None:
    cluster = running(replicas=3)
    cluster.put(a_statefulset(replicas=3, image="img:2", partition=1))
    cluster.settle()
    assert cluster.images == {0: "img:1", 1: "img:2", 2: "img:2"}
    cluster.put(a_statefulset(replicas=3, image="img:3", partition=3))
    cluster.settle()
    for ordinal in (0, 1, 2):
        cluster.store = cluster.store.remove(cluster.pod(ordinal))
    cluster.settle()
    assert cluster.images == {0: "img:1", 1: "img:1", 2: "img:1"}


def test_a_template_that_comes_back_always_raises_its_old_revision() -> None:
    cluster = running(replicas=1)
    first = str(cluster.status["updateRevision"])
    cluster.put(a_statefulset(replicas=1, image="img:2"))
    cluster.settle()
    cluster.put(a_statefulset(replicas=1, image="img:1"))
    cluster.settle()
    assert cluster.status["updateRevision"] == first
    assert sorted(revisions(cluster).values()) == [2, 3]
    assert revisions(cluster)[first] == 3


def test_a_restored_template_is_never_replaced_by_a_scale() -> None:
    cluster = running(replicas=2)
    before = revisions(cluster)
    cluster.put(a_statefulset(replicas=3))
    cluster.settle()
    assert revisions(cluster) == before


def test_history_is_always_kept_to_its_limit_and_never_loses_what_is_used() -> None:
    cluster = running(replicas=2, revisionHistoryLimit=2, partition=1)
    for number in range(2, 8):
        fields = {"revisionHistoryLimit": 2, "partition": 1}
        cluster.put(a_statefulset(replicas=2, image=f"img:{number}", **fields))
        cluster.settle()
    left = revisions(cluster)
    assert len(left) == 4, "two that are used and two more"
    assert {revision_of(pod) for pod in cluster.pods.values()} <= set(left)
    assert str(cluster.status["currentRevision"]) in left
    assert sorted(left.values()) == [1, 5, 6, 7]


def test_a_revision_left_by_an_earlier_statefulset_is_used_until_it_is_gone() -> None:
    cluster = running(replicas=1)
    (old,) = revisions(cluster)
    cluster.store = cluster.store.remove(cluster.obj)
    cluster.store = cluster.store.remove(cluster.store.get("Pod", "ns", "web-0") or a_pod())
    cluster.put(a_statefulset(replicas=1))
    cluster.sync()
    assert cluster.status["updateRevision"] == old
    assert revisions(cluster) == {}
    left = cluster.store.get("ControllerRevision", "ns", old)
    assert left is not None
    cluster.store = cluster.store.remove(left)
    cluster.sync()
    assert list(revisions(cluster)) == [old]


# -- status


def test_status_always_is_that_of_the_pods_that_a_sync_began_with() -> None:
    cluster = Cluster()
    cluster.put(a_statefulset(replicas=2))
    cluster.sync()
    assert cluster.status["replicas"] == 0
    cluster.sync()
    assert (cluster.status["replicas"], cluster.status["readyReplicas"]) == (2, 0)
    assert cluster.status["currentReplicas"] == cluster.status["updatedReplicas"] == 2
    cluster.start_all()
    cluster.ready(0)
    cluster.sync()
    assert (cluster.status["readyReplicas"], cluster.status["availableReplicas"]) == (1, 1)


def test_a_ready_pod_that_terminates_is_still_ready_and_available_but_of_no_revision() -> None:
    cluster = running(replicas=2)
    cluster.store, _ = api.delete(cluster.store, key_of(cluster.pod(1)), NOW_S)
    cluster.sync()
    status = cluster.status
    assert (status["replicas"], status["readyReplicas"], status["availableReplicas"]) == (2, 2, 2)
    assert (status["currentReplicas"], status["updatedReplicas"]) == (1, 1)


def test_status_always_takes_replaced_pods_from_the_current_ones() -> None:
    cluster = running(replicas=3)
    cluster.put(a_statefulset(replicas=3, image="img:2"))
    cluster.sync()
    assert (cluster.status["currentReplicas"], cluster.status["updatedReplicas"]) == (2, 0)


def test_a_sync_that_finds_nothing_to_do_never_writes() -> None:
    cluster = running(replicas=2)
    before = cluster.store
    assert cluster.sync()
    assert cluster.store.version == before.version


def test_volumes_of_claims_always_come_before_the_templates_own() -> None:
    cluster = Cluster()
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {
            "containers": [{"name": "main", "image": "img:1"}],
            "volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
        },
    }
    cluster.put(a_statefulset(replicas=1, claims=["data"], template=template))
    cluster.sync()
    pod = cluster.pod(0)
    assert image_of(pod) == "img:1"
    assert [dig(volume, "name") for volume in as_list(dig(pod, "spec", "volumes"))] == ["data", "tmp"]
    first = as_list(dig(pod, "spec", "volumes"))[0]
    assert dig(first, "persistentVolumeClaim", "claimName") == "data-web-0"
    assert pods_of(cluster.store, cluster.obj)[0] == pod
