"""Exclusive placement: a group, or a subgroup, has a topology domain (a rack, an island) to itself.

Two required terms in the pod's affinity say so: be where pods of the same key are, and not where pods of
another key are. The scheduler reads them (Kubernetes' pkg/scheduler/framework/plugins/interpodaffinity), and
a pod that matches its own affinity term may start the domain.
"""

from __future__ import annotations

from typing import Final

from . import names
from .values import EMPTY, FrozenMap, Json, freeze_map

_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_NAMESPACE_NAME: Final = "kubernetes.io/metadata.name"


def with_exclusive_terms(
    spec: FrozenMap[Json], *, topology: str, key: str, value: str, namespace: str, across_namespaces: bool
) -> FrozenMap[Json]:
    """A pod spec with the terms that keep pods labelled `key: value` to themselves in a `topology` domain.

    The user's own terms stay, whatever topology key they are on; a term is added once only, so that asking
    again changes nothing. Without `across_namespaces` only pods of the pod's own namespace are kept out.
    """
    affinity = spec.get("affinity")
    if not isinstance(affinity, FrozenMap | None):
        return spec  # the API server refuses it
    together = (_term(topology, _matching(key, "In", value)),)
    apart = _apart(topology, key, value, namespace, across_namespaces)
    affinity = _with_required(affinity or EMPTY, "podAffinity", together)
    return spec.with_("affinity", _with_required(affinity, "podAntiAffinity", apart))


def _apart(
    topology: str, key: str, value: str, namespace: str, across_namespaces: bool
) -> tuple[FrozenMap[Json], ...]:
    others = (_matching(key, "Exists"), _matching(key, "NotIn", value))
    if not across_namespaces:
        return (_term(topology, *others),)
    everywhere = _term(topology, *others).with_("namespaceSelector", EMPTY)
    if key != names.SUBGROUP_KEY:
        return (everywhere,)
    # A subgroup's key has no namespace in it, so a namesake elsewhere has the same: keep out all there.
    elsewhere = freeze_map({"matchExpressions": (_matching(_NAMESPACE_NAME, "NotIn", namespace),)})
    return everywhere, _term(topology, _matching(key, "Exists")).with_("namespaceSelector", elsewhere)


def _term(topology: str, *expressions: FrozenMap[Json]) -> FrozenMap[Json]:
    return FrozenMap({"labelSelector": FrozenMap({"matchExpressions": expressions}), "topologyKey": topology})


def _matching(key: str, operator: str, *values: str) -> FrozenMap[Json]:
    return freeze_map({"key": key, "operator": operator, **({"values": values} if values else {})})


def _with_required(
    affinity: FrozenMap[Json], kind: str, terms: tuple[FrozenMap[Json], ...]
) -> FrozenMap[Json]:
    given = affinity.get(kind)
    if not isinstance(given, FrozenMap | None):
        return affinity
    rules: FrozenMap[Json] = given or EMPTY
    present = rules.get(_REQUIRED)
    if not isinstance(present, tuple | None):
        return affinity
    missing = [term for term in terms if term not in (present or ())]
    return affinity.with_(kind, rules.with_(_REQUIRED, (*(present or ()), *missing)))
