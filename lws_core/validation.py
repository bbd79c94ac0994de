"""Which LeaderWorkerSets are admitted, and every reason why one is not.

Faults of types are found by schema.py's schema, the rest by the rules of set_rules.py: one table, in the
order in which faults are reported. A rule is skipped while a field it reads cannot be read, so that each
mistake is reported once, and beside all others; where there are too many faults of types to know, all are.

On an update, some faults only warn while the fields they are about stay as they were. What is stored must
remain editable, above all where another field made it wrong (a percentage, after an autoscaler's work) or
where nothing can be done about it (a name). So a stored set is judged by `validate_update(set, set)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import attrs

from . import set_rules
from .codec import decode_lenient
from .errors import MORE, FieldError, first_faults
from .metadata_rules import metadata_faults, name_faults
from .revision import claims_meaning
from .set_rules import CLAIMS, MAX_SURGE, MAX_UNAVAILABLE, PARTITION, REPLICAS, SIZE, SUBGROUP, SUBGROUP_SIZE
from .spec import LeaderWorkerSet, SubGroupPolicy
from .values import Json


@attrs.frozen
class Verdict:
    """Whether a set is admitted. `errors` are the reasons why not, as `first_faults` has them; `warnings` are
    for its user to read."""

    errors: tuple[FieldError, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def admitted(self) -> bool:
        """Whether there is no error."""
        return not self.errors


@attrs.frozen
class _Rule:
    """One rule: the faults it finds, and the fields it cannot be judged without.

    about: on an update, the part of the set that must have changed for a fault to be an error; without it
        any fault is one. consequence: what happens to a set that is admitted with the fault.
    """

    faults: Callable[[LeaderWorkerSet], Iterable[FieldError]]
    reads: tuple[str, ...] = ()
    about: Callable[[LeaderWorkerSet], object] | None = None
    consequence: str = ""


def _budget(lws: LeaderWorkerSet) -> object:
    return lws.spec.rollout_strategy.max_unavailable, lws.spec.rollout_strategy.max_surge


def _templates(lws: LeaderWorkerSet) -> object:
    template = lws.spec.leader_worker_template
    return template.leader_template, template.worker_template


_TEMPLATES = (f"{set_rules.TEMPLATE}.leaderTemplate", f"{set_rules.TEMPLATE}.workerTemplate")

_RULES = (
    _Rule(lambda lws: name_faults(lws.metadata), ("metadata.name", "metadata.generateName")),
    _Rule(lambda lws: metadata_faults(lws.metadata)),
    _Rule(set_rules.replicas_faults, (REPLICAS,)),
    _Rule(set_rules.size_faults, (SIZE,)),
    _Rule(set_rules.product_faults, (REPLICAS, SIZE)),
    _Rule(set_rules.max_unavailable_faults, (MAX_UNAVAILABLE,)),
    _Rule(set_rules.max_surge_faults, (MAX_SURGE,)),
    _Rule(set_rules.partition_faults, (PARTITION,)),
    _Rule(set_rules.max_unavailable_scale_faults, (MAX_UNAVAILABLE,)),
    _Rule(set_rules.max_surge_scale_faults, (MAX_SURGE,)),
    _Rule(
        set_rules.no_step_faults,
        (REPLICAS, MAX_UNAVAILABLE, MAX_SURGE),
        about=_budget,
        consequence="a rollout goes on as if maxUnavailable were 1",
    ),
    _Rule(set_rules.subgroup_faults, (SIZE, SUBGROUP)),
    _Rule(set_rules.subgroup_annotation_faults, ("metadata.annotations", SUBGROUP)),
    _Rule(
        set_rules.name_length_faults,
        ("metadata.name", "metadata.generateName", REPLICAS, SIZE, MAX_SURGE),
        about=lambda lws: lws.name,
        consequence="pods whose names are too long do not start",
    ),
    _Rule(
        set_rules.annotation_room_faults,
        ("metadata.annotations",),
        about=lambda lws: lws.metadata.annotations,
        consequence="the StatefulSet may be refused",
    ),
    _Rule(
        set_rules.topology_faults,
        ("metadata.annotations",),
        about=lambda lws: lws.metadata.annotations,
        consequence="pods cannot be created",
    ),
    _Rule(
        set_rules.template_faults,
        _TEMPLATES,
        about=_templates,
        consequence="the StatefulSet is refused",
    ),
    _Rule(
        set_rules.claim_faults,
        (CLAIMS,),
        about=lambda lws: lws.spec.leader_worker_template.volume_claim_templates,
        consequence="pods cannot be created",
    ),
    _Rule(
        set_rules.retention_faults,
        (set_rules.RETENTION,),
        about=lambda lws: lws.spec.leader_worker_template.persistent_volume_claim_retention_policy,
        consequence="the StatefulSet is refused",
    ),
)


def validate_create(manifest: Json) -> Verdict:
    """Whether a new set is admitted, defaults filled in first. Cost: about 0.3 ms."""
    lws, faults = decode_lenient(manifest)
    return Verdict(faults) if lws is None else _judge(lws, faults, None)


def validate_update(manifest: Json, old: Json) -> Verdict:
    """Whether a set may replace the stored `old`, defaults filled in first in both."""
    lws, faults = decode_lenient(manifest)
    stored, old_faults = decode_lenient(old)
    if lws is None:
        return Verdict(faults)
    verdict = _judge(lws, faults, stored)
    if stored is None:
        return verdict
    immutable = _update_faults(lws, stored, _unread((*faults, *old_faults)))
    return attrs.evolve(verdict, errors=first_faults((*verdict.errors, *immutable)))


def _judge(
    lws: LeaderWorkerSet, type_faults: tuple[FieldError, ...], stored: LeaderWorkerSet | None
) -> Verdict:
    if MORE in type_faults:  # which fields could not be read is not known
        return Verdict(first_faults(type_faults))
    unread = _unread(type_faults)
    errors: list[FieldError] = []
    warnings: list[str] = []
    for rule in _RULES:
        if _touches(unread, rule.reads):
            continue
        found = first_faults(rule.faults(lws))
        if stored is not None and rule.about is not None and rule.about(lws) == rule.about(stored):
            warnings += [f"{fault}; {rule.consequence}" for fault in found]
        else:
            errors += found
    worded = {fault.path for fault in errors}  # a rule's words are better than the schema's
    others = (fault for fault in type_faults if fault.path not in worded)
    return Verdict(first_faults((*others, *errors)), tuple(warnings))


def _unread(faults: Iterable[FieldError]) -> tuple[str, ...]:
    """The paths of fields whose value is not the user's: bounds leave it readable, other faults do not."""
    return tuple([fault.path for fault in faults if fault.type != "Invalid"])


def _touches(unread: Iterable[str], paths: Iterable[str]) -> bool:
    """Whether one of the unread fields is one of those at `paths`, holds one, or is a part of one."""
    return any(
        one == other or one.startswith((f"{other}.", f"{other}[")) or other.startswith((f"{one}.", f"{one}["))
        for one in paths
        for other in unread
    )


def _update_faults(
    lws: LeaderWorkerSet, stored: LeaderWorkerSet, unread: tuple[str, ...]
) -> Iterator[FieldError]:
    """What an update may not change."""
    new, old = lws.spec.leader_worker_template, stored.spec.leader_worker_template
    if not _touches(unread, (SUBGROUP,)):
        yield from _subgroup_faults(new.sub_group_policy, old.sub_group_policy)
    if not _touches(unread, (CLAIMS,)):
        claims = new.volume_claim_templates
        if claims_meaning(claims) != claims_meaning(old.volume_claim_templates):
            yield FieldError(CLAIMS, "Invalid", "field is immutable", claims)


def _subgroup_faults(new: SubGroupPolicy | None, old: SubGroupPolicy | None) -> Iterator[FieldError]:
    if new is not None and old is None:
        detail = "cannot enable subGroupSize after the lws is already created"
        yield FieldError(SUBGROUP_SIZE, "Invalid", detail, new.size)
    elif new is None and old is not None:
        detail = "cannot remove subGroupSize after enabled"
        yield FieldError(SUBGROUP_SIZE, "Invalid", detail, old.size)
    elif new is not None and old is not None and new.size not in (None, old.size):
        yield FieldError(SUBGROUP_SIZE, "Invalid", "field is immutable", new.size)
