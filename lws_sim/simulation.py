"""Runs a script against a simulated cluster and records what it shows: rows, samples, a summary.

One set in a cluster of its own: it is brought up first, and what happens from the first step on is recorded.
Everything that can be done at a moment is done before the clock goes on to the next one; `choose` decides in
which order, and without it the cluster's own work comes first and looks last.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Final

import attrs

from lws_core import names
from lws_core.codec import decode
from lws_core.explain import explain
from lws_core.memory import Memory
from lws_core.options import Options
from lws_core.plan import budget_of
from lws_core.reporting import progress_deadline_s
from lws_core.rollout import Budget, Done
from lws_core.spec import LeaderWorkerSet
from lws_core.values import FrozenMap, dig, evolve

from . import scenario as script
from . import world as cluster
from .census import Census, Standing
from .cluster.store import Change as StoreChange
from .cluster.store import Object, key_of, meta, name_of, namespace_of, uid_of
from .deeds import Admit, ImpossibleStep, Player, admit_update, is_shown, make_nodes, take, tell
from .faults import perform, possible
from .judging import Violation, judge
from .notes import BEFORE, Change, note
from .strictness import Strictness, judge_end, judge_requests, judge_silence
from .trace import Mark, Row, Sample, Summary, Trace
from .waiting import Clock
from .world import Choose, World

MOST_PODS: Final = 20_000
_TASKS_PER_POD: Final = 2000  # a rollout takes some tens; more without an end is no rollout
_TASKS_AT_ONCE_PER_POD: Final = 100  # at one moment: more, and a second passes before there are others
_STORM_S: Final = 5


class TooLarge(ValueError):
    """A set that is too large to be simulated pod by pod."""


def simulate(
    manifest: Object,
    steps: tuple[script.Step, ...],
    setting: script.Cluster = script.Cluster(),
    *,
    options: Options = Options(),
    choose: Choose | None = None,
    admit: Admit = admit_update,
    strict: bool = False,
) -> Trace:
    """What happens to a set when `steps` are taken, one after another, and until it comes to rest.

    `manifest` has a namespace and every default filled in; `strict`: the rules of strictness.py are judged
    too. Raises ImpossibleStep and TooLarge. Cost: about 2 ms for each pod that is created.
    """
    run = Simulation(setting, options=options, choose=choose, admit=admit, strict=strict)
    run.bring_up(manifest)
    for index, step in enumerate(steps):
        try:
            run.take(step)
        except (ImpossibleStep, TooLarge) as problem:
            raise ImpossibleStep(str(problem), index) from None
    return run.finish()


def simulate_creation(
    manifest: Object,
    setting: script.Cluster = script.Cluster(),
    *,
    options: Options = Options(),
    choose: Choose | None = None,
) -> Trace:
    """What happens when a set is created. Raises TooLarge."""
    run = Simulation(setting, options=options, choose=choose)
    run.create(manifest)
    return run.finish()


@attrs.define
class _OpenRow:
    """A row that is still being told. `fresh`: its event has just happened, and no change answered it yet."""

    at_s: float
    before: Standing
    key: str
    own_replicas: int
    told: tuple[str, ...] = ()
    fresh: bool = True


class Simulation:
    """One simulation while it runs: `bring_up` or `create`, `take` for each step, `finish`."""

    def __init__(
        self,
        setting: script.Cluster = script.Cluster(),
        *,
        options: Options = Options(),
        choose: Choose | None = None,
        admit: Admit = admit_update,
        strict: bool = False,
    ) -> None:
        self._setting, self._options, self._choose, self._admit = setting, options, choose, admit
        self._strictness, self._clock = Strictness() if strict else None, Clock()
        self._rows: list[Row] = []
        self._samples: list[Sample] = []
        self._marks: list[Mark] = []
        self._violations: dict[Violation, None] = {}
        self._accelerators: dict[str, Fraction] = {}
        self._world = World()
        self._budget = Budget(0)
        self._row: _OpenRow | None = None
        self._rolling = self._reclaimed = self._deleted = False
        self._lowest: tuple[int, int] | None = None
        self._grown = 0
        self._most_pods = self._tasks = self._tasks_at_once = self._created_before = 0
        self._by_hand: FrozenMap[int] = FrozenMap()
        self._storming, self._storm_count = False, 0
        self._zero_s = self._changed_s = cluster.START_S
        self._last_s = cluster.START_S
        self._first_s: float | None = None  # of the first event

    # -- before the first event

    def bring_up(self, manifest: Object) -> None:
        """A cluster in which the set is at rest."""
        self._begin(manifest, cluster.Timing(load_s=0.0, stop_s=0.0))
        self._put(manifest)
        while self._settle() and self._advance(None):
            pass
        self._world = evolve(self._world, timing=self._timing())
        self._start_recording()
        self._note_rest()
        self._row = _OpenRow(0.0, self._census.standing, self._census.key, self._budget.replicas)

    def create(self, manifest: Object) -> None:
        """A cluster in which the set has just been created."""
        self._begin(manifest, self._timing())
        self._start_recording()
        self._first_s = self._zero_s
        self._marks.append(Mark(0.0, "the set is created"))
        self._row = _OpenRow(0.0, Standing(), "", 0, ("the set is created",))
        self._put(manifest)

    def _begin(self, manifest: Object, timing: cluster.Timing) -> None:
        nodes: tuple[Object, ...] = ()
        for some in self._setting.nodes:
            nodes += make_nodes(some, len(nodes))
        self._world = cluster.new_world(
            gate=self._setting.gate, options=self._options, timing=timing, nodes=nodes
        )
        self._player = Player(self._world, manifest)
        self._census: Census = Census(self._player.owner.partition("/")[2])
        lws = decode(manifest)
        self._take_budget(lws)
        rolling = lws.spec.rollout_strategy
        self._strategy = (
            f"replicas {lws.spec.replicas}, maxUnavailable {rolling.max_unavailable}, "
            f"maxSurge {rolling.max_surge}, partition {rolling.partition}"
        )

    def _put(self, manifest: Object) -> None:
        before = self._world
        self._world = cluster.put_set(before, manifest)
        self._note_changes(before)

    def _timing(self) -> cluster.Timing:
        return cluster.Timing(self._setting.load_s, self._setting.stop_s)

    def _start_recording(self) -> None:
        self._zero_s = self._changed_s = self._last_s = self._world.now_s
        self._created_before = self._world.tally.created
        self._tasks = 0
        self._violations.clear()
        self._count()

    # -- from the first event on

    @property
    def player(self) -> Player:
        """The world as it is now, and the set in it."""
        return attrs.evolve(self._player, world=self._world)

    @property
    def violations(self) -> tuple[Violation, ...]:
        """The rules that were broken since the first step."""
        return tuple(self._violations)

    def take(self, step: script.Step) -> None:
        """Wait until it is time for a step, and take it. Raises ImpossibleStep and TooLarge; what was waited
        has then passed, and nothing else has happened."""
        self._wait_for(step, self._last_s)
        if step.deeds:
            self._take(step)
        self._last_s = self._world.now_s

    def finish(self) -> Trace:
        """Run until rest, and tell."""
        while self._settle() and self._advance(None):
            pass
        self._sample()
        self._close_row(self._census.standing)
        trace = self._trace()
        if self._strictness is None or not trace.summary.finished:
            return trace
        self._judge_goal(renamed=self._strictness.renamed)
        return attrs.evolve(trace, summary=attrs.evolve(trace.summary, violations=self.violations))

    def _judge_goal(self, *, renamed: bool) -> None:
        fresh = Simulation(self._setting, options=self._options)
        fresh.bring_up(self._player.manifest)
        wanted = World() if self._deleted else fresh.player.world
        self._note_violations(judge_silence(self._world, self._player.owner))
        if self._budget.partition == 0:  # a canary keeps what it has: that tells where it came from
            self._note_violations(judge_end(self._world, wanted, renamed=renamed))

    def _note_violations(self, found: Iterable[Violation]) -> None:
        for violation in found:
            self._violations[violation] = None

    def _wait_for(self, step: script.Step, last_s: float) -> None:
        if step.event_count is not None:
            self._pass(step.event_count)
            return
        at_s = None
        if step.at_s is not None:
            at_s = self._zero_s + step.at_s
            if at_s < self._world.now_s:
                raise ImpossibleStep(f"at {step.at_s:g} s is earlier than the step before it")
        elif step.after_s is not None:
            at_s = last_s + step.after_s
        while True:
            if not self._settle(step.when):
                return
            if at_s is not None and self._world.now_s >= at_s:
                return
            if not self._advance(at_s):
                break
        if step.when is not None:
            raise ImpossibleStep(
                f"its condition never came true: the set came to rest with {self._in_words()}"
            )

    def _pass(self, event_count: int) -> None:
        """So many tasks, the clock going on where there are none, or until rest."""
        while event_count > 0:
            self._storming = self._is_storm()
            task = None if self._storming else self._next_task()
            if task is not None:
                self._perform(task)
                event_count -= 1
                continue
            self._rest()
            if not self._advance(None):
                break

    def _take(self, step: script.Step) -> None:
        now_s = self._world.now_s
        parts = tuple(self._parts(step))
        self._by_hand = self._edited(step, parts[-1])
        if self._first_s is None:
            self._first_s = self._changed_s = now_s
        told = tuple([tell(deed) for deed in step.deeds])
        self._sample()
        self._open_row(tuple([tell(deed) for deed in step.deeds if not is_shown(deed)]))
        self._marks.append(Mark(now_s - self._zero_s, ", ".join(told)))
        for player in parts:
            before = self._world
            self._player, self._world = player, player.world
            self._deleted = self._world.store.objects.get(key_of(player.manifest)) is None
            lws = decode(player.manifest)
            self._take_budget(lws)
            if self._strictness is not None:
                self._strictness.note_deeds(step.deeds, lws.spec, self._census.standing)
            self._note_changes(before)

    def _parts(self, step: script.Step) -> Iterator[Player]:
        """What a step makes of the world, part by part. All of it is possible, or none is taken."""
        player = self.player
        for part in _in_order(step):
            player = take(player, part, self._admit)
            yield player

    def _edited(self, step: script.Step, player: Player) -> FrozenMap[int]:
        """Of each StatefulSet that was edited, the pods that it asked for beyond those of the set. Raises
        TooLarge."""
        lws = decode(player.manifest)
        size, groups, edited = lws.spec.leader_worker_template.size, budget_of(lws).ceiling, self._by_hand
        for deed in step.deeds:
            if not isinstance(deed, script.EditObject) or deed.target.kind != "StatefulSet":
                continue
            obj = player.world.store.get("StatefulSet", namespace_of(player.manifest), deed.target.name)
            replicas = dig(obj, "spec", "replicas")
            assert isinstance(replicas, int)
            leads = deed.target.name == name_of(player.manifest)
            beyond = size * (replicas - groups) if leads else replicas - (size - 1)
            edited = edited.with_(deed.target.name, max(0, beyond))
            pods = size * groups + sum(edited.values())
            if pods > MOST_PODS:
                raise TooLarge(
                    f"StatefulSet {deed.target.name}: with {replicas} replicas there would be {pods} pods; "
                    f"a simulation holds {MOST_PODS} at most"
                )
        return edited

    def _settle(self, until: script.Condition | None = None) -> bool:
        """Do everything that can be done now. False where a condition came true before all was done."""
        while True:
            if until is not None and self._holds(until):
                return False
            self._storming = self._is_storm()
            task = None if self._storming else self._next_task()
            if task is None:
                self._rest()
                return True
            self._perform(task)

    def _rest(self) -> None:
        """All that could be done at this moment is done, or has been enough."""
        self._sample()
        if not self._storming:
            self._storm_count = 0
            self._note_rest()

    def _is_storm(self) -> bool:
        """Whether so much has happened at this moment that it might never end. Nothing here takes time, so an
        operator that does not see what became of its requests could repeat them without any passing."""
        if self._tasks_at_once <= _TASKS_AT_ONCE_PER_POD * max(self._most_tasks // _TASKS_PER_POD, 10):
            return False
        self._storm_count += 1
        if self._strictness is not None and self._storm_count > _STORM_S:
            text = f"for more than {_STORM_S} s the operator sends requests without any pause"
            self._note_violations([Violation("storm", text)])
        return True

    def _note_rest(self) -> None:
        """Where nothing is left to do or to wait for, and the set is at its goal, what failed has healed."""
        if self._strictness is None or self._world.timers or self._player.faults.any:
            return
        if self._is_complete(self._census.standing) and _is_done(self._memory) and self._is_current():
            self._strictness.note_rest(decode(self._player.manifest).spec)

    def _next_task(self) -> cluster.Task | None:
        tasks = possible(self._world, self._player.faults)
        if self._choose is None:
            return next(tasks, None)
        found = list(tasks)
        if not found:
            return None
        return found[self._choose(len(found)) if len(found) > 1 else 0]

    def _advance(self, at_most_s: float | None) -> bool:
        """Let the clock go on to the next thing that happens. False where nothing does, at rest."""
        next_s = cluster.next_timer_s(self._world)
        known = self._world.controllers.get(self._player.owner)
        only_deadline = (
            known is not None
            and next_s is not None
            and not self._world.timers
            and known.memory.patience_s is None
            and next_s == progress_deadline_s(known.memory)
        )
        if self._storming and self._tasks <= self._most_tasks:
            next_s = self._world.now_s + 1.0
        elif next_s is None or only_deadline or self._tasks > self._most_tasks:
            if at_most_s is None:
                return False
            next_s = at_most_s
        if at_most_s is not None:
            next_s = min(next_s, at_most_s)
        self._world = cluster.advance(self._world, next_s)
        self._tasks_at_once = 0
        if self._row is not None:
            self._row.fresh = False
        return True

    def _perform(self, task: cluster.Task) -> None:
        self._tasks += 1
        self._tasks_at_once += 1
        before, owner = self._world, self._player.owner
        # What a task may change that opens a row of its own must be looked at before.
        shown = isinstance(task, cluster.Ready | cluster.Send) and self._row is not None
        standing = self._census.standing if shown else None
        ready, numbers = self._census.ready_count, self._census.numbers()
        self._world, faults = perform(before, task, self._player.faults)
        self._player = attrs.evolve(self._player, faults=faults)
        if isinstance(task, cluster.Look):
            sent = self._world.sends[len(before.sends) :]
            self._judge(before.controllers[owner].memory, sent)
        if isinstance(task, cluster.Deliver | cluster.Look):
            return
        self._note_changes(before)
        if standing is None or self._row is None:
            return
        if isinstance(task, cluster.Ready) and self._census.ready_count != ready and not self._row.fresh:
            self._open_row((), standing)
        elif isinstance(task, cluster.Send) and self._census.numbers() != numbers:
            if not self._row.fresh:
                self._open_row((), standing)
            self._row.fresh = False

    def _judge(self, memory: Memory, sent: tuple[cluster.Send, ...]) -> None:
        actions, now_s = tuple([send.action for send in sent]), self._world.now_s
        if self._strictness is None:
            self._note_violations(judge(memory, actions, now_s))
            return
        self._clock.look(memory, now_s)
        self._note_violations(judge(memory, actions, now_s, self._clock.was_waited_for))
        self._note_violations(judge_requests(self._world))

    def _note_changes(self, before: World) -> None:
        """Take in what the controller's watch holds more than before, which is every change of the set."""
        known = len(_inbox(before, self._player.owner))
        changes = _inbox(self._world, self._player.owner)[known:]
        for change in changes:
            self._census.note(change)
        if changes:
            self._count()

    # -- what is recorded

    def _count(self) -> None:
        ready, tally = self._census.ready_count, self._world.tally
        self._most_pods = max(self._most_pods, tally.pods)
        for name, amount in tally.resources.items():
            self._accelerators[name] = max(self._accelerators.get(name, Fraction(0)), amount)
        budget = self._budget
        self._grown = min(budget.replicas, max(self._grown, ready))
        if self._first_s is None:
            return
        if self._strictness is not None:
            self._note_violations(self._strictness.judge_ready(ready))
        floor = max(0, self._grown - budget.max_unavailable)
        if self._lowest is None or ready < self._lowest[0]:
            self._lowest = ready, floor

    def _sample(self) -> None:
        standing, at_s = self._census.standing, self._world.now_s - self._zero_s
        sample = Sample(
            at_s,
            standing.partition,
            standing.replicas,
            self._census.with_leaving,
            self._census.ready_count,
            self._world.tally.pods,
        )
        last = self._samples[-1] if self._samples else None
        if last is None or attrs.evolve(last, at_s=at_s) != sample:
            self._changed_s = self._world.now_s
            if last is not None and last.at_s == at_s:
                self._samples.pop()
            self._samples.append(sample)

    def _open_row(self, told: tuple[str, ...], standing: Standing | None = None) -> None:
        standing = standing or self._census.standing
        self._close_row(standing)
        at_s = self._world.now_s - self._zero_s
        self._row = _OpenRow(at_s, standing, self._census.key, self._budget.replicas, told)

    def _close_row(self, now: Standing) -> None:
        row = self._row
        assert row is not None
        started = "" not in (row.key, self._census.key) and row.key != self._census.key
        if started:
            self._rolling, self._reclaimed = True, False
        complete = self._is_complete(now)
        budget = self._budget
        change = Change(
            told=row.told,
            started=started,
            finished=complete and self._rolling,
            reclaimed=self._reclaimed,
            own_replicas=row.own_replicas,
            partition=budget.partition,
        )
        if row.own_replicas <= now.replicas < row.before.replicas:
            self._reclaimed = True
        if complete:
            self._rolling = False
        words = note(change, row.before, now) if self._rows or row.told else BEFORE
        self._rows.append(Row(len(self._rows) + 1, row.at_s, now.partition, now.replicas, now.groups, words))

    def _is_complete(self, now: Standing) -> bool:
        """Whether every group that a rollout replaces is up to date, and every group is ready."""
        budget = self._budget
        groups, partition = now.groups, budget.partition
        return (
            len(groups) == budget.replicas
            and now.partition == partition
            and set(groups[partition:]) <= {"n"}
            and set(groups) <= {"n", "o"}
        )

    def _trace(self) -> Trace:
        memory = self._memory
        unseen = self._unseen()
        finished = _is_done(memory) and not unseen
        if self._deleted:
            finished = self._world.tally.pods == 0
        blocked_by = ""
        if not finished:
            blocked_by = explain(memory, self._world.now_s).text
            if unseen:
                blocked_by = f"the operator has not seen {unseen}: its watch stands still"
            if self._tasks > self._most_tasks:
                blocked_by = f"it never comes to rest: {blocked_by}"
        namespace, _, name = self._player.owner.partition("/")
        at_rest = self._census.ready_count
        lowest, floor = self._lowest or (at_rest, max(0, at_rest - self._budget.max_unavailable))
        return Trace(
            namespace,
            name,
            self._strategy,
            tuple(self._rows),
            tuple(self._samples),
            tuple(self._marks),
            Summary(
                finished=finished,
                duration_s=self._changed_s - (self._zero_s if self._first_s is None else self._first_s),
                load_s=self._setting.load_s,
                lowest_ready=lowest,
                floor=floor,
                highest_pods=self._most_pods,
                pods_created=self._world.tally.created - self._created_before,
                accelerators=FrozenMap(
                    {name: math.ceil(most) for name, most in sorted(self._accelerators.items()) if most}
                ),
                blocked_by=blocked_by,
                violations=tuple(self._violations),
            ),
        )

    # -- what is known

    @property
    def _memory(self) -> Memory:
        known: cluster.Controller = self._world.controllers[self._player.owner]
        return known.memory

    def _unseen(self) -> str:
        """What the operator would have to know before it could say that it is at its goal."""
        if not self._is_current():
            return "the set as it is now"
        missing = self._census.ready_count < self._budget.replicas
        return "that a group is not ready" if missing and _is_done(self._memory) else ""

    def _is_current(self) -> bool:
        """Whether the operator knows the set as it is stored; not where its watch of sets stands still."""
        stored, seen = self._world.store.objects.get(key_of(self._player.manifest)), self._memory.lws
        if stored is None or seen is None:
            return stored is None and seen is None
        generation = meta(stored).get("generation")
        return (uid_of(stored), generation) == (seen.metadata.uid, seen.metadata.generation)

    def _holds(self, condition: script.Condition) -> bool:
        partition, replicas = self._census.numbers()
        groups = self._census.standing.groups
        found = script.Condition(
            ready=self._census.ready_count,
            updated=groups.count("n") + groups.count("l"),
            partition=partition,
            replicas=replicas,
        )
        return all(
            wanted is None or wanted == getattr(found, field.name)
            for field in attrs.fields(script.Condition)
            if (wanted := getattr(condition, field.name)) is not None
        )

    def _in_words(self) -> str:
        standing = self._census.standing
        return (
            f"{self._census.ready_count} groups ready, partition {standing.partition} and "
            f"{standing.replicas} leaders"
        )

    def _take_budget(self, lws: LeaderWorkerSet) -> None:
        """The budget of the set as it stands in the cluster from now on."""
        self._budget = Budget(0) if self._deleted else budget_of(lws)
        pods = self._budget.ceiling * lws.spec.leader_worker_template.size
        if pods > MOST_PODS:
            raise TooLarge(
                f"spec.replicas: {lws.spec.replicas} groups with their surge come to {pods} pods; a "
                f"simulation holds {MOST_PODS} at most: try a smaller set with the same rollout strategy"
            )
        self._most_tasks = _TASKS_PER_POD * max(pods + sum(self._by_hand.values()), 10)


def _in_order(step: script.Step) -> tuple[script.Step, ...]:
    """A step, or two if the operator restarts in it: with its memory it loses what its watch held, so the
    rest is noted before."""
    last = tuple([deed for deed in step.deeds if isinstance(deed, script.RestartOperator)])
    first = tuple([deed for deed in step.deeds if deed not in last])
    return tuple([script.Step(deeds) for deeds in (first, last) if deeds])


def _inbox(world: World, owner: str) -> tuple[StoreChange, ...]:
    known = world.controllers.get(owner)
    return () if known is None else known.inbox


def _is_done(memory: Memory) -> bool:
    """Whether the rollout is over and the set available."""
    return isinstance(memory.decision, Done) and _is_available(memory)


def _is_available(memory: Memory) -> bool:
    """Whether the set's own status says so, of its newest spec."""
    lws = memory.lws
    condition = None if lws is None else lws.status.condition(names.AVAILABLE)
    if lws is None or condition is None:
        return False
    return condition.is_true and condition.observed_generation == lws.metadata.generation
