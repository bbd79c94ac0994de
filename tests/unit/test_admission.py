from __future__ import annotations

from typing import Any

import pytest

from lws_core import names
from lws_core.admission import Denied, admit
from lws_core.options import Options
from lws_core.values import FrozenMap, Json, as_maps, dig, freeze_map

Pod = FrozenMap[Json]

LEADER = {names.SET_NAME: "s", names.WORKER_INDEX: "0", names.REVISION_KEY: "k"}
WORKER = {names.SET_NAME: "s", names.GROUP_INDEX: "1", names.GROUP_KEY: "gk", names.REVISION_KEY: "k"}


def a_pod(name: str, labels: dict[str, Any], annotations: dict[str, Any], **spec: Any) -> Pod:
    return freeze_map(
        {
            "metadata": {
                "name": name,
                "namespace": "ns",
                "labels": labels,
                "annotations": {names.SIZE: "4", **annotations},
            },
            "spec": {"subdomain": "s", "containers": [{"name": "main"}], **spec},
        }
    )


def a_leader(annotations: dict[str, Any] | None = None, name: str = "s-1", **spec: Any) -> Pod:
    return a_pod(name, LEADER, annotations or {}, **spec)


def a_worker(index: int, annotations: dict[str, Any] | None = None, **spec: Any) -> Pod:
    return a_pod(f"s-1-{index}", WORKER, {names.LEADER_NAME: "s-1", **(annotations or {})}, **spec)


def admitted(pod: Pod, **options: Any) -> Pod:
    return admit(pod, Options(**options))


def label(pod: Pod, key: str) -> Json:
    return dig(pod, "metadata", "labels", key)


def environment(pod: Pod, container: int = 0, field: str = "containers") -> list[tuple[Json, Json]]:
    found = list(as_maps(dig(pod, "spec", field)))[container]
    return [(entry["name"], entry.get("value")) for entry in as_maps(found.get("env"))]


def terms(pod: Pod, kind: str) -> list[FrozenMap[Json]]:
    return list(as_maps(dig(pod, "spec", "affinity", kind, "requiredDuringSchedulingIgnoredDuringExecution")))


def test_pod_of_no_set_is_never_touched() -> None:
    pod = a_leader().with_("metadata", freeze_map({"name": "x", "labels": {"app": "y"}}))
    assert admitted(pod, gang_scheduling=True) is pod


def test_leader_always_gets_its_place() -> None:
    pod = admitted(a_leader())
    assert label(pod, names.GROUP_INDEX) == "1"
    assert label(pod, names.GROUP_KEY) == names.topology_key("ns", "s-1")
    assert dig(pod, "spec", "subdomain") == "s"
    assert environment(pod) == [
        ("LWS_LEADER_ADDRESS", "s-1.s.ns"),
        ("LWS_GROUP_SIZE", "4"),
        ("LWS_WORKER_INDEX", "0"),
    ]


def test_leader_never_loses_a_place_that_it_has() -> None:
    pod = a_pod("s-1", {**LEADER, names.GROUP_INDEX: "7", names.GROUP_KEY: "mine"}, {})
    assert label(admitted(pod), names.GROUP_INDEX) == "7"
    assert label(admitted(pod), names.GROUP_KEY) == "mine"


def test_worker_always_gets_its_own_index() -> None:
    pod = a_pod("s-1-3", {**WORKER, names.WORKER_INDEX: "9"}, {names.LEADER_NAME: "s-1"})
    assert label(admitted(pod), names.WORKER_INDEX) == "3"
    assert environment(admitted(pod))[0] == ("LWS_LEADER_ADDRESS", "s-1.s.ns")


def test_worker_never_counts_as_leader_by_a_label_of_its_template() -> None:
    pod = a_pod("s-1-3", {**WORKER, names.WORKER_INDEX: "0"}, {names.LEADER_NAME: "s-1"})
    assert label(admitted(pod), names.WORKER_INDEX) == "3"


def test_worker_with_ordinal_zero_always_stays_recognisable() -> None:
    """Without start ordinals a worker StatefulSet makes a pod that looks like a leader; its annotation is
    what stops a StatefulSet from being made for it."""
    pod = admitted(a_worker(0))
    assert label(pod, names.WORKER_INDEX) == "0"
    assert dig(pod, "metadata", "annotations", names.LEADER_NAME) == "s-1"
    assert label(pod, names.GROUP_INDEX) == "1"


def test_pod_that_would_be_labelled_as_leader_always_is_one_at_once() -> None:
    """Admitted a second time it would be a leader anyway, and change."""
    pod = admitted(a_pod("s-0", {names.SET_NAME: "s"}, {}))
    assert label(pod, names.WORKER_INDEX) == "0"
    assert label(pod, names.GROUP_KEY) == names.topology_key("ns", "s-0")
    assert admitted(pod) == pod


def test_leader_of_its_own_subdomain_always_is_addressed_there() -> None:
    pod = admitted(a_leader({names.SUBDOMAIN_POLICY: "UniquePerReplica"}))
    assert dig(pod, "spec", "subdomain") == "s-1"
    assert environment(pod)[0] == ("LWS_LEADER_ADDRESS", "s-1.s-1.ns")


@pytest.mark.parametrize(
    ("pod", "message"),
    [
        (
            freeze_map({"metadata": {"name": "x", "labels": LEADER}}),
            "size annotation is unexpectedly missing for pod x",
        ),
        (a_leader(name="nameless"), "parsing pod ordinal for pod nameless"),
        (a_pod("nameless", WORKER, {}), "parsing pod ordinal for pod nameless"),
        (a_pod("s-99999999999", LEADER, {}), "parsing pod ordinal for pod s-99999999999"),
        (
            a_pod("s-1-2", {names.SET_NAME: "s"}, {}),
            "Failure constructing environment variables, no group index label found for pod ns/s-1-2",
        ),
        (
            a_leader({names.SIZE: "abc"}),
            f"annotation {names.SIZE} of pod s-1 must be a number of pods, not 'abc'",
        ),
        (a_leader({names.SIZE: "0"}), "must be a number of pods, not '0'"),
        (a_leader({names.SIZE: "٣"}), "must be a number of pods"),
        (a_leader({names.SIZE: 4}), "size annotation is unexpectedly missing for pod s-1"),
        (
            a_leader({names.SUBGROUP_SIZE: "0"}),
            f"annotation {names.SUBGROUP_SIZE} of pod s-1 must be a number",
        ),
        (a_leader({names.SUBGROUP_SIZE: "None"}), "must be a number of pods, not 'None'"),
    ],
)
def test_pod_that_cannot_have_its_place_is_always_denied(pod: Pod, message: str) -> None:
    with pytest.raises(Denied) as caught:
        admitted(pod)
    assert message in str(caught.value)


def test_environment_always_puts_the_three_before_the_user_s() -> None:
    env = [{"name": "A", "value": "$(LWS_LEADER_ADDRESS)"}, {"name": "LWS_GROUP_SIZE", "value": "77"}]
    pod = admitted(a_leader(containers=[{"name": "main", "env": env}], initContainers=[{"name": "prep"}]))
    three = ["LWS_LEADER_ADDRESS", "LWS_GROUP_SIZE", "LWS_WORKER_INDEX"]
    assert [name for name, _ in environment(pod)] == [*three, "A"]
    assert dict(environment(pod))["LWS_GROUP_SIZE"] == "4"
    assert [name for name, _ in environment(pod, field="initContainers")] == three


def test_environment_never_drops_an_entry_that_the_user_wrote_twice() -> None:
    """Kubernetes takes the last; the original controller kept the first."""
    env = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
    pod = admitted(a_leader(containers=[{"name": "main", "env": env}]))
    assert environment(pod)[3:] == [("A", "1"), ("A", "2")]


def test_gang_always_is_named_by_every_pod() -> None:
    for pod in (a_leader(), a_worker(2)):
        named = admitted(pod, gang_scheduling=True)
        assert dig(named, "metadata", "annotations", names.POD_GROUP_NAME) == "s-1-k"
        assert dig(admitted(pod), "metadata", "annotations", names.POD_GROUP_NAME) is None


def test_exclusive_leader_always_keeps_other_groups_out() -> None:
    pod = admitted(a_leader({names.EXCLUSIVE_TOPOLOGY: "rack"}))
    key = names.topology_key("ns", "s-1")
    (together,), (apart,) = terms(pod, "podAffinity"), terms(pod, "podAntiAffinity")
    assert together == freeze_map(
        {
            "labelSelector": {
                "matchExpressions": [{"key": names.GROUP_KEY, "operator": "In", "values": [key]}]
            },
            "topologyKey": "rack",
        }
    )
    assert apart == freeze_map(
        {
            "labelSelector": {
                "matchExpressions": [
                    {"key": names.GROUP_KEY, "operator": "Exists"},
                    {"key": names.GROUP_KEY, "operator": "NotIn", "values": [key]},
                ]
            },
            "topologyKey": "rack",
        }
    )


def test_worker_never_gets_terms_for_its_group() -> None:
    assert dig(admitted(a_worker(2, {names.EXCLUSIVE_TOPOLOGY: "rack"})), "spec", "affinity") is None


def test_empty_topology_always_counts_as_none() -> None:
    assert dig(admitted(a_leader({names.EXCLUSIVE_TOPOLOGY: ""})), "spec", "affinity") is None


def test_both_exclusive_topologies_always_hold_on_one_key() -> None:
    """The original controller dropped the subgroup's terms when the group's were on the same key."""
    annotations = {
        names.EXCLUSIVE_TOPOLOGY: "rack",
        names.SUBGROUP_EXCLUSIVE_TOPOLOGY: "rack",
        names.SUBGROUP_SIZE: "2",
    }
    pod = admitted(a_leader(annotations))
    for kind in ("podAffinity", "podAntiAffinity"):
        keys = [
            dig(next(iter(as_maps(dig(term, "labelSelector", "matchExpressions")))), "key")
            for term in terms(pod, kind)
        ]
        assert keys == [names.GROUP_KEY, names.SUBGROUP_KEY]


def test_exclusive_terms_always_stand_beside_the_user_s_own_on_the_key() -> None:
    """The original controller dropped its own where the user's terms used the key."""
    own = {"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": "rack"}
    rules = {"requiredDuringSchedulingIgnoredDuringExecution": [own]}
    pod = admitted(
        a_leader(
            {names.EXCLUSIVE_TOPOLOGY: "rack"}, affinity={"podAffinity": rules, "podAntiAffinity": rules}
        )
    )
    assert terms(pod, "podAffinity")[0] == terms(pod, "podAntiAffinity")[0] == freeze_map(own)
    assert len(terms(pod, "podAffinity")) == len(terms(pod, "podAntiAffinity")) == 2


def test_exclusive_terms_across_namespaces_always_keep_namesakes_out() -> None:
    annotations = {
        names.EXCLUSIVE_TOPOLOGY: "island",
        names.SUBGROUP_EXCLUSIVE_TOPOLOGY: "rack",
        names.SUBGROUP_SIZE: "2",
    }
    pod = admitted(a_leader(annotations), exclusive_across_namespaces=True)
    assert all("namespaceSelector" not in term for term in terms(pod, "podAffinity"))
    group, subgroup, namesake = terms(pod, "podAntiAffinity")
    assert group["namespaceSelector"] == subgroup["namespaceSelector"] == FrozenMap()
    # The same set in another namespace has subgroups of the same key: they are kept out by namespace.
    assert namesake == freeze_map(
        {
            "labelSelector": {"matchExpressions": [{"key": names.SUBGROUP_KEY, "operator": "Exists"}]},
            "topologyKey": "rack",
            "namespaceSelector": {
                "matchExpressions": [
                    {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["ns"]}
                ]
            },
        }
    )


def test_pod_with_a_name_that_no_pod_can_have_is_always_denied() -> None:
    """Admission comes before the API server looks at names, whose ordinal can have any number of digits."""
    for name in ("s-" + "9" * 4301, "s" * 254):
        with pytest.raises(Denied, match=rf"the pod's name has {len(name)} characters: at most 253"):
            admitted(a_leader(name=name))


def test_ordinal_never_is_a_number_that_no_pod_can_have() -> None:
    for digits in ("2147483648", "9" * 4301, "1" + "0" * 5000):
        assert names.parent_and_ordinal(f"s-{digits}") == ("", None)
    assert names.parent_and_ordinal("s-2147483647") == ("s", 2147483647)
    assert names.parent_and_ordinal("s-" + "0" * 5000) == ("s", 0)
    assert names.parent_and_ordinal("s-" + "0" * 5000 + "7") == ("s", 7)


def test_pod_with_a_subdomain_that_no_pod_can_have_is_always_denied() -> None:
    assert label(admitted(a_worker(1, subdomain="s" * 63)), names.WORKER_INDEX) == "1"
    with pytest.raises(Denied, match="the subdomain of pod s-1-1 has 64 characters: at most 63"):
        admitted(a_worker(1, subdomain="s" * 64))


def test_environment_that_no_pod_could_hold_is_always_denied() -> None:
    """Every container is told the same, so that many small ones make a large pod."""
    many = [{"name": str(index)} for index in range(30_000)]
    with pytest.raises(Denied, match=r"would get \d{7} characters of environment: at most 1572864"):
        admitted(a_worker(1, containers=many))
    assert environment(admitted(a_worker(1, containers=many[:1000])), 999)


def test_subgroup_labels_always_say_where_a_pod_belongs() -> None:
    pod = admitted(a_worker(3, {names.SUBGROUP_SIZE: "2"}))
    assert label(pod, names.SUBGROUP_INDEX) == "1"
    assert label(pod, names.SUBGROUP_KEY) == names.topology_key("s-1", "1")


def test_subgroup_that_a_pod_has_is_never_changed() -> None:
    pod = a_pod(
        "s-1-3", {**WORKER, names.SUBGROUP_INDEX: "7"}, {names.LEADER_NAME: "s-1", names.SUBGROUP_SIZE: "2"}
    )
    assert label(admitted(pod), names.SUBGROUP_INDEX) == "7"


def test_subgroup_of_an_excluded_leader_always_is_none() -> None:
    annotations = {names.SUBGROUP_SIZE: "3", names.SUBGROUP_POLICY_TYPE: "LeaderExcluded"}
    assert label(admitted(a_leader(annotations)), names.SUBGROUP_INDEX) is None
    assert label(admitted(a_worker(1, annotations)), names.SUBGROUP_INDEX) == "0"


def test_subgroups_of_one_without_the_leader_always_start_at_zero() -> None:
    """The original controller began at 1, as any size divides by 1."""
    annotations = {names.SUBGROUP_SIZE: "1", names.SUBGROUP_POLICY_TYPE: "LeaderExcluded"}
    assert [label(admitted(a_worker(w, annotations)), names.SUBGROUP_INDEX) for w in (1, 2, 3)] == [
        "0",
        "1",
        "2",
    ]


@pytest.mark.parametrize(
    "spec",
    [
        {"containers": "none"},
        {"containers": {"name": "main"}},
        {"containers": [None, 3, "x", []]},
        {"containers": [{"env": "x"}]},
        {"containers": [{"env": [None, 3, {"name": []}, {"value": "x"}]}]},
        {"containers": [{"resources": []}]},
        {"containers": [{"resources": {"limits": {names.TPU_RESOURCE: "abc"}}}]},
        {"affinity": "none"},
        {
            "affinity": {
                "podAffinity": [],
                "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}},
            }
        },
        {"subdomain": 3},
    ],
)
def test_malformed_part_is_always_left_to_the_api_server(spec: dict[str, Any]) -> None:
    pod = admitted(a_leader({names.EXCLUSIVE_TOPOLOGY: "rack"}, **spec))
    assert label(pod, names.GROUP_INDEX) == "1"
    for field, value in freeze_map(spec).items():
        if field == "affinity":
            assert dig(pod, "spec", field) == value


def test_malformed_labels_never_are_dropped() -> None:
    pod = a_pod("s-1", {**LEADER, "odd": 3}, {"odd": None})
    assert label(admitted(pod), "odd") == 3
    assert dig(admitted(pod), "metadata", "annotations") == dig(pod, "metadata", "annotations")
