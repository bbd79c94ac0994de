"""What is checked of a set: itself where it is small, or a smaller one that is like it.

What a rollout does depends on how the numbers 0, partition, maxUnavailable, maxSurge, their sum, and
replicas stand to each other, and on whether percentages are rounded. A smaller set in which they stand the
same meets the same cases; that it has them all is not proved, and is not said to be.
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Final

import attrs

from lws_core import names
from lws_core.codec import decode
from lws_core.scaling import surge_count, unavailable_count
from lws_core.spec import IntOrPercent
from lws_core.values import as_map, dig
from lws_sim.cluster.store import Object, meta, with_meta
from lws_sim.deeds import set_field

MOST_REPLICAS: Final = 6
MOST_PODS: Final = 4  # of a group: workers are alike, and move together
_STRATEGY: Final = "spec.rolloutStrategy.rollingUpdateConfiguration"


@attrs.frozen
class Bounded:
    """A set to check, and in words what of the user's own was made smaller or left out."""

    manifest: Object
    reductions: tuple[str, ...] = ()


@attrs.frozen
class Numbers:
    """R, P, U and S of a rollout, as counts, and whether U and S were rounded."""

    replicas: int
    partition: int
    unavailable: int
    surge: int
    rounds_unavailable: bool = False
    rounds_surge: bool = False

    @property
    def order(self) -> tuple[bool, ...]:
        """How they stand to each other."""
        numbers = (
            0,
            self.partition,
            self.unavailable,
            self.surge,
            self.replicas,
            self.unavailable + self.surge,
        )
        pairs = itertools.combinations(numbers, 2)
        return tuple(holds for one, other in pairs for holds in (one < other, one == other))


def bounded(manifest: Object) -> Bounded:
    """A set small enough to be explored. `manifest` has a namespace and every default filled in."""
    found = _without_volumes(_without_placement(Bounded(manifest)))
    size = decode(manifest).spec.leader_worker_template.size
    if size > MOST_PODS and dig(manifest, "spec", "leaderWorkerTemplate", "subGroupPolicy") is None:
        smaller = set_field(found.manifest, "spec.leaderWorkerTemplate.size", MOST_PODS)
        found = Bounded(smaller, (*found.reductions, f"size {size} as {MOST_PODS}"))
    numbers = numbers_of(manifest)
    if numbers.replicas <= MOST_REPLICAS:
        return found
    small = smaller_than(numbers)
    return Bounded(
        _with_numbers(found.manifest, small), (*found.reductions, f"{_words(numbers)} as {_words(small)}")
    )


def numbers_of(manifest: Object) -> Numbers:
    """The numbers of a set's rollout."""
    spec = decode(manifest).spec
    strategy, replicas = spec.rollout_strategy, spec.replicas
    return Numbers(
        replicas,
        strategy.partition,
        unavailable_count(spec),
        surge_count(spec),
        _is_rounded(strategy.max_unavailable, replicas),
        _is_rounded(strategy.max_surge, replicas),
    )


def smaller_than(numbers: Numbers) -> Numbers:
    """The largest numbers up to MOST_REPLICAS that stand to each other as these do."""
    for replicas in range(MOST_REPLICAS, 0, -1):
        up_to = range(replicas + 4)
        for partition, unavailable, surge in itertools.product(range(2 * replicas + 8), up_to, up_to):
            small = attrs.evolve(
                numbers, replicas=replicas, partition=partition, unavailable=unavailable, surge=surge
            )
            if small.order == numbers.order:
                return small
    raise ValueError(f"no set of up to {MOST_REPLICAS} replicas is like {_words(numbers)}")


def _with_numbers(manifest: Object, small: Numbers) -> Object:
    manifest = set_field(manifest, "spec.replicas", small.replicas)
    unavailable = _amount(small.unavailable, small.replicas, small.rounds_unavailable, math.floor)
    surge = _amount(small.surge, small.replicas, small.rounds_surge, math.ceil)
    manifest = set_field(manifest, f"{_STRATEGY}.maxUnavailable", unavailable)
    manifest = set_field(manifest, f"{_STRATEGY}.maxSurge", surge)
    return set_field(manifest, f"{_STRATEGY}.partition", small.partition)


def _amount(count: int, replicas: int, rounds: bool, rounded: object) -> IntOrPercent:
    """A count, as a percentage that is rounded to it where that is asked for and can be."""
    assert callable(rounded)
    for percent in range(1, 101) if rounds else ():
        exact = Fraction(percent * replicas, 100)
        if exact.denominator != 1 and rounded(exact) == count:
            return f"{percent}%"
    return count


def _is_rounded(amount: IntOrPercent, replicas: int) -> bool:
    return isinstance(amount, str) and Fraction(int(amount.rstrip("%")) * replicas, 100).denominator != 1


def _without_placement(found: Bounded) -> Bounded:
    """Where pods are placed is not explored: each finds a node at once."""
    notes = as_map(meta(found.manifest).get("annotations"))
    keys = (names.EXCLUSIVE_TOPOLOGY, names.SUBGROUP_EXCLUSIVE_TOPOLOGY)
    if not any(key in notes for key in keys):
        return found
    manifest = with_meta(found.manifest, annotations=notes.without(*keys) or None)
    return Bounded(manifest, (*found.reductions, "exclusive placement left out"))


def _without_volumes(found: Bounded) -> Bounded:
    """Claims stay where a StatefulSet controller was not in time to own them: no ends would be alike."""
    template = as_map(dig(found.manifest, "spec", "leaderWorkerTemplate"))
    if not template.get("volumeClaimTemplates"):
        return found
    bare = template.without("volumeClaimTemplates", "persistentVolumeClaimRetentionPolicy")
    manifest = set_field(found.manifest, "spec.leaderWorkerTemplate", bare)
    return Bounded(manifest, (*found.reductions, "volume claims left out"))


def _words(numbers: Numbers) -> str:
    return (
        f"replicas {numbers.replicas}, partition {numbers.partition}, maxUnavailable {numbers.unavailable}, "
        f"maxSurge {numbers.surge}"
    )
