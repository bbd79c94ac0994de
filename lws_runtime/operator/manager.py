"""Runs a machine for each set: hands it what is seen, carries out what it decides, hands it the answers.

Flow: a reflector tells of an object; it goes into the inbox of the set that it belongs to, and the set into
the queue. A turn takes all that is in the inbox, looks once, and sends what the look wants; each answer goes
into the inbox again. So many events in one moment cost one look, and no look waits for the network.

Guarantees: one turn at a time; no turn before everything has been listed once; nothing is sent that
`may_write` forbids; what goes wrong with one set holds up no other.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, Literal

import attrs

from lws_core import controller, names
from lws_core.actions import Action, Emit, Kind, Read, Ref
from lws_core.bits import indexes
from lws_core.memory import Memory
from lws_core.observed import Group
from lws_core.options import Options
from lws_core.reading import read
from lws_core.sights import Answered, Gone, Outcome, Seen, Sight, Synced
from lws_core.view import group_of

_log = logging.getLogger(__name__)

Key = tuple[str, str]
"""Namespace and name of a set."""

_MOST_IN_FLIGHT: Final = 64
_MOST_EVENTS_WAITING: Final = 1000


@attrs.define(eq=False)
class Machine:
    """One set's machine: what it knows, and what it has not taken in yet."""

    namespace: str
    name: str
    memory: Memory
    inbox: list[Sight | dict[str, Any]] = attrs.Factory(list)
    queued: bool = False
    alarm: asyncio.TimerHandle | None = None

    @property
    def key(self) -> Key:
        """Namespace and name."""
        return self.namespace, self.name


class Watcher:
    """What wants to know of turns and requests: metrics. The default wants nothing."""

    def turned(self, machine: Machine, before: Memory, seconds: float) -> None:
        """A turn was taken, in so many seconds."""

    def answered(self, machine: Machine, action: Action, outcome: Outcome) -> None:
        """A request was answered."""


class Manager:
    """All sets of an operator."""

    def __init__(
        self,
        send: Callable[[Machine, Action], Awaitable[Outcome]],
        *,
        options: Options = Options(),
        may_write: Callable[[], bool] = lambda: True,
        want_nodes: Callable[[], None] = lambda: None,
        watcher: Watcher | None = None,
        dry_run: Callable[[Machine, Action], None] | None = None,
    ) -> None:
        self._send, self._options, self._may_write = send, options, may_write
        self._want_nodes, self._watcher, self._dry_run = want_nodes, watcher or Watcher(), dry_run
        self.machines: dict[Key, Machine] = {}
        self._queue: deque[Machine] = deque()
        self._wake = asyncio.Event()
        self._synced = False
        self._slots = asyncio.Semaphore(_MOST_IN_FLIGHT)
        self._sending: set[asyncio.Task[None]] = set()
        self._events_waiting = 0
        self._printed: set[tuple[Key, str]] = set()

    @property
    def depth(self) -> int:
        """How many sets wait for their turn."""
        return len(self._queue)

    # -- what is seen

    def see(self, happened: Literal["SEEN", "GONE"], obj: dict[str, Any]) -> None:
        """An object is there, or gone, as a reflector tells."""
        sight: Sight | dict[str, Any] = obj
        if happened == "GONE":
            metadata = obj["metadata"]
            version = str(metadata.get("resourceVersion", ""))
            sight = Gone(obj["kind"], metadata["name"], metadata["uid"], version)
        for machine in self._concerned(obj):
            machine.inbox.append(sight)
            self._enqueue(machine)

    def all_listed(self) -> None:
        """Everything that exists has been told: turns may begin."""
        self._synced = True
        for machine in list(self.machines.values()):
            machine.inbox.append(Synced())
            self._enqueue(machine)

    def _concerned(self, obj: dict[str, Any]) -> Iterator[Machine]:
        metadata = obj["metadata"]
        if obj["kind"] == "Node":
            for machine in list(self.machines.values()):
                if metadata["name"] in machine.memory.nodes:
                    yield machine
            return
        labels = metadata.get("labels") or {}
        name = metadata["name"] if obj["kind"] == names.KIND else labels.get(names.SET_NAME)
        if isinstance(name, str) and name:
            yield self._machine(metadata.get("namespace", ""), name)

    def _machine(self, namespace: str, name: str) -> Machine:
        machine = self.machines.get((namespace, name))
        if machine is None:
            memory = controller.start(self._options)
            if self._synced:
                memory = controller.observe(memory, Synced(), time.time())
            machine = self.machines[namespace, name] = Machine(namespace, name, memory)
        return machine

    # -- turns

    def _enqueue(self, machine: Machine) -> None:
        if not machine.queued:
            machine.queued = True
            self._queue.append(machine)
            self._wake.set()

    async def run(self) -> None:
        """Take turns until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                machine = self._queue.popleft()
                machine.queued = False
                began_s, before = time.perf_counter(), machine.memory
                self._turn(machine)
                self._watcher.turned(machine, before, time.perf_counter() - began_s)
                await asyncio.sleep(0)  # lets watches and answers in between

    def _turn(self, machine: Machine) -> None:
        """Take in what is there, look once, and send."""
        now_s = time.time()
        memory, machine.inbox, inbox = machine.memory, [], machine.inbox
        for item in inbox:
            sight = _sight(item, machine.name, memory) if isinstance(item, dict) else item
            memory = controller.observe(memory, sight, now_s) if sight is not None else memory
        look = controller.look(memory, now_s)
        machine.memory = memory if self._dry_run is not None else look.memory
        self._set_alarm(machine, look.wake_at_s, now_s)
        for action in look.actions:
            self._act(machine, action)
        if _is_forgotten(machine.memory):
            self.machines.pop(machine.key, None)

    def _set_alarm(self, machine: Machine, at_s: float | None, now_s: float) -> None:
        if machine.alarm is not None:
            machine.alarm.cancel()
        machine.alarm = None
        if at_s is not None:
            loop = asyncio.get_running_loop()
            machine.alarm = loop.call_later(max(0.0, at_s - now_s), self._enqueue, machine)

    # -- what is sent

    def _act(self, machine: Machine, action: Action) -> None:
        if self._dry_run is not None:
            self._print_once(machine, action)
            return
        if isinstance(action, Read) and action.ref.kind == "Node":
            self._want_nodes()
        if isinstance(action, Emit):
            if self._events_waiting >= _MOST_EVENTS_WAITING:
                return
            self._events_waiting += 1
        else:
            _tell(machine, action)
        task = asyncio.create_task(self._carry_out(machine, action))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _carry_out(self, machine: Machine, action: Action) -> None:
        async with self._slots:
            if isinstance(action, Emit):
                self._events_waiting -= 1
            if not self._may_write():
                return  # the process is about to end; whoever leads now decides anew
            outcome: Outcome = await self._send(machine, action)
        self._watcher.answered(machine, action, outcome)
        if isinstance(action, Emit):
            return
        if not outcome.ok:
            _tell_of_failure(machine, action, outcome)
        machine.inbox.append(Answered(action, outcome))
        self._enqueue(machine)

    def _print_once(self, machine: Machine, action: Action) -> None:
        assert self._dry_run is not None
        key = (machine.key, repr(action))
        if key not in self._printed:
            self._printed.add(key)
            self._dry_run(machine, action)

    async def drain(self, at_most_s: float) -> None:
        """Wait for the answers to what has been sent."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=at_most_s)


def _sight(obj: dict[str, Any], name: str, memory: Memory) -> Sight | None:
    thing = read(obj, name, memory.lws)
    return None if thing is None else Seen(thing)


def _is_forgotten(memory: Memory) -> bool:
    """Whether nothing of a set is left, and nothing is under way."""
    return (
        memory.synced
        and memory.lws is None
        and memory.unreadable is None
        and memory.statefulset is None
        and memory.service is None
        and not memory.revisions
        and not memory.pending
        and all(memory.groups.get(index).group == Group(index) for index in indexes(memory.known))
    )


def _tell(machine: Machine, action: Action) -> None:
    """One line for each decision."""
    assert not isinstance(action, Emit)
    if isinstance(action, Read):
        _log.debug("%s %s: %s", _verb(action), action.ref.name, action.why, extra=_about(machine, action))
        return
    ref = action.ref
    _log.info("%s %s %s: %s", _verb(action), ref.kind, ref.name, action.why, extra=_about(machine, action))


def _tell_of_failure(machine: Machine, action: Action, outcome: Outcome) -> None:
    assert not isinstance(action, Emit)
    expected = outcome.code in (404, 409) or isinstance(action, Read)
    extra = _about(machine, action) | {"code": outcome.code}
    message = "%s %s %s failed with %d: %s"
    ref = action.ref
    level = logging.DEBUG if expected else logging.WARNING
    _log.log(level, message, _verb(action), ref.kind, ref.name, outcome.code, outcome.message, extra=extra)


def _about(machine: Machine, action: Action) -> dict[str, Any]:
    """What a log line is about: the set, and the group where it is one's."""
    ref: Ref | None = None if isinstance(action, Emit) else action.ref
    group = -1 if ref is None else group_of(machine.memory, ref)
    about: dict[str, Any] = {"set": f"{machine.namespace}/{machine.name}"}
    if group >= 0:
        about["group"] = group
    return about


def _verb(action: Action) -> str:
    verb = {"TakeFields": "take fields of", "PatchStatus": "write status of"}
    name = type(action).__name__
    return verb.get(name, name.lower())


KINDS: Final[tuple[Kind, ...]] = ("LeaderWorkerSet", "StatefulSet", "Pod", "Service", "ControllerRevision")
"""What is followed for every set; PodGroups besides where gang scheduling is on."""
