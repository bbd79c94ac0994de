"""How a group is cut into subgroups: which pods belong together (docs/api.md, "Subgroups").

The leader belongs to subgroup 0, or to none under LeaderExcluded. Where the group without its leader divides
evenly and the whole does not, the leader comes on top: subgroup 0 has one pod more than the others.
"""

from __future__ import annotations

import attrs


@attrs.frozen
class Division:
    """A group of `size` pods in subgroups of `subgroup_size`. All indexes are zero-based, the leader's
    worker index being 0."""

    size: int
    subgroup_size: int
    leader_excluded: bool = False

    @property
    def _first_worker(self) -> int:
        """The worker index that counting starts at: 1 where the leader takes no place of a worker."""
        on_top = (self.size - 1) % self.subgroup_size == 0 and self.size % self.subgroup_size != 0
        return 1 if self.leader_excluded or on_top else 0

    def index_of(self, worker_index: int) -> int | None:
        """The subgroup of a pod; None for a leader that is in no subgroup."""
        if worker_index == 0:
            return None if self.leader_excluded else 0
        return (worker_index - self._first_worker) // self.subgroup_size

    def leads(self, subgroup_index: int) -> bool:
        """Whether the leader is in that subgroup."""
        return subgroup_index == 0 and not self.leader_excluded

    def workers(self, subgroup_index: int) -> range:
        """The worker indexes in that subgroup, without the leader's."""
        start = subgroup_index * self.subgroup_size + self._first_worker
        return range(max(1, start), min(start + self.subgroup_size, self.size))
