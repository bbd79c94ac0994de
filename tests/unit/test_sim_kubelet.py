from __future__ import annotations

import pytest
from clusters import NOW_S, a_pod, is_ready, put

from lws_core.values import as_map, as_maps, dig
from lws_sim.cluster import api, kubelet
from lws_sim.cluster.store import Object, Store, key_of, meta, terminating


class Node:
    """One pod in a store."""

    def __init__(self, pod: Object | None = None) -> None:
        self.store, self._first = put(Store(), pod or a_pod(phase="Pending"))

    @property
    def pod(self) -> Object:
        found = self.store.objects.get(key_of(self._first))
        assert found is not None
        return found

    @property
    def gone(self) -> bool:
        return key_of(self._first) not in self.store.objects

    def start(self) -> None:
        self.store = kubelet.start(self.store, self.pod, "n1", NOW_S)

    def ready(self, ready: bool, at_s: float = 0) -> None:
        self.store = kubelet.set_ready(self.store, self.pod, ready, NOW_S + at_s)

    def since(self) -> object:
        conditions = as_maps(dig(self.pod, "status", "conditions"))
        return next(c["lastTransitionTime"] for c in conditions if c["type"] == "Ready")


def restarts(pod: Object) -> list[object]:
    return [as_map(c)["restartCount"] for c in as_maps(dig(pod, "status", "containerStatuses"))]


def test_a_started_pod_runs_and_is_never_ready_at_once() -> None:
    node = Node()
    node.store = kubelet.leave_pending(node.store, node.pod)
    node.start()
    assert (dig(node.pod, "spec", "nodeName"), dig(node.pod, "status", "phase")) == ("n1", "Running")
    assert not is_ready(node.pod)
    assert restarts(node.pod) == [0]
    assert [c["type"] for c in as_maps(dig(node.pod, "status", "conditions"))] == ["Ready"]


def test_transition_times_move_only_when_readiness_does() -> None:
    node = Node()
    node.start()
    node.ready(True, 5)
    assert is_ready(node.pod)
    assert node.since() == "2027-01-15T08:00:05Z"
    node.ready(True, 9)
    assert node.since() == "2027-01-15T08:00:05Z"
    node.ready(False, 12)
    assert not is_ready(node.pod)
    assert node.since() == "2027-01-15T08:00:12Z"


def test_a_restarted_container_is_always_counted_and_unready() -> None:
    node = Node(a_pod(phase="Pending", containers=[{"name": "a"}, {"name": "b"}]))
    node.start()
    node.ready(True)
    for _ in range(2):
        node.store = kubelet.restart_container(node.store, node.pod, NOW_S)
    assert restarts(node.pod) == [2, 0]
    assert not is_ready(node.pod)
    node.ready(True)
    assert restarts(node.pod) == [2, 0]


def test_a_pod_that_has_failed_is_never_ready() -> None:
    node = Node()
    node.start()
    node.ready(True)
    node.store = kubelet.fail(node.store, node.pod, "Evicted", NOW_S)
    assert (dig(node.pod, "status", "phase"), dig(node.pod, "status", "reason")) == ("Failed", "Evicted")
    assert not is_ready(node.pod)


def test_a_pod_that_waits_always_says_for_what() -> None:
    node = Node()
    node.start()
    node.store = kubelet.wait_for(node.store, node.pod, "ImagePullBackOff", NOW_S)
    (status,) = as_maps(dig(node.pod, "status", "containerStatuses"))
    assert dig(status, "state", "waiting", "reason") == "ImagePullBackOff"


def test_a_pod_without_a_node_always_says_so_once() -> None:
    node = Node()
    for _ in range(2):
        node.store = kubelet.leave_pending(node.store, node.pod)
    (condition,) = as_maps(dig(node.pod, "status", "conditions"))
    assert (condition["type"], condition["reason"]) == ("PodScheduled", "Unschedulable")
    assert node.store.version == 2


def test_only_a_terminating_pod_ends() -> None:
    node = Node(a_pod(node="n1"))
    assert kubelet.end(node.store, node.pod, NOW_S) is node.store
    node.ready(True)
    node.store, _ = api.delete(node.store, key_of(node.pod), NOW_S)
    assert is_ready(node.pod), "through its grace period"
    node.store = kubelet.end(node.store, node.pod, NOW_S)
    assert node.gone


@pytest.mark.parametrize(("phase", "ended"), [("Running", "Succeeded"), ("Failed", "Failed")])
def test_a_pod_that_a_finalizer_keeps_always_shows_its_end(phase: str, ended: str) -> None:
    node = Node(a_pod(node="n1"))
    node.ready(True)
    node.store, _ = api.delete(node.store, key_of(node.pod), NOW_S, propagation="Foreground")
    if phase == "Failed":
        node.store = kubelet.fail(node.store, node.pod, "Evicted", NOW_S)
    node.store = kubelet.end(node.store, node.pod, NOW_S + 5)
    assert terminating(node.pod)
    assert dig(node.pod, "status", "phase") == ended
    assert not is_ready(node.pod)
    assert meta(node.pod)["deletionTimestamp"] == "2027-01-15T08:00:05Z"
