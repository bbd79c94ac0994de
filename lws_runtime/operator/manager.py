"""Runs a machine for each set: hands it what is seen, carries out what it decides, hands it the answers.

Flow: a reflector tells of an object; it goes into the inbox of the set that it belongs to, and the set into
the queue. A turn takes all that is in the inbox, looks once, and sends what the look wants; each answer goes
into the inbox again. So many events in one moment cost one look, and no look waits for the network.

Guarantees: one turn at a time; no decision before everything in the namespace has been listed once, whatever
becomes of other namespaces; nothing is sent that `may_write` forbids; what goes wrong with one set holds up
no other. A set whose requests hang, as in an admission webhook of somebody's, leaves the others slots to send
theirs (slots.py).

A bug in a turn is one set's trouble. Its exception is logged with the traceback and counted, and the set
rests, from a second to 5 minutes, before its next turn. To end the process instead would let one odd object
stop all sets, as the next process meets it too. Nothing wrong comes of going on: memories are values, so a
turn that fails leaves the one before it, and a sight that cannot be taken in waits, so that nothing is
decided on a view that lacks it. In the same way a request that cannot be sent, or whose answer cannot be
read, counts as one of unknown outcome: its object is read before anything else is done about it.

Events are a courtesy: they have few slots of their own, so that they hold up no write, and when too many wait
further ones are dropped and counted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Final, Literal

import attrs

from lws_core import controller, names
from lws_core.actions import Action, Emit, Kind, Read, Ref, Request
from lws_core.answers import action_key, failure_message
from lws_core.bits import indexes
from lws_core.memory import Memory, Retry
from lws_core.observed import Group
from lws_core.options import Options
from lws_core.reading import read
from lws_core.sights import Answered, Gone, Outcome, Seen, Sight, Synced
from lws_core.view import group_of

from .slots import Slots

_log = logging.getLogger(__name__)

Key = tuple[str, str]
"""Namespace and name of a set."""

_MOST_IN_FLIGHT: Final = 64
_MOST_EVENTS_IN_FLIGHT: Final = 4
_MOST_EVENTS_WAITING: Final = 1000
_MOST_SIGHTS_AT_REST: Final = 1000
_FIRST_REST_S: Final = 1.0
_LONGEST_REST_S: Final = 300.0


@attrs.define(eq=False)
class Machine:
    """One set's machine: what it knows, and what it has not taken in yet."""

    namespace: str
    name: str
    memory: Memory
    inbox: deque[Sight | dict[str, Any]] = attrs.Factory(deque)
    queued: bool = False
    alarm: asyncio.TimerHandle | None = None
    failures: int = 0  # of turns, in a row
    rests: bool = False
    printed: frozenset[str] = frozenset()  # in a dry run: what the last look wanted
    reading: set[Ref] = attrs.Factory(set)  # in a dry run: what is being read
    nodes: dict[str, Sight | dict[str, Any]] = attrs.Factory(dict)  # told of while they are read

    @property
    def key(self) -> Key:
        """Namespace and name."""
        return self.namespace, self.name

    @property
    def title(self) -> str:
        """Namespace and name for people."""
        return f"{self.namespace}/{self.name}"


class Watcher:
    """What wants to know of turns and requests: metrics. The default wants nothing."""

    def turned(self, machine: Machine, before: Memory, seconds: float) -> None:
        """A turn was taken, in so many seconds."""

    def answered(self, machine: Machine, action: Action, outcome: Outcome) -> None:
        """A request was answered."""

    def failed(self, machine: Machine) -> None:
        """A turn or a request failed by a bug of ours."""

    def dropped(self) -> None:
        """An event was dropped, as too many wait."""

    def forgotten(self, machine: Machine) -> None:
        """Nothing of a set is left."""


class Manager:
    """All sets of an operator."""

    def __init__(
        self,
        send: Callable[[Machine, Action], Awaitable[Outcome]],
        *,
        options: Options = Options(),
        may_write: Callable[[], bool] = lambda: True,
        want_nodes: Callable[[], None] = lambda: None,
        is_followed: Callable[[Kind, str, str], bool] = lambda kind, namespace, name: True,
        watcher: Watcher | None = None,
        dry_run: Callable[[str], None] | None = None,
    ) -> None:
        """send: carries out an action. may_write: asked before each. want_nodes: called once nodes matter.
        is_followed: whether it will be told when the object of this kind, namespace and name is gone.
        dry_run: given a line for each action instead of carrying it out."""
        self._send, self._options, self._may_write = send, options, may_write
        self._is_followed = is_followed
        self._want_nodes, self._watcher, self._dry_run = want_nodes, watcher or Watcher(), dry_run
        self.machines: dict[Key, Machine] = {}
        self._queue: deque[Machine] = deque()
        self._wake = asyncio.Event()
        self._listed: set[str] = set()  # namespaces; "" stands for all
        self._is_stopped = False
        self._slots = Slots(_MOST_IN_FLIGHT)
        self._event_slots = asyncio.Semaphore(_MOST_EVENTS_IN_FLIGHT)
        self._sending: set[asyncio.Task[None]] = set()
        self._events_waiting = 0
        self._epoch_s = time.time() - time.monotonic()

    def _now_s(self) -> float:
        """Epoch seconds that go on evenly, as alarms do: were they to follow a clock that is set back, all
        that waits would wait so much longer."""
        return self._epoch_s + time.monotonic()

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
            if machine.rests and len(machine.inbox) % _MOST_SIGHTS_AT_REST == 0:
                machine.inbox = _newest(machine.inbox)
            if obj["kind"] == "Node" and _reads_node(machine, obj["metadata"]["name"]):
                machine.nodes[obj["metadata"]["name"]] = sight
            self._enqueue(machine)

    def all_listed(self, namespace: str = "") -> None:
        """Everything that exists in a namespace, or in all for "", has been told: turns may begin there."""
        self._listed.add(namespace)
        for machine in list(self.machines.values()):
            if namespace in ("", machine.namespace):
                machine.inbox.append(Synced())
                self._enqueue(machine)

    def has_listed(self, namespace: str) -> bool:
        """Whether all that exists in a namespace has been told."""
        return "" in self._listed or namespace in self._listed

    def _concerned(self, obj: dict[str, Any]) -> Iterator[Machine]:
        metadata = obj["metadata"]
        if obj["kind"] == "Node":
            for machine in list(self.machines.values()):
                if metadata["name"] in machine.memory.nodes or _reads_node(machine, metadata["name"]):
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
            if self.has_listed(namespace):
                memory = controller.observe(memory, Synced(), self._now_s())
            machine = self.machines[namespace, name] = Machine(namespace, name, memory)
        return machine

    # -- turns

    def _enqueue(self, machine: Machine) -> None:
        if not machine.queued and not machine.rests:
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
                try:
                    self._turn(machine)
                    machine.failures = 0
                except OSError:  # what decides does no I/O: standard output is closed
                    raise
                except Exception as problem:
                    self._rest(machine, problem)
                await asyncio.sleep(0)  # lets watches and answers in between

    def _turn(self, machine: Machine) -> None:
        """Take in what is there, look once, and send."""
        now_s, began_s, before = self._now_s(), time.perf_counter(), machine.memory
        while machine.inbox:
            machine.memory = _observe(machine, machine.inbox[0], now_s)
            machine.inbox.popleft()
        look = controller.look(machine.memory, now_s)
        if self._dry_run is not None:
            self._pretend(machine, look.actions)
            wake_at_s = None if look.wake_at_s is None else max(look.wake_at_s, now_s + 1.0)
        else:
            machine.memory, wake_at_s = look.memory, look.wake_at_s
            for action in look.actions:
                self._start(machine, action)
        self._set_alarm(machine, wake_at_s, now_s)
        self._watcher.turned(machine, before, time.perf_counter() - began_s)
        if self.machines.get(machine.key) is machine and self._is_forgotten(machine):
            del self.machines[machine.key]
            self._watcher.forgotten(machine)

    def _is_forgotten(self, machine: Machine) -> bool:
        """Whether nothing of a set is left that will be told of, and nothing is under way.

        An object of somebody else's that stands in its way is in view by a read alone: nobody tells when it
        is gone, and another set of the name would meet it anew.
        """
        memory = machine.memory
        if not memory.synced or memory.lws is not None or memory.unreadable is not None or memory.pending:
            return False
        return not any(self._is_followed(kind, machine.namespace, name) for kind, name in _remains(memory))

    def _rest(self, machine: Machine, problem: Exception) -> None:
        """After a turn that failed: the next one later, with all that comes in between."""
        delay_s = min(_LONGEST_REST_S, _FIRST_REST_S * 2.0 ** min(machine.failures, 10))
        machine.failures += 1
        machine.rests = True
        if len(machine.inbox) > _MOST_SIGHTS_AT_REST:
            machine.inbox = _newest(machine.inbox)
        _log.error(
            "a bug: the turn of a set failed with %s; again in %g s",
            type(problem).__name__,
            delay_s,
            exc_info=problem,
            extra={"set": machine.title},
        )
        self._watcher.failed(machine)
        asyncio.get_running_loop().call_later(delay_s, self._rouse, machine)

    def _rouse(self, machine: Machine) -> None:
        machine.rests = False
        self._enqueue(machine)

    def _set_alarm(self, machine: Machine, at_s: float | None, now_s: float) -> None:
        if machine.alarm is not None:
            machine.alarm.cancel()
        machine.alarm = None
        if at_s is not None:
            loop = asyncio.get_running_loop()
            machine.alarm = loop.call_later(max(0.0, at_s - now_s), self._enqueue, machine)

    # -- what is sent

    def _start(self, machine: Machine, action: Action) -> None:
        if isinstance(action, Read) and action.ref.kind == "Node":
            self._want_nodes()
            machine.nodes.pop(action.ref.name, None)  # told of after an earlier answer
        if isinstance(action, Emit):
            if self._events_waiting >= _MOST_EVENTS_WAITING:
                self._watcher.dropped()
                return
            self._events_waiting += 1
        work = self._emit(machine, action) if isinstance(action, Emit) else self._carry_out(machine, action)
        task = asyncio.create_task(work)
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _emit(self, machine: Machine, action: Emit) -> None:
        async with self._event_slots:
            self._events_waiting -= 1
            outcome = await self._try(machine, action)
        if outcome is not None and not outcome.ok:
            _log.debug("no event %s: %s", action.event.reason, outcome.message, extra=_about(machine, action))

    async def _carry_out(self, machine: Machine, action: Request) -> None:
        async with self._slots.one(machine.key):
            outcome = await self._try(machine, action)
        machine.reading.discard(action.ref)
        if outcome is not None:
            machine.inbox.append(Answered(action, outcome))
            if action.ref.kind == "Node" and action.ref.name in machine.nodes:
                machine.inbox.append(machine.nodes.pop(action.ref.name))  # the answer may be older
            self._enqueue(machine)

    async def _try(self, machine: Machine, action: Action) -> Outcome | None:
        """What came of sending an action; None where it may not be sent, as the process is about to end and
        whoever leads now decides anew."""
        if self._is_stopped or not self._may_write():
            return None
        try:
            if not isinstance(action, Emit):
                _tell(machine, action)
            outcome = await self._send(machine, action)
            self._watcher.answered(machine, action, outcome)
            if not isinstance(action, Emit):
                _tell_of_answer(machine, action, outcome)
        except Exception as problem:
            _log.exception(
                "a bug: %s failed with %s",
                type(action).__name__,
                type(problem).__name__,
                extra={"set": machine.title},
            )
            self._watcher.failed(machine)
            return Outcome(0, None, f"internal error: {type(problem).__name__}: {problem}")
        return outcome

    def _pretend(self, machine: Machine, actions: Iterable[Action]) -> None:
        """Print what a look wants and the last one did not. A Read changes nothing, and is carried out."""
        assert self._dry_run is not None
        lines = []
        for action in actions:
            if not isinstance(action, Read):
                lines.append(f"{machine.title}: {_would(action)}")
            elif action.ref not in machine.reading:
                machine.reading.add(action.ref)
                self._start(machine, action)
        for line in dict.fromkeys(lines):
            if line not in machine.printed:
                self._dry_run(line)
        machine.printed = frozenset(lines)

    async def stop(self, at_most_s: float) -> None:
        """Send nothing more, and wait for the answers to what has been sent."""
        self._is_stopped = True
        if self._sending:
            _, late = await asyncio.wait(self._sending, timeout=at_most_s)
            for task in late:
                task.cancel()


def _observe(machine: Machine, item: Sight | dict[str, Any], now_s: float) -> Memory:
    memory = machine.memory
    if not isinstance(item, dict):
        return controller.observe(memory, item, now_s)
    thing = read(item, machine.name, memory.lws)
    return memory if thing is None else controller.observe(memory, Seen(thing), now_s)


def _reads_node(machine: Machine, name: str) -> bool:
    return f"Read Node {name}" in machine.memory.pending


def _newest(inbox: deque[Sight | dict[str, Any]]) -> deque[Sight | dict[str, Any]]:
    """An inbox without the states that later ones of the same object replace, as a list would have it."""
    kept: dict[object, Sight | dict[str, Any]] = {}
    for number, item in enumerate(inbox):
        metadata = item["metadata"] if isinstance(item, dict) else {}
        identity = (item["kind"], metadata["name"], metadata.get("uid")) if isinstance(item, dict) else number
        kept.pop(identity, None)
        kept[identity] = item
    return deque(kept.values())


def _remains(memory: Memory) -> Iterator[tuple[Kind, str]]:
    """Kind and name of each object that is in view beside the set itself."""
    if memory.statefulset is not None:
        yield "StatefulSet", memory.statefulset.name
    if memory.service is not None:
        yield "Service", memory.service.name
    for name in memory.revisions:
        yield "ControllerRevision", name
    for index in indexes(memory.known):
        yield from _members(memory.groups.get(index).group)


def _members(group: Group) -> Iterator[tuple[Kind, str]]:
    for pod in (group.leader, *group.workers):
        if pod is not None:
            yield "Pod", pod.name
    if group.statefulset is not None:
        yield "StatefulSet", group.statefulset.name
    if group.service is not None:
        yield "Service", group.service.name
    for pod_group in group.pod_groups:
        yield "PodGroup", pod_group.name


def _tell(machine: Machine, action: Request) -> None:
    """One line for each decision. What is only tried again has been told."""
    failed = _failed_before(machine, action)
    is_told = isinstance(action, Read) or (failed is not None and failed.action.why == action.why)
    ref, level = action.ref, logging.DEBUG if is_told else logging.INFO
    _log.log(
        level, "%s %s %s: %s", _verb(action), ref.kind, ref.name, action.why, extra=_about(machine, action)
    )


def _tell_of_answer(machine: Machine, action: Request, outcome: Outcome) -> None:
    """One line for each trouble, however often it is met, and one for its end."""
    failed, ref = _failed_before(machine, action), action.ref
    what = f"{_verb(action)} {ref.kind} {ref.name}"
    extra = _about(machine, action) | {"code": outcome.code}
    if not outcome.ok:
        is_dying = names.NAMESPACE_TERMINATING in outcome.causes
        is_expected = outcome.code in (404, 409) or is_dying or isinstance(action, Read)
        is_told = failed is not None and failed.message == failure_message(outcome)
        level = logging.DEBUG if is_expected or is_told else logging.WARNING
        _log.log(level, "%s failed with %d: %s", what, outcome.code, outcome.message, extra=extra)
    elif failed is not None and failed.attempts > 1:
        _log.info("%s was carried out after it had failed %d times", what, failed.attempts, extra=extra)


def _failed_before(machine: Machine, action: Request) -> Retry | None:
    """What is known of the attempt before this one, if that failed."""
    return machine.memory.retries.get(action_key(action))


def _about(machine: Machine, action: Action) -> dict[str, Any]:
    """What a log line is about: the set, and the group where it is one's."""
    ref: Ref | None = None if isinstance(action, Emit) else action.ref
    group = -1 if ref is None else group_of(machine.memory, ref)
    about: dict[str, Any] = {"set": machine.title}
    if group >= 0:
        about["group"] = group
    return about


def _would(action: Action) -> str:
    """An action that is not carried out, in words."""
    if isinstance(action, Emit):
        return f"would emit {action.event.reason}: {action.event.note}"
    return f"would {_verb(action)} {action.ref.kind} {action.ref.name}: {action.why}"


def _verb(action: Action) -> str:
    verb = {"TakeFields": "take fields of", "PatchStatus": "write status of"}
    name = type(action).__name__
    return verb.get(name, name.lower())


KINDS: Final[tuple[Kind, ...]] = ("LeaderWorkerSet", "StatefulSet", "Pod", "Service", "ControllerRevision")
"""What is followed for every set; PodGroups besides where gang scheduling is on."""
