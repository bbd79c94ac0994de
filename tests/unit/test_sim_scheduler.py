"""Placement, against the plugins NodeAffinity, NodeResourcesFit and InterPodAffinity of Kubernetes 1.36."""

from __future__ import annotations

from typing import Any

import pytest
from clusters import NOW_S, a_pod, put

from lws_core.values import dig, freeze_map
from lws_sim.cluster import scheduler
from lws_sim.cluster.store import Object, Store, meta, name_of, with_meta, with_status

ZONE = "zone"


def nodes(*zones: str, **allocatable: Any) -> Store:
    """Nodes n0, n1 and so on, each in a zone."""
    store = Store()
    for index, zone in enumerate(zones):
        labels = {ZONE: zone} if zone else {}
        store, _ = put(store, scheduler.make_node(f"n{index}", labels, allocatable))  # type: ignore[arg-type]
    return store


def place(store: Store, pod: Object) -> tuple[Store, str]:
    """The store with the pod on the node that is found for it, "" for none."""
    store, stored = put(store, pod)
    store, node = scheduler.find_node(store, stored, endless=False, now_s=NOW_S)
    if node:
        spec = stored["spec"] | {"nodeName": node}  # type: ignore[operator]
        store, _ = store.replace(stored, with_status(stored.with_("spec", spec), phase="Running"))
    return store, node


def placed(store: Store, *pods: Object) -> list[str]:
    found = []
    for pod in pods:
        store, node = place(store, pod)
        found.append(node)
    return found


def term(key: str, operator: str, *values: str, topology: str = ZONE, **more: Any) -> dict[str, Any]:
    expression: dict[str, Any] = {"key": key, "operator": operator}
    if values:
        expression["values"] = list(values)
    return {"topologyKey": topology, "labelSelector": {"matchExpressions": [expression]}, **more}


def member(
    name: str, group: str, near: list[Any] | None = None, far: list[Any] | None = None, **rest: Any
) -> Object:
    """A pod with a label and required terms."""
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    affinity = {"podAffinity": {required: near or []}, "podAntiAffinity": {required: far or []}}
    return a_pod(name, phase="Pending", metadata={"labels": {"group": group}}, affinity=affinity, **rest)


def exclusive(name: str, group: str) -> Object:
    """A leader that has a zone to itself, as exclusive placement has it."""
    own = term("group", "In", group)
    others = term("group", "Exists")
    others["labelSelector"]["matchExpressions"].append(
        {"key": "group", "operator": "NotIn", "values": [group]}
    )
    return member(name, group, [own], [others])


def sized(name: str, **requests: Any) -> Object:
    return a_pod(name, phase="Pending", containers=[{"name": "main", "resources": {"requests": requests}}])


# -- what a node has


def test_a_node_never_takes_more_than_it_has() -> None:
    store = nodes("a", "b", cpu="2", pods="10")
    assert placed(store, *(sized(f"p{i}", cpu="1500m") for i in range(3))) == ["n0", "n1", ""]


def test_a_node_never_takes_more_pods_than_it_has_slots() -> None:
    assert placed(nodes("a", pods="1"), sized("p"), sized("q")) == ["n0", ""]


def test_a_node_without_an_extended_resource_never_takes_a_pod_that_asks_for_it() -> None:
    pod = sized("p", **{"nvidia.com/gpu": "1"})
    assert placed(nodes("a", cpu="2"), pod) == [""]
    assert placed(nodes("a", **{"nvidia.com/gpu": "1"}), pod) == ["n0"]


def test_limits_always_stand_in_for_requests() -> None:
    limited = a_pod("p", containers=[{"name": "c", "resources": {"limits": {"cpu": "3"}}}])
    assert placed(nodes("a", cpu="2"), limited) == [""]
    asked = {"limits": {"cpu": "3"}, "requests": {"cpu": "1"}}
    assert placed(nodes("a", cpu="2"), a_pod("p", containers=[{"name": "c", "resources": asked}])) == ["n0"]


def test_a_finished_pod_never_holds_its_node() -> None:
    store, _ = place(nodes("a", cpu="1"), sized("p", cpu="1"))
    pod = store.get("Pod", "ns", "p")
    assert pod is not None
    assert place(store, sized("q", cpu="1"))[1] == ""
    store, _ = store.replace(pod, with_status(pod, phase="Failed"))
    assert place(store, sized("q", cpu="1"))[1] == "n0"


def test_a_terminating_pod_still_holds_its_node() -> None:
    store, _ = place(nodes("a", cpu="1"), sized("p", cpu="1"))
    pod = store.get("Pod", "ns", "p")
    assert pod is not None
    store, _ = store.replace(pod, with_meta(pod, deletionTimestamp="2027-01-15T08:00:00Z"))
    assert place(store, sized("q", cpu="1"))[1] == ""


def test_node_selectors_always_hold() -> None:
    store = nodes("a", "b")
    assert placed(store, a_pod("p", nodeSelector={ZONE: "b"}), a_pod("q", nodeSelector={ZONE: "c"})) == [
        "n1",
        "",
    ]


def test_a_lost_node_never_takes_a_pod_until_it_is_back() -> None:
    store = scheduler.lose_node(nodes("a"), "n0", NOW_S)
    assert not scheduler.node_is_ready(store, "n0")
    assert placed(store, a_pod("p")) == [""]
    store = scheduler.restore_node(store, "n0")
    assert scheduler.node_is_ready(store, "n0")
    assert placed(store, a_pod("p")) == ["n0"]
    assert scheduler.node_is_ready(store, "unheard-of")
    assert scheduler.restore_node(store, "unheard-of") is store


# -- who may be near to whom


def test_exclusive_groups_never_share_a_zone() -> None:
    store = nodes("a", "a", "b")
    assert placed(store, exclusive("p", "1"), exclusive("q", "2"), exclusive("r", "3")) == ["n0", "n2", ""]


def test_exclusive_groups_always_keep_their_own_together() -> None:
    store = nodes("a", "b", "b", pods="1")
    assert placed(store, exclusive("p", "1"), exclusive("q", "1")) == ["n0", ""]
    assert placed(nodes("b", "b", pods="1"), exclusive("p", "1"), exclusive("q", "1")) == ["n0", "n1"]


def test_those_already_there_always_have_their_say() -> None:
    guarded = member("p", "1", far=[term("group", "In", "2")])
    assert placed(nodes("a"), guarded, member("q", "2"), member("r", "3")) == ["n0", "", "n0"]


def test_a_node_without_the_topology_label_never_meets_an_affinity_but_any_anti_affinity() -> None:
    assert placed(nodes(""), member("p", "1", near=[term("group", "In", "1")])) == [""]
    far = [term("group", "In", "1")]
    assert placed(nodes(""), member("p", "1"), member("q", "2", far=far)) == ["n0", "n0"]


def test_a_pod_that_wants_company_never_starts_alone_unless_it_is_what_it_wants() -> None:
    assert placed(nodes("a"), member("p", "1", near=[term("group", "In", "2")])) == [""]
    assert placed(nodes("a"), member("p", "1", near=[term("group", "In", "1")])) == ["n0"]


def test_the_first_of_its_kind_may_never_be_second() -> None:
    """One of its kind runs in zone b, where there is no room: a zone without any will not do."""
    store, _ = place(nodes("b", pods="1"), member("p", "1"))
    store, _ = put(store, scheduler.make_node("n9", {ZONE: "a"}))  # type: ignore[arg-type]
    assert place(store, member("q", "1", near=[term("group", "In", "1")]))[1] == ""


def test_company_always_matches_all_the_terms_at_once() -> None:
    both = [term("group", "In", "1"), term("role", "In", "x")]
    store, _ = place(nodes("a"), member("p", "1"))
    wants = member("q", "1", near=both)
    assert place(store, wants)[1] == "", "the one there has no role, and neither has this one"
    whole = with_meta(member("r", "1"), labels=freeze_map({"group": "1", "role": "x"}))
    store, _ = place(store, whole)
    assert place(store, wants)[1] == "n0"


def test_terms_speak_only_of_their_own_namespace_unless_they_say_so() -> None:
    stranger = with_meta(member("p", "1"), namespace="other")
    far = [term("group", "In", "1")]
    everywhere = [term("group", "In", "1", namespaceSelector={})]
    assert placed(nodes("a"), stranger, member("q", "2", far=far)) == ["n0", "n0"]
    assert placed(nodes("a"), stranger, member("q", "2", far=everywhere)) == ["n0", ""]


@pytest.mark.parametrize(
    ("operator", "values", "matches"),
    [
        ("In", ("1",), True), ("In", ("2",), False), ("NotIn", ("1",), False), ("NotIn", ("2",), True),
        ("Exists", (), True), ("DoesNotExist", (), False),
    ],
)  # fmt: skip
def test_selectors_always_mean_what_kubernetes_means(
    operator: str, values: tuple[str, ...], matches: bool
) -> None:
    far = [term("group", operator, *values)]
    assert placed(nodes("a"), member("p", "1"), member("q", "9", far=far)) == ["n0", "" if matches else "n0"]


# -- a cluster that always has another node


def test_an_endless_cluster_always_has_a_node_that_suits() -> None:
    store, pod = put(Store(), a_pod("p", nodeSelector={ZONE: "a"}))
    store, name = scheduler.find_node(store, pod, endless=True, now_s=NOW_S)
    node = store.get("Node", "", name)
    assert node is not None
    assert dig(meta(node), "labels", ZONE) == "a"
    store, leader = put(store, exclusive("q", "1"))
    store, other = scheduler.find_node(store, leader, endless=True, now_s=NOW_S)
    fresh = store.get("Node", "", other)
    assert fresh is not None
    assert dig(meta(fresh), "labels", ZONE) == "1"
    store, plain = put(store, a_pod("r"))
    after, third = scheduler.find_node(store, plain, endless=True, now_s=NOW_S)
    assert third not in (name, other)
    assert after is store, "nobody looks at its labels"
    assert name_of(node) == name
