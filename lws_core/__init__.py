"""LeaderWorkerSet as pure functions: what should exist, and which step comes next.

Three ways in, from the whole to its parts (docs/library.md has runnable examples):

- The controller of one set, without I/O. `begin` makes its memory from what a list returned, `observe` folds
  in what a watch shows and what the API server answered, `look` says what to send and when to look again.
- Plans: `trace` says which revisions a set is of, a `Summary` what its groups amount to; `plan_set` and
  `plan_group` say what should exist, `diff_set` and `diff_group` what to send for it, `decide` and
  `choose_deletes` are the rollout alone, as integers.
- Manifests: `decode`, `encode`, `apply_defaults`, `validate_create`, `validate_update`, `preview`, `admit`.

Nothing here does I/O, reads a clock or draws a random number; times are arguments, in seconds since the
epoch. Every value is immutable, JSON included: `freeze` makes a manifest of dicts and lists one, `thaw`
undoes it.
"""

from __future__ import annotations

from .actions import Action, Apply, Create, Delete, Emit, Event, Kind, PatchStatus, Read, Ref, TakeFields
from .admission import Denied, admit
from .bits import GroupSet
from .codec import decode, encode
from .controller import Look, begin, look, observe, start, step
from .defaulting import apply_defaults
from .diff import Change, diff_group, diff_set
from .errors import FieldError, InvalidManifest
from .explain import Explanation, State, explain
from .history import History, remember
from .lineage import Lineage, trace
from .memory import Memory, Unreadable
from .observed import Child, Group, LeaderStatefulSet, Node, Pod, Revision, WorkerStatefulSet
from .options import Options
from .plan import GroupPlan, SetPlan, SetView, Trouble, budget_of, plan, plan_group, plan_set
from .preview import preview
from .reading import read
from .restart import Hold, Recreate, Recreation
from .rollout import Blocked, Budget, Decision, Done, Groups, Position, Step, choose_deletes, decide
from .sights import Answered, Gone, Outcome, Seen, Sight, Synced, Thing
from .spec import Condition, LeaderWorkerSet, LeaderWorkerTemplate, Metadata, RolloutStrategy, Spec, Status
from .summary import GroupState, Summary, group_state
from .validation import Verdict, validate_create, validate_update
from .values import FrozenMap, Json, as_list, as_map, dig, freeze, freeze_map, thaw

__all__ = [
    "Action",
    "Answered",
    "Apply",
    "Blocked",
    "Budget",
    "Change",
    "Child",
    "Condition",
    "Create",
    "Decision",
    "Delete",
    "Denied",
    "Done",
    "Emit",
    "Event",
    "Explanation",
    "FieldError",
    "FrozenMap",
    "Gone",
    "Group",
    "GroupPlan",
    "GroupSet",
    "GroupState",
    "Groups",
    "History",
    "Hold",
    "InvalidManifest",
    "Json",
    "Kind",
    "LeaderStatefulSet",
    "LeaderWorkerSet",
    "LeaderWorkerTemplate",
    "Lineage",
    "Look",
    "Memory",
    "Metadata",
    "Node",
    "Options",
    "Outcome",
    "PatchStatus",
    "Pod",
    "Position",
    "Read",
    "Recreate",
    "Recreation",
    "Ref",
    "Revision",
    "RolloutStrategy",
    "Seen",
    "SetPlan",
    "SetView",
    "Sight",
    "Spec",
    "State",
    "Status",
    "Step",
    "Summary",
    "Synced",
    "TakeFields",
    "Thing",
    "Trouble",
    "Unreadable",
    "Verdict",
    "WorkerStatefulSet",
    "admit",
    "apply_defaults",
    "as_list",
    "as_map",
    "begin",
    "budget_of",
    "choose_deletes",
    "decide",
    "decode",
    "diff_group",
    "diff_set",
    "dig",
    "encode",
    "explain",
    "freeze",
    "freeze_map",
    "group_state",
    "look",
    "observe",
    "plan",
    "plan_group",
    "plan_set",
    "preview",
    "read",
    "remember",
    "start",
    "step",
    "thaw",
    "trace",
    "validate_create",
    "validate_update",
]
