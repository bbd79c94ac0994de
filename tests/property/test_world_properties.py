"""The machine, unchanged, in random worlds: safety at every look, liveness and silence at the end.

Orders, edits and failures are random, but each example is decided by its arguments. `LWS_PROFILE=long` makes
many more of them.
"""

from __future__ import annotations

import random
from typing import Any

import attrs
from hypothesis import event, example, given
from hypothesis import strategies as st
from worlds import Run, Shape, Style, assert_at_rest, leaders_of, ready_groups

from lws_core import names
from lws_core.options import Options
from lws_sim.cluster.store import label, uid_of
from lws_sim.ends import end_of

Edit = dict[str, Any]

POLICIES = ("RecreateGroupOnPodRestart", "RecreateGroupAfterStart", "None")
HARMS = ("crash", "unready", "evict", "delete", "kill")
FAILURES = ("lost", 0, 409, 500)
STYLES: tuple[Style, ...] = ("cluster first", "looks first", "any", "any", "late")

_BUDGETS = st.integers(0, 5) | st.sampled_from(("0%", "10%", "25%", "50%", "100%"))
_SEEDS = st.integers(0, 2**32)


@st.composite
def budgets(draw: st.DrawFn, replicas: int) -> Edit:
    """A maxUnavailable and a maxSurge that are admitted together."""
    unavailable, surge = draw(_BUDGETS), draw(_BUDGETS)
    if Shape(replicas, max_unavailable=unavailable, max_surge=surge).is_stuck:
        unavailable = draw(st.integers(1, 3))
    return {"max_unavailable": unavailable, "max_surge": surge}


@st.composite
def shapes(draw: st.DrawFn, *, partitions: bool = True) -> Shape:
    replicas = draw(st.integers(1, 5))
    return Shape(
        replicas=replicas,
        size=draw(st.integers(1, 3)),
        **draw(budgets(replicas)),
        partition=draw(st.sampled_from((0, 0, 0, 1, 2, 6))) if partitions else 0,
        restart_policy=draw(st.sampled_from(POLICIES)),
        grace_s=draw(st.sampled_from((0, 3, 30))),
        gate=draw(st.booleans()),
    )


def edits(*, scale: bool = True, partitions: bool = True, size: bool = True) -> st.SearchStrategy[Edit]:
    """What a user changes, but for the number of the template, which `_edit` adds."""
    one: list[st.SearchStrategy[Edit]] = [
        st.just({"template": "new"}),
        st.just({"template": "old"}),
        st.just({"template": "new", "broken": True}),
        budgets(3),
    ]
    if scale:
        one.append(st.fixed_dictionaries({"replicas": st.integers(0, 6)}))
    if partitions:
        one.append(st.fixed_dictionaries({"partition": st.sampled_from((0, 1, 2, 3, 6))}))
    if size:
        one.append(st.fixed_dictionaries({"template": st.just("new"), "size": st.integers(1, 3)}))
    return st.one_of(*one)


# What happens, and after how many tasks.
_PAUSES = st.sampled_from((0, 1, 3, 10, 30, 60, 120, 1000))
_EDITS = st.lists(st.tuples(_PAUSES, edits()), max_size=4)


class Player:
    """Edits a run's set, knowing the templates that it had."""

    def __init__(self, run: Run) -> None:
        self.run, self.count, self.broke = run, 1, False
        self.earlier: list[Edit] = []

    def edit(self, edit: Edit) -> None:
        shape = self.run.shape
        change = dict(edit)
        here = {"template": shape.template, "broken": shape.broken, "size": shape.size}
        self.broke |= edit.get("broken", False)
        if edit.get("template") == "new":
            self.count += 1
            self.earlier.append(here)
            change = {"broken": False, **edit, "template": self.count}
        elif edit.get("template") == "old":
            change = self.earlier.pop() if self.earlier else {}
            if change:
                self.earlier.append(here)
        if not attrs.evolve(shape, **change).is_stuck:
            self.run.edit(**change)

    def heal(self) -> None:
        """The last template works, and is for all groups if one was broken; there is something to serve."""
        if self.run.shape.broken:
            self.edit({"template": "new"})
        if self.broke:
            self.edit({"partition": 0})
        if self.run.shape.replicas == 0:
            self.edit({"replicas": 2})
        if self.run.shape.replicas == 0:
            self.run.edit(replicas=2, max_unavailable=1)


def play(run: Run, script: list[tuple[int, Edit]]) -> None:
    """Take the edits, each in the middle of what the one before has begun, and come to rest."""
    player = Player(run)
    for pause, edit in script:
        run.steps(pause)
        player.edit(edit)
    run.steps(5)
    player.heal()
    run.rest()


_TIGHT = Shape(replicas=1, size=1, max_unavailable=0, max_surge=1, grace_s=0)
_NEW: Edit = {"template": "new"}
_BROKEN: Edit = {"template": "new", "broken": True}


@given(shapes(), _SEEDS, st.sampled_from(STYLES), _EDITS)
# A broken group below the only ready one, which is surge and outdated too.
@example(_TIGHT, 0, "cluster first", [(0, _BROKEN), (10, _NEW), (30, _NEW)])
@example(attrs.evolve(_TIGHT, gate=True), 0, "late", [(0, _BROKEN), (10, _NEW), (30, _NEW)])
# A broken surge group, with which the gate lets nothing be replaced.
@example(attrs.evolve(_TIGHT, gate=True), 0, "cluster first", [(1000, _BROKEN), (1000, _NEW)])
def test_sets_always_come_to_rest_on_the_newest_spec(
    shape: Shape, seed: int, style: Style, script: list[tuple[int, Edit]]
) -> None:
    run = Run(shape, seed, style)
    play(run, script)
    assert_at_rest(run)


@given(
    shapes(),
    _SEEDS,
    st.sampled_from(STYLES),
    st.lists(st.tuples(_PAUSES, edits(size=False)), min_size=1, max_size=4),
)
def test_rollouts_never_go_below_the_floor_while_nothing_fails(
    shape: Shape, seed: int, style: Style, script: list[tuple[int, Edit]]
) -> None:
    """With patience for the slowest group: one that takes longer counts as broken."""
    broken = any(edit.get("broken") for _, edit in script)
    patience_s = 200.0 if broken else 1e9
    if broken and style == "late":  # nobody could tell what is late from what is broken
        style = "any"
    run = Run(shape, seed, style, options=Options(broken_after_s=patience_s))
    run.rest()
    player = Player(run)
    run.floor = shape.floor
    for pause, edit in script:
        run.steps(pause)
        player.edit(edit)
        run.floor = min(run.floor, run.shape.floor)
    run.steps(10)
    player.heal()
    run.floor = min(run.floor, run.shape.floor)
    run.rest()
    assert_at_rest(run)


@given(
    shapes(),
    _SEEDS,
    st.sampled_from(STYLES),
    _EDITS,
    st.lists(st.tuples(_PAUSES, st.sampled_from((*HARMS, "controller"))), max_size=4),
    st.sampled_from((0.0, 0.05, 0.3)),
)
def test_failures_never_break_a_rule_and_leave_nothing_behind(
    shape: Shape,
    seed: int,
    style: Style,
    script: list[tuple[int, Edit]],
    harms: list[tuple[int, str]],
    loss: float,
) -> None:
    run = Run(shape, seed, style)
    chance = random.Random(seed + 1)
    if loss:
        run.fail = lambda: chance.choice(FAILURES) if chance.random() < loss else None
    player = Player(run)
    for deed in _mixed(chance, script, harms):
        run.steps(deed[0])
        if isinstance(deed[1], dict):
            player.edit(deed[1])
        elif deed[1] == "controller":
            run.restart_controller()
        elif run.pods():
            run.hurt(deed[1], chance.choice(run.pods()))
    run.steps(20)
    run.fail = None
    player.heal()
    run.rest()
    assert_at_rest(run)
    if run.shape.partition == 0:
        calm = Run(run.shape, 0, "cluster first")
        calm.rest()
        assert end_of(run.world) == end_of(calm.world)


def _mixed(chance: random.Random, *scripts: list[Any]) -> list[Any]:
    """The scripts' entries in one order; each script's stay in theirs."""
    left = [list(script) for script in scripts if script]
    mixed = []
    while left:
        script = chance.choice(left)
        mixed.append(script.pop(0))
        left = [script for script in left if script]
    return mixed


@given(
    shapes(partitions=False),
    _SEEDS,
    _SEEDS,
    st.lists(st.tuples(_PAUSES, edits(partitions=False)), max_size=3),
)
def test_ends_never_depend_on_the_order_of_events(
    shape: Shape, one: int, other: int, script: list[tuple[int, Edit]]
) -> None:
    ends = []
    for seed, style in ((one, "any"), (other, "late")):
        run = Run(shape, seed, style)  # type: ignore[arg-type]
        play(run, script)
        ends.append(end_of(run.world))
    assert ends[0] == ends[1]


@given(
    shapes(partitions=False),
    _SEEDS,
    st.sampled_from(STYLES),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2), st.sampled_from(HARMS)), min_size=1, max_size=3),
    st.booleans(),
)
def test_one_failure_always_leads_to_one_recreation(
    shape: Shape, seed: int, style: Style, harms: list[tuple[int, int, str]], lossy: bool
) -> None:
    """Failures of any members of a group at rest, at one moment, are one cause. Falling unready is none."""
    run = Run(shape, seed, style)
    run.rest()
    before = {group: _leader_uid(run, group) for group in range(shape.replicas)}
    hurt, restarted = set(), set()
    for group, worker, how in harms:
        name = f"serve-{group % shape.replicas}" + (f"-{worker % shape.size}" if worker % shape.size else "")
        pod = run.world.store.get("Pod", "default", name)
        if pod is None:
            continue
        run.hurt(how, pod)
        if how in ("delete", "kill", "evict") and not worker % shape.size:
            hurt.add(group % shape.replicas)
        if how != "unready" and shape.restart_policy != "None":
            restarted.add(group % shape.replicas)
    chance = random.Random(seed)
    if lossy:
        run.fail = lambda: chance.choice(FAILURES) if chance.random() < 0.2 else None
    run.steps(40)
    run.fail = None
    run.rest()
    assert_at_rest(run)
    made = {group: _leader_uid(run, group) != before[group] for group in before}
    assert {group for group, new in made.items() if new} == hurt | restarted
    assert len(set(run.recreated)) <= len(restarted), run.trace
    assert _leaders_made(run) == shape.replicas + len(hurt | restarted), run.trace


@given(shapes(partitions=False), _SEEDS, st.sampled_from(STYLES))
def test_broken_templates_always_stop_within_the_budget_and_a_third_one_finishes(
    shape: Shape, seed: int, style: Style
) -> None:
    if style == "late":  # nobody could tell what is late from what is broken
        style = "any"
    run = Run(shape, seed, style, options=Options(broken_after_s=200.0))
    run.rest()
    run.floor = shape.floor
    run.edit(template=2, broken=True)
    run.wait(3000)
    still = run.world.store.version
    run.wait(3000)
    assert run.world.store.version == still, run.trace[-10:]
    assert len(ready_groups(run.world)) >= shape.floor
    event(f"{len(ready_groups(run.world)) - shape.floor} more ready than needed")
    run.edit(template=3, broken=False)
    run.rest()
    assert_at_rest(run)


@given(shapes(partitions=False), _SEEDS, st.sampled_from(STYLES))
def test_rollouts_always_replace_each_leader_once(shape: Shape, seed: int, style: Style) -> None:
    run = Run(shape, seed, style)
    run.rest()
    made = _leaders_made(run)
    run.edit(template=2)
    run.rest()
    assert_at_rest(run)
    assert shape.replicas <= _leaders_made(run) - made <= shape.limits.ceiling, run.trace
    assert not run.recreated


def _leader_uid(run: Run, group: int) -> str:
    pod = run.world.store.get("Pod", "default", f"serve-{group}")
    return "" if pod is None else uid_of(pod)


def _leaders_made(run: Run) -> int:
    return len(run.leaders_seen)


def test_a_canary_is_never_touched_until_it_is_released() -> None:
    run = Run(Shape(replicas=4, partition=2, max_unavailable=2))
    run.rest()
    before = [_leader_uid(run, group) for group in range(4)]
    run.edit(template=2)
    run.rest()
    assert_at_rest(run)
    after = [_leader_uid(run, group) for group in range(4)]
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, True, False, False]
    keys = [label(pod, names.REVISION_KEY) for pod in run.pods()]
    assert len(set(keys)) == 2
    run.edit(partition=0)
    run.rest()
    assert_at_rest(run)
    assert {label(pod, names.REVISION_KEY) for pod in run.pods()} == {
        label(leaders_of(run.world), names.REVISION_KEY)
    }
