"""A check of one set: what may happen to it, the exploration, and the verdict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from lws_core.values import dig
from lws_sim.cluster.store import Object

from .edits import drafts
from .explorer import MOST_STATES, Explorer, Finding, Report, at_rest
from .model import FAULTS, Label, Model, State
from .naming import NamedStore

DEFAULT_EDITS: Final = ("template", "revert", "up", "down")


@attrs.frozen
class Scope:
    """What is explored of a set.

    edits: kinds of edits (edits.EDITS), and `edit_count` how many of them; faults: kinds of faults
    (model.FAULTS), and `fault_count` how many. slack: how many steps the cluster may take while the
    controller has something to do, None for any number. from_creation: it begins with the set's creation,
    rather than at rest. reports_at_once: a status is written as soon as it was decided on, and never lost.
    late_answers: requests are carried out in any order, and answered in any later one, rather than in theirs
    and at once.
    """

    gate: bool = False
    edits: tuple[str, ...] = DEFAULT_EDITS
    edit_count: int = 1
    faults: tuple[str, ...] = FAULTS
    fault_count: int = 0
    slack: int | None = 1
    from_creation: bool = False
    reports_at_once: bool = True
    late_answers: bool = False

    def model(self, manifest: Object, store_type: type[NamedStore] = NamedStore) -> Model:
        """What can happen to a set within this scope."""
        return Model(
            drafts(manifest, self.edits, self.edit_count, from_creation=self.from_creation),
            gate=self.gate,
            faults=self.faults,
            reports_at_once=self.reports_at_once,
            late_answers=self.late_answers,
            slack=self.slack,
            store_type=store_type,
        )

    def start(self, model: Model) -> State:
        """Where an exploration begins."""
        return model.first(self.fault_count) if self.from_creation else at_rest(model, self.fault_count)

    def explorer(self, manifest: Object, store_type: type[NamedStore] = NamedStore) -> Explorer:
        """The exploration of a set, before its first step. Raises ValueError for a set of which not all
        groups are ever ready."""
        model = self.model(manifest, store_type)
        start = self.start(model)
        replicas = dig(manifest, "spec", "replicas")
        if not self.from_creation and isinstance(replicas, int) and len(model.ready(start)) < replicas:
            raise ValueError("not all groups are ready once the set was brought up")
        return Explorer(model, start, keeps_floor=not self.from_creation)


def recheck(manifest: Object, scope: Scope, trace: tuple[Label, ...]) -> Finding | None:
    """What is wrong on a way that an exploration found. Raises ValueError where it cannot
    be gone any more."""
    return scope.explorer(manifest).follow(trace)


def check(
    manifest: Object,
    scope: Scope,
    *,
    limit: int = MOST_STATES,
    tell: Callable[[int, int], None] | None = None,
) -> Report:
    """Explore a set. `manifest` has a namespace and every default; `limit` and `tell` as for Explorer.run."""
    return scope.explorer(manifest).run(limit, tell)
