"""Random operations and random rollouts, on real control planes and in the model, for as long as is wished.

    python tests/cluster/long_fidelity.py --minutes 120 --state fidelity.json

It ends after that time, or once as many operations and rollouts are done as are asked for; started again with
the same state file, it goes on with the next seeds. Every difference is printed at once and kept in the file.
The exit code is 1 if there is any.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import binaries
import operations
import rights
import rollouts
import yaml
from control_plane import ControlPlane, Setup
from operator_process import Operator
from recorder import Recorder

ROOT: Final = Path(__file__).resolve().parents[2]
CRD_FILE: Final = ROOT / "deploy" / "crd" / "leaderworkerset.x-k8s.io_leaderworkersets.yaml"
GATE: Final = "MaxUnavailableStatefulSet"
STEPS: Final = 20
DEEDS: Final = 12

State = dict[str, Any]


def main() -> int:
    """Run; 1 where model and cluster were not alike."""
    options = _options()
    state = _load(options.state)
    try:
        programs = binaries.find()
    except binaries.Unavailable as problem:
        print(problem, file=sys.stderr)
        return 2
    began_s, done_s = time.monotonic(), state["seconds"]
    end_s = began_s + 60 * options.minutes
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lws-fidelity-")))
        planes = [stack.enter_context(_plane(folder / str(gate), programs, gate)) for gate in (False, True)]
        recorders = [stack.enter_context(Recorder(plane.client())) for plane in planes]
        pool = stack.enter_context(ThreadPoolExecutor(options.workers))
        running: set[Future[State]] = set()
        jobs = _jobs(state, options, planes, recorders)
        while True:
            while len(running) < options.workers and time.monotonic() < end_s and (job := next(jobs, None)):
                running.add(pool.submit(job))
            if not running:
                break
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for one in finished:
                _count(state, one.result())
            state["seconds"] = round(done_s + time.monotonic() - began_s)
            options.state.write_text(json.dumps(state, indent=1) + "\n")
    print(_summary(state))
    return 1 if state["different"] else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=120, help="how long it runs (default: 120)")
    parser.add_argument("--operations", type=int, default=100_000, help="how many (default: 100000)")
    parser.add_argument("--rollouts", type=int, default=500, help="how many (default: 500)")
    parser.add_argument("--workers", type=int, default=6, help="namespaces at once (default: 6)")
    parser.add_argument("--state", type=Path, required=True, help="the file that it goes on from")
    return parser.parse_args()


def _load(path: Path) -> State:
    if path.exists():
        loaded: State = json.loads(path.read_text())
        return loaded
    names = ("operations", "rollouts", "stepwise", "items", "rests", "disturbed", "seconds")
    counts = dict.fromkeys(names, 0)
    return {"seed": 0, **counts, "different": []}


@contextmanager
def _plane(folder: Path, programs: dict[str, Path], gate: bool) -> Iterator[ControlPlane]:
    crd = yaml.load(CRD_FILE.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    setup = Setup(crds=(crd,), gates={GATE: True} if gate else {})
    with ControlPlane(folder, programs, setup) as plane:
        rights.grant(plane)
        operator = Operator(plane)
        operator.start()
        operator.register_webhooks()
        try:
            yield plane
        finally:
            operator.stop()


def _jobs(
    state: State, options: argparse.Namespace, planes: list[ControlPlane], recorders: list[Recorder]
) -> Iterator[Callable[[], State]]:
    """What is still to be done, each seed once: every third is operations, and the clusters alternate."""
    while state["operations"] < options.operations or state["rollouts"] < options.rollouts:
        seed = state["seed"]
        state["seed"] += 1
        gate = bool(seed % 2)
        wants_rollout = state["rollouts"] < options.rollouts
        if state["operations"] < options.operations and (seed % 3 == 0 or not wants_rollout):
            yield lambda gate=gate, seed=seed: _operate(planes[gate], gate, seed)
        else:
            yield lambda gate=gate, seed=seed: _roll(planes[gate], recorders[gate], gate, seed)


def _operate(plane: ControlPlane, gate: bool, seed: int) -> State:
    try:
        return {"operations": operations.live(plane, gate=gate, seed=seed, steps=STEPS)}
    except AssertionError as different:
        return {"different": f"operations, gate {gate}, seed {seed}: {different}"}


def _roll(plane: ControlPlane, recorder: Recorder, gate: bool, seed: int) -> State:
    outcome = rollouts.follow(plane, recorder, gate=gate, seed=seed, deeds=DEEDS)
    counts: State = {"rollouts": 1, "items": outcome.moments, "rests": outcome.rests}
    if outcome.verdict == "permitted":
        return counts
    if outcome.verdict == "stepwise":
        return {**counts, "stepwise": 1}
    told = f"rollout, gate {gate}, {outcome.verdict}: {outcome.told}"
    return {"disturbed": 1, "told": told} if outcome.verdict == "disturbed" else {**counts, "different": told}


def _count(state: State, done: State) -> None:
    for name, value in done.items():
        if name == "different":
            state[name].append(value)
        elif name != "told":
            state[name] += value
    told = done.get("different") or done.get("told")
    if told:
        print(told, flush=True)
    print(_summary(state), flush=True)


def _summary(state: State) -> str:
    return (
        f"{state['seconds']} s: {state['operations']} operations; {state['rollouts']} rollouts of "
        f"{state['items']} items, {state['stepwise']} of them write by write, compared at {state['rests']} "
        f"rests; {len(state['different'])} differences, {state['disturbed']} disturbed"
    )


if __name__ == "__main__":
    sys.exit(main())
