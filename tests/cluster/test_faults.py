"""Lives of sets under faults, many at once; the API server's audit log is the judge. See docs/reliability.md.

`long_faults.py` does the same for hours, with other seeds.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import attrs
import orjson
import pytest
from audit import Entry
from client import Manifest
from faults import Kills, Point, Storm, Upsets, phases_for, points_of, shares
from history import LEADER_WORKER_SETS, STATEFUL_SETS
from lives import POLICIES, SET, Life, NoFaults, Phase, Policy
from safety import Rule, judge
from stage import Stage, side_by_side
from stops import Stops

from lws_core import names

_AT_ONCE: Final = 6
_LIVES_UPSET: Final = 3
_LEAST_KILLS: Final = 100
_WRITES: Final = ("create ", "apply ", "delete ", "patch ", "take fields ")


@pytest.fixture(scope="module")
def stage(
    programs: dict[str, Path], crd: Manifest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """A control plane for many sets at once."""
    with Stage.start(tmp_path_factory.mktemp("stage"), programs, (crd,)) as started:
        yield started


@pytest.fixture(scope="module")
def calm(stage: Stage) -> dict[Policy, Life]:
    """Lives in which nothing fails."""
    lives = [Life(stage, f"calm-{policy.lower()}", policy, NoFaults()) for policy in POLICIES]
    return {life.policy: life for life in side_by_side([life.run for life in lives], _AT_ONCE)}


def wrong(lives: list[Life]) -> str:
    return "\n".join(f"{life.name}: {text}" for life in lives for text in life.wrong)


def seen(life: Life) -> dict[Phase, Counter[str]]:
    assert isinstance(life.faults, NoFaults)
    return life.faults.seen


def test_life_without_faults_must_keep_every_rule(calm: dict[Policy, Life]) -> None:
    assert not wrong(list(calm.values()))


def test_log_that_breaks_a_rule_must_be_found_out(calm: dict[Policy, Life]) -> None:
    """The log of a real life, with one line or two of it forged."""
    entries = list(calm["Shared"].log())
    failures = calm["Shared"].failures
    assert judge(entries, SET, failures) == []
    for rule, forge in FORGERIES:
        forged = [forge(attrs.evolve(one, body=copy(one.body), answer=copy(one.answer))) for one in entries]
        assert {found.rule for found in judge(forged, SET, failures)} == {rule}, forge.__name__
    assert {found.rule for found in judge(entries, SET, {})} == {"recreation"}  # none of them has failed


def copy(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value))


def careless(entry: Entry) -> Entry:
    """Deletions do not say which pod they mean."""
    if entry.user == "operator" and entry.verb == "delete":
        del entry.body["preconditions"]["uid"]
    return entry


def astray(entry: Entry) -> Entry:
    """StatefulSets of workers belong to somebody else."""
    if entry.user == "operator" and entry.verb == "create" and entry.resource == STATEFUL_SETS:
        owner = entry.answer["metadata"]["ownerReferences"][0]
        owner["uid"] = owner["uid"] if owner["kind"] == names.KIND else "another"
    return entry


def greedy(entry: Entry) -> Entry:
    """What was done was promised not to be."""
    if entry.resource == LEADER_WORKER_SETS and entry.verb != "delete":
        entry.answer["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"]["maxUnavailable"] = -1
    return entry


def inflated(entry: Entry) -> Entry:
    """More leaders than the surge allows."""
    if entry.user == "operator" and entry.verb == "patch" and entry.name == SET:
        spec = (entry.answer or {}).get("spec", {})
        if entry.resource == STATEFUL_SETS and spec.get("replicas") == 4:
            spec["replicas"] = 5
    return entry


def ahead(entry: Entry) -> Entry:
    """Workers are of another revision than their leader."""
    if entry.user == "controllers" and entry.verb == "create" and entry.resource == "pods":
        labels = entry.answer["metadata"]["labels"]
        if labels[names.WORKER_INDEX] != "0":
            labels[names.REVISION_KEY] = "another"
    return entry


FORGERIES: Final[tuple[tuple[Rule, Callable[[Entry], Entry]], ...]] = (
    ("target", careless),
    ("target", astray),
    ("budget", greedy),
    ("budget", inflated),
    ("revision", ahead),
)


def test_operator_killed_at_any_request_must_come_to_the_goal_and_break_no_rule(
    stage: Stage, calm: dict[Policy, Life]
) -> None:
    points = points_of({policy: seen(life) for policy, life in calm.items()}, seed=1)
    lives = [
        Life(stage, f"kill-{policy.lower()}-{number}", policy, Kills(share), phases_for(share))
        for policy, of_policy in points.items()
        for number, share in enumerate(shares(of_policy))
    ]
    done = list(side_by_side([life.run for life in lives], _AT_ONCE))
    assert not wrong(done)
    hit = [point for life in done if isinstance(life.faults, Kills) for point in life.faults.hit]
    assert len(hit) >= _LEAST_KILLS
    wanted = {(one.phase, one.request) for of_policy in points.values() for one in of_policy if is_sure(one)}
    assert wanted - {(one.phase, one.request) for one in hit} == set()


def is_sure(point: Point) -> bool:
    """Whether a phase always comes to a request: how often events are told, and what a rollout that is turned
    back has begun by then, is a matter of time."""
    return (
        point.request.startswith(_WRITES) and point.request != "create Event" and point.phase != "turn back"
    )


@pytest.mark.parametrize("clock", [False, True], ids=["network", "network-and-clock"])
def test_storm_of_faults_must_end_at_the_goal_and_break_no_rule(stage: Stage, clock: bool) -> None:
    lives = [
        Life(stage, f"storm-{clock:d}-{seed}", POLICIES[seed % 2], Storm(seed, clock=clock))
        for seed in range(20 + clock, 30, 2)
    ]
    done = list(side_by_side([life.run for life in lives], _AT_ONCE))
    assert not wrong(done)
    count = sum((life.faults.count for life in done if isinstance(life.faults, Storm)), Counter[str]())
    assert len(count) > 10
    assert (count["clock jump"] > 0) == clock


def test_upset_of_the_control_plane_must_end_at_the_goal_and_break_no_rule(stage: Stage) -> None:
    upsets = Upsets(stage.plane, seed=1, every_s=(5.0, 8.0))

    def lives() -> Iterator[Callable[[], Life]]:
        for seed in itertools.count():
            if seed >= _LIVES_UPSET and len(upsets.count) == len(Upsets.KINDS):
                return  # a fast machine needs more lives than a slow one until each kind has come
            yield Life(stage, f"upset-{seed}", POLICIES[seed % 2], Storm(seed, most=2), may_end=True).run

    assert not wrong(list(side_by_side(lives(), _LIVES_UPSET, meanwhile=upsets)))
    assert set(upsets.count) == set(Upsets.KINDS)


def test_stopped_leader_that_goes_on_must_have_nothing_carried_out(stage: Stage) -> None:
    lives = [Stops(stage, f"stop-{seed}", seed, (2, 2, 1)[seed]) for seed in range(3)]
    done = list(side_by_side([life.run for life in lives], _AT_ONCE))
    assert not wrong(done)
    assert sum(life.stops for life in lives) == 5
