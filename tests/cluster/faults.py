"""What fails in the life of a set, chosen by a seed: kill points, and storms of network and server faults."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Final, TypeAlias

import attrs
from control_plane import ControlPlane
from lives import PHASES, Life, NoFaults, Phase, Policy
from proxy import Asked, Expired, Fault, Late, Moment, Mute, OfEvent, OfRequest, Strike, Torn, Twice

Baseline: TypeAlias = Mapping[Policy, Mapping[Phase, Mapping[str, int]]]
"""How often each request and event comes by where nothing fails."""

MOMENTS: Final[tuple[Moment, ...]] = ("before", "committed", "answered")
_WATCH: Final = "watch "
_EVENT: Final = "event of "
_BY_CHANCE: Final = ("get ", "apply leader StatefulSet: again")


# -- kill points


@attrs.frozen
class Point:
    """Where an operator is killed: at the `nth` request of that name in a phase."""

    phase: Phase
    request: str
    moment: Moment
    nth: int = 1

    def __str__(self) -> str:
        return f"{self.phase}: {self.request}, {self.moment}"


class Kills:
    """Kills the operator with SIGKILL, at one point of each phase at most."""

    def __init__(self, points: Iterable[Point]) -> None:
        self.points: dict[Phase, Point] = {point.phase: point for point in points}
        self.hit: list[Point] = []
        self._point: Point | None = None
        self._count = 0

    @property
    def missed(self) -> list[Point]:
        """The points that no request has come to."""
        return [point for point in self.points.values() if point not in self.hit]

    def begin(self, phase: Phase, life: Life) -> None:
        self._life, self._count = life, 0
        self._point = self.points.get(phase)

    def of_request(self, _: Asked, name: str) -> OfRequest | None:
        return self._strike(name)

    def of_event(self, _: Asked, name: str) -> OfEvent | None:
        return self._strike(name)

    def is_over(self) -> bool:
        return self._point is None

    def _strike(self, name: str) -> Strike | None:
        point = self._point
        if point is None or name != point.request:
            return None
        self._count += 1
        return Strike(lambda: self._blow(point), point.moment) if self._count == point.nth else None

    def _blow(self, point: Point) -> None:
        self._life.strike()
        self.hit.append(point)
        self._point = None


def points_of(baseline: Baseline, seed: int) -> dict[Policy, list[Point]]:
    """Every request of each phase at each moment, once: of the policy with the most requests all of them, of
    the other what only that has. The first seed takes the first request of a name, others any of them.

    The end of a set asks nothing of an operator: there it is killed at what it watches.
    """
    chance = random.Random(seed)
    taken: set[tuple[Phase, str]] = set()
    found: dict[Policy, list[Point]] = {}
    for policy in sorted(baseline, key=lambda one: -sum(map(len, baseline[one].values()))):
        found[policy] = []
        for phase in PHASES:
            for request, count in sorted(baseline[policy][phase].items()):
                if (phase, request) in taken or request.startswith(_BY_CHANCE):
                    continue
                if request.startswith(_EVENT) != (phase == "delete"):
                    continue
                if phase == "create" and _is_read(request):
                    continue  # the first requests of any operator: they have a phase of their own
                taken.add((phase, request))
                nth = 1 if seed == 1 else chance.randint(1, count)
                found[policy] += [Point(phase, request, moment, nth) for moment in _moments(request)]
        chance.shuffle(found[policy])
    return found


def _moments(request: str) -> Sequence[Moment]:
    if request.startswith(_WATCH):
        return ("before",)
    return ("before", "answered") if request.startswith(_EVENT) else MOMENTS


def shares(points: Iterable[Point]) -> list[list[Point]]:
    """Points for one life after another: at most one of each phase, as few lives as can be."""
    by_phase: dict[Phase, list[Point]] = {phase: [] for phase in PHASES}
    for point in points:
        by_phase[point.phase].append(point)
    most = max(map(len, by_phase.values()))
    return [[of[turn] for of in by_phase.values() if turn < len(of)] for turn in range(most)]


def phases_for(points: Iterable[Point]) -> list[Phase]:
    """The phases that a life needs to come to its points."""
    wanted = {"create", "delete", *(point.phase for point in points)}
    return [phase for phase in PHASES if phase in wanted]


def _is_read(request: str) -> bool:
    return request.startswith((_WATCH, "list "))


# -- storms

_REQUESTS: Final = (
    "409",
    "410",
    "429",
    "500",
    "502",
    "503",
    "504",
    "reset before",
    "reset after",
    "error after",
    "request late",
    "answer late",
    "answer torn",
)
_EVENTS: Final = ("event late", "event torn", "event twice", "watch 410")
_CLOCK_JUMPS_S: Final = (-3600.0, -40.0, 40.0, 3600.0)


class Storm:
    """Random faults of requests and watches, some in each phase; one and the same request fails no more than
    twice. With `mute`, a watch falls silent once; with `clock`, the operator's clock is set now and then."""

    def __init__(self, seed: int, *, mute: bool = False, clock: bool = False, most: int = 8) -> None:
        self.count: Counter[str] = Counter()
        self._chance = random.Random(seed)
        self._clock, self._most = clock, most
        self._mute = self._chance.choice(PHASES[:-1]) if mute else None
        self._left = 0
        self._failed: Counter[str] = Counter()
        self._lock = threading.Lock()

    def begin(self, phase: Phase, life: Life) -> None:
        with self._lock:
            self._left = self._chance.randint(2, self._most)
            self._failed.clear()
            self._mutes = phase == self._mute
            self._life = life
            self._jump_after = self._chance.randint(1, 10) if self._clock else -1  # never
        if phase != PHASES[0] and self._chance.random() < 0.2:
            self.count["watches broken"] += 1
            life.break_watches()

    def of_request(self, asked: Asked, name: str) -> OfRequest | None:
        key = f"{asked.method} {asked.path} {name}"
        with self._lock:
            self._jump_after -= 1
            if self._jump_after == -1:
                self.count["clock jump"] += 1
                self._life.shift_clock(self._chance.choice(_CLOCK_JUMPS_S))
            if self._left == 0 or self._failed[key] >= 2 or self._chance.random() > 0.3:
                return None
            kind = self._chance.choice(_REQUESTS)
            if kind == "410" and asked.method != "GET":
                return None
            self._note(kind, key)
            return self._fault(kind)

    def of_event(self, asked: Asked, _: str) -> OfEvent | None:
        with self._lock:
            if self._mutes and self._chance.random() < 0.2:
                self._mutes = False
                self.count["watch silent"] += 1
                return Mute()
            if self._left == 0 or self._failed[asked.path] >= 2 or self._chance.random() > 0.1:
                return None
            kind = self._chance.choice(_EVENTS)
            self._note(kind, asked.path)
            match kind:
                case "event late":
                    return Late(self._chance.uniform(0.1, 1.5))
                case "event torn":
                    return Torn()
                case "event twice":
                    return Twice()
                case _:
                    return Expired()

    def is_over(self) -> bool:
        return True

    def _note(self, kind: str, key: str) -> None:
        self._left -= 1
        self._failed[key] += 1
        self.count[kind] += 1

    def _fault(self, kind: str) -> OfRequest:
        match kind:
            case "429":
                return Fault(429, {"Retry-After": "1"})
            case "reset before":
                return Fault()
            case "reset after":
                return Fault(after=True)
            case "error after":
                return Fault(500, after=True)
            case "request late":
                return Late(request_s=self._chance.uniform(0.05, 1.0))
            case "answer late":
                return Late(answer_s=self._chance.uniform(0.05, 1.5))
            case "answer torn":
                return Torn()
            case _:
                return Fault(int(kind))


def baseline_of(lives: Iterable[tuple[Policy, NoFaults]]) -> Baseline:
    """What comes by in lives in which nothing fails."""
    return {policy: none.seen for policy, none in lives}


# -- the server


class Upsets:
    """What befalls the control plane of all sets, by a seed: to be called again and again, at leisure."""

    KINDS: ClassVar[tuple[str, ...]] = ("API server restarted", "etcd restarted", "etcd compacted")

    def __init__(self, plane: ControlPlane, seed: int, every_s: tuple[float, float] = (8.0, 16.0)) -> None:
        self.count: Counter[str] = Counter()
        self._plane, self._every_s = plane, every_s
        self._chance = random.Random(seed)
        self._deeds: list[str] = []
        self._next_s = 0.0
        self._wait()

    def __call__(self) -> None:
        if time.monotonic() < self._next_s:
            return
        if not self._deeds:  # each kind once before any comes again
            self._deeds = list(self.KINDS)
            self._chance.shuffle(self._deeds)
        deed = self._deeds.pop()
        self.count[deed] += 1
        match deed:
            case "API server restarted":
                self._plane.restart_api_server(down_s=self._chance.uniform(0.0, 2.0), timeout_s=120.0)
            case "etcd restarted":
                self._plane.restart_etcd(down_s=self._chance.uniform(0.0, 2.0))
            case _:  # an API server that starts anew has nothing of what came before
                self._plane.compact()
                self._plane.restart_api_server(timeout_s=120.0)
        self._wait()

    def _wait(self) -> None:
        self._next_s = time.monotonic() + self._chance.uniform(*self._every_s)
