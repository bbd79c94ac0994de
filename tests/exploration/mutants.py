"""Deliberate defects of lws_core, each a bug that a controller of this kind has had or could have.

Each is a place in the source that is written otherwise, in a copy of the package; the guide's stage table or
the exploration of a small set must notice it, and nothing may be noticed without a defect.
`python tests/exploration/mutants.py [NAME...]` tells what notices which.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
LONGEST_S: Final = 400
_CACHES: Final = shutil.ignore_patterns("__pycache__")


class Mutant(NamedTuple):
    """A defect: what it is, the module, the check of first_finding.py in which it shows, and the text that
    becomes another, with a second one where one alone would do no harm. Each text stands there once."""

    name: str
    module: str
    shows: str
    before: str
    after: str
    also: tuple[str, str] | None = None


MUTANTS: Final = [
    # -- the rollout's arithmetic
    Mutant(
        "the budget is one group too wide",
        "rollout",
        "canary with surge",
        "return max(0, self.replicas - self.max_unavailable)",
        "return max(0, self.replicas - self.max_unavailable - 1)",
    ),
    Mutant(
        "the budget is one group too narrow",
        "rollout",
        "stages",
        "return max(0, self.replicas - self.max_unavailable)",
        "return max(0, self.replicas - self.max_unavailable + 1)",
    ),
    Mutant(
        "one leader too many is started",
        "rollout",
        "stages",
        "return self.replicas + self.max_surge",
        "return self.replicas + self.max_surge + 1",
    ),
    Mutant(
        "the allowance ignores what must stay ready",
        "rollout",
        "canary with surge",
        "allowance = max(0, staying.ready.bit_count() - budget.floor)",
        "allowance = staying.ready.bit_count()",
    ),
    Mutant(
        "the partition goes to the user's at once",
        "rollout",
        "stages",
        "target = min(_released(budget, groups, staying), position.partition)",
        "target = budget.partition",
    ),
    Mutant(
        "the partition never comes down",
        "rollout",
        "stages",
        "target = min(_released(budget, groups, staying), position.partition)",
        "target = position.partition",
    ),
    Mutant(
        "the partition goes below the user's",
        "rollout",
        "partition",
        "    target = max(target, budget.partition)\n",
        "",
    ),
    Mutant(
        "a new template is written with a low partition",
        "rollout",
        "stages",
        "return max(min(budget.replicas, position.replicas), safe, budget.partition)",
        "return budget.partition",
    ),
    Mutant(
        "a new template counts on leaders that the one before had exposed",
        "plan",
        "late revert",
        "groups = attrs.evolve(groups, exposed=view.exposed | anyone)",
        "groups = attrs.evolve(groups, exposed=anyone)",
    ),
    Mutant(
        "the partition never rises again after a failure",
        "rollout",
        "stuck",
        "    return max(target, min(safe, limit))\n",
        "    return max(target, min(position.partition, limit))\n",
    ),
    Mutant(
        "surge is returned on account of a group that the same write holds back",
        "rollout",
        "canary, late",
        "    while decision.replicas < position.replicas and (",
        "    while False and (",
    ),
    Mutant(
        "surge is returned on account of groups that are held back as others are",
        "rollout",
        "canary, late",
        "    while decision.replicas < position.replicas and (",
        "    if decision.replicas < position.replicas and (",
    ),
    Mutant(
        "surge is returned on account of a group that the write before has held back",
        "plan",
        "canary, late",
        "exposed = groups.exposed if writes else held_back(position, decision, groups)",
        "exposed = groups.exposed",
    ),
    Mutant(
        "surge is never started",
        "rollout",
        "stages",
        "    wanted = budget.ceiling\n",
        "    wanted = budget.replicas\n",
    ),
    Mutant(
        "surge is never returned",
        "rollout",
        "stages",
        "wanted = budget.replicas + max(0, unready - min(1, budget.max_unavailable))",
        "wanted = budget.ceiling",
    ),
    Mutant(
        "surge is returned as soon as it is ready",
        "rollout",
        "stages",
        "    wanted = budget.ceiling\n    if unready <= budget.max_surge:",
        "    wanted = budget.ceiling\n    if groups.ready >> budget.replicas:\n"
        "        wanted = budget.replicas\n    elif unready <= budget.max_surge:",
    ),
    Mutant(
        "surge is returned early with maxUnavailable 0",
        "rollout",
        "surge alone",
        "max(0, unready - min(1, budget.max_unavailable))",
        "max(0, unready - 1)",
    ),
    Mutant(
        "surge is kept after the rollout",
        "rollout",
        "stages",
        "    if position.surge_out:\n        return min(position.replicas, wanted)\n"
        "    return budget.replicas",
        "    return max(budget.replicas, position.replicas)",
    ),
    Mutant(
        "scaling up waits for ever",
        "rollout",
        "edits",
        "    if position.replicas < budget.replicas:\n        return budget.replicas\n    if rolling:",
        "    if position.replicas < budget.replicas:\n        return position.replicas\n    if rolling:",
    ),
    Mutant(
        "a group below the partition counts as one to replace",
        "rollout",
        "canary with surge",
        "rolling = groups.outdated & span(budget.partition, budget.replicas) != 0",
        "rolling = groups.outdated != 0",
    ),
    Mutant(
        "broken groups wedge a rollout",
        "rollout",
        "canary with surge",
        "        unready != 0\n        and",
        "        False\n        and",
    ),
    Mutant(
        "the budget is exceeded without need",
        "rollout",
        "stages",
        "        and unready & ~groups.broken == 0\n",
        "",
    ),
    Mutant(
        "a group that has failed counts as broken at once, and nothing is read before one is given up for it",
        "leading",
        "faults",
        "        at_s = since_s + after_s\n        if history.ailing",
        "        at_s = since_s if history.failing_since_s is not None else since_s + after_s\n"
        "        if history.ailing",
        ("    if not isinstance(plan.decision, Step) or not plan.decision.over_budget:\n", "    if True:\n"),
    ),
    # -- the pace
    Mutant(
        "the pace takes every outdated leader",
        "rollout",
        "two faults",
        "chosen = candidates & ~groups.ready | top(candidates & groups.ready, decision.allowance)",
        "chosen = candidates",
    ),
    Mutant(
        "the pace goes below the partition",
        "rollout",
        "rollout",
        "released = max(position.partition, decision.partition)",
        "released = 0",
    ),
    Mutant(
        "the pace trusts the computed partition alone",
        "rollout",
        "rollout",
        "released = max(position.partition, decision.partition)",
        "released = decision.partition",
    ),
    Mutant(
        "a leader is deleted twice",
        "rollout",
        "edits",
        "replaceable & ~groups.terminating & span(released, staying)",
        "replaceable & span(released, staying)",
    ),
    Mutant(
        "the pace deletes updated leaders",
        "plan",
        "created",
        "stale = view.summary.present & ~view.summary.of_key(lineage.key) & ~native",
        "stale = view.summary.present",
    ),
    Mutant(
        "the pace does not wait for the StatefulSet controller",
        "plan",
        "rollout",
        "if ours and not writes and not view.long_absent and _observed(statefulset):",
        "if ours and not writes:",
    ),
    # -- what counts as ready
    Mutant(
        "a terminating pod counts as ready",
        "summary",
        "broken",
        "return pod.ready and not pod.terminating and owned_by(pod.owner, owner_uid)",
        "return pod.ready and owned_by(pod.owner, owner_uid)",
    ),
    Mutant(
        "a group counts as ready with its leader",
        "summary",
        "created",
        "and (size == 1 or (workers is not None and _all_serve(group.workers, workers, leader, size))),",
        "and True,",
    ),
    Mutant(
        "a group counts as ready with one of its workers",
        "summary",
        "several workers",
        "return len(serving) >= size - 1 and set(range(1, size)).issubset(serving)",
        "return bool(serving)",
    ),
    Mutant(
        "the workers of an earlier leader count",
        "summary",
        "member",
        "return owned_by(statefulset.owner, leader.uid) and statefulset.revision_key == leader.revision_key",
        "return statefulset.revision_key == leader.revision_key",
    ),
    Mutant(
        "readiness is never seen",
        "summary",
        "created",
        "        ready=whole\n",
        "        ready=False and whole\n",
    ),
    Mutant(
        "a group that is gone still counts",
        "summary",
        "member",
        "    if leader is None:\n        return GroupState(keys",
        "    if leader is None and not group.workers:\n        return GroupState(keys",
    ),
    # -- groups and their children
    Mutant(
        "an old group is rebuilt from the new template",
        "plan",
        "old groups",
        "missing.append(worker_statefulset(then, leader, topology_value=value))",
        "missing.append(worker_statefulset(lws, leader, topology_value=value))",
    ),
    Mutant(
        "workers are made for a leader that ends",
        "plan",
        "member",
        "if leader.terminating or isinstance(restart, Recreate):",
        "if isinstance(restart, Recreate):",
    ),
    Mutant(
        "workers do not wait for their leader",
        "plan",
        "workers wait",
        'waits = lws.spec.startup_policy == "LeaderReady" and not leader.ready',
        "waits = False",
    ),
    Mutant(
        "a group is made while pods of its names are left",
        "diff",
        "size",
        "return isinstance(count, int) and any(pod.worker_index <= count for pod in taken)",
        "return False",
    ),
    Mutant(
        "scaled away groups are still tended",
        "plan",
        "faults in whole groups",
        "if group.index >= statefulset.replicas:",
        "if False:",
    ),
    Mutant(
        "workers that another leader owns are healed",
        "diff",
        "size",
        '    if _standing_of(workers, leader) != "Own":\n        return ()\n',
        "",
    ),
    Mutant(
        "the workers are one too few",
        "plan",
        "created",
        "workers = then.spec.leader_worker_template.size - 1",
        "workers = max(0, then.spec.leader_worker_template.size - 2)",
    ),
    # -- restarts
    Mutant(
        "a failure is not noticed",
        "restart",
        "member",
        "    evidence = find_evidence(group, size, history.lost, history.settled)\n    uid",
        "    evidence = None\n    uid",
    ),
    Mutant(
        "a worker that was replaced is not noticed",
        "history",
        "member",
        '            lost = lost or f"{group.leader.name}-{index}"',
        "            pass",
    ),
    Mutant(
        "a worker that vanishes from a group of an older revision is not noticed",
        "tending",
        "old groups",
        "    record = Record(group, state, history)\n",
        "    if group.leader is not None and group.leader.revision_key != memory.lineage.key:\n"
        "        object.__setattr__(history, 'lost', '')\n"
        "    record = Record(group, state, history)\n",
    ),
    Mutant(
        "groups that an operator has never seen have been absent for ever",
        "controller",
        "restarts in mid-rollout",
        "kept.append((new, now_s))",
        "kept.append((new, 0.0))",
    ),
    Mutant(
        "the Service is never made",
        "plan",
        "created",
        "service = shared_service(lws) if _shares_service(lws, view) else None",
        "service = None",
    ),
    Mutant(
        "the status counts groups as ready that are only there",
        "status",
        "created",
        "ready_replicas=summary.ready.bit_count()",
        "ready_replicas=summary.present.bit_count()",
    ),
    Mutant(
        "a recreation is not recorded first",
        "diff",
        "member",
        "        if not plan.restart.recorded:\n"
        "            return Change()  # the record first: it is a part of the leader StatefulSet\n",
        "",
    ),
    Mutant(
        "a recreation that is recorded is forgotten",
        "restart",
        "member",
        "if recreation is not None and recreation.leader_uid == uid:",
        "if False:",
    ),
    Mutant(
        "a group is recreated whatever the policy",
        "restart",
        "no restarts",
        'if policy == "None" or leader is None or leader.terminating:',
        "if leader is None or leader.terminating:",
    ),
    Mutant(
        "a recreation is carried out on every leader that follows",
        "restart",
        "member",
        "if recreation is not None and recreation.leader_uid == uid:",
        "if recreation is not None:",
    ),
    Mutant(
        "a recreation deletes in the background",
        "diff",
        "old groups",
        'attrs.evolve(delete_leader(lws, leader, "Foreground", why), evidence=evidence)',
        'attrs.evolve(delete_leader(lws, leader, "Background", why), evidence=evidence)',
    ),
    Mutant(
        "a replaced member of any leader counts",
        "history",
        "late groups",
        "        history = History(leader_uid=leader.uid)\n",
        "        history = attrs.evolve(history, leader_uid=leader.uid)\n",
    ),
    Mutant(
        "the workers of an outdated group are let go before its leader is",
        "tending",
        "whole groups",
        "    actions = [*change.actions, *unrecorded]\n",
        "    actions = [*change.actions, *unrecorded]\n"
        "    old = record.group.statefulset\n"
        "    if leader is not None and old is not None and leader.revision_key != memory.lineage.key:\n"
        "        ref = Ref('StatefulSet', lws.namespace, old.name)\n"
        "        actions.append(Delete(ref, old.uid, old.resource_version, 'Background', ''))\n",
    ),
    Mutant(
        "every StatefulSet of workers is written anew when the operator starts",
        "tending",
        "whole groups",
        "    memory, record = _judge(memory, lws, index, now_s)\n",
        "    is_new = not memory.groups.get(index).history.leader_uid\n"
        "    memory, record = _judge(memory, lws, index, now_s)\n",
        (
            "    actions = [*change.actions, *unrecorded]\n",
            "    actions = [*change.actions, *unrecorded]\n"
            "    old = record.group.statefulset\n"
            "    if is_new and leader is not None and old is not None and owned_by(old.owner, leader.uid):\n"
            "        from .actions import Apply\n"
            "        from .values import freeze_map\n"
            "        head = {'name': old.name, 'namespace': lws.namespace, 'uid': old.uid}\n"
            "        head['resourceVersion'] = old.resource_version\n"
            "        spec = {'kind': 'StatefulSet', 'apiVersion': 'apps/v1', 'metadata': head}\n"
            "        actions.append(Apply(freeze_map(spec | {'spec': {'replicas': old.replicas}}), ''))\n",
        ),
    ),
    Mutant(
        "what ends before a group has started counts",
        "restart",
        "after start",
        "    if waits and not history.started and not all_have_started(group, size):",
        "    if False:",
    ),
    Mutant(
        "a group has no Service of its own",
        "plan",
        "subdomains",
        'if then.spec.subdomain_policy == "UniquePerReplica" and not _owns(leader, group.service):',
        "if False:",
    ),
    # -- revisions
    Mutant(
        "a revision is made for every look",
        "lineage",
        "created",
        "    if current in same:\n        return",
        "    if False:\n        return",
    ),
    Mutant(
        "an earlier revision is not used again",
        "lineage",
        "created",
        "    if same:\n        reused",
        "    if False:\n        reused",
    ),
    Mutant(
        "revisions are never deleted",
        "plan",
        "edits",
        "return unneeded(lws, view.revisions, needed)",
        "return ()",
    ),
    Mutant(
        "a revision is deleted that pods are of",
        "plan",
        "size",
        "needed = {view.lineage.key, *view.summary.using}",
        "needed = {view.lineage.key}",
    ),
    Mutant(
        "revisions are deleted as soon as no pod is of them",
        "plan",
        "edits",
        "    settled = isinstance(decision, Done) and view.lineage.create is None"
        " and _observed(statefulset)\n"
        "    if not settled or len(view.revisions) < 2:\n"
        "        return ()\n"
        "    needed = {view.lineage.key, *view.summary.using}\n"
        "    for name in (statefulset.current_revision, statefulset.update_revision):\n"
        "        if name not in view.native_keys:\n"
        "            return ()\n"
        "        needed.add(view.native_keys[name])\n",
        "    needed = {view.lineage.key, *view.summary.using}\n",
    ),
    Mutant(
        "the leaders are written before their revision",
        "plan",
        "created",
        "if lineage.create is not None and lineage.changes:",
        "if False:",
    ),
    # -- the leader StatefulSet
    Mutant(
        "every look writes the leader StatefulSet",
        "diff",
        "created",
        "    if not reasons:\n        return Change()\n",
        "",
    ),
    Mutant(
        "replicas are taken from the live set alone",
        "plan",
        "surge alone",
        "return Position(statefulset.replicas, statefulset.partition, applied)",
        "return Position(lws.spec.replicas, statefulset.partition, applied)",
    ),
    Mutant(
        "a new template is not written",
        "plan",
        "edits",
        "    if view.lineage.changes:\n        record",
        "    if False:\n        record",
    ),
    Mutant(
        "a write carries no UID",
        "diff",
        "edits",
        '        "uid": observed.uid,\n        "resourceVersion": observed',
        '        "resourceVersion": observed',
    ),
    Mutant(
        "a write carries no resourceVersion",
        "diff",
        "edits",
        '        "resourceVersion": observed.resource_version,\n    }\n    return manifest',
        "    }\n    return manifest",
    ),
    Mutant(
        "a deletion carries no UID",
        "diff",
        "surge",
        'Ref("Pod", lws.namespace, leader.name), leader.uid, leader.resource_version, propagation, why',
        'Ref("Pod", lws.namespace, leader.name), "", leader.resource_version, propagation, why',
    ),
    # -- the machine
    Mutant(
        "a request is sent again before it is answered",
        "controller",
        "created",
        "if key in pending or not _is_due(memory, key, now_s):",
        "if not _is_due(memory, key, now_s):",
    ),
    Mutant(
        "a failed write is never tried again",
        "controller",
        "late",
        "return retry is None or (not retry.read and retry.not_before_s <= now_s)",
        "return retry is None",
    ),
    Mutant(
        "a status write that failed stays under way",
        "answers",
        "late reports",
        "    memory = evolve(memory, pending=memory.pending.without(key), early=early)\n",
        "    if outcome.ok or not isinstance(action, PatchStatus):\n"
        "        memory = evolve(memory, pending=memory.pending.without(key), early=early)\n",
    ),
    Mutant(
        "an object that is gone stays in the view",
        "view",
        "member",
        "            return _put(memory, thing.group_index, statefulset=None)",
        "            return memory",
    ),
    Mutant(
        "an edit is not noticed",
        "view",
        "faults",
        "if before is not None and _decisive(before) == _decisive(lws):",
        "if before is not None:",
    ),
    # -- the status
    Mutant(
        "Available while groups load",
        "status",
        "created",
        "all_ready = span(0, spec.replicas) & ~summary.ready == 0",
        "all_ready = summary.ready != 0",
    ),
    Mutant(
        "the observed generation lags behind",
        "status",
        "created",
        "        observed_generation=generation,",
        "        observed_generation=max(0, generation - 1),",
    ),
    Mutant(
        "a status is written for every look",
        "reporting",
        "created",
        "    if status == lws.status:\n        return ()\n    has_failed",
        "    has_failed",
    ),
    Mutant(
        "the observed generation is told only once all groups are ready",
        "status",
        "created",
        "        observed_generation=generation,\n        conditions=conditions",
        "        observed_generation=generation if all_ready else lws.status.observed_generation,\n"
        "        conditions=conditions",
    ),
    Mutant(
        "all groups that are there count as updated",
        "status",
        "rollout",
        "    updated = summary.of_key(current_key) & summary.whole\n",
        "    updated = summary.present\n",
    ),
    Mutant(
        "no condition tells of a rollout",
        "status",
        "rollout",
        "    if counted & outdated:\n",
        "    if False:\n",
    ),
    Mutant(
        "the replicas of the status are those that are wanted",
        "status",
        "surge",
        "replicas=0 if statefulset is None else statefulset.status_replicas,",
        "replicas=spec.replicas,",
    ),
    # -- numbers
    Mutant(
        "percentages of maxUnavailable round up",
        "scaling",
        "percentages",
        "    return numerator // denominator\n",
        "    return -(-numerator // denominator)\n",
    ),
    Mutant(
        "percentages of maxSurge round up twice",
        "scaling",
        "rollout",
        "    return -(-numerator // denominator)\n",
        "    return numerator // denominator + 1\n",
    ),
    Mutant(
        "scaling to zero is refused",
        "rollout",
        "edits",
        "    wanted = _replicas(budget, position, groups, rolling)\n",
        "    wanted = max(1, _replicas(budget, position, groups, rolling))\n",
    ),
]


def main(names: Iterable[str]) -> int:
    """Try the defects of these names, or all; 1 if one goes unnoticed, or if something is noticed without."""
    wanted = [mutant for mutant in MUTANTS if mutant.name in set(names)] or MUTANTS
    alive = []
    with tempfile.TemporaryDirectory() as folder, multiprocessing.Pool(os.cpu_count()) as pool:
        for package in ("lws_core", "lws_sim"):
            shutil.copytree(ROOT / package, Path(folder) / package, ignore=_CACHES)
        sound = pool.apply_async(_told, (folder, None))
        for name, check, case in pool.imap(partial(_told, folder), wanted):
            print(f"{name}: {check or 'NOT NOTICED'} ({case})", flush=True)
            if not check:
                alive.append(name)
        _, check, case = sound.get()
    print(f"{len(wanted) - len(alive)} of {len(wanted)} defects are noticed")
    if check or case:
        print(f"WITHOUT ANY DEFECT: {check} ({case})")
    return 1 if alive or check or case else 0


def _told(folder: str, mutant: Mutant | None) -> tuple[str, str, str]:
    """Its name, the check that notices it and the case; the last is all that there is of an error."""
    name = "" if mutant is None else mutant.name
    try:
        return name, *noticed_by(Path(folder), mutant)
    except (ValueError, RuntimeError, subprocess.TimeoutExpired) as problem:
        return name, "", f"ERROR {problem}"


def noticed_by(sound: Path, mutant: Mutant | None) -> tuple[str, str]:
    """The check that notices a defect and the case, both "" where none does. `sound`: where the packages are
    that it is put into a copy of. Raises ValueError where there is no such place in the source any more."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(sound, folder, dirs_exist_ok=True)
        shows = []
        if mutant is not None:
            shows.append(mutant.shows)
            source = Path(folder) / "lws_core" / f"{mutant.module}.py"
            text = source.read_text()
            for before, after in [(mutant.before, mutant.after), *([mutant.also] if mutant.also else [])]:
                if text.count(before) != 1:
                    raise ValueError(f"the text is {text.count(before)} times in {source.name}, not once")
                text = text.replace(before, after)
            source.write_text(text)
        done = subprocess.run(
            [sys.executable, "-m", "exploration.first_finding", *shows],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([folder, str(ROOT / "tests")]),
                "PYTHONSAFEPATH": "1",
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            check=False,
        )
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2000:])
    check, case = json.loads(done.stdout)
    return check, case


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
