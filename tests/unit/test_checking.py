"""`lws check`: explorations end, find what is wrong, show it again, and say what they did not look at."""

from __future__ import annotations

import re
from collections import deque
from importlib import import_module
from pathlib import Path

import attrs
import pytest
from building import a_set
from click.testing import CliRunner
from exploration.cases import Case
from exploration.unreduced import compare
from hypothesis import given
from hypothesis import strategies as st
from machine import START_S
from machine import at_rest as rested
from worlds import Shape

from lws_core import controller, rollout
from lws_core.actions import Read, Ref
from lws_core.rollout import Budget
from lws_core.sights import Answered, Gone, Outcome
from lws_core.spec import IntOrPercent
from lws_core.values import FrozenMap, as_map, dig
from lws_runtime.cli import main
from lws_sim.checking import bounds, explorer, truth
from lws_sim.checking.bounds import MOST_REPLICAS, Numbers, bounded, numbers_of, smaller_than
from lws_sim.checking.check import Scope, check, recheck
from lws_sim.checking.edits import EDITS, drafts
from lws_sim.checking.explorer import Explorer, at_rest, rest
from lws_sim.checking.model import FAULTS, Model, _hear_late, is_move
from lws_sim.deeds import set_field
from lws_sim.world import LOAD

TEMPLATE = Scope(edits=("template",))
SET = """
apiVersion: leaderworkerset.x-k8s.io/v1
kind: LeaderWorkerSet
metadata: {name: serve}
spec:
  replicas: 2
  leaderWorkerTemplate:
    size: 1
    workerTemplate: {spec: {containers: [{name: main, image: "img:1"}]}}
"""


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["check", *words])
    return result.exit_code, result.output


SURGING = Case("budgets", Shape(replicas=2, size=1, max_surge=1), TEMPLATE)


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    path = tmp_path / "set.yaml"
    path.write_text(SET)
    return str(path)


@pytest.fixture
def too_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget is one group too wide."""
    monkeypatch.setattr(
        Budget, "floor", property(lambda self: max(0, self.replicas - self.max_unavailable - 1))
    )


def test_explorations_of_small_sets_must_end_with_nothing_wrong() -> None:
    for shape in (Shape(replicas=1, size=2), Shape(replicas=2, size=1, max_surge=1)):
        report = check(shape.manifest, Scope(edit_count=1, faults=("crash",), fault_count=1))
        assert report.complete
        assert report.finding is None
        assert report.ends > 1
        assert report.most_writes is not None
        assert {"edit template", "step look", "step send", "step sync"} <= report.moves.keys()
        assert report.states > 50


def test_explorations_must_come_out_the_same_each_time() -> None:
    shape = Shape(replicas=2, size=1)
    assert check(shape.manifest, TEMPLATE) == check(shape.manifest, TEMPLATE)


def test_explorations_must_stop_where_they_are_told_to() -> None:
    report = check(Shape(replicas=2, size=2).manifest, Scope(fault_count=1), limit=50)
    assert not report.complete
    assert report.states >= 50
    assert report.most_writes is None


@pytest.mark.usefixtures("too_wide")
def test_budget_that_is_too_wide_must_be_found_the_shortest_way() -> None:
    shape, scope = Shape(replicas=2, size=1), Scope(edits=("template",), fault_count=1)
    finding = check(shape.manifest, scope).finding
    assert finding is not None
    assert finding.check in ("budget", "floor", "hold")
    again = recheck(shape.manifest, scope, finding.trace)
    assert again is not None
    assert again.check == finding.check


@pytest.mark.parametrize("is_seen", [False, True])
def test_end_of_a_member_must_be_held_against_the_controller_only_if_it_was_seen(is_seen: bool) -> None:
    """A worker that is killed and made again between two looks: nothing tells the second from the first."""
    model = Scope(faults=("member",), fault_count=1, slack=None).model(Shape(replicas=1, size=2).manifest)
    state = model.first(1)
    while not any(move.label == ("kill", "serve-0-1") for move in model.moves(state)):
        wanted = ("look", "send", "sync", "ready", "collect")
        state = min(
            (move for move in model.moves(state) if move.kind == "step" and move.label[0] in wanted),
            key=lambda move: (wanted.index(move.label[0]), move.label),
        ).after
    if is_seen:
        state = next(move.after for move in model.moves(state) if move.label == ("look",))
    (kill,) = (move for move in model.moves(state) if move.label == ("kill", "serve-0-1"))
    assert [(debt.sure, debt.chance) for debt in kill.after.owed] == [(1, 0) if is_seen else (0, 1)]


def test_way_to_another_end_must_be_found_and_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers' StatefulSet tells how many leaders there have been."""
    plan_module = import_module("lws_core.plan")
    make = plan_module.worker_statefulset

    def counting(lws, leader, **how):  # type: ignore[no-untyped-def]
        made = make(lws, leader, **how)
        notes = as_map(dig(made, "metadata", "annotations")).with_("example.com/lives", leader.uid[-1])
        return made.with_("metadata", as_map(made["metadata"]).with_("annotations", notes))

    monkeypatch.setattr(plan_module, "worker_statefulset", counting)
    shape, scope = Shape(replicas=1, size=2), Scope(edit_count=0, faults=("member",), fault_count=1)
    finding = check(shape.manifest, scope).finding
    assert finding is not None
    assert finding.check == "one end"
    assert "example.com/lives" in finding.text
    again = recheck(shape.manifest, scope, finding.trace)
    assert again is not None
    assert again.check == "one end"
    monkeypatch.undo()
    assert recheck(shape.manifest, scope, finding.trace) is None


def test_trace_that_cannot_be_gone_any_more_must_be_told() -> None:
    with pytest.raises(ValueError, match="move 1, end: leader 7, cannot happen here"):
        recheck(Shape(replicas=1, size=1).manifest, TEMPLATE, (("end", "leader 7"),))


def test_surge_that_is_never_returned_must_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    decide = rollout.decide

    def keeping(budget, position, groups, **how):  # type: ignore[no-untyped-def]
        decision = decide(budget, position, groups, **how)
        return attrs.evolve(decision, replicas=max(decision.replicas, position.replicas))

    monkeypatch.setattr(import_module("lws_core.plan"), "decide", keeping)
    finding = check(Shape(replicas=2, size=1, max_surge=1).manifest, TEMPLATE).finding
    assert finding is not None
    assert finding.check == "goal"
    assert "3 leaders wanted, not 2" in finding.text


def test_kinds_of_edits_and_faults_must_all_happen() -> None:
    shape = Shape(replicas=1, size=2)
    edited = check(shape.manifest, Scope(edits=EDITS, edit_count=1))
    hurt = check(shape.manifest, Scope(edits=("template",), faults=FAULTS, fault_count=1))
    moves = edited.moves.keys() | hurt.moves.keys()
    assert {f"edit {edit}" for edit in EDITS} - {"edit revert"} <= moves
    for fault in ("restart", "kill", "the controller starts anew", "lost", "carried out twice"):
        assert f"fault {fault}" in moves


def test_moves_that_are_made_must_all_be_known() -> None:
    """A file of moves is refused where it has others."""
    labels = set()
    cases = [
        (Shape(replicas=1, size=2), Scope(edits=EDITS, faults=FAULTS, fault_count=1)),
        (Shape(replicas=2, size=1), Scope(edits=("down",), edit_count=2, slack=2)),
    ]
    for shape, scope in cases:
        model = scope.model(shape.manifest)
        left, known = deque([scope.start(model)]), {scope.start(model)}
        while left and len(known) < 1000:
            for move in model.moves(left.popleft()):
                labels.add(move.label)
                if move.after not in known:
                    known.add(move.after)
                    left.append(move.after)
    assert all(map(is_move, labels))
    first = {label[0] for label in labels}
    assert {"sync", "collect", "ready", "end", "fall", "evict", "delete by hand", "lost"} <= first


def test_edits_that_come_to_the_same_set_must_be_one_draft() -> None:
    found = drafts(Shape().manifest, ("up", "down"), 2)
    assert sorted({draft.manifest["spec"]["replicas"] for draft in found}) == [1, 2, 3, 4, 5]  # type: ignore[index,call-overload]
    assert len(found) == 6  # 3 before and after two edits differ in what may follow


@pytest.mark.parametrize(
    ("shape", "scope"),
    [
        (Shape(replicas=3, size=1, max_surge=1), Scope(edits=("broken",), from_creation=True)),
        (
            Shape(replicas=0, size=1, max_unavailable=0, max_surge=1),
            Scope(edits=("up", "broken"), edit_count=3),
        ),
    ],
)
def test_broken_template_never_is_blamed_for_groups_that_could_not_be_ready(
    shape: Shape, scope: Scope
) -> None:
    report = check(shape.manifest, scope)
    assert (report.complete, report.finding) == (True, None)


def test_broken_template_must_leave_the_floor_of_the_fewest_replicas() -> None:
    manifest = Shape(replicas=3, size=1).manifest
    found = drafts(manifest, ("down", "up", "broken"), 3)
    place = 0
    for edit, kept in (("up", 2), ("down", 2), ("broken", 2)):
        place = dict(found[place].children)[edit]
        assert found[place].kept == kept
    place = 0
    for edit, kept in (("down", 1), ("up", 1), ("broken", 1)):
        place = dict(found[place].children)[edit]
        assert found[place].kept == kept
    model = Model(drafts(manifest, ("broken",), 1))
    broken = next(move.after for move in model.moves(at_rest(model, 0)) if move.kind == "edit")
    store = model.world(rest(model, broken)).store
    assert truth.unfinished(store, "serve", "default", model.drafts[broken.draft].kept) == ""
    lacks = truth.unfinished(store, "serve", "default", 4)
    assert lacks == "2 groups are ready of 4 that a broken template must leave"


def test_equal_situations_must_be_one_state() -> None:
    model = Model(drafts(Shape(replicas=1, size=1).manifest, (), 0))
    first = next(move.after for move in model.moves(model.first(0)))
    again = next(move.after for move in model.moves(model.first(0)))
    assert first == again


# -- smaller sets


@pytest.mark.parametrize(
    ("numbers", "small"),
    [
        (Numbers(100, 0, 1, 0), Numbers(6, 0, 1, 0)),
        (Numbers(100, 0, 0, 1), Numbers(6, 0, 0, 1)),
        (Numbers(50, 0, 12, 5), Numbers(6, 0, 2, 1)),
        (Numbers(50, 49, 50, 50), Numbers(6, 1, 6, 6)),
        (Numbers(8, 20, 1, 1), Numbers(6, 7, 1, 1)),
    ],
)
def test_smaller_numbers_must_stand_to_each_other_as_before(numbers: Numbers, small: Numbers) -> None:
    found = smaller_than(numbers)
    assert found.order == numbers.order
    assert found == small


def test_percentages_must_be_rounded_in_the_smaller_set_where_they_were() -> None:
    shape = Shape(replicas=50, size=9, max_unavailable="25%", max_surge="11%")
    found = bounded(shape.manifest)
    small = numbers_of(found.manifest)
    assert small.replicas <= MOST_REPLICAS
    assert (small.rounds_unavailable, small.rounds_surge) == (True, True)
    assert small.order == numbers_of(shape.manifest).order
    assert any("replicas 50" in text for text in found.reductions)
    assert "size 9 as 4" in found.reductions


def test_small_sets_must_be_checked_as_they_are() -> None:
    shape = Shape(replicas=MOST_REPLICAS, size=2)
    assert bounded(shape.manifest).manifest == shape.manifest
    assert bounded(shape.manifest).reductions == ()


# -- the command


def test_command_must_say_that_all_was_looked_at(manifest: str) -> None:
    code, output = run(manifest, "--faults", "0", "--edit", "template")
    assert code == 0
    assert output.count("EXHAUSTED: nothing wrong") == 2
    assert "maxUnavailable of StatefulSets on" in output


def test_command_must_count_in_the_singular_too(manifest: str) -> None:
    _, output = run(manifest, "--most", "1", "--no-gate")
    assert "), 1 end\n" in output
    assert "up to 1 edit (template" in output
    assert "up to 1 fault (" in output
    assert "1 step of slack" in output
    _, output = run(manifest, "--most", "1", "--no-gate", "--edits", "2", "--faults", "2", "--slack", "2")
    assert "up to 2 edits (" in output
    assert "up to 2 faults (" in output
    assert "2 steps of slack" in output


def test_command_never_calls_a_part_the_whole(manifest: str) -> None:
    code, output = run(manifest, "--most", "20", "--no-gate")
    assert (code, "NOT DONE" in output, "EXHAUSTED" in output) == (4, True, False)
    assert run(manifest, "--most", "300", "--edits", "0", "--faults", "0")[0] == 0


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A set that is checked as one of two groups."""
    monkeypatch.setattr(bounds, "MOST_REPLICAS", 2)
    path = tmp_path / "large.yaml"
    path.write_text(SET.replace("replicas: 2", "replicas: 64"))
    return str(path)


def test_command_must_say_that_it_was_a_smaller_set(large: str) -> None:
    code, output = run(large, "--most", "20", "--no-gate")
    assert code == 4
    assert "NOT DONE: nothing wrong in the states looked at in a smaller set (replicas 64" in output
    code, output = run(large, "--edit", "template", "--faults", "0", "--no-gate")
    assert (code, "EXHAUSTED" in output) == (0, False)
    assert "BOUNDED: nothing wrong in a smaller set (replicas 64" in output


@pytest.mark.usefixtures("too_wide")
def test_command_must_say_that_a_violation_is_of_a_smaller_set(large: str) -> None:
    code, output = run(large, "--edit", "template", "--no-gate")
    assert code == 3
    assert re.search("VIOLATION of (budget|floor|hold) in a smaller set [(]replicas 64", output)


def test_set_that_never_rests_must_be_refused(manifest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer, "MOST_STEPS", 5)
    assert run(manifest) == (
        2,
        f"error: {manifest}[doc 1] LeaderWorkerSet/serve: it has not come to rest after 5 steps\n",
    )


def test_reduction_of_names_must_change_no_verdict() -> None:
    found = compare(SURGING)
    assert found.is_sound
    assert found.reduced is not None
    assert found.unreduced.states > 3 * found.reduced.states
    assert compare(SURGING, limit=10).reduced is None


@pytest.mark.usefixtures("too_wide")
def test_violation_must_be_found_with_and_without_the_reduction() -> None:
    scope = attrs.evolve(TEMPLATE, fault_count=1)
    found = compare(Case("faults", Shape(replicas=2, size=1), scope))
    assert found.is_sound
    assert found.unreduced.finding is not None
    assert found.reduced is not None
    hidden = attrs.evolve(found.reduced, finding=None)
    assert not attrs.evolve(found, reduced=hidden).is_sound


@pytest.mark.usefixtures("too_wide")
def test_command_must_show_a_violation_and_show_it_again(manifest: str, tmp_path: Path) -> None:
    trace = str(tmp_path / "trace.yaml")
    code, output = run(manifest, "--edit", "template", "--no-gate", "--trace", trace)
    assert code == 3
    assert "VIOLATION of" in output
    code, output = run("--replay", trace)
    assert code == 3
    assert "VIOLATION of" in output
    assert "0/2 nn" in output


def test_replay_must_tell_when_nothing_is_wrong_any_more(
    manifest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = str(tmp_path / "trace.yaml")
    with monkeypatch.context() as patch:
        patch.setattr(
            Budget, "floor", property(lambda self: max(0, self.replicas - self.max_unavailable - 1))
        )
        assert run(manifest, "--edit", "template", "--no-gate", "--trace", trace)[0] == 3
    code, output = run("--replay", trace)
    assert code == 0
    assert "no violation any more" in output or "the trace ends here" in output


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{}", "is no trace"),
        ("kind: Trace\nmoves: []\nscope: {gate: 3}", "scope.gate: must be bool, is 3"),
        (
            "kind: Trace\nmoves: []\nscope: {gate: true, edits: [paint]}",
            "scope.edits: paint: must be of template",
        ),
        (
            "kind: Trace\nscope: {gate: true, edits: [], editCount: 1, faults: [], faultCount: 0, slack: 1, "
            "fromCreation: false}\nmoves: []\nset: {}",
            "set.",
        ),
        (
            "kind: Trace\nmoves: []\nscope: {gate: true, edits: [], editCount: -1}",
            "scope.editCount: must be from 0 to 4, is -1",
        ),
        ("kind: Trace\nmoves: abc", "moves: must be a list"),
        ("kind: Trace\nmoves: [[x]]", "moves[0]: there is no move 'x'"),
        ("kind: Trace\nmoves: [[look], [edit, nonsense]]", "moves[1]: there is no move 'edit: nonsense'"),
        ("kind: Trace\nmoves: [[look, at an older view, x]]", "moves[0]: there is no move"),
        ("kind: Trace\nmoves: [[null]]", "moves[0]: must be a list of words, is [null]"),
        ("kind: Trace\nmoves: [[]]", "moves[0]: there is no move ''"),
        ("kind: Trace\nmoves: [look]", 'moves[0]: must be a list of words, is "look"'),
        (
            "kind: Trace\nmoves: []\nscope: {gate: true, edits: template}",
            'scope.edits: must be a list of words, is "template"',
        ),
    ],
)
def test_replay_must_refuse_what_is_no_trace(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "trace.yaml"
    path.write_text(f"apiVersion: checking.lws.x-k8s.io/v1\n{text}" if "kind" in text else text)
    code, output = run("--replay", str(path))
    assert code == 2
    assert fault in output


@given(
    st.integers(7, 400),
    st.integers(0, 500),
    st.integers(0, 500) | st.integers(0, 100).map(lambda part: f"{part}%"),
    st.integers(0, 500) | st.integers(0, 100).map(lambda part: f"{part}%"),
)
def test_every_large_set_must_have_a_smaller_one_like_it(
    replicas: int, partition: int, unavailable: IntOrPercent, surge: IntOrPercent
) -> None:
    shape = Shape(
        replicas=replicas, size=1, partition=partition, max_unavailable=unavailable, max_surge=surge
    )
    numbers = numbers_of(shape.manifest)
    small = smaller_than(numbers)
    assert small.order == numbers.order
    assert small.replicas <= MOST_REPLICAS


def test_edit_that_admission_refuses_must_not_be_made() -> None:
    shape = Shape(replicas=1, size=4)
    template = as_map(dig(shape.manifest, "spec", "leaderWorkerTemplate"))
    template = template.with_("subGroupPolicy", FrozenMap({"subGroupSize": 2}))
    manifest = set_field(shape.manifest, "spec.leaderWorkerTemplate", template)
    assert [edit for edit, _ in drafts(manifest, ("size", "template"), 1)[0].children] == ["template"]


def test_operator_that_starts_in_mid_rollout_must_keep_the_floor() -> None:
    """It has never seen a leader that is gone just then."""
    scope = Scope(edits=("template", "revert"), edit_count=2, faults=("crash", "request"), fault_count=1)
    report = check(Shape(replicas=2, size=1).manifest, scope)
    assert (report.complete, report.finding) == (True, None)


def test_volumes_must_be_left_out_and_named() -> None:
    shape = Shape(replicas=1, size=1)
    template = as_map(dig(shape.manifest, "spec", "leaderWorkerTemplate"))
    template = template.with_("volumeClaimTemplates", (FrozenMap({"metadata": FrozenMap({"name": "d"})}),))
    found = bounded(set_field(shape.manifest, "spec.leaderWorkerTemplate", template))
    assert found.reductions == ("volume claims left out",)
    assert dig(found.manifest, "spec", "leaderWorkerTemplate", "volumeClaimTemplates") is None


def test_set_that_is_never_ready_must_be_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.yaml"
    note = f"Template: {{metadata: {{annotations: {{{LOAD}: never}}}}, spec"
    path.write_text(SET.replace("Template: {spec", note))
    code, output = run(str(path), "--no-gate")
    assert (code, "not all groups are ready" in output) == (2, True)


def test_trace_that_cannot_be_written_must_be_refused_before_the_exploration(manifest: str) -> None:
    code, output = run(manifest, "--trace", "/no/such/folder/trace.yaml")
    assert (code, "cannot be written" in output) == (2, True)


def test_command_that_is_interrupted_must_tell_what_it_has_done(
    manifest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Explorer, "_liveness", interrupt)
    code, output = run(manifest, "--no-gate")
    assert code == 130
    assert "NOT DONE: nothing wrong in the states looked at" in output


def test_command_must_refuse_what_it_cannot_use(manifest: str) -> None:
    assert run()[0] == 2
    assert run("--replay", manifest, manifest)[0] == 2
    assert run(manifest, "--edit", "paint")[0] == 2


def test_late_answers_must_come_in_any_order_and_change_nothing_before() -> None:
    scope = Scope(edit_count=0, slack=None, from_creation=True, late_answers=True)
    model = scope.model(Shape(replicas=1, size=1).manifest)
    state = next(move.after for move in model.moves(scope.start(model)) if move.label == ("look",))
    requests = [move for move in model.moves(state) if move.label[0] == "carry out"]
    assert len(requests) == len(state.sends) > 1
    for last in (0, 1):
        after = state
        for number in (1 - last, last):
            words = requests[number].label
            after = next(move.after for move in model.moves(after) if move.label == words)
        assert (after.memory, after.sends) == (state.memory, ())
        answers = [move for move in model.moves(after) if move.label[0] == "answer"]
        assert len(answers) == 2
        assert all(len(move.after.answers) == 1 for move in answers)
        seen = next(move.after for move in model.moves(after) if move.label == ("look",))
        assert [late.since for late in after.answers] == [0, 0]
        assert [late.since for late in seen.answers] == [2, 2]


@pytest.mark.parametrize(
    ("since", "is_gone", "tells"),
    [(1, False, "nothing"), (2, False, "nothing"), (2, True, "nothing"), (1, True, "what it shows")],
)
def test_late_answer_must_not_be_believed_against_what_is_newer(
    since: int, is_gone: bool, tells: str
) -> None:
    """Where an answer told of its end, the watch alone can say that an older one shows it before."""
    memory = rested(a_set(template={"size": 1})).memory
    leader = memory.groups.get(0).group.leader
    assert leader is not None
    ref = Ref("Pod", "default", leader.name)
    if is_gone:
        memory = controller.observe(memory, Gone("Pod", leader.name, leader.uid), START_S)
    older = attrs.evolve(leader, ready=False, resource_version="v7")
    answered = Answered(Read(ref, "why", leader.uid), Outcome(200, older))
    after = _hear_late(memory, answered, since, START_S).groups.get(0).group.leader
    assert after == (older if tells == "what it shows" else memory.groups.get(0).group.leader)
