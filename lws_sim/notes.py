"""The words of a stage table: what changed from one row to the next, as the guide says it."""

from __future__ import annotations

import attrs

from .census import Standing

BEFORE = "Before rolling update"


@attrs.frozen
class Change:
    """What a row is about, apart from its numbers.

    told: what was done from outside, as far as marks do not show it. started: a new revision came with it.
    finished: a rollout came to rest in it, down to the user's `partition`. reclaimed: an earlier row returned
    surge already. own_replicas: the set's own number of groups; more leaders are surge.
    """

    told: tuple[str, ...] = ()
    started: bool = False
    finished: bool = False
    reclaimed: bool = False
    own_replicas: int = 0
    partition: int = 0


def note(change: Change, before: Standing, now: Standing) -> str:
    """The words for a row that began at `before` and ended at `now`."""
    said = [_capital(text) for text in change.told]
    if change.started:
        said.append("Rolling update started")
    elif change.finished:
        groups = f" for R-{change.partition} and above" if change.partition else ""
        said.append(f"Rolling update completed{groups}")
    else:
        said += [*_replicas(change, before, now), *_partition(before, now)]
    if not said and now.partition > 0 and now.groups[-1:] not in ("n", "") and set(now.groups) & set("ox"):
        return "Since the last Replica is not ready, Partition will not change"
    return "; ".join(said)


def _capital(text: str) -> str:
    """`text` as a sentence begins, a field's path apart."""
    return text if text.startswith(("spec.", "metadata.")) else text[:1].upper() + text[1:]


def _partition(before: Standing, now: Standing) -> list[str]:
    if now.partition < before.partition:
        return [f"Partition changes from {before.partition} to {now.partition}"]
    if now.partition > before.partition:
        return [f"Partition rises from {before.partition} to {now.partition}"]
    return []


def _replicas(change: Change, before: Standing, now: Standing) -> list[str]:
    fewer = before.replicas - now.replicas
    if fewer > 0 and now.replicas >= change.own_replicas:
        if change.reclaimed:
            return ["Release another Replica" if fewer == 1 else f"Release {fewer} more Replicas"]
        replicas = "a Replica" if fewer == 1 else f"{fewer} Replicas"
        return [f"Reclaim {replicas} for the accommodation of unready ones"]
    return [f"Replicas change from {before.replicas} to {now.replicas}"] if fewer else []
