"""What a simulation shows: rows as in the guide's stage table, samples for a picture, and a summary.

A row is one event, the first look after it, and all that follows without another change of partition or
replicas; a look that changes either without an event opens a row of its own. A sample is the state at one
moment, once all that could happen at that moment has happened.

Groups are told by one letter each, by index:
  n  up to date and ready          l  up to date, not ready (loading, or fallen)
  o  of an older revision, ready   x  of an older revision, not ready
  t  its leader is terminating     .  its leader does not exist yet
"""

from __future__ import annotations

import attrs

from lws_core.values import EMPTY, FrozenMap

from .judging import Violation


@attrs.frozen
class Row:
    """One stage. `at_s`: seconds since the start. `groups` has a letter for each of `replicas` groups."""

    stage: int
    at_s: float
    partition: int
    replicas: int
    groups: str
    note: str = ""


@attrs.frozen
class Sample:
    """One moment. `groups` has a letter for each of `replicas` groups, and for those beyond whose pods still
    end; `ready` counts ready groups, surge included; `pods` all pods that exist."""

    at_s: float
    partition: int
    replicas: int
    groups: str
    ready: int
    pods: int


@attrs.frozen
class Mark:
    """Something that was done to the cluster from outside, for the picture."""

    at_s: float
    text: str


@attrs.frozen
class Summary:
    """What the whole run comes to.

    duration_s: from the first event to the last change. load_s: how long a pod takes to load, None where the
    scenario decides. lowest_ready: the fewest groups that were ready at one moment, and the floor, the least
    that the budget of that moment allowed. Failures may bring it lower without anybody breaking the budget,
    which is what `violations` would tell. While a set grows, groups that have never been ready count for
    neither. accelerators: the highest number in use, by resource name. blocked_by: why it did not finish.
    """

    finished: bool
    duration_s: float
    load_s: float | None
    lowest_ready: int
    floor: int
    highest_pods: int
    pods_created: int
    accelerators: FrozenMap[int] = EMPTY
    blocked_by: str = ""
    violations: tuple[Violation, ...] = ()

    @property
    def duration_loads(self) -> float | None:
        """The duration as a multiple of the load time."""
        return self.duration_s / self.load_s if self.load_s else None


@attrs.frozen
class Trace:
    """One set's simulation. `strategy` is its rollout strategy at the start, in words."""

    namespace: str
    name: str
    strategy: str
    rows: tuple[Row, ...]
    samples: tuple[Sample, ...]
    marks: tuple[Mark, ...]
    summary: Summary

    @property
    def width(self) -> int:
        """The highest number of leaders in any row."""
        return max((row.replicas for row in self.rows), default=0)

    @property
    def failed(self) -> bool:
        """Whether the rollout broke its budget or did not finish."""
        return bool(self.summary.violations) or not self.summary.finished
