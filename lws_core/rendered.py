"""The record of what the leader template was rendered from, kept as an annotation of the StatefulSet.

The template changes only with a new revision, so the controller must be able to tell its own rendering from
a foreign edit, also after a restart, and in another version. The record travels with writes that are due
anyway; nothing is written for its sake.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import attrs

from . import names
from .observed import LeaderStatefulSet
from .spec import LeaderWorkerSet
from .values import dig, strings


@attrs.frozen
class Rendered:
    """`key`: the revision. `digest`: of the template as the API server stored it, "" before that is known.
    The topology keys are the set's annotations at the time, held until the next revision."""

    key: str
    digest: str = ""
    exclusive_topology: str = ""
    subgroup_exclusive_topology: str = ""


def rendered_from(lws: LeaderWorkerSet, key: str) -> Rendered:
    """The record of a template that is rendered now."""
    return Rendered(
        key,
        "",
        lws.metadata.annotations.get(names.EXCLUSIVE_TOPOLOGY, ""),
        lws.metadata.annotations.get(names.SUBGROUP_EXCLUSIVE_TOPOLOGY, ""),
    )


def held(lws: LeaderWorkerSet, record: Rendered) -> LeaderWorkerSet:
    """The set with the topology keys that were in force when the template was rendered."""
    annotations = lws.metadata.annotations.without(
        names.EXCLUSIVE_TOPOLOGY, names.SUBGROUP_EXCLUSIVE_TOPOLOGY
    )
    kept = {
        names.EXCLUSIVE_TOPOLOGY: record.exclusive_topology,
        names.SUBGROUP_EXCLUSIVE_TOPOLOGY: record.subgroup_exclusive_topology,
    }
    annotations |= {key: value for key, value in kept.items() if value}
    return attrs.evolve(lws, metadata=attrs.evolve(lws.metadata, annotations=annotations))


def encode(record: Rendered) -> str:
    """The annotation's value: compact JSON, absent fields left out."""
    fields = {key: value for key, value in attrs.asdict(record).items() if value}
    return json.dumps(fields, separators=(",", ":"))


def record_of(statefulset: LeaderStatefulSet) -> Rendered:
    """What a StatefulSet's template was rendered from: its record, or what the template itself tells."""
    key = statefulset.labels.get(names.REVISION_KEY, "")
    told = strings(dig(statefulset.template, "metadata", "annotations"))
    return _decode(statefulset.annotations.get(names.RENDERED, ""), key) or Rendered(
        key,
        "",
        told.get(names.EXCLUSIVE_TOPOLOGY, ""),
        told.get(names.SUBGROUP_EXCLUSIVE_TOPOLOGY, ""),
    )


def _decode(text: str, key: str) -> Rendered | None:
    """The record in an annotation; None where it makes no sense or is of another revision than `key`."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, Mapping) or fields.get("key") != key:
        return None
    known = {field.name for field in attrs.fields(Rendered)}
    if not all(name in known and isinstance(value, str) for name, value in fields.items()):
        return None
    return Rendered(**fields)
