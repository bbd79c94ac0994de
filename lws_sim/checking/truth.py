"""What really stands in a cluster, and whether that is what its user asked for.

Judged from the stored objects, by rules that share no code with the controller's decisions.
"""

from __future__ import annotations

from collections.abc import Iterator

from lws_core import names
from lws_core.codec import decode
from lws_core.values import as_maps, dig
from lws_sim.census import count
from lws_sim.cluster.store import (
    Object,
    Store,
    controller_uid,
    label,
    meta,
    name_of,
    namespace_of,
    owners,
    terminating,
    uid_of,
)
from lws_sim.deeds import CHANGE
from lws_sim.world import LOAD

from .edits import is_broken


def mixed(store: Store, name: str) -> str:
    """What is wrong with a group whose parts are of different revisions, "" where none is: its worker
    StatefulSet, and those of its pods that chain to it, are of the revision of the living leader, and made
    from its templates."""
    for obj in store.all("StatefulSet"):
        if name_of(obj) == name or label(obj, names.SET_NAME) != name:
            continue
        leader = store.get("Pod", namespace_of(obj), name_of(obj))
        if leader is None or controller_uid(obj) != uid_of(leader):
            continue
        key, change = label(leader, names.REVISION_KEY), _change(leader)
        workers = [pod for pod in store.owned_by(uid_of(obj)) if pod["kind"] == "Pod"]
        for part in (obj, *workers):
            if label(part, names.REVISION_KEY) != key:
                of = label(part, names.REVISION_KEY)
                return f"{part['kind']} {name_of(part)} is of revision {of}, its leader of {key}"
        for pod in workers:
            if _change(pod) != change:
                return f"Pod {name_of(pod)} has the template of edit {_change(pod)}, its leader of {change}"
    return ""


def _change(pod: Object) -> str:
    """The edit of the templates that a pod is of, "0" for the first."""
    return str(dig(pod, "metadata", "annotations", CHANGE) or "0")


def unfinished(store: Store, name: str, namespace: str, kept: int) -> str:
    """What a set at rest lacks, "" for nothing. `kept`: so many groups, less one, must be ready
    under a broken template (edits.Draft)."""
    return next(_lacks(store, name, namespace, kept), "")


def _lacks(store: Store, name: str, namespace: str, kept: int) -> Iterator[str]:
    stored, leaders = store.get(names.KIND, namespace, name), store.get("StatefulSet", namespace, name)
    if stored is None or leaders is None:
        yield "there is no leader StatefulSet"
        return
    spec = decode(stored).spec
    ready = count(store, name).ready
    yield from _remains(store)
    if dig(stored, "status", "observedGeneration") != meta(stored).get("generation"):
        yield "status.observedGeneration is behind"
    if is_broken(stored):
        if len(ready) < kept - 1:  # one may be given up for broken ones
            yield f"{len(ready)} groups are ready of {kept} that a broken template must leave"
        return
    replicas = dig(leaders, "spec", "replicas")
    partition = dig(leaders, "spec", "updateStrategy", "rollingUpdate", "partition")
    key = label(leaders, names.REVISION_KEY)
    if any(_stays(pod, key, spec.rollout_strategy.partition) for pod in stuck_pods(store)):
        return  # nobody will replace it
    if replicas != spec.replicas:
        yield f"there are {replicas} leaders wanted, not {spec.replicas}"
    if partition != spec.rollout_strategy.partition:
        yield f"the partition is {partition}, not {spec.rollout_strategy.partition}"
    if ready != frozenset(range(spec.replicas)):
        yield f"ready are the groups {sorted(ready)} of {spec.replicas}"
    for index in range(spec.rollout_strategy.partition, spec.replicas):
        leader = store.get("Pod", namespace, f"{name}-{index}")
        if leader is None or label(leader, names.REVISION_KEY) != key:
            yield f"group {index} is not of the newest revision"
    shared = spec.subdomain_policy != "UniquePerReplica"
    for service in (name,) if shared else (f"{name}-{index}" for index in range(spec.replicas)):
        if store.get("Service", namespace, service) is None:
            yield f"there is no Service {service}"
    if spec.leader_worker_template.restart_policy != "None":
        yield from (f"{name_of(pod)} has restarted, and its group goes on" for pod in _restarted(store))
    yield from _leftovers(store, leaders, spec.replicas)
    conditions = {str(c.get("type")): c.get("status") for c in as_maps(dig(stored, "status", "conditions"))}
    wanted = {names.AVAILABLE: "True", names.PROGRESSING: "False", names.STALLED: "False"}
    for condition, status in wanted.items():
        if conditions.get(condition, "False" if condition != names.AVAILABLE else "") != status:
            yield f"condition {condition} is {conditions.get(condition, 'missing')}"
    for field in ("replicas", "readyReplicas"):
        told = dig(stored, "status", field) or 0
        if told != spec.replicas:
            yield f"status.{field} is {told}, not {spec.replicas}"


def stuck_pods(store: Store) -> list[Object]:
    """The pods that never become ready."""
    return [pod for pod in store.all("Pod") if dig(pod, "metadata", "annotations", LOAD) == "never"]


def _restarted(store: Store) -> list[Object]:
    """The pods of which a container has restarted."""
    return [
        pod
        for pod in store.all("Pod")
        if any(dig(status, "restartCount") for status in as_maps(dig(pod, "status", "containerStatuses")))
    ]


def _stays(pod: Object, key: str, partition: int) -> bool:
    """Whether no rollout replaces a pod: it is of the newest revision, or below the partition."""
    index = label(pod, names.GROUP_INDEX)
    return label(pod, names.REVISION_KEY) == key or (index.isdecimal() and int(index) < partition)


def _remains(store: Store) -> Iterator[str]:
    """Objects that should have gone, whatever the set is."""
    known = {uid_of(obj) for _, obj in store.objects.items()}
    for key, obj in store.objects.items():
        if any(str(reference["uid"]) not in known for reference in owners(obj)):
            yield f"{key} has outlived its owner"
        if terminating(obj):
            yield f"{key} does not end"


def _leftovers(store: Store, leaders: Object, replicas: int) -> Iterator[str]:
    """Objects that no group needs. The newest revision stays, and that of status.currentRevision, on which
    leaders below the partition come back."""
    native = store.get(
        "ControllerRevision", namespace_of(leaders), str(dig(leaders, "status", "currentRevision"))
    )
    keys = {label(revision, names.REVISION_KEY) for revision in (leaders, native) if revision is not None}
    for key, obj in store.objects.items():
        if obj["kind"] == "Pod":
            keys.add(label(obj, names.REVISION_KEY))
        index = label(obj, names.GROUP_INDEX)
        if index.isdecimal() and int(index) >= replicas:
            yield f"{key} is beyond the {replicas} groups"
    own = [o for o in store.all("ControllerRevision") if _is_of_set(o)]
    surplus = [name_of(o) for o in own if label(o, names.REVISION_KEY) not in keys]
    if replicas and surplus:
        yield f"revisions that no pod is of: {', '.join(surplus)}"
    if len({label(o, names.REVISION_KEY) for o in own}) < len(own):
        yield f"several revisions of one key: {', '.join(map(name_of, own))}"


def _is_of_set(revision: Object) -> bool:
    return any(reference.get("kind") == names.KIND for reference in owners(revision))
