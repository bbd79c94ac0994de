"""The model is like the real thing: random requests and the scenarios without a load time, done to both.

`long_fidelity.py` does this for hours, and random rollouts too. docs/reliability.md says what is claimed.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import attrs
import operations
import pytest
import yaml
from conftest import ROOT
from control_plane import ControlPlane
from facets import Mark
from operator_process import Operator
from recorder import Recorder
from replay import Moment, Permitted, Restless, State, replay, settle
from rollouts import Outcome, follow, observe, play_script

from lws_core.defaulting import apply_defaults
from lws_core.values import freeze, freeze_map
from lws_sim import scenario as script

NAMESPACES = 4
STEPS = 6
ROLLOUTS = 6
DEEDS = 6
MANUAL = [
    path
    for path in sorted((ROOT / "examples" / "scenarios").glob("*.yaml"))
    if yaml.safe_load(path.read_text())["cluster"].get("load") == "manual"
]
"""The scenarios that need no model of time."""


@pytest.fixture(scope="module")
def recorder(cluster: ControlPlane) -> Iterator[Recorder]:
    with Recorder(cluster.client()) as recorder:
        yield recorder


def operate(plane: ControlPlane, gate: bool) -> None:
    with ThreadPoolExecutor(NAMESPACES) as pool:
        done = [
            pool.submit(operations.live, plane, gate=gate, seed=seed, steps=STEPS)
            for seed in range(NAMESPACES)
        ]
        assert sum(one.result() for one in done) == NAMESPACES * STEPS * operations.FAMILIES


@pytest.mark.usefixtures("no_operator")
def test_answers_and_rests_of_random_requests_must_be_those_of_the_model(cluster: ControlPlane) -> None:
    operate(cluster, gate=False)


def test_answers_and_rests_of_random_requests_must_be_those_of_the_model_with_the_gate_on(
    gated_cluster: ControlPlane,
) -> None:
    operate(gated_cluster, gate=True)


@pytest.mark.parametrize("path", MANUAL, ids=lambda path: path.stem)
def test_scenarios_must_be_permitted_by_the_model(
    cluster: ControlPlane, operator: Operator, recorder: Recorder, path: Path
) -> None:
    outcome = play_example(cluster, recorder, path, f"scenario-{path.stem}")
    assert outcome.verdict == "permitted", outcome.told
    assert outcome.rests == 1 + len(steps_of(path))


def roll(plane: ControlPlane, recorder: Recorder, gate: bool) -> None:
    seeds = range(ROLLOUTS)
    with ThreadPoolExecutor(NAMESPACES) as pool:
        outcomes = list(
            pool.map(lambda seed: follow(plane, recorder, gate=gate, seed=seed, deeds=DEEDS), seeds)
        )
    verdicts = [outcome.verdict for outcome in outcomes]
    told = "\n".join(outcome.told for outcome in outcomes)
    assert set(verdicts) <= {"permitted", "stepwise"}, told
    assert verdicts.count("permitted") > ROLLOUTS // 2, told
    assert all(outcome.rests >= 2 for outcome in outcomes)


def test_random_rollouts_must_be_the_models(
    cluster: ControlPlane, operator: Operator, recorder: Recorder
) -> None:
    roll(cluster, recorder, gate=False)


def test_random_rollouts_must_be_the_models_with_the_gate_on(
    gated_cluster: ControlPlane, gated_operator: Operator
) -> None:
    with Recorder(gated_cluster.client()) as recorder:
        roll(gated_cluster, recorder, gate=True)


def steps_of(path: Path) -> tuple[script.Step, ...]:
    return script.read_scenario(freeze(yaml.safe_load(path.read_text()))).steps


def play_example(plane: ControlPlane, recorder: Recorder, path: Path, namespace: str) -> Outcome:
    source = yaml.safe_load((ROOT / "examples" / "lws-rollout-strategy.yaml").read_text())
    manifest = apply_defaults(freeze_map(source))
    steps = steps_of(path)
    return observe(plane, recorder, namespace, False, lambda rollout: play_script(rollout, manifest, steps))


# -- a record that is not the model's is seen


def is_permitted(state: State, moments: list[Moment]) -> bool:
    def rests(end: State) -> bool:
        return not isinstance(settle(end), Restless)

    return isinstance(replay(state, moments, rests), Permitted)


def forged(moments: list[Moment], what: str) -> Iterator[list[Moment]]:
    """Records in which one mark is another, or is left out, or comes twice."""
    for index, moment in enumerate(moments):
        mark = moment.item
        if not isinstance(mark, Mark):
            continue
        before, after = moments[:index], moments[index + 1 :]
        if what == "partition" and mark.what == "spec" and mark.value[1] != "partition 0":
            other = (mark.value[0], f"{mark.value[1]}1", *mark.value[2:])
            yield [*before, attrs.evolve(moment, item=attrs.evolve(mark, value=other)), *after]
        if what == "revision" and mark.what == "made" and mark.key.startswith("Pod/"):
            other = ("another", *mark.value[1:])
            yield [*before, attrs.evolve(moment, item=attrs.evolve(mark, value=other)), *after]
        if what == "missing" and mark.what == "made" and mark.key.startswith("StatefulSet/"):
            yield [*before, *after]
        if what == "twice" and mark.what == "terminating" and mark.key.startswith("Pod/"):
            yield [*before, moment, moment, *after]


def test_a_forged_record_must_be_refused(
    cluster: ControlPlane, operator: Operator, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = play_example(cluster, recorder, MANUAL[0], "forged")
    record = outcome.records[1]
    state, moments = record.state, list(record.moments)
    assert is_permitted(state, moments)
    assert record.difference(moments) == ""
    monkeypatch.setattr("replay.LONGEST_S", 2.0)  # the true one takes a fraction of it
    for what in ("partition", "revision", "missing", "twice"):
        results = [is_permitted(state, one) for one in islice(forged(moments, what), 1)]
        assert results == [False], what
        differences = [record.difference(one) for one in forged(moments, what)]
        assert differences, what
        assert all(differences), what
