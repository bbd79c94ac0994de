"""Goes through the explorations of cases.py without the reduction of names, and compares both.

    python tests/exploration/unreduced.py                 every case that CI explores
    python tests/exploration/unreduced.py --limit 100000  go further in each

In an exploration names say what an object is (lws_sim/checking/naming.py), so that situations that no
controller can tell apart are one state. Here UIDs, resourceVersions and generations count up, as those of an
API server do, and every way to a situation is a state of its own. Exit code 3 where only one of the two finds
something wrong: the reduction would hide it, or make it up.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import Final

import attrs

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from exploration.cases import Case, bounded, distinct  # noqa: E402  # found by the line above
from lws_sim.checking.explorer import Report  # noqa: E402
from lws_sim.checking.naming import NamedStore  # noqa: E402
from lws_sim.cluster.store import Object, Store, with_meta  # noqa: E402

LIMIT: Final = 30_000


@attrs.frozen(slots=False, kw_only=True)
class CountingStore(NamedStore):
    """A store that gives out UIDs and resourceVersions as an API server does. A version names the content
    too, as the model tells clusters apart by it."""

    insert = Store.insert
    replace = Store.replace
    remove = Store.remove

    def _next_version(self, obj: Object) -> str:
        bare = with_meta(obj, resourceVersion=None)
        return f"{self.version + 1}.{self.contents.of(bare)}"


@attrs.frozen
class Comparison:
    """One case, gone through without the reduction, and with it if there is something to compare: None where
    the first came to its limit and had found nothing."""

    case: str
    unreduced: Report
    reduced: Report | None

    @property
    def is_sound(self) -> bool:
        """Whether both say the same, as far as the first came."""
        if self.reduced is None:
            return True
        found, before = self.unreduced.finding, self.reduced.finding
        return (found and found.check) == (before and before.check)


def compare(case: Case, limit: int = LIMIT) -> Comparison:
    """Go through a case without the reduction, through so many states at most, and with it."""
    unreduced = case.scope.explorer(case.shape.manifest, CountingStore).run(limit)
    told = unreduced.complete or unreduced.finding is not None
    return Comparison(case.name, unreduced, case.explore() if told else None)


def _compared(work: tuple[Case, int]) -> Comparison:
    gc.disable()  # values make no cycles, and to look for them would take half of the time
    return compare(*work)


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--limit", type=int, default=LIMIT, help="states of a case without the reduction")
    asked = parser.parse_args()
    cases = distinct(bounded())
    began_s = time.monotonic()
    whole: list[Comparison] = []
    part: list[Comparison] = []
    with multiprocessing.Pool(os.cpu_count(), maxtasksperchild=1) as pool:
        work = [(case, asked.limit) for case in cases]
        for number, found in enumerate(pool.imap_unordered(_compared, work), 1):
            if not found.is_sound:
                print(found, flush=True)
            (part if found.reduced is None else whole).append(found)
            if number % 50 == 0:
                print(f"{number} of {len(cases)} cases, {time.monotonic() - began_s:.0f} s", flush=True)
    reduced = sum(one.reduced.states for one in whole if one.reduced is not None)
    unsound = sum(not one.is_sound for one in whole)
    print(f"to the end: {len(whole)} cases, {_states(whole):,} states, {reduced:,} with the reduction")
    print(f"to the limit: {len(part)} cases, {_states(part):,} states")
    print(f"{unsound} with another verdict, {time.monotonic() - began_s:.0f} s")
    return 3 if unsound else 0


def _states(found: list[Comparison]) -> int:
    return sum(one.unreduced.states for one in found)


if __name__ == "__main__":
    sys.exit(main())
