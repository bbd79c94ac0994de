"""A script of what happens to a set: read from a document, with every fault and its path at once.

    apiVersion: simulation.lws.x-k8s.io/v1
    kind: Scenario
    cluster: {load: 2m}
    steps:
    - template: {}            # the template changes
    - after: 90s
      crash: [3]              # a container of group 3 restarts

docs/simulation.md describes every field. Steps are taken one after another, each once the cluster has come to
rest, or when `at`, `after`, `events` or `when` says. All that one step names happens at the same moment.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Final, TypeAlias

import attrs

from lws_core.errors import FieldError, InvalidManifest
from lws_core.values import EMPTY, FrozenMap, Json, Labels, as_map

API_VERSION: Final = "simulation.lws.x-k8s.io/v1"
KIND: Final = "Scenario"
NEVER: Final = float("inf")
_NUMBER: Final = r"([0-9]+(?:\.[0-9]+)?)"
_DURATION: Final = re.compile(f"(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?")
_MOST_NODES: Final = 10_000
_LONGEST_S: Final = 1e9  # some thirty years
_MOST: Final = 2**31 - 1
_INDEX: Final = re.compile(r"[0-9]{1,9}")
_OBJECT: Final = re.compile(r"([A-Za-z]+)/([a-z0-9][a-z0-9.-]*)")
_CODES: Final = (403, 409, 422, 429, 500, 503, 504)
LOST: Final = "lost"
UNSENT: Final = "unsent"
REPEATED: Final = "repeated"
WATCHED: Final = (
    "LeaderWorkerSet",
    "StatefulSet",
    "Pod",
    "Service",
    "ControllerRevision",
    "PodGroup",
    "Node",
)
_MOST_FAULTS: Final = 1000
_TIMING: Final = ("at", "after", "events", "when")


@attrs.frozen
class Nodes:
    """Some nodes alike. "{i}" in a label's value becomes the node's number among them, from 0."""

    count: int
    labels: Labels = EMPTY
    allocatable: FrozenMap[Json] = EMPTY


@attrs.frozen
class Cluster:
    """The cluster that a scenario runs in.

    gate: the feature gate MaxUnavailableStatefulSet. load_s: how long a pod takes to become ready; None: only
    when a step says so. stop_s: how long a pod takes to end, at most its grace period. Without nodes there is
    always another that suits a pod. seed: draws the order of what is independent, None: always the same.
    """

    gate: bool = False
    load_s: float | None = 60.0
    stop_s: float = 5.0
    nodes: tuple[Nodes, ...] = ()
    seed: int | None = None


@attrs.frozen
class Place:
    """A pod by group and worker index; worker 0 is the leader."""

    group: int
    worker: int = 0


@attrs.frozen
class SetField:
    """A field of the set gets a value; `path` is dotted, from the top: spec.replicas."""

    path: str
    value: Json


@attrs.frozen
class Become:
    """The whole manifest of the set is replaced, but for its status."""

    manifest: FrozenMap[Json]


@attrs.frozen
class ChangeTemplate:
    """Both pod templates change. `load_s`: how long the new pods take, NEVER for those that never are ready,
    None as the others; `image` replaces that of the first containers."""

    load_s: float | None = None
    image: str = ""


@attrs.frozen
class Revert:
    """The leaderWorkerTemplate goes back to what it was before the last change of it."""


@attrs.frozen
class Scale:
    """The scale subresource is written, as an autoscaler does."""

    replicas: int


@attrs.frozen
class TurnReady:
    """All pods of some groups become ready, or the leaders of some fall unready."""

    groups: tuple[int, ...]
    ready: bool


@attrs.frozen
class Crash:
    """A container of each pod restarts; it is ready again after its load time."""

    pods: tuple[Place, ...]


@attrs.frozen
class Evict:
    """Each pod fails for good, evicted by its node."""

    pods: tuple[Place, ...]


@attrs.frozen
class DeletePods:
    """Somebody deletes each pod."""

    pods: tuple[Place, ...]


@attrs.frozen
class Kill:
    """Somebody deletes each pod without any grace: it is gone at once."""

    pods: tuple[Place, ...]


@attrs.frozen
class LoseNode:
    """The node of each pod is lost, or comes back."""

    pods: tuple[Place, ...]
    back: bool = False


@attrs.frozen
class SlowLoad:
    """Pods of a group that start from now on take that long, or NEVER become ready."""

    group: int
    load_s: float


@attrs.frozen
class AddNodes:
    """More nodes join."""

    nodes: Nodes


@attrs.frozen
class DeleteSet:
    """The set is deleted, its dependents in the background."""


@attrs.frozen
class CreateSet:
    """The set that was deleted is created again, as it was."""


@attrs.frozen
class RestartOperator:
    """The operator loses its memory and lists everything again."""


@attrs.frozen
class FailRequests:
    """What becomes of the operator's next requests, after those that are to fail already.

    answer: an HTTP status that the API server answers, having done nothing; LOST: carried out, and the answer
    never arrives; UNSENT: never arrives itself; REPEATED: it arrives twice, and the second answer is heard.
    """

    answer: int | str
    count: int = 1


@attrs.frozen
class HoldWatch:
    """The operator's watch of some kinds shows nothing any more, or goes on."""

    kinds: tuple[str, ...]
    held: bool = True


@attrs.frozen
class Target:
    """An object of the set's namespace."""

    kind: str
    name: str


@attrs.frozen
class EditObject:
    """Somebody changes fields of an object by hand: paths as of SetField, None for a field that goes."""

    target: Target
    fields: FrozenMap[Json]


@attrs.frozen
class DeleteObject:
    """Somebody deletes each object by hand, in the background."""

    targets: tuple[Target, ...]


Deed: TypeAlias = (
    SetField
    | Become
    | ChangeTemplate
    | Revert
    | Scale
    | TurnReady
    | Crash
    | Evict
    | DeletePods
    | Kill
    | LoseNode
    | SlowLoad
    | AddNodes
    | DeleteSet
    | CreateSet
    | RestartOperator
    | FailRequests
    | HoldWatch
    | EditObject
    | DeleteObject
)


@attrs.frozen
class Condition:
    """What a step waits for; None is not asked for."""

    ready: int | None = None
    updated: int | None = None
    partition: int | None = None
    replicas: int | None = None


@attrs.frozen
class Step:
    """What happens at one moment, and when: at a second since the first step, so long after the step before,
    after so many single events, once a condition holds, or once the cluster has come to rest. Without deeds
    it only waits."""

    deeds: tuple[Deed, ...]
    at_s: float | None = None
    after_s: float | None = None
    when: Condition | None = None
    event_count: int | None = None


@attrs.frozen
class Scenario:
    """A script, and the cluster that it runs in. `strict`: rules beyond those of single writes are judged too
    (strictness.py)."""

    steps: tuple[Step, ...]
    cluster: Cluster = Cluster()
    strict: bool = False


def read_scenario(document: Json) -> Scenario:
    """The scenario in a document. Raises InvalidManifest with every fault."""
    reader = _Reader()
    scenario = reader.scenario(document)
    if reader.errors:
        raise InvalidManifest(reader.errors)
    return scenario


def parse_duration_s(text: Json) -> float:
    """ "90s", "2m", "1h30m", or a number of seconds. Raises ValueError, saying what a duration looks like or
    how long it may be."""
    total_s = _seconds(text)
    if total_s is None:
        raise ValueError('must be a duration such as "90s", "2m" or "1h30m", or a number of seconds')
    if total_s > _LONGEST_S:
        raise ValueError(f"must be {_LONGEST_S:.0f} seconds at most")
    return float(total_s)


def _seconds(text: Json) -> float | None:
    if isinstance(text, int | float) and not isinstance(text, bool):
        return text if text >= 0 else None
    match = _DURATION.fullmatch(text) if isinstance(text, str) and text else None
    if match is None:
        return None
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds


def duration(seconds: float) -> str:
    """A number of seconds as a duration of two units at most: "0s", "90s", "4m10s", "2h05m"."""
    whole = round(seconds)
    if whole < 120:
        return f"{seconds:.4g}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 120:
        return f"{minutes}m{rest:02d}s" if rest else f"{minutes}m"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours}h{minutes:02d}m" if minutes else f"{hours}h"


class _Reader:
    """Reads values and collects what is wrong with them."""

    def __init__(self) -> None:
        self.errors: list[FieldError] = []
        self._node_count = 0
        self._deeds: dict[str, Callable[[Json, str], Iterator[Deed]]] = {
            "set": self._set_fields,
            "template": self._template,
            "revert": lambda value, path: self._flag(value, path, Revert()),
            "scale": lambda value, path: iter((Scale(self._count(value, path)),)),
            "ready": lambda value, path: iter((TurnReady(self._groups(value, path), True),)),
            "unready": lambda value, path: iter((TurnReady(self._groups(value, path), False),)),
            "crash": lambda value, path: iter((Crash(self._places(value, path)),)),
            "evict": lambda value, path: iter((Evict(self._places(value, path)),)),
            "delete": lambda value, path: iter((DeletePods(self._places(value, path)),)),
            "kill": lambda value, path: iter((Kill(self._places(value, path)),)),
            "loseNode": lambda value, path: iter((LoseNode(self._places(value, path)),)),
            "restoreNode": lambda value, path: iter((LoseNode(self._places(value, path), back=True),)),
            "load": self._slow_loads,
            "addNodes": lambda value, path: (AddNodes(nodes) for nodes in self._node_list(value, path)),
            "deleteSet": lambda value, path: self._flag(value, path, DeleteSet()),
            "createSet": lambda value, path: self._flag(value, path, CreateSet()),
            "restartOperator": lambda value, path: self._flag(value, path, RestartOperator()),
            "failRequests": self._faults,
            "holdWatch": lambda value, path: iter((HoldWatch(self._kinds(value, path)),)),
            "releaseWatch": lambda value, path: iter((HoldWatch(self._kinds(value, path), held=False),)),
            "edit": self._edits,
            "deleteObject": lambda value, path: iter((DeleteObject(self._targets(value, path)),)),
        }

    def scenario(self, document: Json) -> Scenario:
        top = self._map(document, "", ("apiVersion", "kind", "metadata", "cluster", "strict", "steps"))
        for field, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
            if top.get(field) != wanted:
                self._wrong(field, top.get(field), f'must be "{wanted}"')
        steps = self._list(top.get("steps"), "steps")
        if isinstance(top.get("steps"), tuple) and not steps:
            self._wrong("steps", (), "must have at least one step")
        return Scenario(
            tuple(self._step(step, f"steps[{index}]") for index, step in enumerate(steps)),
            self._cluster(top.get("cluster")),
            self._bool(top.get("strict", False), "strict"),
        )

    def _cluster(self, value: Json) -> Cluster:
        if value is None:
            return Cluster()
        fields = self._map(value, "cluster", ("maxUnavailableStatefulSet", "load", "stop", "nodes", "seed"))
        load = fields.get("load", 60)
        return Cluster(
            self._bool(fields.get("maxUnavailableStatefulSet", False), "cluster.maxUnavailableStatefulSet"),
            None if load == "manual" else self._duration(load, "cluster.load", 'or "manual"'),
            self._duration(fields.get("stop", 5), "cluster.stop"),
            self._node_list(fields["nodes"], "cluster.nodes") if "nodes" in fields else (),
            self._count(fields["seed"], "cluster.seed") if "seed" in fields else None,
        )

    def _step(self, value: Json, path: str) -> Step:
        faults = len(self.errors)
        fields = self._map(value, path, (*_TIMING, *self._deeds))
        deeds: list[Deed] = []
        for name, read in self._deeds.items():
            if name in fields:
                deeds += read(fields[name], f"{path}.{name}")
        timing = [name for name in _TIMING if name in fields]
        if not deeds and not timing and isinstance(value, FrozenMap) and len(self.errors) == faults:
            self._wrong(
                path, value, f"must wait or do something: one of {', '.join((*_TIMING, *self._deeds))}"
            )
        if len(timing) > 1:
            self._wrong(
                f"{path}.{timing[1]}", fields[timing[1]], f"cannot be given together with {timing[0]}"
            )
        return Step(
            tuple(deeds),
            self._duration(fields["at"], f"{path}.at") if "at" in fields else None,
            self._duration(fields["after"], f"{path}.after") if "after" in fields else None,
            self._condition(fields["when"], f"{path}.when") if "when" in fields else None,
            self._count(fields["events"], f"{path}.events") if "events" in fields else None,
        )

    def _condition(self, value: Json, path: str) -> Condition:
        known = ("ready", "updated", "partition", "replicas")
        fields = self._map(value, path, known)
        counts = {name: self._count(fields[name], f"{path}.{name}") for name in known if name in fields}
        if isinstance(value, FrozenMap) and not value:
            self._wrong(path, value, f"must name a count to wait for: one of {', '.join(known)}")
        return Condition(**counts)

    def _set_fields(self, value: Json, path: str) -> Iterator[Deed]:
        for field, item in self._fields(value, path).items():
            yield SetField(field, item)

    def _fields(self, value: Json, path: str) -> FrozenMap[Json]:
        fields = self._map(value, path, None)
        for field in fields:
            if not field.startswith(("spec.", "metadata.labels", "metadata.annotations")):
                detail = 'must be a path such as "spec.replicas" or "metadata.annotations.note"'
                self._wrong(path, field, detail)
        return fields

    def _template(self, value: Json, path: str) -> Iterator[Deed]:
        fields = self._map(value, path, ("load", "image"))
        load_s = None
        if "load" in fields:
            load_s = self._load(fields["load"], f"{path}.load")
        image = fields.get("image", "")
        if not isinstance(image, str):
            self._wrong(f"{path}.image", image, "must be a string")
            image = ""
        yield ChangeTemplate(load_s, image)

    def _slow_loads(self, value: Json, path: str) -> Iterator[Deed]:
        for group, load in self._map(value, path, None).items():
            if not _INDEX.fullmatch(group):
                self._wrong(path, group, "must be the index of a group")
            else:
                yield SlowLoad(int(group), self._load(load, f"{path}[{group}]"))

    def _load(self, value: Json, path: str) -> float:
        return NEVER if value == "never" else self._duration(value, path, 'or "never"')

    def _faults(self, value: Json, path: str) -> Iterator[Deed]:
        fields = self._map(value, path, ("with", "count"))
        answer, known = fields.get("with"), (*_CODES, LOST, UNSENT, REPEATED)
        if answer not in known or isinstance(answer, bool) or not isinstance(answer, int | str):
            self._wrong(f"{path}.with", answer, f"must be one of {', '.join(map(str, known))}")
            answer = _CODES[0]
        count = self._count(fields.get("count", 1), f"{path}.count")
        if count > _MOST_FAULTS:
            self._wrong(f"{path}.count", count, f"must be at most {_MOST_FAULTS}")
        yield FailRequests(answer, min(count, _MOST_FAULTS))

    def _kinds(self, value: Json, path: str) -> tuple[str, ...]:
        items = value if isinstance(value, tuple) else (value,)
        for index, item in enumerate(items):
            if item not in WATCHED:
                self._wrong(f"{path}[{index}]", item, f"must be one of {', '.join(WATCHED)}")
        return tuple([str(item) for item in items if item in WATCHED])

    def _edits(self, value: Json, path: str) -> Iterator[Deed]:
        for key, fields in self._map(value, path, None).items():
            yield EditObject(self._target(key, path), self._fields(fields, f"{path}[{key}]"))

    def _targets(self, value: Json, path: str) -> tuple[Target, ...]:
        items = value if isinstance(value, tuple) else (value,)
        return tuple([self._target(item, f"{path}[{index}]") for index, item in enumerate(items)])

    def _target(self, value: Json, path: str) -> Target:
        match = _OBJECT.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            self._wrong(path, value, 'must be kind and name, such as "StatefulSet/serve"')
            return Target("", "")
        return Target(match[1], match[2])

    def _bool(self, value: Json, path: str) -> bool:
        if not isinstance(value, bool):
            self._wrong(path, value, "must be true or false")
        return value is True

    def _flag(self, value: Json, path: str, deed: Deed) -> Iterator[Deed]:
        if value is not True:
            self._wrong(path, value, "must be true, or left out")
        yield deed

    def _groups(self, value: Json, path: str) -> tuple[int, ...]:
        items = value if isinstance(value, tuple) else (value,)
        return tuple(self._count(item, f"{path}[{index}]") for index, item in enumerate(items))

    def _places(self, value: Json, path: str) -> tuple[Place, ...]:
        items = value if isinstance(value, tuple) else (value,)
        return tuple(self._place(item, f"{path}[{index}]") for index, item in enumerate(items))

    def _place(self, value: Json, path: str) -> Place:
        if not isinstance(value, FrozenMap):
            return Place(self._count(value, path, "must be the index of a group, or {group: 1, worker: 2}"))
        fields = self._map(value, path, ("group", "worker"))
        group = self._count(fields.get("group"), f"{path}.group")
        return Place(group, self._count(fields.get("worker", 0), f"{path}.worker"))

    def _node_list(self, value: Json, path: str) -> tuple[Nodes, ...]:
        return tuple(
            self._nodes(item, f"{path}[{index}]") for index, item in enumerate(self._list(value, path))
        )

    def _nodes(self, value: Json, path: str) -> Nodes:
        fields = self._map(value, path, ("count", "labels", "allocatable"))
        count = self._count(fields.get("count", 1), f"{path}.count")
        self._node_count += count
        if count > _MOST_NODES:
            self._wrong(f"{path}.count", count, f"must be at most {_MOST_NODES}")
        elif self._node_count > _MOST_NODES:
            detail = (
                f"all nodes of a scenario must be at most {_MOST_NODES}, and are {self._node_count} with it"
            )
            self._wrong(f"{path}.count", count, detail)
        labels = {}
        for key, item in self._map(fields.get("labels", EMPTY), f"{path}.labels", None).items():
            if isinstance(item, str):
                labels[key] = item
            else:
                self._wrong(f"{path}.labels[{key}]", item, "must be a string")
        allocatable = self._map(fields.get("allocatable", EMPTY), f"{path}.allocatable", None)
        return Nodes(count, FrozenMap(labels), allocatable)

    def _duration(self, value: Json, path: str, extra: str = "") -> float:
        try:
            return parse_duration_s(value)
        except ValueError as error:
            self._wrong(path, value, f"{error} {extra}".strip())
            return 0.0

    def _count(self, value: Json, path: str, detail: str = "must be a whole number, 0 or more") -> int:
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            if value <= _MOST:
                return value
            detail = f"must be at most {_MOST}"
        self._wrong(path, value, detail)
        return 0

    def _map(self, value: Json, path: str, known: tuple[str, ...] | None) -> FrozenMap[Json]:
        if not isinstance(value, FrozenMap):
            self._wrong(path or "scenario", value, "must be a map")
        elif known is not None:
            for key in value:
                if key not in known:
                    near = get_close_matches(key, known, n=1)
                    where = f"{path}.{key}" if path else key
                    hint = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(known)}"
                    self.errors.append(FieldError(where, "Unknown", hint))
        return as_map(value)

    def _list(self, value: Json, path: str) -> tuple[Json, ...]:
        if isinstance(value, tuple):
            return value
        if value is None:
            self.errors.append(FieldError(path, "Required", "must be a list"))
        else:
            self._wrong(path, value, "must be a list")
        return ()

    def _wrong(self, path: str, value: Json, detail: str) -> None:
        self.errors.append(FieldError(path, "Invalid", detail, value))
