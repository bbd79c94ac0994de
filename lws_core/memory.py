"""What a controller knows of one set between two looks.

A memory is a value: an older one stays what it was, so that a test can decide on an older view. observe.py
folds events into it; controller.py looks at it and acts.
"""

from __future__ import annotations

from typing import Final

import attrs

from .actions import Event, Kind, Request
from .bits import GroupSet
from .errors import FieldError
from .history import History
from .lineage import Lineage
from .observed import Child, Group, LeaderStatefulSet, Node, Owner, Revision
from .options import Options
from .plan import Trouble
from .restart import Hold, Recreation
from .rollout import Decision
from .spec import LeaderWorkerSet, Status
from .summary import ABSENT, GroupState, Summary
from .values import EMPTY, FrozenMap, Json

_MANY: Final = 10  # tries in a row take some three minutes
_CHUNK: Final = 64


@attrs.frozen(slots=False)
class Record:
    """One group: its objects, what they amount to, and what was seen of it."""

    group: Group
    state: GroupState = ABSENT
    history: History = History()


@attrs.frozen
class Groups:
    """Records by group index. Putting one copies two short tuples, whatever the number of groups."""

    chunks: tuple[tuple[Record | None, ...], ...] = ()

    def get(self, index: int) -> Record:
        """The record of a group; an empty one where nothing is known."""
        chunk, place = divmod(index, _CHUNK)
        record = self.chunks[chunk][place] if chunk < len(self.chunks) else None
        return Record(Group(index)) if record is None else record

    def put(self, record: Record) -> Groups:
        """These records with one replaced."""
        chunk, place = divmod(record.group.index, _CHUNK)
        blank = (None,) * _CHUNK
        chunks = self.chunks + (blank,) * (chunk + 1 - len(self.chunks))
        row = chunks[chunk]
        return Groups((*chunks[:chunk], (*row[:place], record, *row[place + 1 :]), *chunks[chunk + 1 :]))


@attrs.frozen
class Unreadable:
    """A set that is stored but cannot be read as one: its identity, its last status, and every fault."""

    last: LeaderWorkerSet
    errors: tuple[FieldError, ...]


@attrs.frozen
class Retry:
    """An action that failed: how often in a row, when it may be tried again, and in whose words.

    refused: the API server rejects it as it stands. read: its object must be read before.
    """

    action: Request
    attempts: int
    not_before_s: float
    message: str
    refused: bool = False
    read: bool = False

    @property
    def lasts(self) -> bool:
        """Whether it is refused, or has failed so often that it is not the server's rest that is waited for,
        as where a webhook on the way cannot be reached."""
        return self.refused or self.attempts >= _MANY


@attrs.frozen
class Failure:
    """Writes of one kind for groups that failed and were not told of yet: which groups, since when (epoch
    seconds), and of the first what it is and the API server's words."""

    groups: GroupSet
    since_s: float
    what: str
    message: str


@attrs.frozen(slots=False)
class Memory:
    """All that is known of one set.

    The view, as the watch and the answers to own writes told it: lws, or unreadable where it cannot be read,
    statefulset, service, revisions and natives (the leader StatefulSet's own) by name, nodes by name, groups
    (`known`: which of them have been seen; `unseen`: which should be there and have not, with the time since
    which they have been missed, in epoch seconds). `bereft`: the Services of its own that have vanished.
    `doubted`: owners in view of which a child has vanished; each is read before another child is made for it.
    `unshown`: objects that only answers have shown, by kind and name, as they have not the set's label.
    `newest`: the highest resourceVersion that the watch has shown of each kind.

    Derived from it, and kept up to date: summary, lineage (None: to be traced again), dirty (groups that
    await a look), decision (the rollout's last), troubles (by group index, what keeps a group from its
    children), doomed (groups that are to be recreated, now or after their back-off), beginning (groups whose
    workers' StatefulSet is yet to be created), foreign (objects that stand in the way of the set's own).

    What the view cannot tell: remembered (records of revisions seen, by key), digest (of the leader template
    that our own last write left), written (replicas and partition that it left), recreating (recreations
    decided and not yet recorded in the cluster, by group index), unrecorded (those that are carried out
    without a record, as it is refused), recorded (those that are in the cluster), verified (when
    pods and StatefulSets were last read, by action_key; epoch seconds; what is long ago is left out),
    exposed (groups that served when a new template was written, or a higher partition, and that the
    StatefulSet controller may have replaced before by what was until then), taken (the resourceVersion of the
    leader StatefulSet at which its template was last applied as it was, before a new one).

    What is under way: pending (requests not answered) and retries (failed ones), by action_key; early (the
    reads of pods among them that may show what is exposed as it was before, by action_key); basis (the
    leader StatefulSet when the last apply to it was sent) and status_basis (the set's status when the last
    write of it was sent), as watches may be faster than answers; deleting
    (leaders whose deletion is not answered); wakes (when to look at a group again, by index); notices
    (events to emit); begun (groups whose worker StatefulSet was created and not yet told of); failures
    (writes for groups that failed and were not yet told of, by the verb and the kind of the action).

    Times, in epoch seconds: strangers_at_s when foreign objects were last read again; patience_s when a
    group that is waited for may count as broken; status_at_s of the last status written; told_at_s of the
    last aggregated event; progress_at_s of the last change of `progress`, the groups and counts that a
    rollout moves.
    """

    options: Options = Options()
    synced: bool = False
    lws: LeaderWorkerSet | None = None
    unreadable: Unreadable | None = None
    statefulset: LeaderStatefulSet | None = None
    service: Child | None = None
    revisions: FrozenMap[Revision] = EMPTY
    natives: FrozenMap[Revision] = EMPTY
    nodes: FrozenMap[Node] = EMPTY
    groups: Groups = Groups()
    known: GroupSet = 0
    unseen: tuple[tuple[GroupSet, float], ...] = ()
    bereft: tuple[str, ...] = ()
    doubted: tuple[Owner, ...] = ()
    unshown: tuple[tuple[Kind, str], ...] = ()
    newest: FrozenMap[int] = EMPTY

    summary: Summary = Summary()
    lineage: Lineage | None = None
    dirty: GroupSet = 0
    decision: Decision | None = None
    troubles: FrozenMap[Trouble | Hold] = EMPTY
    doomed: GroupSet = 0
    beginning: GroupSet = 0
    foreign: tuple[Trouble, ...] = ()

    remembered: FrozenMap[FrozenMap[Json]] = EMPTY
    digest: str = ""
    written: tuple[int, int] | None = None
    verified: FrozenMap[float] = EMPTY
    exposed: GroupSet = 0
    taken: str = ""
    recreating: FrozenMap[Recreation] = EMPTY
    unrecorded: FrozenMap[Recreation] = EMPTY
    recorded: FrozenMap[Recreation] = EMPTY

    pending: FrozenMap[Request] = EMPTY
    retries: FrozenMap[Retry] = EMPTY
    early: tuple[str, ...] = ()
    basis: LeaderStatefulSet | None = None
    status_basis: Status = Status()
    deleting: GroupSet = 0
    wakes: FrozenMap[float] = EMPTY
    notices: tuple[Event, ...] = ()
    begun: GroupSet = 0
    failures: FrozenMap[Failure] = EMPTY

    strangers_at_s: float | None = None
    patience_s: float | None = None
    status_at_s: float | None = None
    told_at_s: float | None = None
    progress: tuple[int, ...] = ()
    progress_at_s: float | None = None
