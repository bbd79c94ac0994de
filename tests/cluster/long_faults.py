"""Lives of sets under faults for as long as one likes, on a control plane that is new for each seed.

    python tests/cluster/long_faults.py --minutes 120 --state faults.json

Each seed is a round: every kill point, storms of faults with and without upsets of the control plane, and
leaders that are stopped. The state file has the counts and what was wrong; a run that is started again with
it goes on where the last one ended. Exit code 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import binaries
import yaml
from faults import Baseline, Kills, Storm, Upsets, phases_for, points_of, shares
from lives import PHASES, POLICIES, Life, NoFaults
from stage import Stage, side_by_side
from stops import Stops

_CRD: Final = Path(__file__).resolve().parents[2] / "deploy" / "crd"
_LONGEST_MINUTES: Final = 120.0
_STORMS: Final = 16
_UPSET_LIVES: Final = 8
_STOPPING_LIVES: Final = 6
_STOPS: Final = 6


class State:
    """What has been done, kept in a file after each life."""

    def __init__(self, path: Path) -> None:
        self._path = path
        stored: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        self.seed: int = stored.get("seed", 1)
        self.done: list[str] = stored.get("done", [])
        self.count: Counter[str] = Counter(stored.get("count", {}))
        self.kills: Counter[str] = Counter(stored.get("kills", {}))
        self.wrong: list[str] = stored.get("wrong", [])
        self.seconds: float = stored.get("seconds", 0.0)

    def save(self) -> None:
        """Write all of it, or leave the file as it was."""
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(vars(self) | {"_path": str(self._path)}, indent=1))
        new.replace(self._path)

    def add(self, life: Life) -> None:
        """Count what came of a life."""
        self.done.append(life.name)
        self.count["lives"] += 1
        self.count["operators started"] += life.starts
        self.count["violations"] += len(life.wrong)
        self.wrong += [f"seed {self.seed}, {life.name}: {text}" for text in life.wrong]
        match life.faults:
            case Kills(hit=hit, missed=missed):
                self.count["kill points"] += len(hit)
                self.count["kill points that no request came to"] += len(missed)
                self.kills.update(str(point) for point in hit)
            case Storm(count=count):
                self.count["faults"] += count.total()
                self.count.update({f"fault: {kind}": number for kind, number in count.items()})
        if isinstance(life, Stops):
            self.count["stopped leaders"] += life.stops
            self.count["sent after going on"] += len(life.late)

    def next_seed(self) -> None:
        """The round is over."""
        self.seed, self.done = self.seed + 1, []


def kills(stage: Stage, baseline: Baseline, seed: int) -> Iterator[Life]:
    for policy, points in points_of(baseline, seed).items():
        for number, share in enumerate(shares(points)):
            name = f"kill-{policy.lower()}-{number}"
            yield Life(stage, name, policy, Kills(share), phases_for(share))


def storms(stage: Stage, seed: int) -> Iterator[Life]:
    for number in range(_STORMS):
        storm = Storm(seed * 1000 + number, mute=number % 8 == 7, clock=number % 2 == 1)
        yield Life(stage, f"storm-{number}", POLICIES[number // 2 % 2], storm)


def upset_lives(stage: Stage, seed: int) -> Iterator[Life]:
    for number in range(_UPSET_LIVES):
        storm = Storm(seed * 1000 + 500 + number, most=2)
        yield Life(stage, f"upset-{number}", POLICIES[number % 2], storm, may_end=True)


def stops(stage: Stage, seed: int) -> Iterator[Life]:
    for number in range(_STOPPING_LIVES):
        yield Stops(stage, f"stop-{number}", seed * 1000 + number, _STOPS)


def baseline_of(stage: Stage, seed: int) -> Baseline:
    """What comes by where nothing fails, found out anew on each stage."""
    none = {policy: NoFaults() for policy in POLICIES}
    lives = [Life(stage, f"calm-{seed}-{policy.lower()}", policy, of) for policy, of in none.items()]
    for life in side_by_side([life.run for life in lives], len(lives)):
        if life.wrong:
            raise RuntimeError(f"a life in which nothing fails goes wrong: {life.wrong[0]}")
    return {policy: {phase: of.seen[phase] for phase in PHASES} for policy, of in none.items()}


def run_round(stage: Stage, state: State, at_once: int, until_s: float) -> None:
    """All of a seed that has not been done, until the time is over."""
    upsets = Upsets(stage.plane, state.seed)
    parts: tuple[tuple[Iterable[Life], int, Callable[[], object]], ...] = (
        (kills(stage, baseline_of(stage, state.seed), state.seed), at_once, lambda: None),
        (storms(stage, state.seed), at_once, lambda: None),
        (upset_lives(stage, state.seed), max(1, at_once // 2), upsets),
        (stops(stage, state.seed), at_once, lambda: None),
    )
    for lives, side, meanwhile in parts:
        for life in side_by_side(_due(lives, state, until_s), side, meanwhile):
            state.add(life)
            state.count.update(upsets.count)
            upsets.count.clear()
            state.save()
            print(_line(state, life), flush=True)


def _due(lives: Iterable[Life], state: State, until_s: float) -> Iterator[Callable[[], Life]]:
    for life in lives:
        if life.name not in state.done and time.monotonic() < until_s:
            yield life.run


def _line(state: State, life: Life) -> str:
    shown = ("kill points", "faults", "stopped leaders", "violations")
    told = ", ".join(f"{state.count[name]} {name}" for name in shown)
    return f"{time.strftime('%H:%M:%S')} seed {state.seed} {life.name}: {told}"


def report(count: Mapping[str, int]) -> str:
    """Every count, one a line."""
    return "\n".join(f"{number:8} {name}" for name, number in sorted(count.items()))


def main() -> int:
    """Run until the time is over; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=_LONGEST_MINUTES, help="at most 120")
    parser.add_argument("--state", type=Path, required=True, help="what was done so far; written")
    parser.add_argument("--at-once", type=int, default=6, help="lives at once: three for each core")
    given = parser.parse_args()
    began_s = time.monotonic()
    until_s = began_s + 60 * min(given.minutes, _LONGEST_MINUTES)
    state = State(given.state)
    before_s = state.seconds
    programs = binaries.find()
    crds = [yaml.safe_load(path.read_text()) for path in sorted(_CRD.glob("leaderworkerset*.yaml"))]
    while time.monotonic() < until_s:
        with (
            tempfile.TemporaryDirectory(prefix="faults-") as folder,
            Stage.start(Path(folder) / "stage", programs, crds) as stage,
        ):
            run_round(stage, state, given.at_once, until_s)
        state.seconds = before_s + time.monotonic() - began_s
        if time.monotonic() < until_s:
            state.next_seed()
        state.save()
    print(report(state.count))
    print(*state.wrong, sep="\n")
    return 1 if state.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
