"""What runs the machines: turns, bugs in them, what is sent, dry runs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Literal

import attrs
import pytest
from building import a_set
from loopback import until
from machine import at_rest

from lws_core import controller, names
from lws_core.actions import Action, Create, Emit, Event, PatchStatus, Read, Ref
from lws_core.controller import Look
from lws_core.memory import Memory
from lws_core.observed import Child, Node
from lws_core.sights import Outcome
from lws_core.values import evolve, freeze_map, thaw
from lws_runtime.operator import manager as manager_module
from lws_runtime.operator.manager import Machine, Manager, Watcher

Object = dict[str, Any]


def stored(name: str, version: int = 1, **spec: Any) -> Object:
    metadata = {
        "namespace": "default",
        "name": name,
        "uid": f"uid-{name}",
        "generation": version,
        "resourceVersion": str(version),
    }
    found: Object = thaw(a_set(spec or None, metadata=metadata))
    return found


def gone(name: str) -> Object:
    return {
        "kind": names.KIND,
        "metadata": {"namespace": "default", "name": name, "uid": f"uid-{name}", "resourceVersion": "99"},
    }


def emit(note: str = "x") -> Emit:
    ref = Ref("LeaderWorkerSet", "default", "one")
    return Emit(ref, "uid-one", Event("Normal", "Reason", "Action", note))


@attrs.define
class Counts(Watcher):
    bugs: list[str] = attrs.Factory(list)
    turns: list[str] = attrs.Factory(list)
    answers: list[int] = attrs.Factory(list)
    gone: list[str] = attrs.Factory(list)
    drops: int = 0

    def turned(self, machine: Machine, before: Memory, seconds: float) -> None:
        self.turns.append(machine.name)

    def answered(self, machine: Machine, action: Action, outcome: Outcome) -> None:
        self.answers.append(outcome.code)

    def failed(self, machine: Machine) -> None:
        self.bugs.append(machine.name)

    def dropped(self) -> None:
        self.drops += 1

    def forgotten(self, machine: Machine) -> None:
        self.gone.append(machine.name)


@attrs.define
class Cluster:
    """Answers every request with a refusal that heals by itself much later, and keeps it."""

    code: int = 403
    sent: list[tuple[str, Action]] = attrs.Factory(list)
    before: Callable[[Machine, Action], Awaitable[None]] | None = None

    async def send(self, machine: Machine, action: Action) -> Outcome:
        self.sent.append((machine.name, action))
        if self.before is not None:
            await self.before(machine, action)
        return Outcome(self.code, None, "no")

    def names(self, *kinds: type) -> list[str]:
        return [name for name, action in self.sent if isinstance(action, kinds)]


def run(
    body: Callable[[Manager], Awaitable[None]],
    cluster: Cluster | None = None,
    **how: Any,
) -> Counts:
    counts = Counts()

    async def inner() -> None:
        manager = Manager((cluster or Cluster()).send, watcher=counts, **how)
        task = asyncio.create_task(manager.run())
        try:
            await asyncio.wait(
                [task, asyncio.create_task(_bounded(body(manager)))], return_when="FIRST_COMPLETED"
            )
            if task.done():
                await task
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await manager.stop(0.1)

    outcome: list[BaseException] = []

    async def _bounded(work: Awaitable[None]) -> None:
        try:
            await asyncio.wait_for(work, 60)
        except BaseException as problem:
            outcome.append(problem)

    asyncio.run(inner())
    if outcome:
        raise outcome[0]
    return counts


@pytest.fixture
def breaks(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of sets whose look has a bug, as long as they are in here. Rests are short."""
    broken: set[str] = set()
    look = controller.look

    def buggy(memory: Memory, now_s: float) -> Look:
        if memory.synced and memory.lws is not None and memory.lws.name in broken:
            raise ZeroDivisionError(f"of {memory.lws.name}")
        return look(memory, now_s)

    monkeypatch.setattr(controller, "look", buggy)
    monkeypatch.setattr(manager_module, "_FIRST_REST_S", 0.02)
    return broken


# -- turns


def test_decisions_must_wait_until_everything_is_listed() -> None:
    cluster = Cluster()

    async def body(manager: Manager) -> None:
        manager.see("SEEN", stored("one"))
        await asyncio.sleep(0.05)
        assert cluster.sent == []
        manager.all_listed()
        await until(lambda: cluster.sent)

    run(body, cluster)


def test_decisions_never_wait_for_other_namespaces() -> None:
    cluster = Cluster()
    other = stored("other")
    other["metadata"]["namespace"] = "other"

    async def body(manager: Manager) -> None:
        manager.see("SEEN", stored("one"))
        manager.see("SEEN", other)
        manager.all_listed("default")
        manager.see("SEEN", stored("two"))
        await until(lambda: {"one", "two"} <= set(cluster.names(Create)) and not manager.depth)
        assert "other" not in [name for name, _ in cluster.sent]
        manager.all_listed("other")
        await until(lambda: "other" in cluster.names(Create))

    run(body, cluster)


def test_events_of_one_moment_must_cost_one_turn() -> None:
    async def body(manager: Manager) -> None:
        manager.all_listed()
        for version in range(1, 50):
            manager.see("SEEN", stored("one", version))
        await until(lambda: not manager.depth)
        for _ in range(10):  # in which another turn would be taken
            await asyncio.sleep(0)
        assert len(manager.machines) == 1

    counts = run(body, may_write=lambda: False)
    assert counts.turns == ["one"]


def test_sets_that_are_gone_must_be_forgotten() -> None:
    async def body(manager: Manager) -> None:
        manager.all_listed()
        manager.see("SEEN", stored("one"))
        await asyncio.sleep(0.05)
        manager.see("GONE", gone("one"))
        await until(lambda: not manager.machines)

    assert run(body).gone == ["one"]


@pytest.mark.parametrize("followed", [True, False])
def test_foreign_object_that_nobody_follows_never_keeps_a_set_that_is_gone(followed: bool) -> None:
    foreign = Child("Service", "one", "uid-foreign", "7", None, terminating=False)

    @attrs.define
    class Occupied(Cluster):
        async def send(self, machine: Machine, action: Action) -> Outcome:
            await super().send(machine, action)
            if isinstance(action, Read):
                return Outcome(200, foreign)
            is_taken = isinstance(action, Create) and action.ref.kind == "Service"
            return Outcome(409 if is_taken else 403, None, "no")

    async def body(manager: Manager) -> None:
        manager.all_listed()
        manager.see("SEEN", stored("one"))
        machine = manager.machines["default", "one"]
        await until(lambda: machine.memory.service == foreign and not machine.memory.pending)
        manager.see("GONE", gone("one"))
        await until(lambda: machine.memory.lws is None and not machine.memory.pending)
        assert list(manager.machines.values()) == ([machine] if followed else [])

    counts = run(body, Occupied(), is_followed=lambda kind, _, name: followed and kind == "Service")
    assert counts.gone == ([] if followed else ["one"])


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("StatefulSet", "serve"),
        ("Service", "serve"),
        ("Pod", "serve-0"),
        ("Pod", "serve-0-1"),
        ("StatefulSet", "serve-0"),
        ("ControllerRevision", ""),
        (None, ""),
    ],
)
def test_anything_that_is_left_of_a_set_and_followed_must_keep_it(kind: str | None, name: str) -> None:
    """What another set of the name must know of, and no list tells again."""
    memory = evolve(at_rest(a_set(template={"size": 2})).memory, lws=None)

    def is_followed(of_kind: str, namespace: str, of_name: str) -> bool:
        return of_kind == kind and namespace == "default" and name in ("", of_name)

    async def body(manager: Manager) -> None:
        machine = Machine("default", "serve", memory)
        assert manager._is_forgotten(machine) == (kind is None)

    run(body, is_followed=is_followed)


def test_objects_without_the_label_never_make_a_machine() -> None:
    async def body(manager: Manager) -> None:
        for labels in (None, {}, {names.SET_NAME: ""}, {"app": "x"}):
            metadata = {"namespace": "default", "name": "p", "uid": "u", "labels": labels}
            manager.see("SEEN", {"kind": "Pod", "metadata": metadata})
        manager.see("SEEN", {"kind": "Node", "metadata": {"name": "n", "uid": "u"}})
        assert manager.machines == {}

    run(body)


# -- bugs


def test_bug_in_one_turn_must_be_logged_counted_and_hold_up_no_other(
    breaks: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    cluster = Cluster()
    breaks.add("bad")

    async def body(manager: Manager) -> None:
        manager.all_listed()
        manager.see("SEEN", stored("bad"))
        manager.see("SEEN", stored("good"))
        await until(lambda: "good" in cluster.names(Create))

    counts = run(body, cluster)
    assert set(counts.bugs) == {"bad"}
    record = next(record for record in caplog.records if "a bug" in record.message)
    assert record.levelno == logging.ERROR
    assert "ZeroDivisionError" in record.message
    assert record.exc_info is not None
    assert vars(record)["set"] == "default/bad"
    assert "bad" not in cluster.names(Create)


def test_bug_must_be_tried_again_later_and_later_however_much_happens(breaks: set[str]) -> None:
    breaks.add("bad")
    took_s = 0.0

    async def body(manager: Manager) -> None:
        nonlocal took_s
        began_s = time.monotonic()
        manager.all_listed()
        for version in range(1, 60):
            manager.see("SEEN", stored("bad", version))
            await asyncio.sleep(0.005)
        took_s = time.monotonic() - began_s

    tries = len(run(body).bugs)
    assert tries >= 3
    assert 0.02 * (2 ** (tries - 1) - 1) <= took_s  # 0.02, 0.04, 0.08 s and so on apart


def test_set_must_go_on_once_its_bug_has_no_effect_any_more(breaks: set[str]) -> None:
    cluster = Cluster()
    breaks.add("bad")

    async def body(manager: Manager) -> None:
        manager.all_listed()
        manager.see("SEEN", stored("bad"))
        await asyncio.sleep(0.05)
        breaks.clear()
        await until(lambda: "bad" in cluster.names(Create))
        assert manager.machines["default", "bad"].failures == 0

    run(body, cluster)


def test_sight_that_cannot_be_taken_in_never_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager_module, "_FIRST_REST_S", 0.02)
    read, cluster = manager_module.read, Cluster()
    is_broken = [True]

    def buggy(obj: Object, *more: Any) -> Any:
        if obj["metadata"]["resourceVersion"] == "2" and is_broken[0]:
            raise KeyError("a bug")
        return read(obj, *more)

    monkeypatch.setattr(manager_module, "read", buggy)

    async def body(manager: Manager) -> None:
        manager.all_listed()
        manager.see("SEEN", stored("one", 1))
        manager.see("SEEN", stored("one", 2))
        manager.see("SEEN", stored("one", 3))
        await asyncio.sleep(0.1)
        machine = manager.machines["default", "one"]
        assert machine.memory.lws is not None
        assert machine.memory.lws.metadata.generation == 1
        assert [item["metadata"]["resourceVersion"] for item in machine.inbox if isinstance(item, dict)] == [
            "2",
            "3",
        ]
        assert cluster.sent == []  # nothing is decided on a view that lacks something
        is_broken[0] = False
        await until(lambda: cluster.sent)
        assert machine.memory.lws.metadata.generation == 3

    run(body, cluster)


def test_inbox_of_a_set_at_rest_never_grows_without_bound(
    breaks: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager_module, "_MOST_SIGHTS_AT_REST", 5)

    def buggy(*_: Any) -> Any:
        raise KeyError("a bug")

    monkeypatch.setattr(manager_module, "read", buggy)

    async def body(manager: Manager) -> None:
        manager.all_listed()
        for version in range(1, 200):
            manager.see("SEEN", stored("bad", version))
        manager.see("GONE", gone("bad"))
        await asyncio.sleep(0.1)
        await until(lambda: manager.machines["default", "bad"].rests)  # it may be about to have a turn
        inbox = manager.machines["default", "bad"].inbox
        assert len(inbox) == 2
        assert isinstance(inbox[0], dict)
        assert inbox[0]["metadata"]["resourceVersion"] == "199"
        for version in range(200, 300):  # in one long rest
            manager.see("SEEN", stored("bad", version))
        assert len(manager.machines["default", "bad"].inbox) <= 6

    run(body)


def test_request_that_fails_by_a_bug_must_count_as_of_unknown_outcome(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def explode(_: Machine, action: Action) -> None:
        if isinstance(action, Create):
            raise TypeError("cannot be written as JSON")

    cluster = Cluster(code=500, before=explode)

    async def body(manager: Manager) -> None:
        manager.all_listed()
        manager.see("SEEN", stored("one"))
        await until(lambda: cluster.names(Read))  # what it may have made is read
        machine = manager.machines["default", "one"]
        assert any("internal error: TypeError" in retry.message for retry in machine.memory.retries.values())

    counts = run(body, cluster)
    assert counts.bugs[:1] == ["one"]
    assert any(record.exc_info and "a bug: Create" in record.message for record in caplog.records)


# -- what is sent


def test_nothing_ever_is_sent_that_may_not_be() -> None:
    cluster = Cluster()

    async def body(manager: Manager) -> None:
        manager.all_listed()
        manager.see("SEEN", stored("one"))
        await asyncio.sleep(0.05)

    run(body, cluster, may_write=lambda: False)
    assert cluster.sent == []


def test_nothing_ever_is_sent_after_stop_and_late_answers_are_not_waited_for() -> None:
    async def hang(*_: Any) -> None:
        await asyncio.sleep(30)

    cluster = Cluster(before=hang)

    async def body(manager: Manager) -> None:
        manager.all_listed()
        for number in range(100):  # more than may be under way at once
            manager.see("SEEN", stored(f"s{number}"))
        await until(lambda: len(cluster.sent) >= 64)
        began = len(cluster.sent)
        await asyncio.wait_for(manager.stop(0.1), 15)
        await asyncio.sleep(0.05)
        assert len(cluster.sent) == began

    run(body, cluster)


def test_sets_whose_requests_hang_never_hold_up_others(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang_for_some(machine: Machine, _: Action) -> None:
        if machine.name.startswith("hangs"):
            await asyncio.sleep(30)

    cluster = Cluster(before=hang_for_some)
    look, wanted = controller.look, Read(Ref("Pod", "default", "one-0"), "x")

    def busy(memory: Memory, now_s: float) -> Look:
        found = look(memory, now_s)
        return attrs.evolve(found, actions=(*[wanted] * 100, *found.actions))

    async def body(manager: Manager) -> None:
        manager.all_listed()
        with monkeypatch.context() as patch:
            patch.setattr(controller, "look", busy)
            for number in range(6):
                manager.see("SEEN", stored(f"hangs-{number}"))
            await until(lambda: len({name for name, _ in cluster.sent}) == 6 and not manager.depth)
        manager.see("SEEN", stored("one"))
        await until(lambda: "one" in cluster.names(Create))

    run(body, cluster)


def test_events_never_hold_up_writes_and_never_wait_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager_module, "_MOST_EVENTS_WAITING", 20)

    async def hang_on_events(_: Machine, action: Action) -> None:
        if isinstance(action, Emit):
            await asyncio.sleep(30)

    cluster = Cluster(before=hang_on_events)
    look = controller.look

    def talkative(memory: Memory, now_s: float) -> Look:
        found = look(memory, now_s)
        return attrs.evolve(found, actions=(*[emit(str(n)) for n in range(100)], *found.actions))

    monkeypatch.setattr(controller, "look", talkative)

    async def body(manager: Manager) -> None:
        manager.all_listed()
        manager.see("SEEN", stored("one"))
        await until(lambda: cluster.names(Create))
        assert len(cluster.names(Emit)) <= 4

    assert run(body, cluster).drops >= 80


def test_event_that_fails_never_is_sent_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    cluster = Cluster(code=500)

    async def body(manager: Manager) -> None:
        manager.all_listed()
        manager.see("SEEN", stored("one"))
        await until(lambda: cluster.names(Create))
        machine = manager.machines["default", "one"]
        manager._start(machine, emit())
        await asyncio.sleep(0.05)

    run(body, cluster)
    assert len([action for _, action in cluster.sent if action == emit()]) == 1
    assert any(record.message == "no event Reason: no" for record in caplog.records)


def test_decisions_must_be_logged_once_with_set_and_reason_and_looks_never(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lws_core.answers._refused_delay_s", lambda attempts: 300.0)  # none is tried again
    caplog.set_level(logging.INFO)
    cluster = Cluster()

    async def body(manager: Manager) -> None:
        manager.all_listed()
        manager.see("SEEN", stored("one"))
        await until(lambda: cluster.names(Create))
        await asyncio.sleep(0.02)
        caplog.clear()
        manager.see(
            "SEEN", {**stored("one"), "metadata": {**stored("one")["metadata"], "labels": {"a": "b"}}}
        )
        await asyncio.sleep(0.05)
        assert [record.message for record in caplog.records if record.levelno == logging.INFO] == []

    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logging.getLogger(manager_module.__name__).addHandler(handler)
    try:
        run(body, cluster)
    finally:
        logging.getLogger(manager_module.__name__).removeHandler(handler)
    told = [record for record in records if record.levelno == logging.INFO]
    wanted = [action for _, action in cluster.sent if not isinstance(action, Emit | Read)]
    assert len(told) == len(wanted) > 0
    assert all(vars(record)["set"] == "default/one" for record in told)
    assert all(action.why in record.getMessage() for action, record in zip(wanted, told, strict=True))


def test_trouble_that_lasts_must_be_told_once_and_its_end_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    cluster = Cluster(code=401)  # tried again after 0.5 s, then after 1 s

    async def body(manager: Manager) -> None:
        def sent() -> int:
            return sum(isinstance(action, Create) for _, action in cluster.sent)

        manager.all_listed()
        manager.see("SEEN", stored("one"))
        await until(sent)
        creates = sent()
        await until(lambda: sent() >= 2 * creates, 5)
        cluster.code = 201
        await until(lambda: sent() > 2 * creates, 5)
        manager.see("GONE", gone("one"))  # what was created is never seen, and would be wanted again

    run(body, cluster)
    told = [record for record in caplog.records if "Service one" in record.message]
    shown = [record.message for record in told if record.levelno >= logging.INFO]
    assert shown[:3] == [
        "create Service one: the set has no Service",
        "create Service one failed with 401: no",
        "create Service one was carried out after it had failed 2 times",
    ]
    assert [record.message for record in told if record.levelno == logging.DEBUG][:2] == shown[:2]


def test_nodes_must_be_asked_for_only_when_they_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    cluster = Cluster()

    async def body(manager: Manager) -> None:
        manager.all_listed()
        manager.see("SEEN", stored("one"))
        await until(lambda: cluster.names(Create))
        assert asked == []
        manager._start(manager.machines["default", "one"], Read(Ref("Node", "", "n"), "is it there"))
        assert asked == ["nodes"]

    run(body, cluster, want_nodes=lambda: asked.append("nodes"))


@pytest.mark.parametrize("happened", ["SEEN", "GONE"])
def test_node_that_changes_while_it_is_read_must_be_known_as_it_is_now(
    happened: Literal["SEEN", "GONE"],
) -> None:
    """The answer may have left the server before."""
    metadata = {"name": "n", "uid": "u", "resourceVersion": "6", "labels": {}}
    unready = {"conditions": [{"type": "Ready", "status": "Unknown"}]}

    @attrs.define
    class Late(Cluster):
        async def send(self, machine: Machine, action: Action) -> Outcome:
            manager.see(happened, {"kind": "Node", "metadata": metadata, "status": unready})
            return Outcome(200, Node("n", freeze_map({"zone": "a"}), ready=True))

    async def body(of: Manager) -> None:
        nonlocal manager
        manager = of
        read = Read(Ref("Node", "", "n"), "is it there")
        machine = manager._machine("default", "one")
        machine.memory = evolve(machine.memory, pending=machine.memory.pending.with_("Read Node n", read))
        manager._start(machine, read)
        await until(lambda: not machine.memory.pending)
        assert not machine.memory.nodes["n"].ready
        assert machine.nodes == {}

    manager: Manager
    run(body, Late())


# -- dry runs


def test_dry_run_must_print_each_action_once_and_send_nothing() -> None:
    cluster = Cluster()
    lines: list[str] = []

    async def body(manager: Manager) -> None:
        manager.all_listed()
        for version in range(1, 6):
            manager.see("SEEN", {**stored("one"), "metadata": {**stored("one", version)["metadata"]}})
            await asyncio.sleep(0.01)

    run(body, cluster, dry_run=lines.append)
    assert cluster.sent == []
    assert lines
    assert len(lines) == len(set(lines))
    assert all(line.startswith("default/one: would ") for line in lines)
    assert not any("read" in line for line in lines)


def test_dry_run_must_print_an_action_again_that_was_not_wanted_in_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted: list[tuple[Action, ...]] = []
    status = PatchStatus(Ref("LeaderWorkerSet", "default", "one"), "u", "1", a_set(), "counts")
    later = attrs.evolve(status, resource_version="2")
    monkeypatch.setattr(controller, "look", lambda memory, now_s: Look(memory, wanted.pop(0)))
    lines: list[str] = []

    async def body(manager: Manager) -> None:
        manager.all_listed()
        for actions in ((status,), (later,), (), (later,)):
            wanted[:] = [actions]
            manager.see("SEEN", stored("one"))
            await until(lambda: not wanted)

    run(body, dry_run=lines.append)
    assert lines == ["default/one: would write status of LeaderWorkerSet one: counts"] * 2


def test_clock_that_is_set_back_never_makes_what_waits_wait_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(code=429)

    async def body(manager: Manager) -> None:
        manager.see("SEEN", stored("one"))
        manager.all_listed()
        await until(lambda: cluster.names(Create))
        real, sent = time.time, len(cluster.names(Create))
        monkeypatch.setattr(time, "time", lambda: real() - 3600.0)
        await until(lambda: len(cluster.names(Create)) > sent)

    run(body, cluster)


def test_dry_run_must_read_what_it_needs_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Read(Ref("Node", "", "n"), "is it there")
    monkeypatch.setattr(controller, "look", lambda memory, now_s: Look(memory, (read,)))
    held = asyncio.Event()
    lines: list[str] = []

    async def hold(*_: Any) -> None:
        await held.wait()

    cluster = Cluster(before=hold)

    async def body(manager: Manager) -> None:
        manager.all_listed()
        for version in range(1, 5):
            manager.see("SEEN", stored("one", version))
            await asyncio.sleep(0.01)
        assert [action for _, action in cluster.sent] == [read]
        held.set()
        await until(lambda: len(cluster.sent) > 1)  # this look never has enough

    run(body, cluster, dry_run=lines.append)
    assert lines == []


def test_dry_run_never_looks_again_without_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller, "look", lambda memory, now_s: Look(memory, (), now_s))
    took_s = 0.0

    async def body(manager: Manager) -> None:
        nonlocal took_s
        began_s = time.monotonic()
        manager.all_listed()
        manager.see("SEEN", stored("one"))
        await asyncio.sleep(0.2)
        took_s = time.monotonic() - began_s

    assert 1 <= len(run(body, dry_run=lambda _: None).turns) <= 1 + took_s  # the waits are of a second


def test_dry_run_must_end_when_nobody_reads_what_it_prints() -> None:
    def closed(_: str) -> None:
        raise BrokenPipeError

    async def body(manager: Manager) -> None:
        manager.all_listed()
        manager.see("SEEN", stored("one"))
        await asyncio.sleep(5)

    with pytest.raises(BrokenPipeError):
        run(body, dry_run=closed)
