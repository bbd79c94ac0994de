"""What a revision records of a set, when two records mean the same, and what a revision is called.

A ControllerRevision of a set records its leaderWorkerTemplate and its networkConfig, so that a group of an
older revision can be rebuilt as it was. Records are compared by meaning: a record that another serialiser
wrote, that has defaults spelled out or empty fields left in, is no change and rolls nothing out. Keys are
opaque: a set keeps the key that its leader StatefulSet carries as long as the meaning stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import attrs

from . import codec, names
from .desired.metadata import set_reference
from .errors import InvalidManifest
from .quantity import parse
from .spec import LeaderWorkerSet, LeaderWorkerTemplate, SubdomainPolicy
from .values import EMPTY, FrozenMap, Json, as_map, canonical, freeze_map

_REPLACE: Final = FrozenMap({"$patch": "replace"})
_OFFSET_BASIS, _PRIME = 2166136261, 16777619  # FNV-1, 32 bits
_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"  # what Kubernetes encodes hashes in names with
_LONGEST_NAME_PART: Final = 220

# Maps of the user's own words, whose empty values are values.
_FREE_FORM: Final = frozenset(
    {"labels", "annotations", "matchLabels", "nodeSelector", "volumeAttributes", "options"}
)
_QUANTITIES: Final = frozenset({"limits", "requests", "overhead", "capacity"})
_QUANTITY: Final = frozenset({"sizeLimit", "divisor"})
# An empty value of these differs from none: a selector that selects all, a volume of that kind, no class.
_MEANINGFUL_EMPTY: Final = frozenset(
    {"labelSelector", "namespaceSelector", "selector", "emptyDir", "downwardAPI", "projected"}
)
_MEANINGFUL_BLANK: Final = frozenset({"storageClassName", "volumeAttributesClassName"})
# Fields that a typed client leaves out when they are zero; for others zero is a choice (runAsUser: 0).
_ZERO_IS_UNSET: Final = frozenset(
    {
        "hostNetwork", "hostPID", "hostIPC", "stdin", "stdinOnce", "tty", "readOnly", "hostPort",
        "initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold",
        "chapAuthDiscovery", "chapAuthSession", "sslEnabled", "partition",
    }
)  # fmt: skip
# What the API server fills in wherever the field is missing.
_DEFAULTS: Final = frozenset({("protocol", "TCP"), ("whenDeleted", "Retain"), ("whenScaled", "Retain")})
_DEFAULT_RESTART_POLICY: Final = ("spec", "restartPolicy", "Always")  # a container's makes it a sidecar


def record(lws: LeaderWorkerSet) -> FrozenMap[Json]:
    """What a revision of this set records (`data` of the ControllerRevision)."""
    template = as_map(as_map(codec.encode(lws)["spec"])["leaderWorkerTemplate"])
    network = FrozenMap({"subdomainPolicy": lws.spec.subdomain_policy})
    return freeze_map(
        {"spec": {"leaderWorkerTemplate": _REPLACE | template, "networkConfig": _REPLACE | network}}
    )


def overlay(lws: LeaderWorkerSet, data: Mapping[str, Json]) -> LeaderWorkerSet:
    """The set as it was at a revision: the recorded fields from `data`, all others live, be it the network.

    Raises InvalidManifest if `data` is no record of a set.
    """
    recorded, network = as_map(data.get("spec")), _network(data)
    manifest = freeze_map(
        {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": lws.name, "namespace": lws.namespace},
            "spec": {
                "leaderWorkerTemplate": as_map(recorded.get("leaderWorkerTemplate")).without("$patch"),
                **({"networkConfig": network} if network else {}),
            },
        }
    )
    then = codec.decode(manifest).spec
    return attrs.evolve(
        lws,
        spec=attrs.evolve(
            lws.spec,
            leader_worker_template=then.leader_worker_template,
            subdomain_policy=then.subdomain_policy if network else lws.spec.subdomain_policy,
        ),
    )


def records_network(data: Mapping[str, Json]) -> bool:
    """Whether a record has a networkConfig; older releases did not write it."""
    return bool(_network(data))


def meaning(lws: LeaderWorkerSet) -> str:
    """The text that is equal for two sets exactly if a rollout from one to the other would change nothing.

    Claims are recorded, but mean nothing here: a StatefulSet cannot change them, so no rollout would.
    """
    template = attrs.evolve(lws.spec.leader_worker_template, volume_claim_templates=())
    return canonical(normalised(record(with_template(lws, template))))


def claims_meaning(claims: Iterable[FrozenMap[Json]]) -> Json:
    """Claims without what is no difference to a StatefulSet: kind, namespace, status, defaults, the form of
    amounts."""
    return tuple([_claim_meaning(claim.without("apiVersion", "kind", "status")) for claim in claims])


def recorded_meaning(lws: LeaderWorkerSet, data: Mapping[str, Json]) -> str | None:
    """`meaning` of the set at a recorded revision; None if `data` is no record of a set."""
    try:
        return meaning(overlay(lws, data))
    except InvalidManifest:
        return None


def normalised(value: Json, key: str = "") -> Json:
    """`value`, part of a set or a template, without what carries no meaning: nulls, empty fields, amounts in
    another form, defaults spelled out; see the tables above."""
    if isinstance(value, tuple):
        return tuple(normalised(item) for item in value)
    if not isinstance(value, FrozenMap) or key in _FREE_FORM:
        return value
    if key in _QUANTITIES:
        return FrozenMap({name: _amount(item) for name, item in value.items()})
    kept = {}
    for name, item in value.items():
        if isinstance(item, str) and (
            (name, item) in _DEFAULTS or (key, name, item) == _DEFAULT_RESTART_POLICY
        ):
            continue
        plain = _amount(item) if name in _QUANTITY else normalised(item, name)
        if not _unset(name, plain):
            kept[name] = plain
    return FrozenMap(kept)


def contained(part: Json, whole: Json) -> bool:
    """Whether every field of `part` has the same value in `whole`, both normalised. Lists match in order."""
    if isinstance(part, FrozenMap) and isinstance(whole, FrozenMap):
        return all(key in whole and contained(item, whole[key]) for key, item in part.items())
    if isinstance(part, tuple) and isinstance(whole, tuple):
        return len(part) == len(whole) and all(map(contained, part, whole))
    return canonical(part) == canonical(whole)


def new_key(meaning_: str, taken: Iterable[str] = ()) -> str:
    """The key of a new revision: a hash of its meaning, and another one where `taken` has it already."""
    used = frozenset(taken)
    key = _hash(meaning_)
    collisions = 0
    while key in used:
        collisions += 1
        key = _hash(f"{meaning_}#{collisions}")
    return key


def manifest(lws: LeaderWorkerSet, key: str, number: int) -> FrozenMap[Json]:
    """The ControllerRevision that records this set under `key`, as its revision `number`.

    Write it with `values.as_go_writes`: the bytes of its data are immutable.
    """
    return freeze_map(
        {
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": {
                "name": f"{lws.name[:_LONGEST_NAME_PART]}-{key}-{number}",
                "namespace": lws.namespace,
                "labels": {names.SET_NAME: lws.name, names.REVISION_KEY: key},
                "ownerReferences": [set_reference(lws)],
            },
            "data": record(lws),
            "revision": number,
        }
    )


def _network(data: Mapping[str, Json]) -> FrozenMap[Json]:
    return as_map(as_map(data.get("spec")).get("networkConfig")).without("$patch")


def _claim_meaning(claim: FrozenMap[Json]) -> Json:
    spec, metadata = claim.get("spec"), claim.get("metadata")
    if isinstance(spec, FrozenMap) and spec.get("volumeMode") == "Filesystem":
        claim = claim.with_("spec", spec.without("volumeMode"))
    if isinstance(metadata, FrozenMap):
        claim = claim.with_("metadata", metadata.without("namespace"))
    return normalised(claim)


def with_subdomain_policy(lws: LeaderWorkerSet, policy: SubdomainPolicy) -> LeaderWorkerSet:
    """The set with another network."""
    return attrs.evolve(lws, spec=attrs.evolve(lws.spec, subdomain_policy=policy))


def with_template(lws: LeaderWorkerSet, template: LeaderWorkerTemplate) -> LeaderWorkerSet:
    """The set with another template of its groups."""
    return attrs.evolve(lws, spec=attrs.evolve(lws.spec, leader_worker_template=template))


def _hash(text: str) -> str:
    value = _OFFSET_BASIS
    for byte in text.encode():
        value = (value * _PRIME & 0xFFFFFFFF) ^ byte
    return "".join(_ALPHABET[ord(digit) % len(_ALPHABET)] for digit in str(value))


def _unset(name: str, value: Json) -> bool:
    if value is None:
        return True
    if value == ():
        return True
    if value == EMPTY:
        return name not in _MEANINGFUL_EMPTY
    if value == "":
        return name not in _MEANINGFUL_BLANK
    if value is False or (value == 0 and not isinstance(value, bool)):
        return name in _ZERO_IS_UNSET
    return name in _QUANTITY and value == "0"


def _amount(value: Json) -> Json:
    """A quantity as a fraction, so that equal amounts are equal; what is none stays as it is."""
    try:
        return str(parse(value))
    except ValueError:
        return value
