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

from exploration.cases import Case, bounded  # noqa: E402  # found by the line above
from lws_core.times import rfc3339  # noqa: E402
from lws_core.values import evolve  # noqa: E402
from lws_sim.checking.explorer import Report  # noqa: E402
from lws_sim.checking.naming import NamedStore  # noqa: E402
from lws_sim.cluster.store import Change, Object, Store, key_of, linked, with_meta  # noqa: E402

LIMIT: Final = 30_000


@attrs.frozen(slots=False, kw_only=True)
class CountingStore(NamedStore):
    """A store that gives out UIDs and resourceVersions as an API server does. A version names the content
    too, as the model tells clusters apart by it."""

    def insert(self, obj: Object, now_s: float) -> tuple[Store, Object]:
        """A new object."""
        uid = f"{self.uids + 1:08x}-0000-4000-8000-000000000000"
        stamped = self._versioned(with_meta(obj, uid=uid, creationTimestamp=rfc3339(now_s), generation=1))
        after = self._changed(Change("ADDED", key_of(stamped), stamped))
        return evolve(after, uids=self.uids + 1), stamped

    def replace(self, before: Object, after: Object) -> tuple[Store, Object]:
        """An object as it has become; the store itself where nothing has."""
        if before == after:
            return self, before
        stamped = self._versioned(after)
        return self._changed(Change("MODIFIED", key_of(stamped), stamped, before)), stamped

    def remove(self, obj: Object) -> Store:
        """The store without an object."""
        return self._changed(Change("DELETED", key_of(obj), obj, obj))

    def _versioned(self, obj: Object) -> Object:
        bare = with_meta(obj, resourceVersion=None)
        return with_meta(bare, resourceVersion=f"{self.version + 1}.{self.contents.of(bare)}")

    def _changed(self, change: Change) -> CountingStore:
        is_gone = change.type == "DELETED"
        key, after = change.key, None if is_gone else change.object
        return evolve(
            self,
            objects=self.objects.drop(key) if after is None else self.objects.put(key, after),
            dependents=linked(self.dependents, key, change.before, after),
            changes=(*self.changes, change),
            version=self.version + 1,
        )


@attrs.frozen
class Comparison:
    """One case, gone through both ways. `unreduced` ends at a limit where it is not complete."""

    case: str
    reduced: Report
    unreduced: Report

    @property
    def is_sound(self) -> bool:
        """Whether both say the same, as far as the second came."""
        found = self.unreduced.finding
        if not self.unreduced.complete and found is None:
            return True
        before = self.reduced.finding
        return (found and found.check) == (before and before.check)


def compare(case: Case, limit: int = LIMIT) -> Comparison:
    """Go through a case with the reduction, and then without it through so many states."""
    unreduced = case.scope.explorer(case.shape.manifest, CountingStore).run(limit)
    return Comparison(case.name, case.explore(), unreduced)


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
    cases = list({case.name: case for case in bounded()}.values())
    began_s = time.monotonic()
    whole: list[Comparison] = []
    part: list[Comparison] = []
    unsound = 0
    with multiprocessing.Pool(os.cpu_count(), maxtasksperchild=1) as pool:
        for number, found in enumerate(
            pool.imap_unordered(_compared, [(case, asked.limit) for case in cases]), 1
        ):
            if not found.is_sound:
                unsound += 1
                print(
                    f"{found.case}: {found.reduced.finding} with the reduction, "
                    f"{found.unreduced.finding} without",
                    flush=True,
                )
            (whole if found.unreduced.complete else part).append(found)
            if number % 50 == 0:
                print(f"{number} of {len(cases)} cases, {time.monotonic() - began_s:.0f} s", flush=True)
    _tell("to the end", whole)
    _tell("to the limit", part)
    print(f"{unsound} with another verdict, {time.monotonic() - began_s:.0f} s")
    return 3 if unsound else 0


def _tell(how: str, found: list[Comparison]) -> None:
    reduced = sum(one.reduced.states for one in found)
    states = sum(one.unreduced.states for one in found)
    print(f"{how}: {len(found)} cases, {states:,} states without the reduction, {reduced:,} with it")


if __name__ == "__main__":
    sys.exit(main())
