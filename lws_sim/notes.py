"""The words of a stage table: what changed from one row to the next, as the guide says it."""

from __future__ import annotations

from .trace import Row


def note(
    row: Row, before: Row | None, *, started: bool, finished: bool, reclaimed: bool, surge_limit: int
) -> str:
    """What a row is about.

    started: a new revision came with it. finished: the rollout came to rest in it. reclaimed: an earlier row
    returned surge already. surge_limit: the set's own number of groups; more leaders are surge.
    """
    if before is None:
        return "Before rolling update"
    if started:
        return "Rolling update started"
    said = [*_replicas(row, before, reclaimed, surge_limit), *_partition(row, before)]
    if finished:
        return "Rolling update completed"
    if said:
        return "; ".join(said)
    if row.partition > 0 and row.groups and row.groups[-1] != "n" and set(row.groups) & set("ox"):
        return "Since the last Replica is not ready, Partition will not change"
    return ""


def _partition(row: Row, before: Row) -> list[str]:
    if row.partition < before.partition:
        return [f"Partition changes from {before.partition} to {row.partition}"]
    if row.partition > before.partition:
        return [f"Partition rises from {before.partition} to {row.partition}"]
    return []


def _replicas(row: Row, before: Row, reclaimed: bool, surge_limit: int) -> list[str]:
    fewer = before.replicas - row.replicas
    if fewer > 0 and before.replicas > surge_limit:
        if reclaimed:
            return ["Release another Replica" if fewer == 1 else f"Release {fewer} more Replicas"]
        if fewer == 1:
            return ["Reclaim a Replica for the accommodation of unready ones"]
        return [f"Reclaim {fewer} Replicas for the accommodation of unready ones"]
    if fewer:
        return [f"Replicas change from {before.replicas} to {row.replicas}"]
    return []
