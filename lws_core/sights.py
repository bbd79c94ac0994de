"""What can happen to a controller: it sees an object, misses one, or has an action answered."""

from __future__ import annotations

from typing import TypeAlias

import attrs

from .actions import Action, Kind
from .memory import Unreadable
from .observed import Child, LeaderStatefulSet, Node, Pod, Revision, WorkerStatefulSet
from .spec import LeaderWorkerSet

Thing: TypeAlias = (
    LeaderWorkerSet | Unreadable | LeaderStatefulSet | WorkerStatefulSet | Pod | Child | Revision | Node
)


@attrs.frozen
class Seen:
    """An object of the set exists, as the watch or a list told."""

    thing: Thing


@attrs.frozen
class Gone:
    """An object is gone: that of this UID. `resource_version` is that of its deletion, "" if not known."""

    kind: Kind
    name: str
    uid: str
    resource_version: str = ""


@attrs.frozen
class Synced:
    """All that exists has been seen once, by a consistent read: decisions may begin."""


@attrs.frozen
class Outcome:
    """The API server's answer to an action.

    code: the HTTP status, 0 where none came back and the action may have taken effect or not. thing: the
    object in the answer, as `read` makes it. It is needed for a Read that found its object, which without it
    counts as gone, and for a Create, Apply, TakeFields and PatchStatus that took effect: the view has them
    from it, and without it users get no event of them. message: the server's words. retry_after_s: as the
    server asked. causes: why it refused, each in a word, where it said so.
    """

    code: int
    thing: Thing | None = None
    message: str = ""
    retry_after_s: float = 0.0
    causes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the action took effect."""
        return 200 <= self.code < 300


@attrs.frozen
class Answered:
    """An action has been answered."""

    action: Action
    outcome: Outcome


Sight: TypeAlias = Seen | Gone | Synced | Answered
