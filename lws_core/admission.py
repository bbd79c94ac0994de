"""What a pod of a set gets on its way into the cluster: its place in the group, and how to find the others.

Flow: the StatefulSet controller creates a pod from a template that all its pods share; here the pod gets what
is its own. Labels say which group, worker and subgroup it is; affinity keeps its group together where the set
asks for that; the environment names the leader, the size and the pod's index (docs/api.md, "Pods").

Guarantees: whatever JSON is given, the answer is a pod or `Denied`. A pod that carries no set's label comes
back as it is. Admitting an admitted pod changes nothing, as a webhook may be asked again.
"""

from __future__ import annotations

import re
from typing import Final

import attrs

from . import names
from .desired.pod_group import pod_group_name
from .environment import container_count, length, map_containers, with_first
from .options import Options
from .placement import with_exclusive_terms
from .subgroup import Division
from .tpu import TooLong, lacks_tpu_environment, ring_of, tpu_containers, with_tpu_environment
from .values import EMPTY, FrozenMap, Json, Labels, as_map, strings

_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,10}", re.ASCII)
_MOST_PODS: Final = 2**31 - 1
# Two lists of so many hosts are more than an object in etcd can hold, so no such pod could be stored.
_MOST_TPU_HOSTS: Final = 100_000
# What etcd takes of a whole object. The environment is the same text again for each container, so a small
# pod can ask for gigabytes.
_MOST_CHARACTERS: Final = 3 * 2**19
# The API server asks before it looks at these lengths, and refuses what is longer.
_LONGEST_NAME: Final = 253
_LONGEST_SUBDOMAIN: Final = 63


class Denied(Exception):
    """A pod that must not be created; the message says what is wrong with it."""


def admit(pod: FrozenMap[Json], options: Options) -> FrozenMap[Json]:
    """The pod as it should be created. Raises Denied for a pod of a set that cannot have its place.

    Cost: grows with the containers; with the pods of the group too if they ask for TPUs.
    """
    draft = _Draft.of(pod)
    if names.SET_NAME not in draft.labels:
        return pod
    if len(draft.name) > _LONGEST_NAME:
        raise Denied(f"the pod's name has {len(draft.name)} characters: at most {_LONGEST_NAME}")
    size = _size(draft)
    division = _division(draft, size)
    if _is_leader(draft):
        draft = _as_leader(draft, division, options)
    else:
        draft = _as_worker(draft, division, options)
    if options.gang_scheduling:
        draft = draft.annotated(names.POD_GROUP_NAME, _pod_group_name(draft))
    if lacks_tpu_environment(draft.spec):
        draft = _with_tpus(draft, size, division)
    return _with_identity(draft).onto(pod)


@attrs.frozen
class _Draft:
    """The parts of a pod that admission reads and changes."""

    name: str
    namespace: str
    labels: Labels
    annotations: Labels
    spec: FrozenMap[Json]
    new_labels: Labels = EMPTY
    new_annotations: Labels = EMPTY

    @classmethod
    def of(cls, pod: FrozenMap[Json]) -> _Draft:
        metadata = as_map(pod.get("metadata"))
        name, namespace = metadata.get("name"), metadata.get("namespace")
        return cls(
            name=name if isinstance(name, str) else "",
            namespace=namespace if isinstance(namespace, str) and namespace else "default",
            labels=strings(metadata.get("labels")),
            annotations=strings(metadata.get("annotations")),
            spec=as_map(pod.get("spec")),
        )

    def labelled(self, key: str, value: str) -> _Draft:
        return attrs.evolve(
            self, labels=self.labels.with_(key, value), new_labels=self.new_labels.with_(key, value)
        )

    def annotated(self, key: str, value: str) -> _Draft:
        return attrs.evolve(
            self,
            annotations=self.annotations.with_(key, value),
            new_annotations=self.new_annotations.with_(key, value),
        )

    def with_spec(self, spec: FrozenMap[Json]) -> _Draft:
        return attrs.evolve(self, spec=spec)

    def onto(self, pod: FrozenMap[Json]) -> FrozenMap[Json]:
        metadata = as_map(pod.get("metadata"))
        for field, new in (("labels", self.new_labels), ("annotations", self.new_annotations)):
            if new:
                metadata = metadata.with_(field, FrozenMap({**as_map(metadata.get(field)), **new}))
        pod = pod.with_("metadata", metadata)
        return pod.with_("spec", self.spec) if isinstance(pod.get("spec"), FrozenMap) else pod


def _is_leader(draft: _Draft) -> bool:
    """Whether the pod is a group's leader.

    A pod that is named after the leader its annotation names is a worker, whatever its label says. Any other
    with the ordinal 0 would be labelled as worker 0, which is what a leader is, so it is one at once.
    """
    parent, ordinal = names.parent_and_ordinal(draft.name)
    if ordinal is not None and draft.annotations.get(names.LEADER_NAME) == parent:
        return False
    return ordinal == 0 or draft.labels.get(names.WORKER_INDEX) == "0"


def _as_leader(draft: _Draft, division: Division | None, options: Options) -> _Draft:
    draft = draft.labelled(names.WORKER_INDEX, "0")
    if names.GROUP_INDEX not in draft.labels:
        draft = draft.labelled(names.GROUP_INDEX, str(_ordinal(draft)))
    if draft.annotations.get(names.SUBDOMAIN_POLICY) == "UniquePerReplica":
        draft = draft.with_spec(draft.spec.with_("subdomain", draft.name))
    if names.GROUP_KEY not in draft.labels:
        draft = draft.labelled(names.GROUP_KEY, names.topology_key(draft.namespace, draft.name))
    topology = draft.annotations.get(names.EXCLUSIVE_TOPOLOGY, "")
    draft = _exclusively(draft, topology, names.GROUP_KEY, options)
    return _in_subgroup(draft, division, 0, draft.name, options)


def _as_worker(draft: _Draft, division: Division | None, options: Options) -> _Draft:
    """Workers get no terms for their group: they are bound to the leader's domain by a node selector."""
    worker_index = _ordinal(draft)
    draft = draft.labelled(names.WORKER_INDEX, str(worker_index))
    return _in_subgroup(draft, division, worker_index, _leader_of(draft), options)


def _in_subgroup(
    draft: _Draft, division: Division | None, worker_index: int, leader: str, options: Options
) -> _Draft:
    if division is None or draft.labels.get(names.SUBGROUP_INDEX):
        return draft
    subgroup = division.index_of(worker_index)
    if subgroup is None:
        return draft
    key = names.topology_key(leader, str(subgroup))
    draft = draft.labelled(names.SUBGROUP_INDEX, str(subgroup)).labelled(names.SUBGROUP_KEY, key)
    topology = draft.annotations.get(names.SUBGROUP_EXCLUSIVE_TOPOLOGY, "")
    return _exclusively(draft, topology, names.SUBGROUP_KEY, options)


def _exclusively(draft: _Draft, topology: str, key: str, options: Options) -> _Draft:
    if not topology:
        return draft
    spec = with_exclusive_terms(
        draft.spec,
        topology=topology,
        key=key,
        value=draft.labels[key],
        namespace=draft.namespace,
        across_namespaces=options.exclusive_across_namespaces,
    )
    return draft.with_spec(spec)


def _pod_group_name(draft: _Draft) -> str:
    group_index, key = (draft.labels.get(label, "") for label in (names.GROUP_INDEX, names.REVISION_KEY))
    return pod_group_name(draft.labels[names.SET_NAME], group_index, key)


def _with_tpus(draft: _Draft, size: int, division: Division | None) -> _Draft:
    worker_index = int(draft.labels[names.WORKER_INDEX])
    leading = _is_leader(draft)
    leader_has_tpus = leading or draft.annotations.get(names.LEADER_REQUESTS_TPUS) == "true"
    ring = ring_of(worker_index, size=size, division=division, leader_has_tpus=leader_has_tpus)
    place = ring.place_of(worker_index)
    if place is None:
        raise Denied(f"pod {draft.name} has worker index {worker_index}, which is not in a group of {size}")
    hosts = len(ring) * len(tpu_containers(draft.spec))
    if hosts > _MOST_TPU_HOSTS:
        raise Denied(f"pod {draft.name} would have to name {hosts} TPU hosts: at most {_MOST_TPU_HOSTS}")
    leader = draft.name if leading else names.parent_and_ordinal(draft.name)[0]
    try:
        spec = with_tpu_environment(
            draft.spec,
            leader=leader,
            hosts=ring.hosts(leader, _subdomain(draft)),
            place=place,
            most_characters=_MOST_CHARACTERS,
        )
    except TooLong as problem:
        raise _too_long(draft, problem.characters) from None
    return draft.with_spec(spec)


def _with_identity(draft: _Draft) -> _Draft:
    group_index = draft.labels.get(names.GROUP_INDEX)
    if group_index is None:
        raise Denied(
            "Failure constructing environment variables, no group index label found for pod "
            f"{draft.namespace}/{draft.name}"
        )
    leader = f"{draft.labels[names.SET_NAME]}-{group_index}"
    variables = {
        names.ENV_LEADER_ADDRESS: f"{leader}.{_subdomain(draft)}.{draft.namespace}",
        names.ENV_GROUP_SIZE: draft.annotations[names.SIZE],
        names.ENV_WORKER_INDEX: draft.labels[names.WORKER_INDEX],
    }
    characters = length(variables) * container_count(draft.spec)
    if characters > _MOST_CHARACTERS:
        raise _too_long(draft, characters)
    return draft.with_spec(map_containers(draft.spec, lambda container: with_first(container, variables)))


def _too_long(draft: _Draft, characters: int) -> Denied:
    return Denied(
        f"pod {draft.name} would get {characters} characters of environment: at most {_MOST_CHARACTERS}"
    )


def _size(draft: _Draft) -> int:
    if names.SIZE not in draft.annotations:
        raise Denied(f"size annotation is unexpectedly missing for pod {draft.name}")
    return _count(draft, names.SIZE)


def _division(draft: _Draft, size: int) -> Division | None:
    if names.SUBGROUP_SIZE not in draft.annotations:
        return None
    excluded = draft.annotations.get(names.SUBGROUP_POLICY_TYPE) == "LeaderExcluded"
    return Division(size, _count(draft, names.SUBGROUP_SIZE), excluded)


def _count(draft: _Draft, annotation: str) -> int:
    text = draft.annotations[annotation]
    count = int(text) if _NUMBER.fullmatch(text) else 0
    if not 1 <= count <= _MOST_PODS:
        raise Denied(f"annotation {annotation} of pod {draft.name} must be a number of pods, not {text!r}")
    return count


def _ordinal(draft: _Draft) -> int:
    ordinal = names.parent_and_ordinal(draft.name)[1]
    if ordinal is None:
        raise Denied(f"parsing pod ordinal for pod {draft.name}")
    return ordinal


def _leader_of(draft: _Draft) -> str:
    return draft.annotations.get(names.LEADER_NAME) or names.parent_and_ordinal(draft.name)[0]


def _subdomain(draft: _Draft) -> str:
    """What the pod's group is called in DNS. Raises Denied for one that is too long."""
    subdomain = draft.spec.get("subdomain")
    if not isinstance(subdomain, str):
        return ""
    if len(subdomain) > _LONGEST_SUBDOMAIN:
        raise Denied(
            f"the subdomain of pod {draft.name} has {len(subdomain)} characters: at most {_LONGEST_SUBDOMAIN}"
        )
    return subdomain
