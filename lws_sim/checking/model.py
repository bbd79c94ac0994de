"""One set in its cluster as a state, and all that can happen to it as moves.

A state is a few numbers: of the cluster, of the controller's memory, of the requests that are under way. What
a move does depends on one or two of these only, and is worked out once: a state space of millions has some
thousands of clusters and memories. The controller is lws_core's machine and the cluster is lws_sim's, both
unchanged; only names are made plain (naming.py).

What is taken as one step: the controller sees everything that has changed, or nothing, and then looks; a
StatefulSet of workers is synced, and a pod placed, as soon as they can be; and, but for a model with late
answers, a request is carried out and answered, in the order in which they were sent. Every other step of the
cluster is a move of its own and may be as late as it likes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias

import attrs

from lws_core import controller, names
from lws_core.actions import Action, Apply, Delete, Emit, PatchStatus, Read
from lws_core.bits import indexes
from lws_core.lineage import Lineage
from lws_core.memory import Memory, Retry, Unreadable
from lws_core.observed import Node
from lws_core.options import Options
from lws_core.reading import read
from lws_core.sights import Answered, Gone, Outcome, Seen, Synced, Thing
from lws_core.spec import LeaderWorkerSet, Status
from lws_core.values import EMPTY, FrozenMap, as_map, dig, evolve
from lws_core.view import find, identity
from lws_sim import world as cluster
from lws_sim.census import Census, count
from lws_sim.cluster import api, kubelet, statefulset
from lws_sim.cluster.store import (
    Object,
    Store,
    key_of,
    label,
    meta,
    name_of,
    namespace_of,
    owners,
    terminating,
    uid_of,
    with_meta,
    with_status,
)
from lws_sim.judging import Violation, judge, judge_pause

from .edits import EDITS, Draft
from .naming import NamedStore, Numbers
from .rules import judge_more

OPTIONS: Final = Options(progress_deadline_s=1e9, status_interval_s=0.0)
_FAR_S: Final = 1e6  # later than this is never
_LOST: Final = 0
FAULTS: Final = ("member", "crash", "request", "stuck", "object")
"""What may go wrong: a pod's container restarts, it is killed or evicted; the controller starts anew; a
request is lost, answered to nobody, or carried out twice; a pod falls unready and stays so until it is
replaced; somebody deletes a Service, a revision or a StatefulSet of workers."""

_DELETED: Final = ("StatefulSet", "Service", "ControllerRevision")

Label: TypeAlias = tuple[str, ...]
"""A move in words: what moves, and how."""
_WORDS: Final = {
    **dict.fromkeys(("collect", "the controller starts anew"), re.compile("")),
    "look": re.compile("(at an older view)?"),
    "edit": re.compile("|".join(EDITS)),
    "wait": re.compile(r".+ s"),
    **dict.fromkeys(("ready", "end"), re.compile("(leader|workers) .*")),
    **dict.fromkeys(("sync", "restart", "kill", "evict", "fall"), re.compile(".+")),
    "delete by hand": re.compile(f"({'|'.join(_DELETED)}) .+"),
    **dict.fromkeys(
        ("send", "carry out", "answer", "lost", "carried out, the answer lost", "carried out twice"),
        re.compile("[A-Z][A-Za-z]+ [A-Z][A-Za-z]+ .+"),
    ),
}
"""The first word of every move, and what may be its second."""


def _kinds() -> Iterator[str]:
    """The kinds of moves, each in the first words of it that tell it from others."""
    for first in _WORDS:
        match first:
            case "edit":
                yield from (f"edit {edit}" for edit in EDITS)
            case "look":
                yield from ("look", "look at an older view")
            case "delete by hand":
                yield from (f"{first} {kind}" for kind in _DELETED)
            case _:
                yield first


class Debt(NamedTuple):
    """What the group of a leader (its UID) is owed. sure: failures of members less the recreations for them,
    which may be none or too many; chance: failures that the group may come back from without one."""

    group: str
    sure: int
    chance: int


Owed: TypeAlias = tuple[Debt, ...]


_Befallen: TypeAlias = tuple[Label, int, Debt | None, str]
"""What befalls an object: how, the cluster after it, what a group is owed for it, and the object's UID."""


class Late(NamedTuple):
    """A request that was carried out and is not answered yet, with its outcome. since: what newer the
    controller has heard of the object, nothing, another answer, or what the watch shows."""

    action: int
    outcome: int
    since: int = 0


_ANSWERED, _WATCHED = 1, 2


class State(NamedTuple):
    """Where everything stands. The numbers index what the model has met.

    sends: the requests under way, in their order; answers: those that were carried out. now_s: the time.
    draft: what the user has asked for so far. faults: how many may still happen; harmed: one has taken or
    hurt what stands, rather than the controller or its requests. owed: recreations of groups for failures of
    their members.
    """

    cluster: int
    memory: int
    sends: tuple[int, ...]
    now_s: float
    draft: int
    faults: int
    owed: Owed
    behind: int
    harmed: bool = False
    answers: tuple[Late, ...] = ()


class Move(NamedTuple):
    """One thing that can happen: what, the state after it, what is wrong with it, and what is written by it.

    kind: "step" for what goes on by itself, "edit" for the user, "fault" for what should not happen.
    """

    label: Label
    after: State
    kind: str = "step"
    violations: tuple[Violation, ...] = ()
    writes: int = 0


KINDS: Final = tuple(_kinds())
"""Of what kinds moves are; one that never happens is explored in vain."""


def kind_of(move: Move) -> str:
    """Whether a move is a step, an edit or a fault, and of what kind."""
    match move.label:
        case ("edit", edit):
            return f"edit {edit}"
        case ("look", *_):
            kind = " ".join(move.label)
        case ("delete by hand", deleted):
            kind = f"delete by hand {deleted.split()[0]}"
        case _:
            kind = move.label[0]
    return f"{move.kind} {kind}"


class _Looked(NamedTuple):
    memory: int
    sends: tuple[int, ...]
    violations: tuple[Violation, ...]
    wake_at_s: float


class Model:
    """The moves of one set. `drafts`: what a user may make of it (edits.py); the first is the beginning.
    `late_answers`: requests are carried out in any order, and answered in any later one. `store_type`: how
    the cluster names what it stores."""

    def __init__(
        self,
        drafts: tuple[Draft, ...],
        *,
        gate: bool = False,
        faults: tuple[str, ...] = (),
        reports_at_once: bool = True,
        late_answers: bool = False,
        slack: int | None = 1,
        store_type: type[NamedStore] = NamedStore,
    ) -> None:
        self.drafts = drafts
        self.faults = faults
        manifest = drafts[0].manifest
        self.name, self.namespace = name_of(manifest), namespace_of(manifest)
        self.owner = f"{self.namespace}/{self.name}"
        self._status = f"PatchStatus {names.KIND} {self.name}"
        self._reports_at_once, self._slack = reports_at_once, slack
        self._late_answers = late_answers
        self._store_type = store_type
        policy = dig(manifest, "spec", "leaderWorkerTemplate", "restartPolicy")
        self._recreates, self._waits_for_start = policy != "None", policy == "RecreateGroupAfterStart"
        self._rules = api.Rules(gate=gate, options=OPTIONS)
        self._clusters: Numbers[object] = Numbers()
        self._memories: Numbers[Memory] = Numbers()
        self._actions: Numbers[Action] = Numbers()
        self._outcomes: Numbers[Outcome] = Numbers()
        self._worlds: list[cluster.World] = []
        self._looked: dict[tuple[int, float], _Looked] = {}
        self._caught_up: dict[tuple[int, int], int] = {}
        self._carried: dict[tuple[int, int, float], tuple[int, int]] = {}
        self._heard: dict[tuple[int, Late, float], int] = {}
        self._stirred: dict[tuple[int, float], tuple[tuple[Label, int], ...]] = {}
        self._befallen: dict[tuple[str, int, float], tuple[_Befallen, ...]] = {}
        self._lineages: dict[Lineage, Lineage] = {}
        self._ready: dict[int, frozenset[int]] = {}
        self._shown: dict[int, dict[tuple[str, str], Thing]] = {}
        self._things: dict[str, Thing | None] = {}
        self._known: dict[object, LeaderWorkerSet] = {}
        self._edited: dict[tuple[int, int], int] = {}

    # -- what the numbers mean

    def world(self, state: State) -> cluster.World:
        """The cluster of a state."""
        return self._worlds[state.cluster]

    def memory(self, state: State) -> Memory:
        """What the controller knows in a state."""
        return self._memories.values[state.memory]

    def stands(self, state: State) -> str:
        """Partition, replicas, and a letter for each group: n or o for ready ones of the newest or an older
        revision, l or x for others of these, t for a leader that terminates, a dot where there is none."""
        if self.world(state).store.get("StatefulSet", self.namespace, self.name) is None:
            return "-/0 "
        standing = self._count(state.cluster).standing
        return f"{standing.partition}/{standing.replicas} {standing.groups}"

    @staticmethod
    def is_write(action: Action) -> bool:
        """Whether an action changes something in the cluster."""
        return not isinstance(action, Emit | Read)

    def action(self, number: int) -> Action:
        """A request."""
        return self._actions.values[number]

    @property
    def actions(self) -> tuple[Action, ...]:
        """All requests that the controller has decided on."""
        return tuple(self._actions.values)

    def ready(self, state: State) -> frozenset[int]:
        """The groups that serve in a state."""
        if state.cluster not in self._ready:
            self._ready[state.cluster] = self._count(state.cluster).ready
        return self._ready[state.cluster]

    def _count(self, of_cluster: int) -> Census:
        return count(self._worlds[of_cluster].store, self.name)

    @property
    def sizes(self) -> tuple[int, int]:
        """How many different clusters and memories have been met."""
        return len(self._clusters.values), len(self._memories.values)

    # -- states

    def first(self, faults: int) -> State:
        """The set has just been created."""
        edited_twice = any(self.drafts[place].children for _, place in self.drafts[0].children)
        world = cluster.World(
            # A view may be older than all that two edits lead to and back from, where nothing bounds its age.
            store=self._store_type(counts_lives=bool(faults) or (self._slack is None and edited_twice)),
            rules=self._rules,
            timing=cluster.Timing(load_s=None),
        )
        world = cluster.put_set(world, self.drafts[0].manifest)
        memory = controller.observe(controller.start(OPTIONS), Synced(), cluster.START_S)
        return State(self._settle(world), self._remember(memory), (), cluster.START_S, 0, faults, (), 0)

    def moves(self, state: State) -> Iterator[Move]:
        """Everything that can happen in a state."""
        yield from self._steps(state)
        if not self._is_late(state):
            for edit, child in self.drafts[state.draft].children:
                after = self._moved(state, self._edit(state.cluster, child))._replace(draft=child)
                yield Move(("edit", edit), after, "edit")
        if state.faults:
            yield from self._faults(state)

    def _is_late(self, state: State) -> bool:
        """Whether the controller must go on before anything else may."""
        return self._slack is not None and state.behind >= self._slack

    def _steps(self, state: State) -> Iterator[Move]:
        waits = True
        current = self._catch_up(state.cluster, state.memory)
        views: list[tuple[int, Label]] = [(current, ("look",))]
        if state.memory != current:
            views.append((state.memory, ("look", "at an older view")))
        for memory, how in views:
            looked = self._look(memory, state.now_s)
            if looked.memory != state.memory or looked.sends:
                waits = False
                yield self._after_look(state, looked, how)
        if state.sends or state.answers:
            waits = False
            yield from self._requests(state)
        if self._is_late(state):
            return
        for how, after in self._stir(state.cluster, state.now_s):
            waits = False
            yield Move(how, self._moved(state, after))
        if waits:
            yield from self._wake(state)

    def _moved(self, state: State, after: int) -> State:
        """The state after the cluster has become another, which the controller sees at once, or later."""
        return self._counted(state._replace(cluster=after, behind=state.behind + 1))

    def _counted(self, state: State) -> State:
        """The state, in which nothing is late if the controller has nothing to do, and nothing is owed to
        groups that are gone."""
        if state.owed:
            alive = {uid_of(pod) for pod in self.world(state).store.all("Pod")}
            owed = tuple(debt for debt in state.owed if debt.sure < 0 or debt.group in alive)
            state = state._replace(owed=owed)
        if not state.behind or state.sends or state.answers:
            return state
        memory = self._catch_up(state.cluster, state.memory)
        looked = self._look(memory, state.now_s)
        return state if looked.memory != state.memory or looked.sends else state._replace(behind=0)

    def _after_look(self, state: State, looked: _Looked, how: Label) -> Move:
        after = state._replace(memory=looked.memory, sends=state.sends + looked.sends)
        if how == ("look",):
            seen = tuple(late._replace(since=_WATCHED) for late in state.answers)
            after = after._replace(answers=seen)
        if self._reports_at_once:
            for number in looked.sends:
                if isinstance(self.action(number), PatchStatus):
                    after = self._sent(after, number)
        return Move(how, self._counted(after), "step", looked.violations, len(looked.sends))

    def _wake(self, state: State) -> Iterator[Move]:
        at_s = self._look(state.memory, state.now_s).wake_at_s
        if at_s < state.now_s + _FAR_S:
            yield Move(("wait", f"{at_s - state.now_s:g} s"), state._replace(now_s=max(at_s, state.now_s)))

    def _requests(self, state: State) -> Iterator[Move]:
        """What can become of the requests under way."""
        if not self._late_answers:
            number = state.sends[0]
            yield Move(("send", self._words(number)), self._counted(self._sent(state, number)))
            return
        for number in state.sends:
            yield Move(("carry out", self._words(number)), self._counted(self._carried_out(state, number)))
        for late in state.answers:
            yield Move(("answer", self._words(late.action)), self._counted(self._answered(state, late)))

    def _sent(self, state: State, number: int) -> State:
        """The state after a request was carried out and answered."""
        after = self._carried_out(state, number)
        return self._answered(after, after.answers[-1])

    def _carried_out(self, state: State, number: int) -> State:
        sends = list(state.sends)
        sends.remove(number)
        after, outcome = self._carry_out(state.cluster, number, state.now_s)
        answers = (*state.answers, Late(number, outcome))
        owed = self._owed(state, number, outcome)
        return state._replace(cluster=after, sends=tuple(sends), answers=answers, owed=owed)

    def _answered(self, state: State, late: Late) -> State:
        place = state.answers.index(late)
        older = tuple(self._overtaken(other, late) for other in state.answers[:place])
        memory = self._hear(state.memory, late, state.now_s)
        return state._replace(memory=memory, answers=older + state.answers[place + 1 :])

    def _overtaken(self, other: Late, late: Late) -> Late:
        """An answer after a later one was heard, which may be of the same object."""
        asked, told = self.action(other.action), self.action(late.action)
        assert not isinstance(asked, Emit)
        assert not isinstance(told, Emit)
        same = asked.ref == told.ref
        return other._replace(since=max(other.since, _ANSWERED)) if same else other

    def _owed(self, state: State, number: int, outcome: int) -> Owed:
        action, answer = self.action(number), self._outcomes.values[outcome]
        if not isinstance(action, Delete) or action.ref.kind != "Pod" or not answer.ok:
            return state.owed
        if action.propagation != "Foreground":  # it is replaced by a rollout
            return state.owed
        group = action.uid
        chance = any(debt.group == group and debt.sure <= 0 < debt.chance for debt in state.owed)
        return _with_debt(state.owed, Debt(group, 0, -1) if chance else Debt(group, -1, 0))

    def _words(self, number: int) -> str:
        action = self.action(number)
        assert not isinstance(action, Emit)
        return f"{type(action).__name__} {action.ref.kind} {action.ref.name}"

    # -- faults

    def _faults(self, state: State) -> Iterator[Move]:
        left = state._replace(faults=state.faults - 1)
        now_s = state.now_s
        standing = self._count(state.cluster).standing.groups if self._waits_for_start else ""
        is_sure = set(standing) <= {"n", "o"}  # before all have started, what ends may count for nothing
        for kind in _HARMS if not self._is_late(state) else ():
            if kind in self.faults:
                for how, after, debt, harmed in self._befalls(kind, state.cluster, now_s):
                    owed = state.owed
                    if debt is not None and self._recreates:
                        known = is_sure and self._has_seen(state, harmed)
                        owed = _with_debt(owed, debt if known else Debt(debt.group, 0, 1))
                    yield Move(how, self._moved(left, after)._replace(owed=owed, harmed=True), "fault")
        if "crash" in self.faults:
            memory = self._remember(self.started(state))
            if memory != state.memory or state.sends or state.answers:
                anew = self._counted(left._replace(memory=memory, sends=(), answers=()))
                yield Move(("the controller starts anew",), anew, "fault")
        if "request" in self.faults and state.sends:
            yield from self._lose(left)

    def _has_seen(self, state: State, harmed: str) -> bool:
        """Whether the controller has seen what is harmed (its UID): it cannot miss what it never saw."""
        memory = self.memory(state)
        groups = (memory.groups.get(index).group for index in indexes(memory.known))
        things = (thing for group in groups for thing in (group.leader, group.statefulset, *group.workers))
        return any(thing is not None and thing.uid == harmed for thing in things)

    def _lose(self, left: State) -> Iterator[Move]:
        """The first request fails, comes without its answer, or twice."""
        number, rest = left.sends[0], left.sends[1:]
        words, now_s = self._words(number), left.now_s
        unknown = self._outcomes.of(Outcome(_LOST, message="lost"))
        deaf = self._hear(left.memory, Late(number, unknown), now_s)
        once, outcome = self._carry_out(left.cluster, number, now_s)
        owed = self._owed(left, number, outcome)
        twice, outcome = self._carry_out(once, number, now_s)
        told = self._hear(left.memory, Late(number, outcome), now_s)
        for how, now in (
            ("lost", left._replace(memory=deaf)),
            ("carried out, the answer lost", left._replace(cluster=once, memory=deaf, owed=owed)),
            ("carried out twice", left._replace(cluster=twice, memory=told, owed=owed)),
        ):
            yield Move((how, words), self._counted(now._replace(sends=rest)), "fault")

    def _befalls(self, kind: str, number: int, now_s: float) -> tuple[_Befallen, ...]:
        """What can befall objects of a cluster."""
        key = (kind, number, now_s)
        if key not in self._befallen:
            world = self._worlds[number]
            self._befallen[key] = tuple(
                (how, self._settle(cluster.write(world, store)), debt, harmed)
                for how, store, debt, harmed in _HARMS[kind](world.store, self.name, now_s)
            )
        return self._befallen[key]

    # -- the controller

    def _look(self, number: int, now_s: float) -> _Looked:
        found = self._looked.get((number, now_s))
        if found is None:
            memory = self._memories.values[number]
            looked = controller.look(memory, now_s)
            actions = tuple(action for action in looked.actions if not isinstance(action, Emit))
            wake_at_s = math.inf if looked.wake_at_s is None else looked.wake_at_s
            found = _Looked(
                self._remember(looked.memory),
                tuple(self._actions.of(action) for action in actions),
                (
                    *judge(memory, actions, now_s),
                    *judge_more(memory, actions),
                    *judge_pause(memory, actions, now_s),
                ),
                wake_at_s,
            )
            self._looked[number, now_s] = found
        return found

    def _remember(self, memory: Memory) -> int:
        """The number of a memory, less what decides nothing: events to tell, and how far a watch has come."""
        plain = evolve(
            memory,
            newest=EMPTY,
            notices=(),
            begun=0,
            failures=EMPTY,
            told_at_s=None,
            status_at_s=None,
            progress=(),
            progress_at_s=None,
            decision=None,
            lineage=self._plain_lineage(memory.lineage),
            retries=FrozenMap({key: _plain_retry(retry) for key, retry in memory.retries.items()}),
            basis=memory.basis if any(map(self._applies_leaders, memory.pending.values())) else None,
            status_basis=memory.status_basis if self._status in memory.pending else Status(),
        )
        return self._memories.of(plain)

    def _plain_lineage(self, lineage: Lineage | None) -> Lineage | None:
        """The lineage without what changes with every report."""
        if lineage is None:
            return None
        if lineage not in self._lineages:
            sets = {
                key: attrs.evolve(
                    lws, metadata=attrs.evolve(lws.metadata, resource_version=""), status=Status()
                )
                for key, lws in lineage.sets.items()
            }
            self._lineages[lineage] = attrs.evolve(lineage, sets=FrozenMap(sets))
        return self._lineages[lineage]

    def _catch_up(self, of_cluster: int, number: int) -> int:
        """The memory after everything that has changed was seen."""
        found = self._caught_up.get((of_cluster, number))
        if found is None:
            memory = self._memories.values[number]
            shown = self._show(of_cluster)
            for gone in _missing(memory, shown):
                memory = controller.observe(memory, gone, cluster.START_S)
            for thing in shown.values():
                kind, name, *exact = identity(thing)
                seen = find(memory, kind, name)
                if seen is None or list(identity(seen)[2:]) != exact:
                    memory = controller.observe(memory, Seen(thing), cluster.START_S)
            found = self._caught_up[of_cluster, number] = self._remember(memory)
        return found

    def _show(self, of_cluster: int) -> dict[tuple[str, str], Thing]:
        """What a controller of the set sees of a cluster, by kind and name."""
        if of_cluster not in self._shown:
            shown: dict[tuple[str, str], Thing] = {}
            for _, obj in self._worlds[of_cluster].store.objects.items():
                if obj["kind"] == names.KIND or label(obj, names.SET_NAME) == self.name:
                    thing = self._read(obj)
                    if thing is not None:
                        shown[identity(thing)[:2]] = thing
            self._shown[of_cluster] = shown
        return self._shown[of_cluster]

    def _read(self, obj: Object) -> Thing | None:
        version = str(meta(obj)["resourceVersion"])
        if version not in self._things:
            as_it_was = (meta(obj).get("generation"), obj.get("spec"))
            thing = read(obj, self.name, self._known.get(as_it_was))
            if isinstance(thing, LeaderWorkerSet):
                self._known[as_it_was] = thing
            self._things[version] = thing
        return self._things[version]

    def _applies_leaders(self, action: Action) -> bool:
        """Whether an action that is under way is an apply to the leader StatefulSet."""
        return isinstance(action, Apply) and (action.ref.kind, action.ref.name) == ("StatefulSet", self.name)

    def started(self, state: State) -> Memory:
        """What a controller knows that starts in a state."""
        return controller.begin(self._show(state.cluster).values(), state.now_s, OPTIONS)

    def _hear(self, number: int, late: Late, now_s: float) -> int:
        """The memory after an answer."""
        key = (number, late, now_s)
        found = self._heard.get(key)
        if found is None:
            memory, outcome = self._memories.values[number], self._outcomes.values[late.outcome]
            answered = Answered(self.action(late.action), outcome)
            if late.since:
                memory = _hear_late(memory, answered, late.since, now_s)
            else:
                memory = controller.observe(memory, answered, now_s)
            found = self._heard[key] = self._remember(memory)
        return found

    # -- the cluster

    def _carry_out(self, of_cluster: int, action: int, now_s: float) -> tuple[int, int]:
        """The cluster after a request, and the answer."""
        key = (of_cluster, action, now_s)
        found = self._carried.get(key)
        if found is None:
            lws = self._show(of_cluster).get((names.KIND, self.name))
            assert lws is None or isinstance(lws, LeaderWorkerSet)
            asks = cluster.Controller(Memory(lws=lws))
            world = evolve(self._worlds[of_cluster], now_s=now_s, controllers=FrozenMap({self.owner: asks}))
            after, outcome = cluster.carry_out(world, self.owner, self.action(action))
            found = self._carried[key] = (self._settle(after), self._outcomes.of(outcome))
        return found

    def _edit(self, of_cluster: int, draft: int) -> int:
        key = (of_cluster, draft)
        if key not in self._edited:
            world = cluster.put_set(self._worlds[of_cluster], self.drafts[draft].manifest)
            self._edited[key] = self._settle(world)
        return self._edited[key]

    def _stir(self, of_cluster: int, now_s: float) -> tuple[tuple[Label, int], ...]:
        """What can go on in the cluster by itself."""
        key = (of_cluster, now_s)
        if key not in self._stirred:
            world = evolve(self._worlds[of_cluster], now_s=now_s)
            found = []
            for how, tasks in self._tasks(world):
                after = world
                for task in tasks:
                    after = cluster.perform(after, task)
                number = self._settle(after)
                if number != of_cluster:
                    found.append((how, number))
            self._stirred[key] = tuple(found)
        return self._stirred[key]

    def _tasks(self, world: cluster.World) -> Iterator[tuple[Label, tuple[cluster.Task, ...]]]:
        leaders = [task for task in world.syncs.values() if task.name == self.name]
        if leaders:
            yield ("sync", self.name), tuple(leaders)
        if world.chores:
            yield ("collect",), tuple(world.chores.values())
        groups: dict[str, list[Object]] = {}
        for pod in world.store.all("Pod"):
            groups.setdefault(label(pod, names.GROUP_INDEX), []).append(pod)
        for index, pods in groups.items():
            loading = [pod for pod in pods if _loads(pod)]
            ending = [pod for pod in pods if terminating(pod)]
            for leads in (True, False):
                who = f"leader {index}" if leads else f"workers {index}"
                ready = [pod for pod in loading if _leads(pod) == leads]
                if ready and (leads or len(ready) == len(loading)):
                    workers = (statefulset.facts(pod) for pod in pods if not _leads(pod))
                    if not leads and not any(fact.running_and_ready for fact in workers):
                        ready = [min(ready, key=name_of)]  # the first of them alone, then the others
                    yield ("ready", who), tuple(cluster.Ready(key_of(pod), uid_of(pod)) for pod in ready)
                ended = [pod for pod in ending if _leads(pod) == leads]
                if ended:
                    yield ("end", who), tuple(cluster.End(key_of(pod), uid_of(pod)) for pod in ended)

    def _settle(self, world: cluster.World) -> int:
        """The number of a cluster after what is done at once."""
        world = _alone(world)
        retried = [key for key in world.back_offs if key.split("/")[1] != self.name]
        again = {f"Sync/{key}": cluster.Sync(*key.split("/")) for key in retried}
        world = evolve(world, syncs=world.syncs | again, back_offs=world.back_offs.without(*retried))
        while True:
            urgent = next(self._urgent(world), None)
            if urgent is None:
                break
            world = _alone(cluster.perform(world, urgent))
        world = self._with_counts(world)
        for task in (*world.chores.values(), *world.syncs.values()):
            after = _alone(cluster.perform(world, task))
            if after.store.objects is world.store.objects:  # it changes nothing, now or later
                world = after
        back_offs = FrozenMap(dict.fromkeys(world.back_offs, 1))
        world = evolve(
            world,
            now_s=cluster.START_S,
            tally=cluster.Tally(),
            events=(),
            back_offs=back_offs,
        )
        store = world.store
        assert isinstance(store, NamedStore)
        number = self._clusters.of(
            (
                tuple(str(meta(obj)["resourceVersion"]) for _, obj in store.objects.items()),
                frozenset(world.chores),
                frozenset(world.syncs),
                frozenset(back_offs),
                store.tombs,
            )
        )
        if number == len(self._worlds):
            self._worlds.append(world)
        return number

    def _with_counts(self, world: cluster.World) -> cluster.World:
        """The counts in the status of the leader StatefulSet are always fresh: they lead to nothing."""
        before = world.store.get("StatefulSet", self.namespace, self.name)
        if before is None:
            return world
        facts = [statefulset.facts(pod) for pod in statefulset.pods_of(world.store, before).values()]
        ready = sum(fact.running_and_ready for fact in facts)
        living = [fact.revision for fact in facts if not fact.terminating]
        counts = {
            "replicas": len(facts),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "updatedReplicas": living.count(str(dig(before, "status", "updateRevision"))),
            "currentReplicas": living.count(str(dig(before, "status", "currentRevision"))),
        }
        store, _ = world.store.replace(before, with_status(before, **counts))
        return evolve(world, store=store.take()[0])

    def _urgent(self, world: cluster.World) -> Iterator[cluster.Task]:
        for task in world.chores.values():
            if isinstance(task, cluster.Place):
                yield task
        for sync in world.syncs.values():
            if sync.name != self.name:
                yield sync


def is_move(label: Label) -> bool:
    """Whether there is such a move, be it possible or not."""
    first, second, *_ = (*label, "", "")
    return len(label) - bool(second) == 1 and first in _WORDS and bool(_WORDS[first].fullmatch(second))


def _plain_retry(retry: Retry) -> Retry:
    """A failed request that is due again at once: when it is tried is up to the order of the moves."""
    action = retry.action if retry.refused else Read(retry.action.ref, "")
    message = retry.message if retry.refused else ""
    return attrs.evolve(retry, action=action, message=message, attempts=1, not_before_s=cluster.START_S)


def _alone(world: cluster.World) -> cluster.World:
    """The cluster without what the model sees to itself."""
    return evolve(world, timers=(), controllers=EMPTY)


def _missing(memory: Memory, shown: dict[tuple[str, str], Thing]) -> Iterator[Gone]:
    """What the memory has and the cluster has not, or not any more as the same object."""
    things: list[Thing | None] = [memory.lws, memory.statefulset]
    things += [memory.service, *memory.revisions.values(), *memory.natives.values()]
    for index in indexes(memory.known):
        group = memory.groups.get(index).group
        things += [group.leader, *group.workers, group.statefulset, group.service, *group.pod_groups]
    for thing in things:
        if thing is None:
            continue
        kind, name, uid, _ = identity(thing)
        there = shown.get((kind, name))
        if there is None or identity(there)[2] != uid:
            yield Gone(kind, name, uid)


def _loads(pod: Object) -> bool:
    """Whether a pod will be ready some time."""
    return (
        dig(pod, "status", "phase") == "Running"
        and not terminating(pod)
        and dig(pod, "metadata", "annotations", cluster.LOAD) != "never"
        and not statefulset.facts(pod).running_and_ready
    )


def _leads(pod: Object) -> bool:
    return label(pod, names.WORKER_INDEX) == "0"


def _leader_of(store: Store, obj: Object) -> str:
    """The UID of the living leader that a pod or a StatefulSet of workers belongs to, "" for none."""
    above: Object | None = obj
    while above is not None and not _leads(above):
        references = (reference for reference in owners(above) if reference.get("controller"))
        above = next((store.owner(reference, namespace_of(obj)) for reference in references), None)
    return "" if above is None or terminating(above) else uid_of(above)


def _hear_late(memory: Memory, answered: Answered, since: int, now_s: float) -> Memory:
    """The memory after an answer that tells of an object as it was before what is known of it: versions here
    tell no order, so both are given one for the while."""
    thing = answered.outcome.thing
    if thing is None:
        return controller.observe(memory, answered, now_s)
    kind, name, *_ = identity(thing)
    before = find(memory, kind, name)
    late = attrs.evolve(answered, outcome=attrs.evolve(answered.outcome, thing=_at_version(thing, "1")))
    if before is None:
        if since == _WATCHED:
            return controller.observe(evolve(memory, newest=FrozenMap({kind: 1})), late, now_s)
        return controller.observe(memory, answered, now_s)
    known = _at_version(before, "2")
    memory = controller.observe(controller.observe(memory, Seen(known), now_s), late, now_s)
    return controller.observe(memory, Seen(before), now_s) if find(memory, kind, name) == known else memory


def _at_version(thing: Thing, version: str) -> Thing:
    match thing:
        case LeaderWorkerSet():
            return attrs.evolve(thing, metadata=attrs.evolve(thing.metadata, resource_version=version))
        case Unreadable() | Node():
            return thing
        case _:
            return attrs.evolve(thing, resource_version=version)


def _with_debt(owed: Owed, more: Debt) -> Owed:
    """What is owed with this too, or less it; nothing is said of groups that are owed nothing."""
    debts = {debt.group: debt for debt in owed}
    before = debts.get(more.group, Debt(more.group, 0, 0))
    debts[more.group] = Debt(more.group, before.sure + more.sure, before.chance + more.chance)
    return tuple(debt for _, debt in sorted(debts.items()) if debt.sure or debt.chance)


_Harm: TypeAlias = tuple[Label, Store, Debt | None, str]


def _hurts(store: Store, _: str, now_s: float) -> Iterator[_Harm]:
    """A container of a pod restarts, the pod is killed, or evicted. Without its leader a group comes back
    anyway, be it noticed or not."""
    for pod in store.all("Pod"):
        if not terminating(pod) and dig(pod, "status", "phase") == "Running":
            group, leads, uid = _leader_of(store, pod), _leads(pod), uid_of(pod)
            failure = Debt(group, 1, 0) if group else None
            yield ("restart", name_of(pod)), kubelet.restart_container(store, pod, now_s), failure, uid
            killed = api.delete(store, key_of(pod), now_s, grace_s=0)[0]
            yield ("kill", name_of(pod)), killed, None if leads else failure, uid
            evicted = kubelet.fail(store, pod, "Evicted", now_s)
            yield ("evict", name_of(pod)), evicted, Debt(group, 0, 1) if leads and group else failure, uid


def _falls(store: Store, _: str, now_s: float) -> Iterator[_Harm]:
    """A leader that is ready falls unready for good."""
    for pod in store.all("Pod"):
        if _leads(pod) and statefulset.facts(pod).available:
            after = kubelet.set_ready(store, pod, False, now_s)
            fallen = after.objects.get(key_of(pod))
            assert fallen is not None
            notes = as_map(meta(fallen).get("annotations")).with_(cluster.LOAD, "never")
            after, _obj = after.replace(fallen, with_meta(fallen, annotations=notes))
            yield ("fall", name_of(pod)), after, None, uid_of(pod)


def _deletions(store: Store, set_name: str, now_s: float) -> Iterator[_Harm]:
    """Somebody deletes a child: not the leader StatefulSet, with which all groups go."""
    for kind in _DELETED:
        for obj in store.all(kind):
            is_native = any(owner.get("kind") == "StatefulSet" for owner in owners(obj))
            if not terminating(obj) and not is_native and (kind, name_of(obj)) != ("StatefulSet", set_name):
                after, _ = api.delete(store, key_of(obj), now_s)
                group = _leader_of(store, obj) if kind == "StatefulSet" else ""
                ends = Debt(group, 1, 0) if group else None
                yield ("delete by hand", f"{kind} {name_of(obj)}"), after, ends, uid_of(obj)


_HARMS: Final = {"member": _hurts, "stuck": _falls, "object": _deletions}
