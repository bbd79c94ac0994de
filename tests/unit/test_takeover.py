"""The first looks of a controller at what a real controller of this API left behind, action by action."""

from __future__ import annotations

from typing import Any

import pytest
from machine import taken_over, writes
from recorded import STATES, Object, label, state

from lws_core import controller, names
from lws_core.actions import Action, Apply, Delete, Ref
from lws_core.controller import Look
from lws_core.explain import explain
from lws_core.projection import leader_statefulset, pod
from lws_core.reading import read_set
from lws_core.rollout import Blocked, Done
from lws_core.values import FrozenMap, Json, as_list, as_map, dig, freeze_map

NOW_S = 2_000_000_000.0  # long after the states were recorded
MOVING = ("mid-rollout", "mid-rollout-no-surge")
AT_REST = [name for name in STATES if name not in MOVING]


def first_look(name: str, *changed: Object) -> Look:
    """The first look at a state, of which some objects are as given here."""
    given = {(obj["kind"], dig(obj, "metadata", "name")): obj for obj in changed}
    recording = state(name)
    objects = [given.get((o["kind"], dig(o, "metadata", "name")), o) for o in recording.objects]
    return taken_over(recording.lws.name, objects, NOW_S)


def edited(name: str, **spec: Any) -> Object:
    """The recorded set after its user has changed it."""
    (manifest,) = state(name).of(names.KIND)
    metadata = as_map(manifest["metadata"])
    generation = metadata["generation"]
    assert isinstance(generation, int)
    metadata |= {"generation": generation + 1, "resourceVersion": "9999999"}
    return manifest | {"metadata": metadata, "spec": as_map(manifest["spec"]) | freeze_map(spec)}


@pytest.mark.parametrize("name", AT_REST)
def test_set_at_rest_never_is_written_to(name: str) -> None:
    """Not one write, in none of these states: no pod deleted, no revision created, no record of the template
    written for its own sake, and the status that was left says the same as ours, to the time of each
    condition."""
    look = first_look(name)
    assert look.actions == ()
    assert look.wake_at_s is None
    assert isinstance(look.memory.decision, Done)
    assert explain(look.memory, NOW_S).state == "AtRest"


@pytest.mark.parametrize("name", AT_REST)
def test_set_at_rest_never_is_written_to_later_either(name: str) -> None:
    memory = first_look(name).memory
    for hours in (1, 24, 1000):
        assert controller.look(memory, NOW_S + hours * 3600).actions == ()


@pytest.mark.parametrize("name", AT_REST)
def test_groups_at_rest_always_count_as_ready_and_of_a_known_revision(name: str) -> None:
    memory = first_look(name).memory
    replicas = state(name).lws.spec.replicas
    assert memory.summary.ready.bit_count() == memory.summary.whole.bit_count() == replicas
    assert memory.lineage is not None
    assert not memory.lineage.changes
    assert memory.lineage.create is None
    assert set(memory.summary.by_key) <= set(memory.lineage.sets)


def test_set_in_the_user_s_own_words_never_is_another_revision() -> None:
    """A set as it is stored where no webhook of the original controller has written it out again."""
    template = dig(edited("quirks"), "spec", "leaderWorkerTemplate")
    look = first_look("quirks", edited("quirks", leaderWorkerTemplate=raw_form(template)))
    assert raw_form(template) != template
    assert look.memory.lineage is not None
    assert not look.memory.lineage.changes
    # The set's generation is new, and that is all that there is to tell.
    assert writes(look.actions) == ["PatchStatus LeaderWorkerSet quirks"]


def test_claims_that_were_edited_in_vain_never_restart_a_group() -> None:
    """As the original controller admits it, though no write of the StatefulSet succeeds afterwards."""
    template = as_map(dig(edited("claims"), "spec", "leaderWorkerTemplate"))
    (claim,) = as_list(template["volumeClaimTemplates"])
    bigger = as_map(claim) | freeze_map({"spec": {"resources": {"requests": {"storage": "2Gi"}}}})
    look = first_look(
        "claims", edited("claims", leaderWorkerTemplate=template | {"volumeClaimTemplates": (bigger,)})
    )
    assert look.memory.lineage is not None
    assert not look.memory.lineage.changes
    assert writes(look.actions) == ["PatchStatus LeaderWorkerSet " + state("claims").lws.name]


def test_record_without_a_network_never_restarts_a_group() -> None:
    """As releases wrote it that had subdomains, but did not record them."""
    recording = state("unique-subdomain")
    found = recording.revision(label(recording.leader_statefulset, names.REVISION_KEY))
    spec = as_map(dig(found, "data", "spec")).without("networkConfig")
    look = first_look("unique-subdomain", found.with_("data", freeze_map({"spec": spec})))
    assert look.actions == ()
    assert look.memory.lineage is not None
    assert not look.memory.lineage.changes


def raw_form(value: Json) -> Json:
    """Amounts in another form, and no empty fields."""
    forms: dict[Json, Json] = {"1": "1000m", "1Gi": "1024Mi"}
    if isinstance(value, FrozenMap):
        inner = {key: raw_form(item) for key, item in value.items() if item not in (None, FrozenMap())}
        return FrozenMap(inner)
    if isinstance(value, tuple):
        return tuple(raw_form(item) for item in value)
    return forms.get(value, value)


def test_rollout_with_surge_always_goes_on_by_deleting_what_is_released() -> None:
    """Partition 2 of 6, the two surge groups unready: the budget of two lets the two released groups go at
    once, which the StatefulSet controller alone would replace one after the other, after the surge. The
    numbers stay as they are, and so does the status."""
    look = first_look("mid-rollout")
    assert writes(look.actions) == ["Delete Pod mid-3", "Delete Pod mid-2"]
    for action in look.actions:
        assert isinstance(action, Delete)
        found = state("mid-rollout").named("Pod", action.ref.name)
        assert (action.uid, action.resource_version) == identity(found)
        assert action.propagation == "Background"
    decision = look.memory.decision
    assert isinstance(decision, Blocked)
    assert (decision.replicas, decision.partition) == (6, 2)


def identity(obj: Object) -> tuple[Json, Json]:
    return dig(obj, "metadata", "uid"), dig(obj, "metadata", "resourceVersion")


def test_rollout_without_surge_always_waits_for_its_one_group() -> None:
    look = first_look("mid-rollout-no-surge")
    assert look.actions == ()
    decision = look.memory.decision
    assert isinstance(decision, Blocked)
    assert (decision.reason, decision.groups) == ("Loading", 0b1000)


def test_rollout_always_goes_on_once_the_surge_is_ready() -> None:
    """Both surge groups ready: the last two groups are released as well, in one apply."""
    look = first_look("mid-rollout", *ready_pods("mid-rollout"))
    apply, *others = look.actions
    assert isinstance(apply, Apply)
    assert apply.why == "partition 2 to 0"
    assert dig(apply.manifest, "spec", "replicas") == 6
    assert_only_the_partition_changes("mid-rollout", apply, 0)
    # The deletions are those that the partition seen has released already.
    assert writes(others) == ["Delete Pod mid-3", "Delete Pod mid-2", "PatchStatus LeaderWorkerSet mid"]


def ready_pods(name: str) -> list[Object]:
    """All pods of a state, Ready."""
    condition = {"type": "Ready", "status": "True", "lastTransitionTime": "2030-01-01T00:00:00Z"}
    status = freeze_map({"phase": "Running", "conditions": [condition]})
    return [obj.with_("status", status) for obj in state(name).of("Pod")]


def assert_only_the_partition_changes(name: str, apply: Apply, partition: int) -> None:
    """What is applied is what is stored, to the field, but for the partition and the record of the template;
    maxUnavailable, which a server with its gate off has dropped, is sent again."""
    found = state(name).leader_statefulset
    assert identity(apply.manifest) == identity(found)
    assert dig(apply.manifest, "spec", "template") == dig(found, "spec", "template")
    for field in ("labels", "annotations"):
        stored, sent = (as_map(dig(obj, "metadata", field)) for obj in (found, apply.manifest))
        assert sent.without(names.RENDERED) == stored
    strategy = as_map(dig(apply.manifest, "spec", "updateStrategy", "rollingUpdate"))
    assert strategy.without("maxUnavailable") == {"partition": partition}
    assert as_list(dig(apply.manifest, "spec", "volumeClaimTemplates")) == ()


def test_held_canary_always_goes_on_when_its_user_lets_it() -> None:
    rolling = {"partition": 0, "maxUnavailable": 1, "maxSurge": 0}
    strategy = {"type": "RollingUpdate", "rollingUpdateConfiguration": rolling}
    apply, status = first_look("canary-held", edited("canary-held", rolloutStrategy=strategy)).actions
    assert isinstance(apply, Apply)
    assert apply.why == "partition 2 to 1"
    assert_only_the_partition_changes("canary-held", apply, 1)
    assert writes([status]) == ["PatchStatus LeaderWorkerSet canary"]


def test_new_template_always_begins_with_a_revision_of_its_own() -> None:
    """And with nothing else: it must stand in the cluster before any template names it."""
    (manifest,) = state("at-rest").of(names.KIND)
    template = as_map(dig(manifest, "spec", "leaderWorkerTemplate"))
    look = first_look("at-rest", edited("at-rest", leaderWorkerTemplate=template.with_("size", 3)))
    create, status = look.actions
    assert writes([create]) == [f"Create ControllerRevision rest-{look.memory.lineage.key}-2"]  # type: ignore[union-attr]
    assert writes([status]) == ["PatchStatus LeaderWorkerSet rest"]


def test_group_at_rest_always_is_recreated_for_a_restart_that_nobody_saw() -> None:
    """A container that restarted while no controller was there: its record comes first."""
    recording = state("at-rest")
    worker = next(obj for obj in recording.of("Pod") if label(obj, names.WORKER_INDEX) == "2")
    restarts = freeze_map({"containerStatuses": [{"name": "main", "restartCount": 1}]})
    struck = worker.with_("status", as_map(worker["status"]) | restarts)
    (apply,) = first_look("at-rest", struck).actions
    assert isinstance(apply, Apply)
    assert apply.why == f"annotation {names.RECREATIONS}"


@pytest.mark.parametrize("name", STATES)
def test_leader_statefulset_always_counts_as_rendered_by_its_revision(name: str) -> None:
    """Or the pace would delete nothing in a set that was taken over."""
    recording = state(name)
    found = leader_statefulset(recording.leader_statefulset)
    key = found.labels[names.REVISION_KEY]
    memory = first_look(name).memory
    assert memory.lineage is not None
    assert memory.lineage.key == key
    assert found.posted_fields is None  # written by apply, so nothing has to be taken over field by field


def test_foreign_rollout_restart_never_makes_the_controller_delete_leaders() -> None:
    """A template that somebody else changed, under the same revision: it cannot be told whose it is."""
    recording = state("mid-rollout")
    found = recording.leader_statefulset
    spec = as_map(found["spec"])
    template = as_map(spec["template"])
    metadata = as_map(template["metadata"])
    annotations = as_map(metadata.get("annotations")).without(names.SIZE)
    changed = template.with_("metadata", metadata.with_("annotations", annotations))
    look = first_look("mid-rollout", found.with_("spec", spec.with_("template", changed)))
    assert deleted(look.actions) == []


def deleted(actions: tuple[Action, ...]) -> list[Ref]:
    return [action.ref for action in actions if isinstance(action, Delete)]


def test_state_always_is_read_whole() -> None:
    """Every pod and set of the recordings can be placed, so that no test above passes for want of objects."""
    for name in STATES:
        recording = state(name)
        assert all(pod(obj, recording.lws.name) is not None for obj in recording.of("Pod"))
        assert not hasattr(read_set(recording.of(names.KIND)[0]), "errors")
        memory = first_look(name).memory
        assert memory.known.bit_count() == len(
            [obj for obj in recording.of("Pod") if label(obj, names.WORKER_INDEX) == "0"]
        )
