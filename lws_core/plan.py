"""What should exist for a set and its groups, and which step comes next, as values.

`plan_group` depends on one group, `plan_set` on the summary of all of them, so that neither costs more in a
set of 10,000 groups; `plan` is both over everything. None of them says what to send: diff.py does that,
by comparing with what there is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

import attrs

from . import names
from .actions import Ref
from .bits import GroupSet, highest, span
from .desired.claims import volume_claims
from .desired.leader_statefulset import leader_template
from .desired.pod_group import pod_group
from .desired.service import group_service, shared_service
from .desired.worker_statefulset import worker_statefulset
from .history import History
from .lineage import Lineage, unneeded
from .observed import Child, Group, LeaderStatefulSet, Node, Pod, Revision, WorkerStatefulSet, owned_by
from .options import Options
from .rendered import Rendered, held, record_of, rendered_from
from .restart import Hold, Recreate, Recreation, decide_restart, restarts_after_start
from .revision import claims_meaning, contained, normalised, with_subdomain_policy, with_template
from .rollout import Budget, Decision, Done, Groups, Position, choose_deletes, decide, held_back
from .scaling import surge_count, unavailable_count
from .spec import LeaderWorkerSet, Template
from .summary import Summary
from .values import EMPTY, FrozenMap, Json, Labels

Manifest: TypeAlias = FrozenMap[Json]

Obstacle = Literal[
    "Foreign",
    "NoAdmission",
    "NoRevision",
    "NoNode",
    "NoTopology",
    "NodeLost",
    "OldKubernetes",
    "BadTemplate",
]

ABSENT_LEADER_S = 5.0  # how long a leader may be missing before the StatefulSet controller counts as unable


@attrs.frozen
class Trouble:
    """Something that keeps a group from its children, in words. `node`: a node that has to be looked up;
    `stranger`: a foreign object that has a name which is needed."""

    obstacle: Obstacle
    message: str
    node: str = ""
    stranger: Ref | None = None


@attrs.frozen
class GroupPlan:
    """What one group should have now.

    missing: what is due of its Service, PodGroup and worker StatefulSet, and its leader does not own yet;
    none of these changes once it exists. workers: replicas of its worker StatefulSet, None where unknown.
    restart: a recreation of the group, or why one is held back.
    waits_for_leader: the workers wait for the leader to be ready (startupPolicy LeaderReady).
    """

    index: int
    missing: tuple[Manifest, ...] = ()
    workers: int | None = None
    restart: Recreate | Hold | None = None
    waits_for_leader: bool = False
    trouble: Trouble | None = None


@attrs.frozen
class SetView:
    """What a decision about a whole set is made from.

    native_keys: revision key by name, of the leader StatefulSet's own ControllerRevisions.
    digest: of the leader template as our own last write left it, "" where that is not known.
    broken: outdated groups that are not expected back. long_absent: a leader has been missing for longer
    than ABSENT_LEADER_S. recreations: the annotation to write on the leader StatefulSet, "" to leave it.
    sure: the leader StatefulSet was read a moment ago. exposed: groups that seem to serve, and that the
    StatefulSet controller may have replaced unseen by now. doomed: groups that serve until they are
    recreated, and that nothing counts on: the summary has them as unready. taken: the resourceVersion at
    which the leader template was last applied as it was, "" for none. refused: the new revision, or its
    template, is refused for now.
    """

    lineage: Lineage
    summary: Summary
    statefulset: LeaderStatefulSet | None = None
    service: Child | None = None
    revisions: tuple[Revision, ...] = ()
    native_keys: Labels = EMPTY
    digest: str = ""
    broken: GroupSet = 0
    long_absent: bool = False
    recreations: str = ""
    sure: bool = False
    exposed: GroupSet = 0
    doomed: GroupSet = 0
    taken: str = ""
    refused: bool = False


@attrs.frozen
class Leaders:
    """What the leader StatefulSet should be. `heals`: a foreign edit of the template is undone."""

    replicas: int
    partition: int
    template: Template
    record: Rendered
    writes_template: bool = False
    heals: bool = False


@attrs.frozen
class SetPlan:
    """What a set should have now, apart from its groups' children.

    decision: the rollout's; None while there is no leader StatefulSet, or its revision is not created.
    replace: leaders to delete so that they come back on the new revision. unsure: those that would be, but
    pods are of a revision that is not known, and nobody has made sure that the leader StatefulSet is as it
    was seen. obsolete: revisions to delete. exposed: groups that seem to serve, and that may have been
    replaced by the template, or above the partition, which is written over.
    """

    lineage: Lineage
    leaders: Leaders | None = None
    service: Manifest | None = None
    decision: Decision | None = None
    replace: tuple[int, ...] = ()
    unsure: tuple[int, ...] = ()
    obsolete: tuple[Revision, ...] = ()
    exposed: GroupSet = 0


def budget_of(lws: LeaderWorkerSet) -> Budget:
    """The rollout budget of a set, as counts of groups."""
    spec = lws.spec
    return Budget(spec.replicas, unavailable_count(spec), surge_count(spec), spec.rollout_strategy.partition)


def outdated(view: SetView) -> GroupSet:
    """The groups that a rollout has to replace: of another revision key than the current one, or known to
    the StatefulSet controller as outdated, which will replace them once the partition lets it."""
    summary, statefulset = view.summary, view.statefulset
    groups = summary.present & ~summary.of_key(view.lineage.key)
    if statefulset is not None and _observed(statefulset) and not view.lineage.changes:
        groups |= summary.present & ~summary.by_native.get(statefulset.update_revision, 0)
    return groups


def rollout_groups(view: SetView) -> Groups:
    """The groups as the rollout's arithmetic sees them."""
    summary = view.summary
    return Groups(
        summary.present,
        summary.ready,
        outdated(view),
        summary.terminating,
        view.broken,
        doomed=view.doomed,
    )


def plan_set(lws: LeaderWorkerSet, view: SetView) -> SetPlan:
    """The plan of a set apart from its groups' children.

    Cost: some operations on group sets; the leader template is rendered only when it is written, or when
    nothing tells whether the stored one is ours.
    """
    if view.refused and view.statefulset is not None:
        return _plan_unchanged(lws, view, view.statefulset)
    lineage, statefulset = view.lineage, view.statefulset
    service = shared_service(lws) if _shares_service(lws, view) else None
    if lineage.create is not None and lineage.changes:
        return SetPlan(lineage, service=service)  # its revision first
    if statefulset is None:
        return SetPlan(lineage, _first_leaders(lws, view), service)
    budget, position, groups = budget_of(lws), position_of(lws, statefulset), rollout_groups(view)
    ours, heals = _template_is_ours(lws, view, statefulset)
    writes = lineage.changes or heals
    if heals:
        groups = attrs.evolve(groups, outdated=groups.present & ~view.summary.of_key(lineage.key))
    if writes:
        # A template that somebody has edited replaces leaders of the current revision too.
        anyone = view.summary.ready & span(statefulset.partition, statefulset.replicas) if heals else 0
        groups = attrs.evolve(groups, exposed=view.exposed | anyone)
    decision = decide(budget, position, groups, writes_template=writes)
    # Nothing else is ended on account of what is held back only now.
    exposed = groups.exposed if writes else held_back(position, decision, groups)
    replace: tuple[int, ...] = ()
    if ours and not writes and not view.long_absent and _observed(statefulset):
        native = view.summary.by_native.get(statefulset.update_revision, 0)
        stale = view.summary.present & ~view.summary.of_key(lineage.key) & ~native & ~view.doomed
        replace = choose_deletes(budget, position, decision, groups, stale)
    unsure: tuple[int, ...] = ()
    if replace and not view.sure and any(key not in lineage.sets for key in view.summary.using):
        replace, unsure = (), replace
    leaders = _leaders(lws, view, statefulset, decision, ours, heals)
    obsolete = _obsolete(lws, view, statefulset, decision)
    return SetPlan(lineage, leaders, service, decision, replace, unsure, obsolete, exposed)


def _plan_unchanged(lws: LeaderWorkerSet, view: SetView, statefulset: LeaderStatefulSet) -> SetPlan:
    """The plan of a set whose new revision is refused: it is scaled, and groups are held back as the budget
    asks, but no more of them go to a revision that is to be replaced."""
    lineage = attrs.evolve(
        view.lineage, key=record_of(statefulset).key, changes=False, create=None, reused=None
    )
    if lineage.key not in lineage.sets:
        return SetPlan(view.lineage)
    plan = plan_set(lws, attrs.evolve(view, lineage=lineage, refused=False, broken=0))
    leaders = plan.leaders
    if leaders is not None:
        leaders = attrs.evolve(leaders, partition=max(leaders.partition, statefulset.partition))
    return attrs.evolve(plan, leaders=leaders, replace=(), unsure=(), obsolete=())


def _shares_service(lws: LeaderWorkerSet, view: SetView) -> bool:
    """Whether the set, or a group that is still of an older revision, has its names in one Service."""
    thens = (view.lineage.sets.get(key) for key in view.summary.using)
    return any(one is not None and one.spec.subdomain_policy == "Shared" for one in (lws, *thens))


def _first_leaders(lws: LeaderWorkerSet, view: SetView) -> Leaders:
    """The leader StatefulSet where there is none. Leaders that an earlier one has left behind come under it,
    and may serve: none is taken away, and those of another revision are replaced as the budget allows."""
    budget, key = budget_of(lws), view.lineage.key
    left = view.summary.present & ~view.summary.terminating
    replicas, partition = budget.replicas, budget.partition
    if left & ~view.summary.of_key(key):
        replicas = max(replicas, min(highest(left) + 1, budget.ceiling))
        partition = max(replicas, partition)
    return Leaders(
        replicas, partition, leader_template(lws, key), rendered_from(lws, key), writes_template=True
    )


def plan_group(
    lws: LeaderWorkerSet,
    then: LeaderWorkerSet | None,
    group: Group,
    history: History,
    *,
    statefulset: LeaderStatefulSet | None,
    recreation: Recreation | None = None,
    node: Node | None = None,
    options: Options = Options(),
    now_s: float = 0.0,
) -> GroupPlan:
    """The plan of one group, from its own objects and `then`, the set at the revision of its leader (None
    where that revision is unknown). `node` is the leader's, where it is known. Cost: the group's size."""
    leader = group.leader
    if leader is None or statefulset is None or lws.metadata.terminating:
        return GroupPlan(group.index)
    if group.index >= statefulset.replicas:
        return GroupPlan(group.index)  # scaled away, and about to go
    owner = leader.owner
    if not owned_by(owner, statefulset.uid):
        if owner is not None and (owner.kind, owner.name) == ("StatefulSet", statefulset.name):
            return GroupPlan(group.index)  # of an earlier set of this name, and about to go
        return GroupPlan(
            group.index,
            trouble=Trouble(
                "Foreign", f"pod {leader.name} does not belong to StatefulSet {statefulset.name}"
            ),
        )
    size = None if then is None else then.spec.leader_worker_template.size
    restart = decide_restart(
        lws.spec.leader_worker_template.restart_policy,
        group,
        history,
        size,
        recreation,
        now_s,
        after_start=restarts_after_start(lws),
        limit=options.recreation_limit,
    )
    if leader.terminating or isinstance(restart, Recreate):
        return GroupPlan(group.index, restart=restart)
    trouble = _trouble_with(leader, then)
    if trouble is not None or then is None:
        return GroupPlan(group.index, restart=restart, trouble=trouble)
    missing, trouble = _missing(
        lws, _with_network_of(then, leader), statefulset, group, leader, node, options
    )
    workers = then.spec.leader_worker_template.size - 1
    waits = workers > 0 and _waits_for_leader(lws, group, leader)
    return GroupPlan(group.index, missing, workers, restart, waits, trouble)


def _missing(
    lws: LeaderWorkerSet,
    then: LeaderWorkerSet,
    statefulset: LeaderStatefulSet,
    group: Group,
    leader: Pod,
    node: Node | None,
    options: Options,
) -> tuple[tuple[Manifest, ...], Trouble | None]:
    """The children that are due and that the leader does not own, and what keeps one from being made."""
    missing: list[Manifest] = []
    trouble: Trouble | None = None
    if then.spec.subdomain_policy == "UniquePerReplica" and not _owns(leader, group.service):
        missing.append(group_service(then, leader))
    if options.gang_scheduling and not any(_owns(leader, child) for child in group.pod_groups):
        try:
            missing.append(pod_group(then, leader))
        except ValueError as error:
            trouble = Trouble("BadTemplate", f"the PodGroup of {leader.name} cannot be made: {error}")
    size = then.spec.leader_worker_template.size
    if size == 1 or _owns(leader, group.statefulset) or _waits_for_leader(lws, group, leader):
        return tuple(missing), trouble
    value, unknown = _topology(leader, node)
    if unknown is not None:
        return tuple(missing), unknown
    then = _with_claims_of(then, statefulset)
    missing.append(worker_statefulset(then, leader, topology_value=value))
    return tuple(missing), trouble


def _with_network_of(then: LeaderWorkerSet, leader: Pod) -> LeaderWorkerSet:
    """The set at a revision, with the subdomain that the leader was made with: not every record tells it."""
    if not leader.own_subdomain or then.spec.subdomain_policy == "UniquePerReplica":
        return then
    return with_subdomain_policy(then, "UniquePerReplica")


def _with_claims_of(then: LeaderWorkerSet, statefulset: LeaderStatefulSet) -> LeaderWorkerSet:
    """The set at a revision, with the claims that its leaders have as long as it lives: a record has others
    where they were edited although no StatefulSet can change them."""
    template = then.spec.leader_worker_template
    if claims_meaning(volume_claims(then)) == claims_meaning(statefulset.claims):
        return then
    return with_template(then, attrs.evolve(template, volume_claim_templates=statefulset.claims))


def _waits_for_leader(lws: LeaderWorkerSet, group: Group, leader: Pod) -> bool:
    waits = lws.spec.startup_policy == "LeaderReady" and not leader.ready
    return waits and not _owns(leader, group.statefulset)


def plan(
    lws: LeaderWorkerSet,
    view: SetView,
    groups: Iterable[tuple[Group, History]],
    *,
    recreations: FrozenMap[Recreation] = EMPTY,
    nodes: FrozenMap[Node] = EMPTY,
    options: Options = Options(),
    now_s: float = 0.0,
) -> tuple[SetPlan, tuple[GroupPlan, ...]]:
    """`plan_set`, and `plan_group` for each group."""
    return plan_set(lws, view), tuple(
        plan_group(
            lws,
            None if group.leader is None else view.lineage.sets.get(group.leader.revision_key),
            group,
            history,
            statefulset=view.statefulset,
            recreation=recreations.get(str(group.index)),
            node=None if group.leader is None else nodes.get(group.leader.node_name),
            options=options,
            now_s=now_s,
        )
        for group, history in groups
    )


def renders_live(lws: LeaderWorkerSet, statefulset: LeaderStatefulSet) -> bool:
    """Whether the stored leader template has all that the live spec renders under the same key."""
    record = record_of(statefulset)
    rendered = leader_template(held(lws, record), record.key)
    return contained(normalised(rendered), normalised(statefulset.template))


def position_of(lws: LeaderWorkerSet, statefulset: LeaderStatefulSet) -> Position:
    """Where the leader StatefulSet stands. Without a readable record of the replicas last applied, the
    set's own count: then nothing was scaled since."""
    text = statefulset.annotations.get(names.REPLICAS, "")
    readable = text.isascii() and text.isdecimal() and len(text) <= 10
    applied = int(text) if readable else lws.spec.replicas
    return Position(statefulset.replicas, statefulset.partition, applied)


def _observed(statefulset: LeaderStatefulSet) -> bool:
    """Whether the StatefulSet controller has seen the newest spec, and its status speaks of it."""
    return statefulset.observed_generation == statefulset.generation and statefulset.update_revision != ""


def _template_is_ours(
    lws: LeaderWorkerSet, view: SetView, statefulset: LeaderStatefulSet
) -> tuple[bool, bool]:
    """Whether the stored leader template is what the current revision rendered, and if not, whether to
    write it again.

    Known by the digest of what our last write left. A newer API server may fill in another default, which
    moves nothing: so a template that still has all that we render, and that the StatefulSet controller
    takes for no new revision, is ours. Without a digest it is ours if it has all that we render; if it has
    not, it is left alone until the next revision, as nobody can tell whose it is.
    """
    record = record_of(statefulset)
    expected = view.digest or record.digest
    if expected == statefulset.template_digest:
        return True, False
    then = view.lineage.sets.get(record.key)
    if then is None:
        return False, False
    rendered = leader_template(held(then, record), record.key)
    complete = contained(normalised(rendered), normalised(statefulset.template))
    if not expected:
        return complete, False
    native = view.summary.by_native.get(statefulset.update_revision, 0)
    moves = not _observed(statefulset) or view.summary.present & ~native != 0
    heals = not complete or moves
    return not heals, heals


def _leaders(
    lws: LeaderWorkerSet,
    view: SetView,
    statefulset: LeaderStatefulSet,
    decision: Decision,
    ours: bool,
    heals: bool,
) -> Leaders:
    key = view.lineage.key
    if view.lineage.changes:
        record = rendered_from(lws, key)
        return Leaders(decision.replicas, decision.partition, leader_template(lws, key), record, True)
    record = record_of(statefulset)
    if heals:
        template = leader_template(held(view.lineage.sets[key], record), key)
        return Leaders(
            decision.replicas, decision.partition, template, attrs.evolve(record, digest=""), True, True
        )
    record = attrs.evolve(record, digest=statefulset.template_digest if ours else "")
    return Leaders(decision.replicas, decision.partition, statefulset.template, record)


def _obsolete(
    lws: LeaderWorkerSet, view: SetView, statefulset: LeaderStatefulSet, decision: Decision
) -> tuple[Revision, ...]:
    """Revisions that nothing names: no pod, no worker StatefulSet, no template that leaders may come back
    on. Only at rest, and when the StatefulSet controller's status is new."""
    settled = isinstance(decision, Done) and view.lineage.create is None and _observed(statefulset)
    if not settled or len(view.revisions) < 2:
        return ()
    needed = {view.lineage.key, *view.summary.using}
    for name in (statefulset.current_revision, statefulset.update_revision):
        if name not in view.native_keys:
            return ()
        needed.add(view.native_keys[name])
    return unneeded(lws, view.revisions, needed)


def _trouble_with(leader: Pod, then: LeaderWorkerSet | None) -> Trouble | None:
    if leader.names_a_leader:
        return Trouble(
            "OldKubernetes",
            f"leader pod {leader.name} carries the annotation {names.LEADER_NAME} of a worker: the cluster "
            "ignores the start ordinal of StatefulSets; Kubernetes 1.27 or newer is needed",
        )
    if not leader.group_key:
        return Trouble(
            "NoAdmission",
            f"leader pod {leader.name} was made without the pod webhook: it has no label {names.GROUP_KEY}",
        )
    if then is None:
        return Trouble(
            "NoRevision", f"the revision {leader.revision_key} of leader pod {leader.name} is not known"
        )
    return None


def _topology(leader: Pod, node: Node | None) -> tuple[str | None, Trouble | None]:
    """The domain that the group has to itself, or why it is not known yet."""
    key = leader.exclusive_topology
    if not key:
        return None, None
    if not leader.node_name:
        return None, Trouble("NoNode", f"leader pod {leader.name} is not on a node yet")
    if node is None:
        message = f"node {leader.node_name} of leader pod {leader.name} is not known"
        return None, Trouble("NoNode", message, leader.node_name)
    value = node.labels.get(key, "")
    if not value:
        message = f"node {node.name} of leader pod {leader.name} has no label {key}"
        return None, Trouble("NoTopology", message, node.name)
    return value, None


def _owns(leader: Pod, child: Child | WorkerStatefulSet | None) -> bool:
    return child is not None and owned_by(child.owner, leader.uid)
