"""What is rendered, against what a real controller of this API rendered from the same sets."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import recorded
from recorded import STATES, State, differences, label, state

from lws_core import codec, names
from lws_core.desired.claims import volume_claims
from lws_core.desired.leader_statefulset import leader_statefulset, leader_template
from lws_core.desired.pod import stamped_pod
from lws_core.desired.pod_group import pod_group
from lws_core.desired.service import group_service, shared_service
from lws_core.desired.worker_statefulset import worker_statefulset
from lws_core.observed import Pod
from lws_core.spec import LeaderWorkerSet
from lws_core.values import FrozenMap, Json, as_map, dig, freeze_map

GROUPS = [
    pytest.param(name, index, id=f"{name}-{index}")
    for name in STATES
    for index in range(len(state(name).worker_statefulsets))
]


def rendered_leader(recording: State) -> FrozenMap[Json]:
    found = recording.leader_statefulset
    key = str(label(found, names.REVISION_KEY))
    lws = recording.lws
    partition = dig(found, "spec", "updateStrategy", "rollingUpdate", "partition")
    replicas = dig(found, "spec", "replicas")
    assert isinstance(partition, int)
    assert isinstance(replicas, int)
    return leader_statefulset(
        lws,
        revision_key=key,
        replicas=replicas,
        partition=partition,
        template=leader_template(lws, key),
        claims=volume_claims(lws),
    )


def topology_value(recording: State, leader: Pod) -> str | None:
    """The recorded nodes are not kept; what their label said is what the recorded workers are bound to."""
    if not leader.exclusive_topology:
        return None
    workers = recording.named("StatefulSet", leader.name)
    value = dig(workers, "spec", "template", "spec", "nodeSelector", leader.exclusive_topology)
    assert isinstance(value, str)
    return value


@pytest.mark.parametrize("name", STATES)
def test_leader_statefulset_always_is_what_the_original_controller_applied(name: str) -> None:
    recording = state(name)
    found = recording.leader_statefulset
    rendered = rendered_leader(recording)
    # With its feature gate off the API server drops maxUnavailable, which both controllers send.
    dropped = "/spec/updateStrategy/rollingUpdate/maxUnavailable"
    assert [line for line in differences(rendered, found) if not line.startswith(dropped)] == []


@pytest.mark.parametrize("name", STATES)
def test_leader_statefulset_always_names_the_fields_that_the_original_controller_owns(name: str) -> None:
    recording = state(name)
    managed = dig(recording.leader_statefulset, "metadata", "managedFields")
    assert isinstance(managed, tuple)
    (entry,) = (as_map(item) for item in managed if dig(item, "manager") == names.FIELD_MANAGER)
    assert entry["operation"] == "Apply"
    owned = _paths(as_map(entry["fieldsV1"]))
    rendered = rendered_leader(recording)
    missing = [path for path in owned if not _has(rendered, path)]
    assert missing == []


def _paths(fields: FrozenMap[Json], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The owned fields, down to lists, whose items are named by keys of their own."""
    paths = []
    for key, inner in fields.items():
        if key.startswith("f:"):
            step = (*path, key[2:])
            paths += [step, *_paths(as_map(inner), step)]
    return paths


def _has(value: Json, path: tuple[str, ...]) -> bool:
    return not path or (isinstance(value, FrozenMap) and path[0] in value and _has(value[path[0]], path[1:]))


@pytest.mark.parametrize(("name", "index"), GROUPS)
def test_worker_statefulset_always_is_what_the_original_controller_created(name: str, index: int) -> None:
    recording = state(name)
    found = recording.worker_statefulsets[index]
    leader = recording.leader(dig(found, "metadata", "name"))
    cur = recording.at_revision(leader.revision_key)
    rendered = worker_statefulset(cur, leader, topology_value=topology_value(recording, leader))
    assert differences(rendered, found) == []
    # Annotations and labels of templates decide over restarts, so nothing may be missing there either.
    assert (
        differences(dig(found, "spec", "template", "metadata"), dig(rendered, "spec", "template", "metadata"))
        == []
    )


@pytest.mark.parametrize("name", STATES)
def test_service_always_is_what_the_original_controller_created(name: str) -> None:
    recording = state(name)
    lws = recording.lws
    for found in recording.of("Service"):
        if recorded.owner_kind(found) == names.KIND:
            rendered = shared_service(lws)
        else:
            rendered = group_service(lws, recording.leader(dig(found, "metadata", "name")))
        assert differences(rendered, found) == []
        assert dig(rendered, "spec", "selector") == dig(found, "spec", "selector")


def a_set(**spec: Any) -> LeaderWorkerSet:
    template = {"spec": {"containers": [{"name": "main", "image": "img"}]}}
    parts = {"size": 3, "workerTemplate": template, **spec.pop("leaderWorkerTemplate", {})}
    metadata = {"name": "s", "namespace": "ns", "uid": "u", **spec.pop("metadata", {})}
    return codec.decode(
        freeze_map(
            {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "metadata": metadata,
                "spec": {"leaderWorkerTemplate": parts, **spec},
            }
        )
    )


def a_leader(**fields: Any) -> Pod:
    pod = Pod(
        name="s-1", uid="p", resource_version="1", owner=None, group_index=1, worker_index=0,
        revision_key="k", group_key="g",
    )  # fmt: skip
    return attrs.evolve(pod, **fields)


def rendered_with(lws: LeaderWorkerSet) -> FrozenMap[Json]:
    return leader_statefulset(
        lws,
        revision_key="k",
        replicas=2,
        partition=1,
        template=leader_template(lws, "k"),
        claims=volume_claims(lws),
    )


def test_leaders_always_are_made_from_their_own_template() -> None:
    own = {"spec": {"containers": [{"name": "leader"}]}}
    lws = a_set(leaderWorkerTemplate={"leaderTemplate": own})
    assert leader_template(lws, "k")["spec"] == freeze_map(own["spec"])
    workers = worker_statefulset(lws, a_leader(), topology_value=None)
    assert dig(workers, "spec", "template", "spec") == freeze_map(
        {"containers": [{"name": "main", "image": "img"}]}
    )
    assert dig(leader_template(a_set(), "k"), "spec") == dig(workers, "spec", "template", "spec")


def test_stamped_pod_claim_always_stands_in_for_a_volume_of_its_name() -> None:
    volumes = [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]
    template = {"spec": {"containers": [], "volumes": volumes}}
    claims = [{"metadata": {"name": "data"}, "spec": {}}]
    lws = a_set(leaderWorkerTemplate={"workerTemplate": template, "volumeClaimTemplates": claims})
    assert (
        dig(stamped_pod(rendered_with(lws), 1), "spec", "volumes")
        == freeze_map(
            {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data-s-1"}}, volumes[1]]}
        )["volumes"]
    )


def test_statefulset_never_gets_what_kubectl_keeps_for_itself() -> None:
    lws = a_set(metadata={"annotations": {names.LAST_APPLIED: "{}", "team": "a"}})
    assert dig(rendered_with(lws), "metadata", "annotations") == {"team": "a", names.REPLICAS: "1"}
    workers = worker_statefulset(lws, a_leader(), topology_value=None)
    assert dig(workers, "metadata", "annotations") == {"team": "a"}


def test_statefulset_controller_labels_always_win_over_the_set_s() -> None:
    lws = a_set(metadata={"labels": {names.SET_NAME: "other", "app": "x"}})
    labels = dig(rendered_with(lws), "metadata", "labels")
    assert labels == {"app": "x", names.SET_NAME: "s", names.REVISION_KEY: "k"}


@pytest.mark.parametrize(
    ("replicas", "max_unavailable", "max_surge", "expected"),
    [
        (4, 1, 0, 1),
        (4, 0, 1, 1),
        (4, 2, 2, 4),
        (4, 2, 9, 6),
        (4, "25%", "30%", 3),
        (3, "25%", 0, 1),
        (0, 0, 0, 1),
        (4, 2147483647, 1, 2147483647),
    ],
)
def test_leader_statefulset_max_unavailable_always_allows_the_whole_budget(
    replicas: int, max_unavailable: int | str, max_surge: int | str, expected: int
) -> None:
    rolling = {"maxUnavailable": max_unavailable, "maxSurge": max_surge}
    lws = a_set(replicas=replicas, rolloutStrategy={"rollingUpdateConfiguration": rolling})
    assert dig(rendered_with(lws), "spec", "updateStrategy", "rollingUpdate", "maxUnavailable") == expected


def test_claim_never_loses_what_the_user_said_of_it() -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "selector": {"matchLabels": {"a": "b"}}, "volumeName": "v"}
    metadata = {"name": "data", "labels": {"l": "1"}, "annotations": {"a": "2"}}
    lws = a_set(
        leaderWorkerTemplate={"volumeClaimTemplates": [{"metadata": metadata, "spec": spec, "status": {}}]}
    )
    (claim,) = volume_claims(lws)
    assert claim == freeze_map(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {**metadata, "namespace": "ns"},
            "spec": spec,
        }
    )


def test_retention_policy_always_leaves_an_unset_field_to_the_api() -> None:
    lws = a_set(leaderWorkerTemplate={"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"}})
    assert dig(rendered_with(lws), "spec", "persistentVolumeClaimRetentionPolicy") == {
        "whenDeleted": "Delete"
    }
    assert "persistentVolumeClaimRetentionPolicy" not in as_map(rendered_with(a_set())["spec"])


def test_template_never_carries_an_empty_topology() -> None:
    empty = {names.EXCLUSIVE_TOPOLOGY: "", names.SUBGROUP_EXCLUSIVE_TOPOLOGY: ""}
    policy = {"subGroupPolicy": {"subGroupSize": 3}}
    lws = a_set(metadata={"annotations": empty}, leaderWorkerTemplate=policy)
    assert dig(leader_template(lws, "k"), "metadata", "annotations") == {
        names.SIZE: "3",
        names.SUBGROUP_SIZE: "3",
        names.SUBGROUP_POLICY_TYPE: "LeaderWorker",
    }


def test_workers_always_follow_the_topology_that_their_leader_was_made_with() -> None:
    lws = a_set(metadata={"annotations": {names.EXCLUSIVE_TOPOLOGY: "rack"}})
    held = worker_statefulset(lws, a_leader(exclusive_topology="zone"), topology_value="z1")
    assert dig(held, "spec", "template", "spec", "nodeSelector") == {"zone": "z1"}
    assert dig(held, "spec", "template", "metadata", "annotations", names.EXCLUSIVE_TOPOLOGY) == "zone"
    before = worker_statefulset(lws, a_leader(), topology_value=None)
    assert dig(before, "spec", "template", "spec", "nodeSelector") is None


def test_workers_never_are_rendered_for_a_domain_that_is_not_known() -> None:
    with pytest.raises(ValueError, match="the workers of s-1 need its node's label rack"):
        worker_statefulset(a_set(), a_leader(exclusive_topology="rack"), topology_value=None)


def test_workers_node_selector_always_keeps_the_user_s() -> None:
    template = {"spec": {"nodeSelector": {"gpu": "a"}, "containers": []}}
    lws = a_set(leaderWorkerTemplate={"workerTemplate": template})
    rendered = worker_statefulset(lws, a_leader(exclusive_topology="rack"), topology_value="r1")
    assert dig(rendered, "spec", "template", "spec", "nodeSelector") == {"gpu": "a", "rack": "r1"}


def test_workers_always_know_of_their_leader_s_tpus() -> None:
    asked = worker_statefulset(a_set(), a_leader(requests_tpus=True), topology_value=None)
    assert dig(asked, "spec", "template", "metadata", "annotations", names.LEADER_REQUESTS_TPUS) == "true"


def test_pod_group_always_asks_for_the_whole_group() -> None:
    main = {"name": "main", "resources": {"limits": {"nvidia.com/gpu": "8"}, "requests": {"cpu": "500m"}}}
    front = {"name": "front", "resources": {"requests": {"cpu": "2", "memory": "1Gi"}}}
    templates = {
        "leaderTemplate": {"spec": {"containers": [front]}},
        "workerTemplate": {"spec": {"containers": [main]}},
    }
    annotations = {names.VOLCANO_QUEUE: "q", "volcano.sh/x": "1", "other": "2"}
    lws = a_set(metadata={"annotations": annotations}, leaderWorkerTemplate=templates)
    rendered = pod_group(lws, a_leader())
    assert rendered["spec"] == freeze_map(
        {
            "minMember": 3,
            "minResources": {"cpu": "3", "memory": "1Gi", "nvidia.com/gpu": "16"},
            "queue": "q",
        }
    )
    assert dig(rendered, "metadata", "name") == "s-1-k"
    assert dig(rendered, "metadata", "annotations") == {"volcano.sh/x": "1"}
    assert dig(rendered, "metadata", "labels") == {
        names.SET_NAME: "s",
        names.GROUP_INDEX: "1",
        names.REVISION_KEY: "k",
    }


def test_pod_group_never_waits_for_workers_that_wait_for_the_leader() -> None:
    lws = a_set(startupPolicy="LeaderReady")
    assert dig(pod_group(lws, a_leader()), "spec", "minMember") == 1


def test_pod_group_always_is_the_one_that_the_pods_name() -> None:
    assert dig(pod_group(a_set(), a_leader(pod_group_name="given")), "metadata", "name") == "given"
