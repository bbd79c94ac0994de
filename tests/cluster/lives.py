"""The life of a set under faults: an operator of its own behind a proxy of its own, phase after phase.

After each phase the set must be where it should be, with nothing left over; at the end the audit log is
judged by safety.py. What is wrong is reported, so that a long run goes on.
"""

from __future__ import annotations

import http.client
import re
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal, Protocol, TypeVar

from audit import Entry
from client import Manifest, Refused
from naming import Namer
from operator_process import Operator
from proxy import Asked, OfEvent, OfRequest, Proxy
from safety import judge
from sandbox import Sandbox, conditions, is_ready
from sets import lws, owner_uid, uid
from stage import Stage, wait_until

from lws_core import names

T = TypeVar("T")
Phase = Literal["create", "rollout", "scale up", "scale down", "restart", "turn back", "start", "delete"]
Policy = Literal["Shared", "UniquePerReplica"]

PHASES: Final[tuple[Phase, ...]] = (
    "create",
    "rollout",
    "scale up",
    "scale down",
    "restart",
    "turn back",
    "start",
    "delete",
)
POLICIES: Final[tuple[Policy, ...]] = ("Shared", "UniquePerReplica")
SET: Final = "serve"
SIZE: Final = 2
_GROUPS: Final = 3
_AFTER_S: Final = 2.0
_GOAL_S: Final = 300.0
_TRY_S: Final = 120.0
_POLL_S: Final = 0.15
_UNUSABLE: Final = 1  # exit code: the cluster cannot be used now, or the lease is lost
_CLOCK: Final = Path(__file__).parent / "clock"
_CHILDREN: Final = ("StatefulSet", "Pod", "Service", "ControllerRevision")


class Faults(Protocol):
    """What happens to the requests of an operator, and to the events that it watches."""

    def begin(self, phase: Phase, life: Life) -> None:
        """A phase begins."""

    def of_request(self, asked: Asked, name: str) -> OfRequest | None:
        """Asked of each request, with its name."""

    def of_event(self, asked: Asked, name: str) -> OfEvent | None:
        """Asked of each event of a watch, with its name."""

    def is_over(self) -> bool:
        """Nothing more is to come in this phase."""


class NoFaults:
    """Nothing fails; what comes by is counted."""

    def __init__(self) -> None:
        self.seen: dict[Phase, Counter[str]] = {phase: Counter() for phase in PHASES}
        self._phase: Phase = PHASES[0]

    def begin(self, phase: Phase, _: Life) -> None:
        self._phase = phase

    def of_request(self, _: Asked, name: str) -> OfRequest | None:
        self.seen[self._phase][name] += 1
        return None

    def of_event(self, _: Asked, name: str) -> OfEvent | None:
        self.seen[self._phase][name] += 1
        return None

    def is_over(self) -> bool:
        return True


class Life:
    """A set in a namespace of its own, from its creation to its end. `failures` counts how often pods of
    its groups have failed, by the leader's name."""

    def __init__(
        self,
        stage: Stage,
        name: str,
        policy: Policy,
        faults: Faults,
        phases: Sequence[Phase] = PHASES,
        *,
        may_end: bool = False,
    ) -> None:
        """`may_end`: its operator may end by itself and be started again, as one does that meets an API
        server which has just started and does not know rights yet."""
        self.stage, self.name, self.policy, self.faults, self.phases = stage, name, policy, faults, phases
        self.wrong: list[str] = []
        self._may_end_with = (-signal.SIGKILL, _UNUSABLE) if may_end else (-signal.SIGKILL,)
        self.starts = 0
        self._client = stage.client()
        self._operator: Operator | None = None
        self._namer = Namer(SET)
        self.failures: Counter[str] = Counter()
        self._replicas, self._image = _GROUPS, "img:1"

    def run(self) -> Life:
        """Live; `wrong` tells then what was not as it should be."""
        self._try(lambda: self._client.create(_namespace(self.name)))
        self._sandbox = Sandbox(self.stage.plane, self.name)
        self._sandbox.client = self._client
        self._began = self.stage.plane.audit.mark()
        try:
            self.live()
        except Exception:  # whatever it is: other lives go on
            log = "" if self._operator is None else self._operator.tail()
            self.wrong.append(f"{traceback.format_exc()}\n{log}")
        self.wrong += map(str, judge(self.log(), SET, self.failures))
        self._try(self._sandbox.clear)
        self._client.close()
        return self

    def log(self) -> Iterator[Entry]:
        """What the API server has been asked in its namespace."""
        return self.stage.plane.audit.entries(self._began, self.name)

    def live(self) -> None:
        """What happens between the namespace's beginning and its end."""
        with Proxy(self.stage.plane, self.name) as self._proxy:
            self._proxy.judge = self._of_request
            self._proxy.event_judge = self._of_event
            self._operator = self._new_operator(self._proxy)
            try:
                self._launch()
                for phase in self.phases:
                    self._live(phase)
            finally:
                self._proxy.judge = lambda _: None
                self._proxy.event_judge = lambda *_: None
                self._operator.kill()

    # -- its operator

    def _new_operator(self, proxy: Proxy, config: Manifest | None = None) -> Operator:
        self._clock = self.stage.plane.folder / f"{proxy.name}.clock"
        self._clock.write_text("0")
        return Operator(
            self.stage.plane,
            proxy.name,
            server=proxy.url,
            config={
                "lws": {"namespaces": [self.name]},
                "metrics": {"bindAddress": "0"},
                "health": {"healthProbeBindAddress": "0"},
                **(config or {}),
            },
            environment={
                "ENABLE_WEBHOOKS": "false",
                "PYTHONPATH": str(_CLOCK),
                "SHIFTED_CLOCK": str(self._clock),
            },
        )

    def _launch(self) -> None:
        assert self._operator is not None
        self._operator.launch()
        self.starts += 1

    def strike(self) -> None:
        """Kill the operator with SIGKILL, now. From any thread."""
        assert self._operator is not None
        assert self._operator.process is not None
        self._operator.process.send_to_group(signal.SIGKILL)

    def shift_clock(self, by_s: float) -> None:
        """Let the wall clock of the operator jump, to what it really is and so much more."""
        new = self._clock.with_suffix(".new")
        new.write_text(f"{by_s}")
        new.replace(self._clock)

    def break_watches(self) -> None:
        """End all its watches."""
        self._proxy.break_watches()

    def _revive(self) -> bool:
        """Start it again if it has ended; whether it had."""
        assert self._operator is not None
        process = self._operator.process
        if process is None or process.exit_code is None:
            return False
        if process.exit_code not in self._may_end_with:
            self.wrong.append(f"the operator ended with {process.exit_code}\n{self._operator.tail()}")
        self._operator.kill()
        self._launch()
        return True

    def _of_request(self, asked: Asked) -> OfRequest | None:
        name = self._namer.name(asked)
        return self.faults.of_request(asked, name) if name else None

    def _of_event(self, asked: Asked, event: bytes) -> OfEvent | None:
        if event.startswith(b'{"type":"BOOKMARK"'):
            return None
        return self.faults.of_event(asked, f"event of {asked.path.rsplit('/', 1)[1]}")

    # -- its phases

    def _live(self, phase: Phase) -> None:
        mark, asked = self.stage.plane.audit.mark(), len(self._proxy.asked)
        restarted = f"{SET}-{len(self.name) % 2}"
        self.faults.begin(phase, self)
        match phase:
            case "create":
                self._change({})
            case "rollout":
                self._change({"image": "img:2"})
            case "scale up":
                self._change({"replicas": _GROUPS + 2})
            case "scale down":
                self._change({"replicas": _GROUPS})
            case "restart":
                self._fail(restarted)
            case "turn back":
                self._turn_back()
            case "start":
                self.strike()
            case "delete":
                self._try(lambda: self._sandbox.delete(names.KIND, SET))
        goal = self._is_gone if phase == "delete" else self._rests
        if phase == "start":
            self._reach("a new operator follows", lambda: self._follows(asked))
        self._reach(phase, goal)
        wait_until(self.faults.is_over, _AFTER_S)
        if phase == "start":
            time.sleep(_AFTER_S)  # a write that comes late counts as well
        if self._revive():
            self._reach(phase, goal)
        self._count_leaders(phase, mark, restarted)
        if phase == "start" and (writes := self._sandbox.writes("operator", mark)):
            self.wrong += [f"written at rest by an operator that starts: {one}" for one in writes]

    def _change(self, change: Manifest) -> None:
        self._image = change.get("image", self._image)
        self._replicas = change.get("replicas", self._replicas)
        self._try(lambda: self._sandbox.apply(_set(self._replicas, self._image, self.policy)))

    def _fail(self, leader: str) -> None:
        """A container of a worker restarts, which ends its group."""
        found = self._try(lambda: self._sandbox.must_get("Pod", leader))
        assert found is not None
        before = uid(found)
        self.failures[leader] += 1
        self.stage.kubelet.restart_container(f"{self.name}/{leader}-1")

        def recreated() -> bool:
            pod = self._sandbox.get("Pod", leader)
            return pod is not None and uid(pod) != before

        self._reach("the group is recreated", recreated)

    def _turn_back(self) -> None:
        """A third template, which is taken back as soon as it is taken up."""
        before, image = self._key(), self._image
        self._change({"image": "img:3"})
        self._reach("the third template", lambda: self._key() not in ("", before))
        self._change({"image": image})

    def _key(self) -> str:
        leaders = self._try(lambda: self._sandbox.get("StatefulSet", SET))
        return "" if leaders is None else str(leaders["metadata"]["labels"].get(names.REVISION_KEY, ""))

    # -- its goals

    def _reach(self, what: str, goal: Callable[[], bool]) -> None:
        """Wait for a goal, with a new operator whenever the last one has been killed."""

        def reached() -> bool:
            self._revive()
            return goal()

        self._sandbox.wait(f"{self.name}: {what}", reached, _GOAL_S, _POLL_S)

    def _rests(self) -> bool:
        """All groups are ready and of the newest template, no surge is out, and nothing is left over."""
        found = self._sandbox.must_get(names.KIND, SET)
        status = found.get("status", {})
        counts = [status.get(field, 0) for field in ("replicas", "readyReplicas", "updatedReplicas")]
        current = status.get("observedGeneration", 0) == found["metadata"]["generation"]
        told = {
            name: one["status"] == "True"
            for name, one in conditions(found).items()
            if one.get("observedGeneration") == found["metadata"]["generation"]
        }
        if not current or counts != [self._replicas] * 3 or told.get(names.AVAILABLE) is not True:
            return False
        if told.get(names.PROGRESSING) or told.get(names.UPDATE_IN_PROGRESS):
            return False  # the counts come first
        leaders = self._sandbox.must_get("StatefulSet", SET)
        rolling = leaders["spec"]["updateStrategy"]["rollingUpdate"]
        if (leaders["spec"]["replicas"], rolling.get("partition", 0)) != (self._replicas, 0):
            return False
        return self._is_complete(found)

    def _is_complete(self, lws: Manifest) -> bool:
        there = {kind: self._sandbox.all(kind) for kind in _CHILDREN}
        heads = [f"{SET}-{index}" for index in range(self._replicas)]
        pods = {*heads, *(f"{head}-{worker}" for head in heads for worker in range(1, SIZE))}
        services = heads if self.policy == "UniquePerReplica" else [SET]
        revisions = [one for one in there["ControllerRevision"] if owner_uid(one) == uid(lws)]
        owners = {uid(one) for kind in _CHILDREN for one in there[kind]} | {uid(lws)}
        return (
            _names(there["Pod"]) == pods
            and all(map(is_ready, there["Pod"]))
            and {one["spec"]["containers"][0]["image"] for one in there["Pod"]} == {self._image}
            and _names(there["StatefulSet"]) == {SET, *heads}
            and _names(there["Service"]) == set(services)
            and len(revisions) == 1
            and all(owner_uid(one) in owners for kind in _CHILDREN for one in there[kind])
        )

    def _follows(self, since: int) -> bool:
        """All kinds are watched by an operator that has started after so many requests."""
        return len({one.path for one in self._proxy.asked[since:] if one.watches}) == 1 + len(_CHILDREN)

    def _is_gone(self) -> bool:
        return not any(self._sandbox.all(kind) for kind in (names.KIND, *_CHILDREN))

    def _count_leaders(self, phase: Phase, mark: int, restarted: str) -> None:
        """No phase makes more leaders than it needs. One that turns back may make some twice; and an operator
        that does not know yet of its set's end may make the leader StatefulSet again, for the collector."""
        if phase in ("turn back", "delete"):
            return
        wanted: Counter[str] = Counter()
        heads = [f"{SET}-{index}" for index in range(self._replicas + 1)]
        match phase:
            case "create":
                wanted.update(heads[:-1])
            case "rollout":
                wanted.update(heads)  # the last is the surge
            case "scale up":
                wanted.update(heads[_GROUPS:-1])
            case "restart":
                wanted[restarted] = 1
        writes = self._sandbox.writes("controllers", mark, resources=("pods",))
        made = Counter(
            str(one.answer["metadata"]["name"])
            for one in writes
            if one.verb == "create" and one.code == 201 and not one.subresource
        )
        made = Counter({name: count for name, count in made.items() if re.fullmatch(rf"{SET}-\d+", name)})
        if made - wanted:
            self.wrong.append(f"{phase}: leaders made {dict(made)}, needed {dict(wanted)}")

    def _try(self, act: Callable[[], T]) -> T | None:
        """What comes of something that does no harm when it is done again, once the API server has taken it;
        None where it turns out to have been done before."""
        end_s = time.monotonic() + _TRY_S
        while True:
            try:
                return act()
            except (OSError, http.client.HTTPException, Refused) as problem:
                if time.monotonic() > end_s or (isinstance(problem, Refused) and problem.code == 422):
                    raise
                if isinstance(problem, Refused) and problem.reason == "AlreadyExists":
                    return None
                time.sleep(0.2)


def _namespace(name: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _set(replicas: int, image: str, policy: Policy) -> Manifest:
    return lws(
        SET,
        replicas,
        SIZE,
        image=image,
        pod={"terminationGracePeriodSeconds": 1},
        template={"restartPolicy": "RecreateGroupOnPodRestart"},
        budget={"maxUnavailable": 1, "maxSurge": 1},
        networkConfig={"subdomainPolicy": policy},
    )


def _names(found: list[Manifest]) -> set[str]:
    return {str(one["metadata"]["name"]) for one in found}
