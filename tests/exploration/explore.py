"""Goes through the explorations of cases.py on all cores, and says what came of them.

    python tests/exploration/explore.py                       what CI runs
    python tests/exploration/explore.py --wide --state FILE   the long one; goes on where FILE ends

FILE has a line for each case, with the commit: what another one has come to is not used, nor anything where
files were changed since. Exit code 3 for a violation, of this run or in FILE, printed with the way to it;
4 if cases are left when the time is up; 1 if a kind of move never happened.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from exploration.cases import Case, bounded, distinct, wide  # noqa: E402  # found by the line above
from lws_sim.checking.explorer import Finding, Report  # noqa: E402
from lws_sim.checking.model import KINDS  # noqa: E402

FAILS, LEFT = 3, 4
OF_A_SET, OF_A_GROUP = 10, 22
"""So many writes there may be on the longest way, and so many more for each group and edit."""


def explored(case: Case) -> dict[str, Any]:
    """What came of one case, as JSON."""
    gc.disable()  # values make no cycles, and to look for them would take half of the time
    began_s = time.monotonic()
    report = case.explore()
    found = report.finding or _too_much(case, report)
    return {
        "case": case.name,
        "states": report.states,
        "moves": report.moves,
        "ends": report.ends,
        "complete": report.complete,
        "writes": report.most_writes,
        "changes": case.changes,
        "seconds": round(time.monotonic() - began_s, 2),
        "finding": None if found is None else [found.check, found.text, [": ".join(m) for m in found.trace]],
    }


def _too_much(case: Case, report: Report) -> Finding | None:
    """An exploration in which the operator writes without end, or more than a set of this size needs."""
    most = OF_A_SET + OF_A_GROUP * case.changes
    if not report.complete or (report.most_writes is not None and report.most_writes <= most):
        return None
    many = "without an end" if report.most_writes is None else f"with {report.most_writes} writes"
    return Finding("writes", f"there is a way {many}; {most} are enough", ())


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wide", action="store_true", help="the long exploration")
    parser.add_argument("--state", type=Path, help="a file with what is done, one case a line")
    parser.add_argument("--minutes", type=float, default=10**6, help="begin no case after that")
    parser.add_argument("--slowest", type=int, default=0, help="name so many of the slowest cases")
    asked = parser.parse_args()
    cases = distinct(wide() if asked.wide else bounded())
    commit, named = _commit(), {case.name for case in cases}
    done = {name: result for name, result in _read(asked.state, commit).items() if name in named}
    left = [case for case in cases if case.name not in done]
    began_s = time.monotonic()
    for result in done.values():
        _tell_finding(result)
    with multiprocessing.Pool(os.cpu_count(), maxtasksperchild=1) as pool:
        for number, result in enumerate(pool.imap_unordered(explored, left), 1):
            done[result["case"]] = result
            if asked.state is not None:
                with asked.state.open("a") as state:
                    state.write(json.dumps(result | {"commit": commit}) + "\n")
            _tell_finding(result)
            if number % 50 == 0:
                _tell(done, len(cases), time.monotonic() - began_s)
            if time.monotonic() - began_s > asked.minutes * 60:
                pool.terminate()
                break
    _tell(done, len(cases), time.monotonic() - began_s)
    for result in sorted(done.values(), key=lambda result: -result["seconds"])[: asked.slowest]:
        print(f"  {result['seconds']:7.1f} s {result['states']:8,} states {result['case']}")
    moves = _moves(done)
    print("moves:", *(f"  {moves[kind]:11,} {kind}" for kind in sorted(moves)), sep="\n")
    most = max(((r["writes"] - OF_A_SET) / r["changes"] for r in done.values() if r["writes"]), default=0)
    print(f"writes on the longest way, less {OF_A_SET} for the set: {most:.1f} a group and edit at most")
    if any(result["finding"] for result in done.values()):
        return FAILS
    if len(done) < len(cases):
        print(f"the time is up: {len(cases) - len(done)} of {len(cases)} cases are left")
        return LEFT
    happened = {kind for move in moves for kind in (move, move.partition(" ")[2])}
    missing = [kind for kind in KINDS if kind not in happened]
    if missing:
        print("these never happened:", ", ".join(missing))
    return 1 if missing else 0


def _commit() -> str:
    """What is checked out; nothing that a later run may go by where files were changed since."""
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return "" if changed else _git("rev-parse", "HEAD").strip()


def _git(*words: str) -> str:
    git = ["git", "-C", str(Path(__file__).parent), *words]
    return subprocess.run(git, capture_output=True, text=True, check=True).stdout


def _read(state: Path | None, commit: str) -> dict[str, Any]:
    """The results of that commit."""
    if state is None or not state.exists() or not commit:
        return {}
    results = map(json.loads, state.read_text().splitlines())
    return {result["case"]: result for result in results if result.get("commit") == commit}


def _tell_finding(result: dict[str, Any]) -> None:
    if result["finding"]:
        check, text, trace = result["finding"]
        print(f"VIOLATION of {check} in {result['case']}: {text}", *trace, sep="\n  ", flush=True)


def _moves(done: dict[str, Any]) -> Counter[str]:
    moves: Counter[str] = Counter()
    for result in done.values():
        moves.update(result["moves"])
    return moves


def _tell(done: dict[str, Any], cases: int, seconds: float) -> None:
    states = sum(result["states"] for result in done.values())
    moves = sum(_moves(done).values())
    print(f"{len(done)} of {cases} cases, {states:,} states, {moves:,} moves, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
