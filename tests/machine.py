"""A set and its objects as values for tests of decisions, and as much of a cluster as a controller needs.

The cluster keeps what it is told as an API server would, with resourceVersions, preconditions and owned
fields; its StatefulSet controller and kubelet act only when a test says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs
from building import a_set

from lws_core import controller, names, projection, reading
from lws_core.actions import (
    Action,
    Apply,
    Create,
    Delete,
    Emit,
    Event,
    Kind,
    PatchStatus,
    Read,
    Request,
    TakeFields,
)
from lws_core.admission import admit
from lws_core.codec import decode
from lws_core.desired.pod import stamped_pod
from lws_core.lineage import trace
from lws_core.observed import Group, LeaderStatefulSet, Owner, Pod, Revision, WorkerStatefulSet
from lws_core.options import Options
from lws_core.plan import SetView
from lws_core.sights import Answered, Gone, Outcome, Seen, Synced, Thing
from lws_core.spec import LeaderWorkerSet
from lws_core.summary import ABSENT, GroupState, Summary
from lws_core.times import rfc3339
from lws_core.values import EMPTY, FrozenMap, Json, as_map, as_maps, dig, digest, freeze_map

NAME, NAMESPACE, SET_UID, LEADERS_UID = "serve", "default", "uid-set", "uid-leaders"
START_S = 1_000_000.0  # when tests begin, in epoch seconds


# Values.


def live(
    spec: dict[str, Any] | None = None,
    template: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
    rolling: dict[str, Any] | None = None,
) -> LeaderWorkerSet:
    """A stored set of 3 groups of 2, but for what is given."""
    identity = {"namespace": NAMESPACE, "uid": SET_UID, "generation": 1, "resourceVersion": "1"}
    return decode(a_set(spec, {"size": 2, **(template or {})}, {**identity, **(metadata or {})}, rolling))


def leader(index: int, key: str = "new", **fields: Any) -> Pod:
    """A ready leader pod of the leader StatefulSet, admitted and on a node."""
    pod = Pod(
        name=names.leader_name(NAME, index),
        uid=f"uid-{index}",
        resource_version="1",
        owner=Owner("StatefulSet", NAME, LEADERS_UID),
        group_index=index,
        worker_index=0,
        revision_key=key,
        native_revision=f"{NAME}-{key}",
        group_key=f"group-key-{index}",
        phase="Running",
        ready=True,
        node_name="node",
    )
    return attrs.evolve(pod, **fields)


def worker(index: int, worker_index: int, key: str = "new", **fields: Any) -> Pod:
    """A ready worker pod of its group's worker StatefulSet."""
    pod = Pod(
        name=names.worker_name(NAME, index, worker_index),
        uid=f"uid-{index}-{worker_index}",
        resource_version="1",
        owner=Owner("StatefulSet", names.leader_name(NAME, index), f"uid-workers-{index}"),
        group_index=index,
        worker_index=worker_index,
        revision_key=key,
        phase="Running",
        ready=True,
    )
    return attrs.evolve(pod, **fields)


def workers(index: int, key: str = "new", **fields: Any) -> WorkerStatefulSet:
    """The worker StatefulSet, of one worker, that belongs to a group's leader."""
    found = WorkerStatefulSet(
        name=names.leader_name(NAME, index),
        uid=f"uid-workers-{index}",
        resource_version="1",
        generation=1,
        owner=Owner("Pod", names.leader_name(NAME, index), f"uid-{index}"),
        terminating=False,
        group_index=index,
        revision_key=key,
        replicas=1,
        observed_generation=1,
    )
    return attrs.evolve(found, **fields)


def group(index: int, key: str = "new", size: int = 2, **leader_fields: Any) -> Group:
    """A whole group, ready but for what is said of its leader."""
    return Group(
        index,
        leader(index, key, **leader_fields),
        tuple(worker(index, w, key) for w in range(1, size)),
        workers(index, key, replicas=size - 1) if size > 1 else None,
    )


def statefulset(**fields: Any) -> LeaderStatefulSet:
    """The leader StatefulSet of the set at rest: three leaders on revision `new`, all observed."""
    found = LeaderStatefulSet(
        name=NAME,
        namespace=NAMESPACE,
        uid=LEADERS_UID,
        resource_version="5",
        generation=2,
        owner=Owner(names.KIND, NAME, SET_UID),
        terminating=False,
        labels=FrozenMap({names.SET_NAME: NAME, names.REVISION_KEY: "new"}),
        annotations=FrozenMap({names.REPLICAS: "3"}),
        replicas=3,
        partition=0,
        template=EMPTY,
        service_name=NAME,
        selector=FrozenMap({names.SET_NAME: NAME, names.WORKER_INDEX: "0"}),
        observed_generation=2,
        status_replicas=3,
        ready_replicas=3,
        current_revision=f"{NAME}-new",
        update_revision=f"{NAME}-new",
    )
    return attrs.evolve(found, **fields)


def own_revision(lws: LeaderWorkerSet, key: str, number: int, data: FrozenMap[Json], **more: Any) -> Revision:
    """A ControllerRevision of the set."""
    owner = Owner(names.KIND, lws.name, lws.metadata.uid)
    found = Revision(
        f"{lws.name}-{key}-{number}", f"uid-{key}-{number}", "1", owner, False, key, number, data
    )
    return attrs.evolve(found, **more)


def folded(states: Sequence[GroupState]) -> Summary:
    """The summary of groups 0, 1, 2 and so on in these states."""
    summary = Summary()
    for index, state in enumerate(states):
        summary = summary.fold(index, ABSENT, state)
    return summary


# A cluster.


class Cluster:
    """One set's objects as an API server keeps them, with the feature gate of maxUnavailable off."""

    def __init__(self, manifest: FrozenMap[Json]) -> None:
        self.objects: dict[tuple[Kind, str], FrozenMap[Json]] = {}
        self.events: list[Event] = []
        self.refusals: dict[tuple[type[Action], Kind, str], Outcome] = {}
        self._version = 0
        self._set_name = str(dig(manifest, "metadata", "name"))
        self.put(manifest)

    @property
    def lws(self) -> LeaderWorkerSet:
        return decode(self.objects["LeaderWorkerSet", self._set_name])

    @property
    def leaders(self) -> LeaderStatefulSet:
        return projection.leader_statefulset(self.objects["StatefulSet", self._set_name])

    def things(self) -> list[Thing]:
        found = (self.thing(obj) for obj in self.objects.values())
        return [thing for thing in found if thing is not None]

    def thing(self, obj: FrozenMap[Json]) -> Thing | None:
        return reading.read_set(obj) if obj["kind"] == names.KIND else projection.thing(obj, self._set_name)

    def put(self, obj: FrozenMap[Json]) -> FrozenMap[Json]:
        """Store an object as somebody else's write: a new one gets a UID, a changed spec a generation."""
        key: Any = (obj["kind"], dig(obj, "metadata", "name"))
        before = self.objects.get(key)
        if before is not None and _bare(before) == _bare(obj):
            return before  # nothing changes
        self._version += 1
        metadata = {"namespace": NAMESPACE, **as_map(obj["metadata"])}
        metadata["resourceVersion"] = str(self._version)
        metadata.setdefault("uid", f"uid-{self._version}")
        generation = dig(before, "metadata", "generation")
        same = before is not None and before.get("spec") == obj.get("spec")
        if isinstance(generation, int):
            metadata["generation"] = generation + (0 if same else 1)
        else:
            metadata.setdefault("generation", 1)
        self.objects[key] = obj | {"metadata": freeze_map(metadata)}
        return self.objects[key]

    def change(self, kind: Kind, name: str, **fields: Any) -> None:
        """Change fields of an object, given by path: `spec__replicas=5`."""
        obj = self.objects[kind, name]
        for path, value in fields.items():
            obj = as_map(_with(obj, path.split("__"), freeze_map({"v": value})["v"]))
        self.put(obj)

    def drop(self, kind: Kind, name: str) -> None:
        """Remove an object, and all that it owns."""
        gone = self.objects.pop((kind, name))
        uid = dig(gone, "metadata", "uid")
        for (owned_kind, owned), obj in list(self.objects.items()):
            owners = [owner.get("uid") for owner in as_maps(dig(obj, "metadata", "ownerReferences"))]
            if uid in owners and (owned_kind, owned) in self.objects:
                self.drop(owned_kind, owned)

    def answer(self, action: Action) -> Outcome:
        """Carry out an action."""
        if isinstance(action, Emit):
            self.events.append(action.event)
            return Outcome(201)
        refusal = self.refusals.get((type(action), action.ref.kind, action.ref.name))
        if refusal is not None:
            return refusal
        found = self.objects.get((action.ref.kind, action.ref.name))
        if isinstance(action, Create):
            return self._create(action) if found is None else Outcome(409, message="already exists")
        if found is None:
            return Outcome(404, message="not found")
        if isinstance(action, Read):
            return Outcome(200, self.thing(found))
        if _preconditions(action) != (
            dig(found, "metadata", "uid"),
            dig(found, "metadata", "resourceVersion"),
        ):
            return Outcome(409, message="the object has been modified")
        if isinstance(action, Delete):
            self.drop(action.ref.kind, action.ref.name)
            return Outcome(200)
        if isinstance(action, PatchStatus):
            return Outcome(200, self.thing(self.put(found.with_("status", action.status))))
        if isinstance(action, TakeFields):
            return Outcome(200, self.thing(self.put(_taken(found))))
        return Outcome(200, self.thing(self.put(_stored(_applied(found, action.manifest), "Apply"))))

    def _create(self, action: Create) -> Outcome:
        return Outcome(201, self.thing(self.put(_stored(action.manifest, "Update"))))

    def run_leaders(self) -> None:
        """The StatefulSet controller: observe the spec, delete what is scaled away, create what is missing.

        A new leader is of the update revision, an old one stays; none is replaced.
        """
        stored = self.objects["StatefulSet", self._set_name]
        replicas = dig(stored, "spec", "replicas")
        assert isinstance(replicas, int)
        native = f"{self._set_name}-{digest(dig(stored, 'spec', 'template'))}"
        current = dig(stored, "status", "currentRevision") or native
        for name in {native, current}:
            self._native_revision(stored, str(name))
        for kind, name in list(self.objects):
            parent, ordinal = names.parent_and_ordinal(name)
            if kind == "Pod" and parent == self._set_name and ordinal is not None and ordinal >= replicas:
                self.drop(kind, name)
        for index in range(replicas):
            if ("Pod", names.leader_name(self._set_name, index)) not in self.objects:
                self._create_pod(stored, index, native)
        status = {"replicas": replicas, "currentRevision": current, "updateRevision": native}
        status["observedGeneration"] = dig(stored, "metadata", "generation")
        if as_map(stored.get("status")) != freeze_map(status):
            self.put(stored.with_("status", freeze_map(status)))

    def run_workers(self) -> None:
        """The StatefulSet controller once more: create missing workers."""
        for (kind, name), obj in list(self.objects.items()):
            if kind != "StatefulSet" or name == self._set_name:
                continue
            replicas = dig(obj, "spec", "replicas")
            assert isinstance(replicas, int)
            for index in range(1, replicas + 1):
                if ("Pod", f"{name}-{index}") not in self.objects:
                    self._create_pod(obj, index, "native")
            generation = dig(obj, "metadata", "generation")
            if dig(obj, "status", "observedGeneration") != generation:
                self.put(obj.with_("status", freeze_map({"observedGeneration": generation})))

    def ready(self, *pods: str, at_s: float = START_S) -> None:
        """The kubelet: these pods are Ready, all that are not where none is named."""
        condition = {"type": "Ready", "status": "True", "lastTransitionTime": rfc3339(at_s)}
        for (kind, name), obj in list(self.objects.items()):
            if kind == "Pod" and (name in pods or not pods):
                if not pods and dig(obj, "status", "conditions"):
                    continue
                self.put(obj.with_("status", freeze_map({"phase": "Running", "conditions": [condition]})))

    def replace_leader(self) -> None:
        """The StatefulSet controller: replace the highest outdated leader that the partition releases."""
        leaders = self.leaders
        for index in reversed(range(leaders.partition, leaders.replicas)):
            pod = self.objects.get(("Pod", names.leader_name(self._set_name, index)))
            native = dig(pod, "metadata", "labels", names.NATIVE_REVISION)
            if pod is not None and native != leaders.update_revision:
                self.drop("Pod", names.leader_name(self._set_name, index))
                return

    def _native_revision(self, stored: FrozenMap[Json], name: str) -> None:
        if ("ControllerRevision", name) in self.objects:
            return
        metadata = {
            "name": name,
            "labels": dig(stored, "spec", "template", "metadata", "labels"),
            "ownerReferences": [_reference("StatefulSet", stored)],
        }
        self.put(freeze_map({"kind": "ControllerRevision", "metadata": metadata, "revision": 1}))

    def _create_pod(self, stored: FrozenMap[Json], ordinal: int, native: str) -> None:
        pod = admit(stamped_pod(stored, ordinal, {names.NATIVE_REVISION: native}), Options())
        owner = _reference("StatefulSet", stored)
        metadata = as_map(pod["metadata"]) | {"ownerReferences": freeze_map({"v": [owner]})["v"]}
        pending = freeze_map({"phase": "Pending"})
        spec = as_map(pod["spec"]) | {"nodeName": "node"}
        self.put(pod | {"metadata": metadata, "status": pending, "spec": spec})


def _bare(obj: FrozenMap[Json]) -> FrozenMap[Json]:
    """An object without what the API server itself gives it."""
    metadata = {"namespace": NAMESPACE} | as_map(obj["metadata"])
    return obj.with_("metadata", freeze_map(metadata).without("resourceVersion", "generation"))


def _reference(kind: str, obj: FrozenMap[Json]) -> dict[str, Json]:
    metadata = as_map(obj["metadata"])
    return {"kind": kind, "name": metadata["name"], "uid": metadata["uid"], "controller": True}


def _identity(obj: FrozenMap[Json]) -> tuple[Json, Json]:
    return dig(obj, "metadata", "uid"), dig(obj, "metadata", "resourceVersion")


def _with(value: Json, path: Sequence[str], new: Json) -> Json:
    if not path:
        return new
    here = as_map(value)
    return here.with_(path[0], _with(here.get(path[0]), path[1:], new))


def _preconditions(action: Request) -> tuple[Json, Json]:
    if isinstance(action, Apply):
        return _identity(action.manifest)
    assert isinstance(action, Delete | PatchStatus | TakeFields)
    return action.uid, action.resource_version


def _stored(manifest: FrozenMap[Json], operation: str) -> FrozenMap[Json]:
    """What the server keeps of a written manifest: who wrote what, and no maxUnavailable."""
    metadata = as_map(manifest["metadata"])
    owned = {f"f:{field}": _fields(metadata.get(field)) for field in ("labels", "annotations")}
    template = {"f:template": {"f:metadata": {}, "f:spec": {}}}  # each as one field: none is left behind
    fields = {"f:metadata": owned, "f:spec": template}
    entry = {"manager": names.FIELD_MANAGER, "operation": operation, "fieldsV1": fields}
    stored = manifest | {"metadata": metadata | freeze_map({"managedFields": [entry]})}
    rolling = as_map(dig(manifest, "spec", "updateStrategy", "rollingUpdate"))
    if not rolling:
        return stored
    path = ("spec", "updateStrategy", "rollingUpdate")
    return as_map(_with(stored, path, rolling.without("maxUnavailable")))


def _fields(value: Json) -> dict[str, Any]:
    return {f"f:{key}": {} for key in as_map(value)}


def _applied(before: FrozenMap[Json], manifest: FrozenMap[Json]) -> FrozenMap[Json]:
    """An object after an apply: a field that its manager applied before and now leaves out is removed."""
    metadata, given = as_map(before["metadata"]), as_map(manifest["metadata"])
    for field in ("labels", "annotations"):
        kept = as_map(metadata.get(field))
        for entry in as_maps(metadata.get("managedFields")):
            if entry.get("operation") == "Apply":
                owned = as_map(dig(entry, "fieldsV1", "f:metadata", f"f:{field}"))
                kept = kept.without(*(key.removeprefix("f:") for key in owned))
        metadata = metadata.with_(field, kept | as_map(given.get(field)))
    after = before | manifest | {"metadata": metadata}
    if "spec" in before:
        after = after.with_("spec", as_map(before["spec"]) | as_map(manifest.get("spec")))
    return after


def _taken(obj: FrozenMap[Json]) -> FrozenMap[Json]:
    metadata = as_map(obj["metadata"])
    entries = [entry | {"operation": "Apply"} for entry in as_maps(metadata.get("managedFields"))]
    return obj.with_("metadata", metadata.with_("managedFields", tuple(entries)))


class Bench:
    """A controller at work on a cluster. Every look sees all that the cluster holds."""

    def __init__(self, manifest: FrozenMap[Json], options: Options = Options()) -> None:
        self.cluster = Cluster(manifest)
        self.memory = controller.start(options)
        self.now_s = START_S
        self._shown: dict[tuple[Kind, str], tuple[Json, Json]] = {}
        self.watch()
        self.memory = controller.observe(self.memory, Synced(), self.now_s)

    def watch(self) -> None:
        """Let the controller see what has changed in the cluster."""
        for key, (uid, _) in list(self._shown.items()):
            if key not in self.cluster.objects:
                del self._shown[key]
                self.memory = controller.observe(self.memory, Gone(*key, str(uid)), self.now_s)
        for key, obj in self.cluster.objects.items():
            identity = _identity(obj)
            thing = self.cluster.thing(obj)
            if self._shown.get(key) != identity and thing is not None:
                self._shown[key] = identity
                self.memory = controller.observe(self.memory, Seen(thing), self.now_s)

    def drop_unseen(self, kind: Kind, name: str) -> None:
        """Let an object be gone, of which the watch does not tell."""
        del self.cluster.objects[kind, name], self._shown[kind, name]

    def look(self) -> tuple[Action, ...]:
        """What the controller wants now; nothing is carried out."""
        self.watch()
        found = controller.look(self.memory, self.now_s)
        self.memory = found.memory
        return found.actions

    def hear(self, action: Action, outcome: Outcome | None = None) -> None:
        """Carry out an action, or let it have this outcome."""
        answer = self.cluster.answer(action) if outcome is None else outcome
        self.memory = controller.observe(self.memory, Answered(action, answer), self.now_s)

    def look_until(self, partition: int) -> None:
        """Carry out what is wanted until leaders are released down to there; none of them goes yet."""
        while self.cluster.leaders.partition != partition:
            for action in self.look():
                self.hear(action)

    def settle(self, limit: int = 50) -> list[Action]:
        """Carry out what the controller wants until it wants nothing more; all that it wanted."""
        done: list[Action] = []
        for _ in range(limit):
            actions = self.look()
            if not actions:
                return done
            for action in actions:
                self.hear(action)
            done += actions
        raise AssertionError(f"still at work after {limit} looks: {done[-3:]}")

    def run(self) -> list[Action]:
        """Settle with the StatefulSet controller and the kubelet at work too; all that was wanted."""
        done: list[Action] = []
        for _ in range(50):
            before = dict(self.cluster.objects)
            done += self.settle()
            if ("StatefulSet", NAME) in self.cluster.objects:
                self.cluster.run_leaders()
            done += self.settle()
            self.cluster.run_workers()
            self.cluster.ready(at_s=self.now_s)
            self.now_s += 2.0
            done += self.settle()
            if self.cluster.objects != before:
                continue
            if ("StatefulSet", NAME) in before:
                self.cluster.replace_leader()
            if self.cluster.objects == before:
                return done
        raise AssertionError("the cluster never comes to rest")

    def edit(self, **fields: Any) -> None:
        """Change the set: `spec__replicas=5`."""
        self.cluster.change("LeaderWorkerSet", NAME, **fields)


def at_rest(manifest: FrozenMap[Json], options: Options = Options()) -> Bench:
    """A controller whose set has come to rest."""
    bench = Bench(manifest, options)
    bench.run()
    return bench


def taken_over(
    lws_name: str, objects: Iterable[FrozenMap[Json]], now_s: float, options: Options = Options()
) -> controller.Look:
    """The first look of a controller that starts on these objects."""
    memory = controller.start(options)
    for obj in objects:
        of_set = obj["kind"] == names.KIND
        thing = reading.read_set(obj) if of_set else projection.thing(obj, lws_name)
        if thing is not None:
            memory = controller.observe(memory, Seen(thing), now_s)
    return controller.step(memory, Synced(), now_s)


def writes(actions: Iterable[Action]) -> list[str]:
    """Actions in short, without events: `Create StatefulSet serve`."""
    return [
        f"{type(action).__name__} {action.ref.kind} {action.ref.name}"
        for action in actions
        if not isinstance(action, Emit)
    ]


def view_of(lws: LeaderWorkerSet, states: Sequence[GroupState], **fields: Any) -> SetView:
    """What a decision about the set is made from, with its lineage traced from the revisions given."""
    revisions = fields.get("revisions", ())
    leaders = fields.get("statefulset")
    lineage = fields.pop("lineage", None) or trace(lws, leaders, revisions)
    return SetView(lineage=lineage, summary=folded(states), **fields)


def of_type(actions: Iterable[Action], *types: type) -> list[Any]:
    """Those of the actions that are of these types."""
    return [action for action in actions if isinstance(action, types)]


def notes(bench: Bench) -> list[str]:
    """What the events so far have told."""
    return [event.note for event in bench.cluster.events]
