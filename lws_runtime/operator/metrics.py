"""What the operator tells Prometheus of itself and of its sets (docs/operator.md, "Metrics")."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

import attrs
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lws_core import names
from lws_core.actions import Action, Delete
from lws_core.bits import below, indexes
from lws_core.memory import Memory
from lws_core.sights import Outcome
from lws_runtime.kube.reflector import Reflector
from lws_runtime.kube.resources import RESOURCES

from .manager import Key, Machine, Manager, Watcher

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_TURN_S: Final = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_LOAD_S: Final = (1, 3, 10, 30, 60, 120, 300, 600, 1200, 2400, 4800)
_NODES: Final = RESOURCES["Node"].plural  # nothing waits for them: not listed, they hold up no namespace
_ROLLOUT_S: Final = (10, 30, 60, 300, 600, 1800, 3600, 7200, 14400, 43200, 86400)


@attrs.frozen
class Followed:
    """What a reflector follows, how long ago it was last heard, and whether all was listed once."""

    resource: str
    namespace: str
    age_s: float
    is_listed: bool


@attrs.frozen(eq=False)
class Snapshot(Collector):
    """What there is to tell at one moment: values, and counters with locks, so that any thread may read it.
    With thousands of sets to write it down takes seconds."""

    counted: CollectorRegistry
    leads: bool
    depth: int
    followed: tuple[Followed, ...]
    memories: Mapping[Key, Memory]

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        own = CollectorRegistry()
        own.register(self)
        return generate_latest(self.counted) + generate_latest(own)

    def describe(self) -> Iterator[Metric]:
        """Nothing: no other collector is in the registry, and names need no check."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """What is counted when it is asked for."""
        yield _gauge("lws_leader", "Whether this process leads.", (), {(): float(self.leads)})
        yield _gauge("lws_queue_depth", "Sets that wait for their turn.", (), {(): float(self.depth)})
        ages: dict[tuple[str, ...], float] = {}
        for one in self.followed:
            ages[one.resource,] = max(one.age_s, ages.get((one.resource,), 0.0))
        yield _gauge(
            "lws_watch_age_seconds",
            "Time since a watch was last heard, the longest of all namespaces.",
            ("resource",),
            ages,
        )
        missing: dict[tuple[str, ...], float] = {
            (one.namespace, one.resource): 1.0
            for one in self.followed
            if not one.is_listed and one.resource != _NODES
        }
        yield _gauge(
            "lws_not_listed",
            "What has not been listed once: nothing is done in the namespace.",
            ("namespace", "resource"),
            missing,
        )
        yield from self._of_sets()

    def _of_sets(self) -> Iterator[Metric]:
        groups: dict[tuple[str, ...], float] = {}
        rolling: dict[tuple[str, ...], float] = {}
        stalled: dict[tuple[str, ...], float] = {}
        for key, memory in self.memories.items():
            if memory.lws is None:
                continue
            groups |= {(*key, state): float(count) for state, count in _states(memory).items()}
            rolling[key] = float(_is_true(memory, names.UPDATE_IN_PROGRESS))
            condition = memory.lws.status.condition(names.STALLED)
            if condition is not None and condition.is_true:
                stalled[(*key, condition.reason)] = 1.0
        yield _gauge("lws_groups", "Groups by state.", ("namespace", "name", "state"), groups)
        yield _gauge("lws_rollout_in_progress", "Whether a set rolls out.", ("namespace", "name"), rolling)
        yield _gauge("lws_stalled", "Sets that stall.", ("namespace", "name", "reason"), stalled)


class Metrics(Watcher):
    """All metrics of one operator process."""

    def __init__(self) -> None:
        without_beginnings: Callable[[], None] = disable_created_metrics  # they double the series
        without_beginnings()
        self._registry = CollectorRegistry()
        self._turns = Histogram(
            "lws_reconcile_duration_seconds", "A turn of one set.", buckets=_TURN_S, registry=self._registry
        )
        self._requests = Counter(
            "lws_api_requests",
            "Requests to the API server, by verb, resource and status code (0: no answer).",
            ("verb", "resource", "code"),
            registry=self._registry,
        )
        self._recreations = Counter(
            "lws_group_recreations",
            "Groups recreated as a whole, by the cause.",
            ("namespace", "name", "cause"),
            registry=self._registry,
        )
        self._bugs = Counter(
            "lws_internal_errors",
            "Turns and requests that failed by a bug of the operator; the log has the tracebacks.",
            ("namespace", "name"),
            registry=self._registry,
        )
        self._dropped = Counter(
            "lws_events_dropped", "Events not sent, as too many waited.", registry=self._registry
        )
        self._loads = Histogram(
            "lws_group_ready_seconds",
            "Time from the creation of a group's leader until the whole group was ready.",
            ("namespace", "name"),
            buckets=_LOAD_S,
            registry=self._registry,
        )
        self._rollouts = Histogram(
            "lws_rollout_duration_seconds",
            "Time from the start of a rollout until the set was available.",
            ("namespace", "name"),
            buckets=_ROLLOUT_S,
            registry=self._registry,
        )
        self._began_s: dict[Key, float] = {}
        self._loaded: dict[Key, dict[int, str]] = {}
        self.manager: Manager | None = None
        self.reflectors: Iterable[Reflector] = ()
        self.leads: Callable[[], bool] = lambda: False

    def snapshot(self) -> Snapshot:
        """All that is told of this moment."""
        manager = self.manager
        return Snapshot(
            counted=self._registry,
            leads=self.leads(),
            depth=0 if manager is None else manager.depth,
            followed=tuple(
                [
                    Followed(one.name, one.namespace, time.monotonic() - one.heard_at_s, one.synced.is_set())
                    for one in self.reflectors
                    if one.heard_at_s is not None
                ]
            ),
            memories={} if manager is None else {key: one.memory for key, one in manager.machines.items()},
        )

    def requested(self, verb: str, path: str, code: int) -> None:
        """A request was answered."""
        self._requests.labels(verb, resource_in(path), str(code)).inc()

    def turned(self, machine: Machine, before: Memory, seconds: float) -> None:
        """A turn was taken: note what has become ready, and whether a rollout has begun or ended."""
        self._turns.observe(seconds)
        after = machine.memory
        fresh = after.summary.ready & ~before.summary.ready
        if fresh:
            self._note_loads(machine, fresh, counts=before.synced)
        if after.lws is None:
            self._began_s.pop(machine.key, None)
        if after.lws is not None and after.lws is not before.lws:
            self._note_rollout(machine.key, _is_true(after, names.UPDATE_IN_PROGRESS), after)

    def answered(self, machine: Machine, action: Action, outcome: Outcome) -> None:
        """A write was answered."""
        if isinstance(action, Delete) and action.evidence is not None and outcome.ok:
            self._recreations.labels(machine.namespace, machine.name, action.evidence.cause).inc()

    def failed(self, machine: Machine) -> None:
        """A turn or a request failed by a bug."""
        self._bugs.labels(machine.namespace, machine.name).inc()

    def dropped(self) -> None:
        """An event was not sent."""
        self._dropped.inc()

    def forgotten(self, machine: Machine) -> None:
        """A set is gone, and with it all that was told of it: sets come and go for as long as we run."""
        self._began_s.pop(machine.key, None)
        self._loaded.pop(machine.key, None)
        for metric in (self._recreations, self._bugs, self._loads, self._rollouts):
            metric.remove_by_labels({"namespace": machine.namespace, "name": machine.name})

    def _note_loads(self, machine: Machine, fresh: int, *, counts: bool) -> None:
        """Groups that are ready now. Those found so when everything was listed were counted by whoever led
        then: `counts` is false."""
        loaded = self._loaded.setdefault(machine.key, {})
        for index in indexes(fresh):
            record = machine.memory.groups.get(index)
            leader, ready_s = record.group.leader, record.history.ready_since_s
            if leader is None or leader.created_s is None or ready_s is None:
                continue
            if loaded.get(index) != leader.uid:
                loaded[index] = leader.uid
                if not counts:
                    continue
                took_s = max(0.0, ready_s - leader.created_s)
                self._loads.labels(machine.namespace, machine.name).observe(took_s)

    def _note_rollout(self, key: Key, updating: bool, memory: Memory) -> None:
        if updating:
            self._began_s.setdefault(key, time.monotonic())
        elif key in self._began_s and _is_true(memory, names.AVAILABLE):
            self._rollouts.labels(*key).observe(time.monotonic() - self._began_s.pop(key))


def _gauge(
    name: str, help_: str, labels: tuple[str, ...], values: Mapping[tuple[str, ...], float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help_, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _states(memory: Memory) -> dict[str, int]:
    """How many groups are in each state; each group counts once."""
    assert memory.lws is not None
    summary = memory.summary
    wanted = below(memory.lws.spec.replicas)
    key = "" if memory.lineage is None else memory.lineage.key
    current = summary.of_key(key)
    return {
        "ready": (summary.ready & current).bit_count(),
        "outdated": (summary.ready & ~current).bit_count(),
        "terminating": (summary.terminating & ~summary.ready).bit_count(),
        "loading": (summary.present & ~summary.terminating & ~summary.ready).bit_count(),
        "missing": (wanted & ~summary.present).bit_count(),
    }


def _is_true(memory: Memory, type_: str) -> bool:
    return memory.lws is not None and memory.lws.status.is_true(type_)


def resource_in(path: str) -> str:
    """The resource that a path of the API is about: "statefulsets", "leaderworkersets/status"."""
    parts = path.strip("/").split("/")
    parts = parts[2:] if parts[0] == "api" else parts[3:]
    if parts[:1] == ["namespaces"] and len(parts) > 2:
        parts = parts[2:]
    return "/".join((*parts[:1], *parts[2:3])) or path
