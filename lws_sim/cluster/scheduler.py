"""Where pods go: node selectors, what nodes have, and who may share a topology domain with whom.

Filters as kube-scheduler's NodeAffinity (nodeSelector), NodeResourcesFit and InterPodAffinity do, for the
terms that sets use (In, NotIn, Exists, DoesNotExist on labels); the first node that fits is taken. A cluster
without nodes of its own is one that always has another: each pod gets a fresh node that suits it.
"""

from __future__ import annotations

import functools
from fractions import Fraction
from typing import Final

from lws_core.quantity import parse
from lws_core.values import EMPTY, FrozenMap, Json, Labels, as_list, as_map, as_maps, dig, freeze_map, strings

from .kubelet import FINISHED
from .store import Object, Store, meta, name_of, namespace_of, uid_of, with_status

_POD_SLOTS: Final = "pods"


def find_node(store: Store, pod: Object, *, endless: bool, now_s: float) -> tuple[Store, str]:
    """A node for the pod, "" where there is none; the store with the node, if that is a fresh one."""
    if endless:
        return _fresh_node(store, pod, now_s)
    running = [
        other
        for other in store.all("Pod")
        if dig(other, "spec", "nodeName") and dig(other, "status", "phase") not in FINISHED
    ]
    nodes = {name_of(node): node for node in store.all("Node")}
    return store, next((name for name, node in nodes.items() if _fits(pod, node, nodes, running)), "")


def make_node(name: str, labels: Labels = EMPTY, allocatable: FrozenMap[Json] = EMPTY) -> Object:
    """A node that is ready."""
    return freeze_map(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": labels},
            "status": {
                "allocatable": allocatable,
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }
    )


def lose_node(store: Store, name: str, now_s: float) -> Store:
    """The store after a node's kubelet went silent."""
    node = store.get("Node", "", name)
    if node is None:
        store, node = store.insert(make_node(name), now_s)
    unknown = (freeze_map({"type": "Ready", "status": "Unknown"}),)
    return store.replace(node, with_status(node, conditions=unknown))[0]


def restore_node(store: Store, name: str) -> Store:
    """The store after a node's kubelet spoke again."""
    node = store.get("Node", "", name)
    if node is None:
        return store
    ready = (freeze_map({"type": "Ready", "status": "True"}),)
    return store.replace(node, with_status(node, conditions=ready))[0]


def node_is_ready(store: Store, name: str) -> bool:
    """Whether a node's kubelet answers; one that nobody ever asked about has no object, and does."""
    node = store.get("Node", "", name)
    return node is None or any(
        c.get("type") == "Ready" and c.get("status") == "True"
        for c in as_maps(dig(node, "status", "conditions"))
    )


@functools.lru_cache(maxsize=10_000)
def requests_of(spec: Json) -> FrozenMap[Fraction]:
    """What a pod of this spec takes from a node: its containers' requests, or limits where there are none."""
    total: dict[str, Fraction] = {_POD_SLOTS: Fraction(1)}
    for container in as_maps(dig(spec, "containers")):
        resources = as_map(container.get("resources"))
        for name, amount in (as_map(resources.get("limits")) | as_map(resources.get("requests"))).items():
            try:
                total[name] = total.get(name, Fraction(0)) + parse(amount)
            except ValueError:
                continue
    return FrozenMap(total)


def _fresh_node(store: Store, pod: Object, now_s: float) -> tuple[Store, str]:
    """A node as the pod asks for it. It gets an object only if it has labels that others may look at."""
    name = f"node-{uid_of(pod)[:8].lstrip('0')}"
    labels = dict(strings(dig(pod, "spec", "nodeSelector")))
    for term in _terms(pod, "podAffinity"):
        key, values = str(term.get("topologyKey")), _wanted_values(term)
        labels.setdefault(key, values[0] if values else name)
    if labels:
        store, _ = store.insert(make_node(name, FrozenMap(labels)), now_s)
    return store, name


def _wanted_values(term: FrozenMap[Json]) -> list[str]:
    for expression in as_maps(dig(term, "labelSelector", "matchExpressions")):
        if expression.get("operator") == "In":
            return [value for value in as_list(expression.get("values")) if isinstance(value, str)]
    return []


def _fits(pod: Object, node: Object, nodes: dict[str, Object], running: list[Object]) -> bool:
    if not any(c.get("status") == "True" for c in as_maps(dig(node, "status", "conditions"))):
        return False
    labels = strings(meta(node).get("labels"))
    if any(labels.get(key) != value for key, value in strings(dig(pod, "spec", "nodeSelector")).items()):
        return False
    return _has_room(pod, node, running) and _may_share(pod, labels, nodes, running)


def _has_room(pod: Object, node: Object, running: list[Object]) -> bool:
    allocatable = as_map(dig(node, "status", "allocatable"))
    taken: dict[str, Fraction] = {}
    for other in running:
        if dig(other, "spec", "nodeName") == name_of(node):
            for name, amount in requests_of(other["spec"]).items():
                taken[name] = taken.get(name, Fraction(0)) + amount
    return all(
        taken.get(name, Fraction(0)) + amount <= parse(allocatable[name])
        for name, amount in requests_of(pod["spec"]).items()
        if name in allocatable
    ) and all(name in allocatable for name in requests_of(pod["spec"]) if "/" in name)


def _may_share(pod: Object, labels: Labels, nodes: dict[str, Object], running: list[Object]) -> bool:
    """Whether the pod's own terms allow this node, and the terms of those already there allow the pod."""
    wanted = _terms(pod, "podAffinity")
    if any(str(term.get("topologyKey")) not in labels for term in wanted):
        return False
    friends = [other for other in running if wanted and all(_matches(term, other, pod) for term in wanted)]
    if not all(any(_same_domain(term, labels, other, nodes) for other in friends) for term in wanted):
        # The first of its kind may go anywhere, if it is what it wants to be near to.
        placed = any(_has_domain(term, other, nodes) for other in friends for term in wanted)
        if placed or not all(_matches(term, pod, pod) for term in wanted):
            return False
    for term in _terms(pod, "podAntiAffinity"):
        if any(_same_domain(term, labels, o, nodes) and _matches(term, o, pod) for o in running):
            return False
    return not any(
        _same_domain(term, labels, other, nodes) and _matches(term, pod, other)
        for other in running
        for term in _terms(other, "podAntiAffinity")
    )


def _terms(pod: Object, kind: str) -> list[FrozenMap[Json]]:
    return list(as_maps(dig(pod, "spec", "affinity", kind, "requiredDuringSchedulingIgnoredDuringExecution")))


def _same_domain(term: FrozenMap[Json], labels: Labels, other: Object, nodes: dict[str, Object]) -> bool:
    key = str(term.get("topologyKey"))
    return key in labels and labels[key] == _labels_of_node(other, nodes).get(key)


def _has_domain(term: FrozenMap[Json], pod: Object, nodes: dict[str, Object]) -> bool:
    return str(term.get("topologyKey")) in _labels_of_node(pod, nodes)


def _labels_of_node(pod: Object, nodes: dict[str, Object]) -> Labels:
    node = nodes.get(str(dig(pod, "spec", "nodeName")))
    return EMPTY if node is None else strings(meta(node).get("labels"))


def _matches(term: FrozenMap[Json], pod: Object, whose: Object) -> bool:
    """Whether a pod is one that a term of `whose` speaks of."""
    if "namespaceSelector" not in term and namespace_of(pod) != namespace_of(whose):
        return False
    labels = strings(meta(pod).get("labels"))
    selector = as_map(term.get("labelSelector"))
    exact = strings(selector.get("matchLabels"))
    return all(labels.get(key) == value for key, value in exact.items()) and all(
        _expression(expression, labels) for expression in as_maps(selector.get("matchExpressions"))
    )


def _expression(expression: FrozenMap[Json], labels: Labels) -> bool:
    key, values = str(expression.get("key")), as_list(expression.get("values"))
    match expression.get("operator"):
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case _:
            return key not in labels
