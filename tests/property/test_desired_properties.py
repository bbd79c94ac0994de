from __future__ import annotations

from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from lws_core import names
from lws_core.admission import admit
from lws_core.codec import decode
from lws_core.desired.claims import volume_claims
from lws_core.desired.leader_statefulset import leader_statefulset, leader_template
from lws_core.desired.pod import stamped_pod
from lws_core.desired.pod_group import pod_group
from lws_core.desired.service import group_service, shared_service
from lws_core.desired.worker_statefulset import worker_statefulset
from lws_core.observed import Pod
from lws_core.options import Options
from lws_core.projection import pod as observed_pod
from lws_core.quantity import canonical_quantity
from lws_core.scaling import scaled_max_surge, scaled_max_unavailable, surge_count, unavailable_count
from lws_core.spec import LeaderWorkerSet
from lws_core.validation import validate_create
from lws_core.values import FrozenMap, Json, as_map, canonical, dig, freeze_map

COUNTS = st.integers(0, 6) | st.sampled_from(["0%", "10%", "25%", "100%"])
AMOUNTS = st.sampled_from(["1", "500m", "1Gi", "1e3", 2, "0"])
RESOURCES = st.dictionaries(
    st.sampled_from(["limits", "requests"]),
    st.dictionaries(st.sampled_from(["cpu", "memory", names.TPU_RESOURCE]), AMOUNTS),
)
CONTAINERS = st.lists(
    st.fixed_dictionaries({"name": st.just("main")}, optional={"resources": RESOURCES}),
    min_size=1,
    max_size=2,
)
# Not a group's index or key: a leader that has them keeps them, so a template must not give them.
WORDS = st.dictionaries(st.sampled_from(["app", names.SET_NAME, names.WORKER_INDEX]), st.just("x"))
TEMPLATES = st.fixed_dictionaries(
    {"spec": st.fixed_dictionaries({"containers": CONTAINERS}, optional={"initContainers": CONTAINERS})},
    optional={"metadata": st.fixed_dictionaries({}, optional={"labels": WORDS, "annotations": WORDS})},
)
CLAIMS = st.lists(
    st.fixed_dictionaries(
        {
            "metadata": st.fixed_dictionaries({"name": st.just("data")}),
            "spec": st.fixed_dictionaries({"accessModes": st.just(["ReadWriteOnce"])}),
        }
    ),
    max_size=1,
)
ANNOTATIONS = st.dictionaries(
    st.sampled_from([names.EXCLUSIVE_TOPOLOGY, names.LAST_APPLIED, names.VOLCANO_QUEUE]),
    st.sampled_from(["", "rack"]),
)


@st.composite
def manifests(draw: st.DrawFn) -> FrozenMap[Json]:
    parts: dict[str, Any] = {"size": draw(st.integers(1, 5)), "workerTemplate": draw(TEMPLATES)}
    optional = {
        "leaderTemplate": TEMPLATES,
        "volumeClaimTemplates": CLAIMS,
        "persistentVolumeClaimRetentionPolicy": st.sampled_from([{}, {"whenDeleted": "Delete"}]),
        "subGroupPolicy": st.fixed_dictionaries(
            {"subGroupSize": st.integers(1, 3)},
            optional={"subGroupPolicyType": st.sampled_from(["LeaderWorker", "LeaderExcluded"])},
        ),
    }
    for field, values in optional.items():
        if draw(st.booleans()):
            parts[field] = draw(values)
    annotations = draw(ANNOTATIONS)
    if "subGroupPolicy" in parts:
        annotations |= draw(st.sampled_from([{}, {names.SUBGROUP_EXCLUSIVE_TOPOLOGY: "rack"}]))
    rolling = {"maxUnavailable": draw(COUNTS), "maxSurge": draw(COUNTS), "partition": draw(st.integers(0, 6))}
    return freeze_map(
        {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": "s", "namespace": "ns", "uid": "u", "annotations": annotations},
            "spec": {
                "replicas": draw(st.integers(0, 5)),
                "leaderWorkerTemplate": parts,
                "rolloutStrategy": {"type": "RollingUpdate", "rollingUpdateConfiguration": rolling},
                "networkConfig": {"subdomainPolicy": draw(st.sampled_from(["Shared", "UniquePerReplica"]))},
                "startupPolicy": draw(st.sampled_from(["LeaderCreated", "LeaderReady"])),
            },
        }
    )


OPTIONS = st.builds(Options, gang_scheduling=st.booleans(), exclusive_across_namespaces=st.booleans())


@st.composite
def admitted_sets(draw: st.DrawFn) -> LeaderWorkerSet:
    manifest = draw(manifests())
    assume(validate_create(manifest).admitted)
    return decode(manifest)


def leaders(lws: LeaderWorkerSet) -> FrozenMap[Json]:
    return leader_statefulset(
        lws,
        revision_key="k",
        replicas=3,
        partition=0,
        template=leader_template(lws, "k"),
        claims=volume_claims(lws),
    )


def leader_of(manifest: FrozenMap[Json], ordinal: int, options: Options) -> tuple[FrozenMap[Json], Pod]:
    created = admit(stamped_pod(manifest, ordinal), options)
    metadata = as_map(created["metadata"]) | {"uid": f"uid-{ordinal}"}
    leader = observed_pod(created.with_("metadata", metadata), "s")
    assert leader is not None
    return created, leader


def selects(manifest: FrozenMap[Json], labels: Json, path: tuple[str, ...]) -> bool:
    selector = as_map(dig(manifest, *path))
    return bool(selector) and all(as_map(labels).get(key) == value for key, value in selector.items())


@given(admitted_sets())
def test_admitted_set_always_renders_leaders_that_the_api_takes(lws: LeaderWorkerSet) -> None:
    """Kubernetes' pkg/apis/apps/validation: the selector matches the template, maxUnavailable is not 0."""
    manifest = leaders(lws)
    assert selects(
        manifest, dig(manifest, "spec", "template", "metadata", "labels"), ("spec", "selector", "matchLabels")
    )
    budget = dig(manifest, "spec", "updateStrategy", "rollingUpdate", "maxUnavailable")
    assert isinstance(budget, int)
    assert budget >= 1
    assert budget >= unavailable_count(lws.spec) + (
        surge_count(lws.spec) if scaled_max_unavailable(lws.spec) else 0
    )
    assert canonical(manifest) == canonical(leaders(lws))


@given(admitted_sets(), OPTIONS)
def test_admitted_set_always_renders_groups_whose_pods_are_admitted(
    lws: LeaderWorkerSet, options: Options
) -> None:
    """Every pod finds its place, every Service and StatefulSet its pods, and only those."""
    others: list[Json] = []
    for ordinal in (2, 0):
        created, leader = leader_of(leaders(lws), ordinal, options)
        workers = worker_statefulset(lws, leader, topology_value="r1")
        assert dig(workers, "spec", "replicas") == lws.spec.leader_worker_template.size - 1
        service = group_service(lws, leader)
        for index in range(1, lws.spec.leader_worker_template.size):
            worker = admit(stamped_pod(workers, index), options)
            labels = dig(worker, "metadata", "labels")
            assert selects(workers, labels, ("spec", "selector", "matchLabels"))
            assert selects(shared_service(lws), labels, ("spec", "selector"))
            assert selects(service, labels, ("spec", "selector"))
            assert not any(selects(workers, other, ("spec", "selector", "matchLabels")) for other in others)
            assert dig(worker, "metadata", "name") == names.worker_name("s", ordinal, index)
            assert as_map(labels)[names.WORKER_INDEX] == str(index)
            if leader.exclusive_topology:
                assert dig(worker, "spec", "nodeSelector", "rack") == "r1"
        assert selects(service, dig(created, "metadata", "labels"), ("spec", "selector"))
        others.append(dig(created, "metadata", "labels"))


@given(admitted_sets(), OPTIONS)
def test_admitted_set_always_renders_gangs_of_real_amounts(lws: LeaderWorkerSet, options: Options) -> None:
    _, leader = leader_of(leaders(lws), 0, options)
    gang = pod_group(lws, leader)
    for amount in as_map(dig(gang, "spec", "minResources")).values():
        assert canonical_quantity(amount) == amount
    if options.gang_scheduling:
        assert dig(gang, "metadata", "name") == leader.pod_group_name


@given(admitted_sets())
def test_rollout_of_an_admitted_set_can_always_move(lws: LeaderWorkerSet) -> None:
    assert unavailable_count(lws.spec) + scaled_max_surge(lws.spec) >= 1
    assert 0 <= surge_count(lws.spec) <= lws.spec.replicas
