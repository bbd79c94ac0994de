"""Objects and stores for tests of the simulated cluster, and a cluster of one StatefulSet that runs."""

from __future__ import annotations

from typing import Any

import attrs

from lws_core.values import FrozenMap, Json, as_map, as_maps, dig, freeze_map
from lws_sim.cluster import api, kubelet, statefulset
from lws_sim.cluster.store import Object, Store, label, name_of, namespace_of, terminating, uid_of

NOW_S = 1_800_000_000.0


def an_object(kind: str, name: str, metadata: dict[str, Any] | None = None, **fields: Any) -> Object:
    """An object in the namespace "ns"."""
    meta = {"name": name, "namespace": "ns", **(metadata or {})}
    return freeze_map({"apiVersion": "v1", "kind": kind, "metadata": meta, **fields})


def a_pod(
    name: str = "p",
    *,
    node: str = "",
    phase: str = "Running",
    metadata: dict[str, Any] | None = None,
    **spec: Any,
) -> Object:
    """A pod, on a node if one is named."""
    placed = {"nodeName": node} if node else {}
    full = {"containers": [{"name": "main"}], **placed, **spec}
    return an_object("Pod", name, metadata, spec=full, status={"phase": phase})


def a_statefulset(
    name: str = "web",
    replicas: int = 3,
    *,
    image: str = "img:1",
    partition: int = 0,
    max_unavailable: int | None = None,
    start: int | None = None,
    claims: list[str] | None = None,
    retention: tuple[str, str] | None = None,
    **spec: Any,
) -> Object:
    """A StatefulSet with podManagementPolicy Parallel. `retention`: whenDeleted and whenScaled."""
    rolling: dict[str, Any] = {"partition": partition}
    if max_unavailable is not None:
        rolling["maxUnavailable"] = max_unavailable
    fields: dict[str, Any] = {
        "replicas": replicas,
        "serviceName": name,
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": {"app": name}},
        "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "main", "image": image}]},
        },
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
        **spec,
    }
    if start is not None:
        fields["ordinals"] = {"start": start}
    if claims:
        fields["volumeClaimTemplates"] = [{"metadata": {"name": claim}} for claim in claims]
    if retention is not None:
        fields["persistentVolumeClaimRetentionPolicy"] = dict(
            zip(("whenDeleted", "whenScaled"), retention, strict=True)
        )
    return an_object("StatefulSet", name, spec=fields).with_("apiVersion", "apps/v1")


def owned_by(owner: Object, *, blocks: bool = True, controls: bool = True) -> dict[str, Any]:
    """The owner reference to an object."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": name_of(owner),
        "uid": uid_of(owner),
        "controller": controls,
        "blockOwnerDeletion": blocks,
    }


def put(store: Store, obj: Object) -> tuple[Store, Object]:
    """The store with a new object."""
    return store.insert(obj, NOW_S)


@attrs.define
class Cluster:
    """A StatefulSet "web" in a store: syncs on demand, pods that start and become ready when told."""

    store: Store = attrs.field(factory=Store)
    rules: api.Rules = attrs.field(factory=api.Rules)
    now_s: float = NOW_S

    def put(self, obj: Object) -> None:
        before = self.store.objects.get(f"{obj['kind']}/{namespace_of(obj)}/{name_of(obj)}")
        if before is None:
            self.store, answer = api.create(self.store, obj, "user", self.rules, self.now_s)
        else:
            self.store, answer = api.update(self.store, before, before | {"spec": obj["spec"]}, self.rules)
        assert answer.ok, answer

    def sync(self) -> bool:
        """One sync; False where it failed."""
        result = statefulset.sync(self.store, "ns", "web", self.rules, self.now_s)
        self.store = result.store
        return not result.failed

    def settle(self) -> None:
        """Sync, start pods, make them ready and end them until nothing changes."""
        for _ in range(50):
            before = self.store.version
            self.sync()
            for pod in self.pods.values():
                self._go_on(pod)
            if self.store.version == before:
                return
        raise AssertionError("it does not settle")

    def _go_on(self, pod: Object) -> None:
        if terminating(pod):
            self.store = kubelet.end(self.store, pod, self.now_s)
        elif not dig(pod, "spec", "nodeName"):
            self.store = kubelet.start(self.store, pod, "node", self.now_s)
        elif dig(pod, "status", "phase") == "Running" and not is_ready(pod):
            self.store = kubelet.set_ready(self.store, pod, True, self.now_s)

    def start_all(self) -> None:
        """The pods that are on no node run, and are not ready."""
        for pod in self.pods.values():
            if not dig(pod, "spec", "nodeName"):
                self.store = kubelet.start(self.store, pod, "node", self.now_s)

    def ready(self, *ordinals: int, ready: bool = True) -> None:
        for ordinal in ordinals:
            self.store = kubelet.set_ready(self.store, self.pod(ordinal), ready, self.now_s)

    def end(self, *ordinals: int) -> None:
        for ordinal in ordinals:
            self.store = kubelet.end(self.store, self.pod(ordinal), self.now_s)

    @property
    def obj(self) -> Object:
        found = self.store.get("StatefulSet", "ns", "web")
        assert found is not None
        return found

    @property
    def pods(self) -> dict[int, Object]:
        return statefulset.pods_of(self.store, self.obj)

    def pod(self, ordinal: int) -> Object:
        return self.pods[ordinal]

    @property
    def status(self) -> FrozenMap[Json]:
        return as_map(self.obj.get("status"))

    @property
    def images(self) -> dict[int, Json]:
        """The image of each pod, by ordinal; those that terminate have a "-" before it."""
        return {
            ordinal: ("-" if terminating(pod) else "") + str(image_of(pod))
            for ordinal, pod in sorted(self.pods.items())
        }


def image_of(pod: Object) -> Json:
    return next(iter(as_maps(dig(pod, "spec", "containers"))), FrozenMap[Json]()).get("image")


def is_ready(pod: Object) -> bool:
    return any(
        c.get("type") == "Ready" and c.get("status") == "True"
        for c in as_maps(dig(pod, "status", "conditions"))
    )


def revision_of(pod: Object) -> str:
    return label(pod, statefulset.REVISION_LABEL)
