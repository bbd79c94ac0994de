"""Random requests to the API server and random lives of pods, done to the model and to a real cluster alike.

Each family of objects, a StatefulSet and what is named and owned along with it, gets one operation at a time.
The answers must have the same code; once both have come to rest, everything that can be told of the objects
must be equal: specs with all defaults, owners, finalizers, who applied which field, claims, pods and their
revisions, which pods were replaced, counts. UIDs, times and resourceVersions are not compared, but what
refers to them is.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import attrs
from client import APPLY, MERGE, Manifest, Refused
from control_plane import ControlPlane
from kubelet import LOAD, Kubelet, Node
from sandbox import Sandbox, conditions, is_ready

from lws_core.values import as_list, as_map, dig, evolve, freeze_map, thaw
from lws_sim.cluster import api
from lws_sim.cluster import kubelet as simulated
from lws_sim.cluster.statefulset import REVISION_LABEL
from lws_sim.cluster.store import (
    Object,
    controller_uid,
    key_of,
    label,
    meta,
    name_of,
    owners,
    terminating,
    uid_of,
    with_meta,
)
from lws_sim.world import Sync, Timing, World, advance, new_world, next_timer_s, perform, tasks, write

Key: TypeAlias = tuple[str, str]
"""Kind and name of an object."""

REST_S: Final = 60.0
BACK_OFF_S: Final = 1000.0  # the longest of the StatefulSet controller, that nothing cuts short
FAMILIES: Final = 6
MOST_TASKS: Final = 5_000
LONG_S: Final = 500.0
IMAGES: Final = ("img:1", "img:2", "img:3", "bad:1", "bad:2")
"""Pods of bad images never become ready by themselves."""

POLICIES: Final = ("Retain", "Delete")
VERSIONS: Final = {"StatefulSet": "apps/v1", "ControllerRevision": "apps/v1"}
KINDS: Final = ("StatefulSet", "Pod", "Service", "ControllerRevision", "PersistentVolumeClaim")
MANAGERS: Final = ("lws", "other")
_IN_USE: Final = "kubernetes.io/pvc-protection"  # is not modelled: a claim goes though a pod still uses it
_MINE: Final = "example.com/keep"
_CLAIM: Final = {
    "metadata": {"name": "data"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}


@attrs.frozen
class Operation:
    """A request, or something that happens to a pod. `owners`: kind, name and whether they are blocked; those
    that are not there are referred to by a UID that never was. `stale`: it names a UID or resourceVersion
    that does not hold."""

    verb: str
    kind: str
    name: str
    body: Any = None
    owners: tuple[tuple[str, str, bool], ...] = ()
    manager: str = "lws"
    propagation: str = "Background"
    grace_s: int | None = None
    stale: str = ""

    def __str__(self) -> str:
        fields = attrs.asdict(self, filter=lambda a, v: v not in (a.default, None), recurse=False)
        return " ".join(f"{value}" for value in fields.values()).replace("'", "")


class Model:
    """The cluster in the simulation."""

    def __init__(self, namespace: str, gate: bool) -> None:
        self.namespace = namespace
        world = new_world(gate=gate, timing=Timing(load_s=0.0, stop_s=0.1))
        self.world: World = evolve(world, rules=api.Rules(gate=gate, webhook=False))

    def get(self, kind: str, name: str) -> Object | None:
        return self.world.store.get(kind, self.namespace, name)

    def do(self, operation: Operation) -> int:
        """The HTTP status of the answer."""
        world, rules = self.world, self.world.rules
        store, now_s = world.store, world.now_s
        key = f"{operation.kind}/{self.namespace}/{operation.name}"
        obj = store.objects.get(key)
        match operation.verb:
            case "create":
                store, answer = api.create(store, self._manifest(operation), operation.manager, rules, now_s)
            case "apply":
                store, answer = api.apply(store, self._manifest(operation), operation.manager, rules, now_s)
            case "delete":
                store, answer = api.delete(
                    store,
                    key,
                    now_s,
                    uid=_OTHER_UID if operation.stale == "uid" else "",
                    version="1" if operation.stale == "version" else "",
                    propagation=operation.propagation,
                    grace_s=operation.grace_s,
                )
            case _ if obj is None:
                return 404
            case "finalizers":
                store, answer = self._finalizers(obj, operation.body)
            case "own":
                wanted = tuple(freeze_map(one) for one in self._references(operation)) or None
                store, answer = api.update(store, obj, with_meta(obj, ownerReferences=wanted), rules)
            case "evict":
                store, answer = simulated.fail(store, obj, "Evicted", now_s), api.Answer(200)
            case _:
                ready = operation.verb == "ready"
                store, answer = simulated.set_ready(store, obj, ready, now_s), api.Answer(200)
        self.world = write(world, store)
        return answer.code

    def _finalizers(self, obj: Object, wanted: tuple[str, ...]) -> tuple[Any, api.Answer]:
        store = self.world.store
        if wanted:
            return api.update(store, obj, with_meta(obj, finalizers=wanted), self.world.rules)
        for name in as_list(meta(obj).get("finalizers")):
            now = store.objects.get(key_of(obj))
            store = store if now is None else api.remove_finalizer(store, now, str(name))
        return store, api.Answer(200)

    def _references(self, operation: Operation) -> list[Manifest]:
        return [reference(*one, lambda k, n: _uid(self.get(k, n))) for one in operation.owners]

    def _manifest(self, operation: Operation) -> Object:
        return freeze_map(manifest(operation, self.namespace, self._references(operation)))

    def settle(self) -> None:
        """Go on until nothing is left to be done, later things included. A sync that has failed for long, as
        another pod has the name of one that it would make, may do so for ever."""
        for _ in range(MOST_TASKS):
            task = next(tasks(self.world), None)
            at_s = next_timer_s(self.world)
            if task is not None:
                self.world = perform(self.world, task)
            elif at_s is None or (at_s > self.world.now_s + LONG_S and self._only_fails(at_s)):
                return
            else:
                self.world = advance(self.world, at_s)
        raise AssertionError("the simulation does not come to rest")

    def _only_fails(self, at_s: float) -> bool:
        """Whether only syncs that have failed are left, and the next one would fail again."""
        if not all(isinstance(task, Sync) for _, _, task in self.world.timers):
            return False
        later = advance(self.world, at_s)
        again = next(tasks(later))
        assert isinstance(again, Sync)
        key = f"{again.namespace}/{again.name}"
        return perform(later, again).back_offs.get(key, 0) > later.back_offs.get(key, 0)

    def all(self, kind: str) -> list[Object]:
        return list(self.world.store.all(kind))


class Reality:
    """The cluster itself."""

    def __init__(self, sandbox: Sandbox, kubelet: Kubelet) -> None:
        self.sandbox = sandbox
        self.kubelet = kubelet
        self.refusal = ""

    def do(self, operation: Operation) -> int:
        """The HTTP status of the answer."""
        try:
            return self._do(operation)
        except Refused as refused:
            self.refusal = refused.message
            return refused.code

    def _do(self, operation: Operation) -> int:
        sandbox, kind, name = self.sandbox, operation.kind, operation.name
        parameters = {"fieldManager": operation.manager}
        match operation.verb:
            case "create":
                sandbox.client.request("POST", sandbox.path(kind), self._manifest(operation), **parameters)
                return 201
            case "apply":
                there = sandbox.get(kind, name) is not None
                parameters["force"] = "true"
                sandbox.client.patch(sandbox.path(kind, name), self._manifest(operation), APPLY, **parameters)
                return 200 if there else 201
            case "delete":
                options: Manifest = {"propagationPolicy": operation.propagation}
                if operation.grace_s is not None:
                    options["gracePeriodSeconds"] = operation.grace_s
                if operation.stale:
                    field = {"uid": _OTHER_UID} if operation.stale == "uid" else {"resourceVersion": "1"}
                    options["preconditions"] = field
                sandbox.client.request("DELETE", sandbox.path(kind, name), options)
            case "finalizers":
                change = {"metadata": {"finalizers": list(operation.body) or None}}
                sandbox.client.patch(sandbox.path(kind, name), change, MERGE)
            case "own":
                change = {"metadata": {"ownerReferences": self._references(operation) or None}}
                sandbox.client.patch(sandbox.path(kind, name), change, MERGE)
            case "evict":
                self.kubelet.evict(name)
            case "ready":
                self.kubelet.make_ready(name)
            case _:
                self.kubelet.make_unready(name)
        return 200

    def _references(self, operation: Operation) -> list[Manifest]:
        return [reference(*one, self._uid_of) for one in operation.owners]

    def _uid_of(self, kind: str, name: str) -> str | None:
        found = self.sandbox.get(kind, name)
        return None if found is None else str(found["metadata"]["uid"])

    def _manifest(self, operation: Operation) -> Manifest:
        return manifest(operation, self.sandbox.name, self._references(operation))

    def all(self, kind: str) -> list[Object]:
        return [freeze_map(one) for one in self.sandbox.all(kind)]


_OTHER_UID: Final = "00000000-0000-4000-8000-00000000ffff"


def _uid(obj: Object | None) -> str | None:
    return None if obj is None else uid_of(obj)


def reference(kind: str, name: str, blocks: bool, uid: Callable[[str, str], str | None]) -> Manifest:
    """An owner reference to what there is of the name; to what never was, where there is none."""
    found = uid(kind, name) or str(uuid.uuid5(uuid.NAMESPACE_OID, f"{kind}/{name}"))
    version = VERSIONS.get(kind, "v1")
    return {"apiVersion": version, "kind": kind, "name": name, "uid": found, "blockOwnerDeletion": blocks}


def manifest(operation: Operation, namespace: str, references: list[Manifest]) -> Manifest:
    """The object that is sent."""
    body = dict(operation.body or {})
    metadata: Manifest = {**body.pop("metadata", {}), "name": operation.name, "namespace": namespace}
    if references:
        metadata["ownerReferences"] = references
    if operation.stale == "uid":
        metadata["uid"] = _OTHER_UID
    if operation.stale == "version":
        metadata["resourceVersion"] = "1"
    version = VERSIONS.get(operation.kind, "v1")
    return {"apiVersion": version, "kind": operation.kind, "metadata": metadata, **body}


# -- what is drawn


@attrs.frozen
class Family:
    """What is asked of the StatefulSet of a family."""

    index: int
    replicas: int = 2
    partition: int = 0
    max_unavailable: int = 1
    image: str = IMAGES[0]
    labels: tuple[tuple[str, str], ...] = ()
    retention: tuple[str, str] | None = None  # of claims, when deleted and when scaled; None for no claims

    @property
    def name(self) -> str:
        return f"set-{self.index}"

    @property
    def body(self) -> Manifest:
        mine = {"app": self.name}
        notes = {"metadata": {"labels": mine}}
        if self.image.startswith("bad"):
            notes["metadata"]["annotations"] = {LOAD: "never"}
        containers = [{"name": "main", "image": self.image}]
        rolling = {"partition": self.partition, "maxUnavailable": self.max_unavailable}
        spec: Manifest = {
            "replicas": self.replicas,
            "serviceName": self.name,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": mine},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
            "template": {**notes, "spec": {"terminationGracePeriodSeconds": 5, "containers": containers}},
        }
        if self.retention is not None:
            policy = dict(zip(("whenDeleted", "whenScaled"), self.retention, strict=True))
            spec |= {"volumeClaimTemplates": [_CLAIM], "persistentVolumeClaimRetentionPolicy": policy}
        return {"metadata": {"labels": {**mine, **dict(self.labels)}}, "spec": spec}


class Author:
    """Draws the operations of the families in a namespace."""

    def __init__(self, pick: random.Random, count: int) -> None:
        self.pick = pick
        self.families = [
            Family(index, retention=pick.choice((None, None, *_pairs(POLICIES)))) for index in range(count)
        ]

    def operations(self, model: Model) -> list[Operation]:
        """One for each family."""
        return [self._operation(family, model) for family in self.families]

    def _operation(self, family: Family, model: Model) -> Operation:
        pick = self.pick
        there = model.get("StatefulSet", family.name)
        if there is None:
            return Operation("create", "StatefulSet", family.name, family.body)
        kind = pick.choice(
            ("edit",) * 4 + ("pod",) * 4 + ("beside",) * 3 + ("delete", "stale", "partial", "again")
        )
        match kind:
            case "edit":
                return self._edit(family)
            case "pod":
                return self._pod(family, model) or self._edit(family)
            case "beside":
                return self._beside(family, model)
            case "delete":
                way = pick.choice(("Background", "Foreground"))
                return Operation("delete", "StatefulSet", family.name, propagation=way)
            case "partial":
                return self._partial(family)
            case "stale" if pick.random() < 0.5:
                return Operation(
                    "apply", "StatefulSet", family.name, family.body, stale=pick.choice(("uid", "version"))
                )
            case "stale":
                stale = pick.choice(("uid", "version"))
                return Operation("delete", "StatefulSet", family.name, stale=stale)
            case _ if pick.random() < 0.5:
                return Operation("create", "StatefulSet", family.name, family.body)
            case _:
                body = family.body
                body["spec"]["serviceName"] = "other"
                return Operation("apply", "StatefulSet", family.name, body)

    def _edit(self, family: Family) -> Operation:
        pick = self.pick
        changes: dict[str, dict[str, Any]] = {
            "template": {"image": pick.choice(IMAGES)},
            "replicas": {"replicas": pick.randint(0, 4)},
            "partition": {"partition": pick.randint(0, 4), "max_unavailable": pick.randint(1, 3)},
            "labels": {"labels": tuple((name, pick.choice("xy")) for name in "ab" if pick.random() < 0.5)},
        }
        if family.retention is not None:
            changes["retention"] = {"retention": (pick.choice(POLICIES), pick.choice(POLICIES))}
        family = attrs.evolve(family, **changes[pick.choice(tuple(changes))])
        self.families[family.index] = family
        return Operation("apply", "StatefulSet", family.name, family.body)

    def _partial(self, family: Family) -> Operation:
        """Another manager forces fields that may be the first one's, or gives them up again."""
        pick = self.pick
        labels = {name: pick.choice("xyz") for name in "abc" if pick.random() < 0.5}
        body: Manifest = {"metadata": {"labels": labels}} if labels else {}
        if pick.random() < 0.4:
            body["spec"] = {"replicas": pick.randint(0, 4)}
        if pick.random() < 0.3:
            env = [{"name": name, "value": pick.choice("12")} for name in "AB" if pick.random() < 0.6]
            main = {"name": "main", **({"env": env} if env else {})}
            body.setdefault("spec", {})["template"] = {"spec": {"containers": [main]}}
        return Operation("apply", "StatefulSet", family.name, body, manager="other")

    def _pod(self, family: Family, model: Model) -> Operation | None:
        pick = self.pick
        pods = [pod for pod in model.all("Pod") if name_of(pod).rsplit("-", 1)[0] == family.name]
        if not pods:
            return None
        pod = pick.choice(pods)
        name = name_of(pod)
        if meta(pod).get("finalizers"):
            return Operation("finalizers", "Pod", name, ())
        if terminating(pod):
            return None
        turned = "unready" if is_ready(thaw(pod)) else "ready"
        match pick.choice(("delete", "delete", "evict", "turn", "turn", "keep")):
            case "delete":
                grace_s = pick.choice((None, None, 0, 1, 20))
                way = pick.choice(("Background", "Foreground", "Orphan"))
                return Operation("delete", "Pod", name, grace_s=grace_s, propagation=way)
            case "turn" if dig(pod, "status", "phase") == "Running":
                return Operation(turned, "Pod", name)
            case "keep" if family.retention is None and _may_keep(model, pod):  # a claim in use is not kept
                return Operation("finalizers", "Pod", name, (_MINE,))
            case _:
                return Operation("evict", "Pod", name)

    def _beside(self, family: Family, model: Model) -> Operation:
        """A Service or a ControllerRevision beside the StatefulSet: made, owned otherwise, kept, deleted."""
        pick = self.pick
        kind = pick.choice(("Service", "ControllerRevision"))
        name = f"beside-{family.index}-{pick.choice('ab')}"
        there = model.get(kind, name)
        if there is None:
            return Operation(
                "create", kind, name, _body(kind, family), self._owners(family, model, kind, name)
            )
        if meta(there).get("finalizers") and pick.random() < 0.7:
            return Operation("finalizers", kind, name, ())
        if terminating(there):
            return Operation("delete", kind, name)
        match pick.choice(("delete", "own", "keep", "create")):
            case "delete":
                way = pick.choice(("Background", "Foreground", "Orphan"))
                return Operation("delete", kind, name, propagation=way)
            case "own":
                return Operation("own", kind, name, owners=self._owners(family, model, kind, name))
            case "keep" if _may_keep(model, there):
                return Operation("finalizers", kind, name, (_MINE,))
            case _:
                return Operation("create", kind, name, _body(kind, family))

    def _owners(
        self, family: Family, model: Model, kind: str, name: str
    ) -> tuple[tuple[str, str, bool], ...]:
        pick = self.pick
        pods = [("Pod", f"{family.name}-{ordinal}") for ordinal in range(2)]
        others = [(k, f"beside-{family.index}-{x}") for k in ("Service", "ControllerRevision") for x in "ab"]
        able = [("StatefulSet", family.name), *pods, *(one for one in others if one < (kind, name))]
        chosen = pick.sample(able, pick.choice((0, 1, 1, 1, 2)))
        if len(chosen) > 1:
            chosen = [one for one in chosen if model.get(*one) is not None]
        if _races(model, (kind, name), chosen):
            chosen = []
        return tuple((k, n, pick.random() < 0.5 or _is_kept(model.get(k, n))) for k, n in chosen)


def _is_kept(obj: Object | None) -> bool:
    return obj is not None and bool(meta(obj).get("finalizers"))


def _may_keep(model: Model, obj: Object) -> bool:
    """Whether a finalizer on an object leaves no race. Once it is deleted in the foreground, the collector
    lets go of it and looks at a dependent that does not block it in any order; one that is later stays."""
    references = [ref for kind in KINDS for one in model.all(kind) for ref in owners(one)]
    return all(ref.get("blockOwnerDeletion") is True for ref in references if ref["uid"] == uid_of(obj))


def _races(model: Model, key: Key, chosen: list[Key]) -> bool:
    """Whether something would then have an owner that belongs to another of its owners. Where that one is
    deleted in the foreground the collector looks at both in any order, and cuts a reference or does not."""
    objects = {(kind, name_of(one)): one for kind in KINDS for one in model.all(kind)}
    keys = {uid_of(one): at for at, one in objects.items()}
    above = {
        at: {keys[ref["uid"]] for ref in owners(one) if ref["uid"] in keys} for at, one in objects.items()
    }
    above[key] = set(chosen)
    return any(_belongs(above, at, other) for found in above.values() for at in found for other in found)


def _belongs(above: Mapping[Key, set[Key]], at: Key, other: Key) -> bool:
    """Whether one object is below another. There is no circle among owners."""
    return any(one == other or _belongs(above, one, other) for one in above.get(at, ()))


def _pairs(words: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(one, other) for one in words for other in words]


def _body(kind: str, family: Family) -> Manifest:
    if kind == "Service":
        return {"spec": {"clusterIP": "None", "selector": {"none": family.name}}}
    return {"data": {}, "revision": 1}


# -- what is compared


def state(cluster: Model | Reality, known: Mapping[str, str]) -> dict[str, Any]:
    """All that is to be equal, by object. `known`: the UIDs before the operations."""
    objects = _objects(cluster)
    uids = {uid_of(obj): name_in(obj) for obj in objects}
    return {name_in(obj): _told(obj, uids, known, objects) for obj in objects}


def _objects(cluster: Model | Reality) -> list[Object]:
    """What is compared. The revisions of a StatefulSet that is being deleted are not: it makes them anew
    whenever a pod of its changes after they have been collected."""
    found = [obj.with_("kind", kind) for kind in KINDS for obj in cluster.all(kind)]
    dying = {uid_of(obj) for obj in found if obj["kind"] == "StatefulSet" and terminating(obj)}
    return [obj for obj in found if obj["kind"] != "ControllerRevision" or controller_uid(obj) not in dying]


def uids_of(cluster: Model | Reality) -> dict[str, str]:
    """The UIDs of all objects that are compared, by name."""
    return {name_in(obj): uid_of(obj) for obj in _objects(cluster)}


def name_in(obj: Object) -> str:
    """What it is called in both: revisions of a StatefulSet by what is in them, as their names are hashes."""
    if obj["kind"] != "ControllerRevision" or name_of(obj).startswith("beside"):
        return f"{obj['kind']}/{name_of(obj)}"
    return f"ControllerRevision/{name_of(obj).rsplit('-', 1)[0]}/{_content(obj)}"


def _content(revision: Object) -> str:
    containers = as_list(dig(revision, "data", "spec", "template", "spec", "containers"))
    main = as_map(containers[0]) if containers else {}
    env = ",".join(f"{as_map(e).get('name')}={as_map(e).get('value')}" for e in as_list(main.get("env")))
    return f"{main.get('image')} {env}"


def _told(
    obj: Object, uids: Mapping[str, str], known: Mapping[str, str], objects: list[Object]
) -> dict[str, Any]:
    name = name_in(obj)
    references = {
        f"{uids.get(str(ref['uid']), 'nobody')}"
        f" {ref.get('controller', False)} {ref.get('blockOwnerDeletion', False)}"
        for ref in owners(obj)
    }
    told: dict[str, Any] = {
        "owners": sorted(references),
        "finalizers": sorted(
            name for name in map(str, as_list(meta(obj).get("finalizers"))) if name != _IN_USE
        ),
        "terminating": terminating(obj),
        "grace": meta(obj).get("deletionGracePeriodSeconds"),
        "same": known.get(name) == uid_of(obj),
    }
    revisions = {name_of(one): _content(one) for one in objects if one["kind"] == "ControllerRevision"}
    owned = {controller_uid(one) for one in objects if one["kind"] == "ControllerRevision"}
    match obj["kind"]:
        case "StatefulSet":
            status = as_map(obj.get("status"))
            told |= {field: status.get(field, 0) for field in _COUNTS}
            told["revisions"] = [
                revisions.get(str(status.get(f"{w}Revision"))) for w in ("current", "update")
            ]
            told["observed"] = status.get("observedGeneration") == meta(obj).get("generation")
            told["generation"] = meta(obj).get("generation")
            told["labels"] = meta(obj).get("labels")
            told["spec"] = _without_status(as_map(obj["spec"]))
            told["applied"] = {manager: _applied(obj, manager) for manager in MANAGERS}
        case "Pod":
            if controller_uid(obj) in owned:
                told["revision"] = revisions.get(label(obj, REVISION_LABEL))
            told["phase"] = dig(obj, "status", "phase")
            told["ready"] = conditions(thaw(obj)).get("Ready", {}).get("status") == "True"
            containers = as_list(dig(obj, "spec", "containers"))
            told["containers"] = [(as_map(c).get("image"), as_map(c).get("env")) for c in containers]
        case "ControllerRevision":
            told["number"] = obj.get("revision")
    return told


_COUNTS: Final = ("replicas", "readyReplicas", "availableReplicas", "currentReplicas", "updatedReplicas")


def _without_status(spec: Any) -> Any:
    """The spec, with the template's empty creationTimestamp and such left out."""
    plain = thaw(spec)
    plain["template"]["metadata"] = {k: v for k, v in plain["template"]["metadata"].items() if v}
    for claim in plain.get("volumeClaimTemplates", ()):
        claim["metadata"] = {k: v for k, v in claim["metadata"].items() if v}
    return plain


def _applied(obj: Object, manager: str) -> list[str]:
    """The fields that a manager has by applying."""
    entries = [as_map(one) for one in as_list(meta(obj).get("managedFields"))]
    mine = [e for e in entries if (e.get("manager"), e.get("operation")) == (manager, "Apply")]
    return sorted(leaf for entry in mine for leaf in _leaves(as_map(entry.get("fieldsV1")), ""))


def _leaves(fields: Mapping[str, Any], path: str) -> Iterator[str]:
    inner = {name: below for name, below in fields.items() if name != "."}
    if not inner:
        yield path
    for name, below in inner.items():
        yield from _leaves(below, f"{path}/{name}")


# -- both at once


class Pair:
    """A namespace in both, with its families."""

    def __init__(self, sandbox: Sandbox, kubelet: Kubelet, *, gate: bool, seed: int, families: int) -> None:
        self.sandbox, self.seed = sandbox, seed
        self.model, self.reality = Model(sandbox.name, gate), Reality(sandbox, kubelet)
        self.author = Author(random.Random(seed), families)
        self.told: list[str] = []
        self.count = 0

    def step(self) -> None:
        """One operation of each family in both. Raises AssertionError where the answers differ."""
        self.known = uids_of(self.model), uids_of(self.reality)
        for operation in self.author.operations(self.model):
            self.told.append(str(operation))
            expected, seen = self.model.do(operation), self.reality.do(operation)
            self.count += 1
            if expected != seen:
                words = f"the cluster {seen} {self.reality.refusal}"
                raise AssertionError(f"{operation}: the model answers {expected}, {words}\n{self._said()}")
        before_s = self.model.world.now_s
        self.model.settle()
        waits = self.model.world.now_s - before_s > REST_S  # for a sync that has failed before
        self.patience_s = REST_S + (BACK_OFF_S if waits else 0.0)
        self.expected = state(self.model, self.known[0])

    def compare(self) -> None:
        """Return once both rest alike. Raises AssertionError with what differs."""
        deadline_s, in_a_row = time.monotonic() + self.patience_s, 0
        while in_a_row < 2:
            seen = state(self.reality, self.known[1])
            in_a_row = in_a_row + 1 if seen == self.expected else 0
            if time.monotonic() > deadline_s:
                raise AssertionError(f"{_difference(self.expected, seen)}\n{self._said()}")
            time.sleep(0.1)

    def _said(self) -> str:
        return "\n".join([f"seed {self.seed}, after:", *self.told[-2 * len(self.author.families) :]])


def _difference(expected: Mapping[str, Any], seen: Mapping[str, Any]) -> str:
    lines = []
    for name in {**expected, **seen}:
        one, other = expected.get(name), seen.get(name)
        if one is None or other is None:
            lines.append(f"{name}: {'only real' if one is None else 'only in the model'}")
        elif one != other:
            lines += _apart(name, one, other)
    return "\n".join(lines)


def _apart(path: str, one: Any, other: Any) -> Iterator[str]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in {**one, **other}:
            if one.get(key) != other.get(key):
                yield from _apart(f"{path} {key}", one.get(key), other.get(key))
    else:
        yield f"{path}:\n  model {one}\n  real  {other}"


def live(plane: ControlPlane, *, gate: bool, seed: int, steps: int) -> int:
    """So many operations of each family in a namespace of its own; how many there were. Raises AssertionError
    where model and cluster are not alike."""
    name = f"operations-{seed}"
    plane.client().create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    sandbox = Sandbox(plane, name)
    nodes = [Node(f"{name}-a"), Node(f"{name}-b")]
    try:
        with Kubelet(plane.client("kubelet"), nodes, namespace=name) as kubelet:
            pair = Pair(sandbox, kubelet, gate=gate, seed=seed, families=FAMILIES)
            try:
                for _ in range(steps):
                    pair.step()
                    pair.compare()
            finally:
                for obj in _objects(pair.reality):
                    if meta(obj).get("finalizers"):  # it may be gone by now
                        pair.reality.do(Operation("finalizers", str(obj["kind"]), name_of(obj), ()))
        return pair.count
    finally:
        sandbox.clear()
