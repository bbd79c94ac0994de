from __future__ import annotations

from typing import Any

import attrs
import pytest
from machine import START_S, leader, live, statefulset

from lws_core.actions import Apply, Create, Delete, Emit, Event, PatchStatus, Read, Ref, Request
from lws_core.answers import action_key, hear
from lws_core.memory import Memory
from lws_core.reporting import TELL_INTERVAL_S, tell_of_failures
from lws_core.sights import Gone, Outcome
from lws_core.values import evolve, freeze_map
from lws_core.view import find, lose, see

POD = Ref("Pod", "default", "serve-1")
DELETE = Delete(POD, "uid-1", "1", "Background", "why")
READ = Read(POD, "why", "uid-1")
STATUS = PatchStatus(Ref("LeaderWorkerSet", "default", "serve"), "uid-set", "1", freeze_map({}), "why")


def of(kind: str, name: str) -> Any:
    return freeze_map({"kind": kind, "metadata": {"name": name, "namespace": "default"}})


APPLY = Apply(of("StatefulSet", "serve"), "why")


def known() -> Memory:
    memory = Memory()
    for thing in (live(), statefulset(), leader(1)):
        memory = see(memory, thing)
    return memory


def answered(action: Request, *outcomes: Outcome, memory: Memory | None = None) -> Memory:
    memory = known() if memory is None else memory
    for outcome in outcomes:
        memory = hear(memory, action, outcome, START_S)
    return memory


def delay_s(action: Request, *outcomes: Outcome) -> float:
    return answered(action, *outcomes).retries[action_key(action)].not_before_s - START_S


@pytest.mark.parametrize(
    ("code", "message", "delays", "read", "refused"),
    [
        (409, "modified", [0.0, 0.4, 0.8], True, False),
        (404, "not found", [0.0, 0.4], True, False),
        (422, "metadata.uid: field is immutable", [0.0, 0.4], True, False),
        (422, "spec.replicas: bad", [1.0, 2.0, 4.0], False, True),
        (403, "forbidden", [1.0, 2.0], False, True),
        (500, "oops", [0.5, 1.0, 2.0], True, False),
        (0, "", [0.5, 1.0], True, False),
        (429, "slow down", [0.5, 1.0], False, False),
    ],
)
def test_failure_always_backs_off_by_its_kind(
    code: int, message: str, delays: list[float], read: bool, refused: bool
) -> None:
    outcome = Outcome(code, message=message)
    found = [delay_s(APPLY, *[outcome] * count) for count in range(1, len(delays) + 1)]
    assert found == pytest.approx(delays)
    retry = answered(APPLY, outcome).retries[action_key(APPLY)]
    assert (retry.read, retry.refused) == (read, refused)


@pytest.mark.parametrize(("code", "longest"), [(409, 30.0), (500, 30.0), (403, 300.0)])
def test_back_off_never_grows_without_end(code: int, longest: float) -> None:
    assert delay_s(APPLY, *[Outcome(code)] * 2000) == longest


def test_success_always_ends_the_count_of_failures() -> None:
    memory = answered(APPLY, Outcome(500), Outcome(500), Outcome(200))
    assert memory.retries == {}
    assert answered(APPLY, Outcome(500), memory=memory).retries[action_key(APPLY)].attempts == 1


def test_answer_always_ends_the_wait_for_it() -> None:
    waiting = known().pending.with_(action_key(APPLY), APPLY)
    for outcome in (Outcome(200), Outcome(409), Outcome(0)):
        assert answered(APPLY, outcome, memory=with_pending(waiting)).pending == {}


def with_pending(pending: Any) -> Memory:
    return evolve(known(), pending=pending)


def test_event_that_is_not_recorded_never_changes_anything() -> None:
    emit = Emit(Ref("LeaderWorkerSet", "default", "serve"), "uid-set", Event("Normal", "R", "A", "n"))
    memory = known()
    assert hear(memory, emit, Outcome(500), START_S) is memory


def test_deleted_leader_always_counts_as_terminating_until_it_is_gone() -> None:
    for outcome in (
        Outcome(200),
        Outcome(202),
        Outcome(200, leader(1, deletion_s=9.0, resource_version="2")),
    ):
        pod = find(answered(DELETE, outcome), "Pod", "serve-1")
        assert pod is not None
        assert pod.terminating  # type: ignore[union-attr]
    assert find(answered(DELETE, Outcome(404)), "Pod", "serve-1") is None


def test_answer_to_the_deletion_of_an_earlier_pod_never_hits_the_next() -> None:
    memory = see(lose(known(), Gone("Pod", "serve-1", "uid-1")), leader(1, uid="next", resource_version="9"))
    pod = find(answered(DELETE, Outcome(200), memory=memory), "Pod", "serve-1")
    assert pod is not None
    assert not pod.terminating  # type: ignore[union-attr]


def test_read_that_finds_nothing_always_tells_that_it_is_gone() -> None:
    assert find(answered(READ, Outcome(404)), "Pod", "serve-1") is None
    assert find(answered(READ, Outcome(200, leader(1))), "Pod", "serve-1") == leader(1)


def test_node_that_is_not_there_always_counts_as_lost() -> None:
    memory = answered(Read(Ref("Node", "", "n"), "why"), Outcome(404))
    assert not memory.nodes["n"].ready


def test_read_always_frees_the_writes_that_waited_for_it() -> None:
    memory = answered(DELETE, Outcome(409))
    assert memory.retries[action_key(DELETE)].read
    assert not answered(READ, Outcome(200, leader(1)), memory=memory).retries[action_key(DELETE)].read


def test_own_template_write_always_is_known_by_what_the_server_made_of_it() -> None:
    """Defaults filled in included: only what the answer shows can tell a later edit."""
    manifest = of("StatefulSet", "serve").with_("spec", freeze_map({"template": {"a": "b"}}))
    stored = statefulset(resource_version="9", template_digest="with defaults", partition=2)
    memory = answered(Apply(manifest, "why"), Outcome(200, stored))
    assert (memory.digest, memory.written) == ("with defaults", (3, 2))
    # A write that sends back the template as it was says nothing of whose it is.
    same = manifest.with_("spec", freeze_map({"template": {}}))
    sent = evolve(known(), basis=statefulset())
    assert answered(Apply(same, "why"), Outcome(200, stored), memory=sent).digest == ""


def test_own_write_always_is_known_though_the_watch_has_shown_more_before_its_answer() -> None:
    manifest = of("StatefulSet", "serve").with_("spec", freeze_map({"template": {"a": "b"}}))
    written = statefulset(resource_version="8", template_digest="ours", partition=3)
    edited = statefulset(resource_version="9", template_digest="theirs", partition=1)
    memory = answered(Apply(manifest, "why"), Outcome(200, written), memory=see(known(), edited))
    assert memory.statefulset == edited
    assert (memory.digest, memory.written) == ("ours", (3, 3))
    other = see(known(), statefulset(resource_version="9", uid="another"))
    memory = answered(Apply(manifest, "why"), Outcome(200, written), memory=other)
    assert (memory.digest, memory.written) == ("", None)


@pytest.mark.parametrize(
    ("action", "note"),
    [
        (Create(of("StatefulSet", "serve"), ""), "Failed to create leader statefulset serve: quota"),
        (APPLY, "Failed to update leader statefulset serve: quota"),
        (
            Create(of("StatefulSet", "serve-1"), ""),
            "Failed to create worker statefulset for leader pod serve-1: quota",
        ),
        (Create(of("Service", "serve"), ""), "Failed to create headless service for error: quota"),
        (Create(of("PodGroup", "serve-1-k"), ""), "Failed to create PodGroup serve-1-k: quota"),
    ],
)
def test_failed_write_always_is_told_in_the_known_words(action: Request, note: str) -> None:
    memory = answered(action, Outcome(403, message="quota"))
    memory = tell_of_failures(memory, START_S + TELL_INTERVAL_S)
    (event,) = memory.notices
    assert memory.failures == {}
    assert (event.type, event.note) == ("Warning", note)


def test_writes_for_groups_that_fail_within_a_second_always_are_told_in_one_event() -> None:
    memory, now_s = known(), START_S
    for index in range(8):
        create = Create(of("StatefulSet", f"serve-{index}"), "")
        memory = hear(memory, create, Outcome(403, message=f"{create.ref.name}: quota"), now_s)
        now_s += 0.1
        memory = tell_of_failures(memory, now_s)
        assert memory.notices == ()
    assert tell_of_failures(memory, START_S + 0.9).notices == ()
    memory = tell_of_failures(memory, START_S + TELL_INTERVAL_S)
    (event,) = memory.notices
    assert event.note == (
        "Failed to create 8 worker statefulsets for leader pods serve-0, serve-1, serve-2, serve-3, serve-4 "
        "and 3 more: serve-0: quota"
    )
    assert tell_of_failures(memory, START_S + 100).notices == (event,)


def test_refusal_in_a_namespace_that_is_being_deleted_never_is_told() -> None:
    outcome = Outcome(403, message="it is being terminated", causes=("NamespaceTerminating",))
    for action in (Create(of("Service", "serve"), ""), Create(of("StatefulSet", "serve-1"), "")):
        memory = answered(action, outcome)
        assert (memory.notices, memory.failures) == ((), {})
        assert not memory.retries[action_key(action)].refused
        assert delay_s(action, outcome, outcome) == 2.0
        assert answered(action, attrs.evolve(outcome, causes=("Other",))).retries[action_key(action)].refused


@pytest.mark.parametrize("action", [DELETE, READ, STATUS])
def test_failure_of_what_is_not_for_users_never_is_an_event(action: Request) -> None:
    assert answered(action, Outcome(500)).notices == ()


def test_stale_view_never_is_an_event() -> None:
    assert answered(APPLY, Outcome(409)).notices == ()


@pytest.mark.parametrize("kind", ["StatefulSet", "Pod"])
def test_answer_that_comes_after_its_set_has_gone_never_breaks_anything(kind: Any) -> None:
    memory = lose(see(Memory(), live()), Gone("LeaderWorkerSet", live().name, live().metadata.uid))
    made = freeze_map(
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": "serve", "namespace": "default"},
        }
    )
    action: Request = Create(made, "")
    if kind == "Pod":
        action = Delete(Ref("Pod", "default", "serve-0"), "u", "1", "Background", "")
    assert (
        hear(memory, action, Outcome(200, statefulset() if kind == "StatefulSet" else None), START_S).lws
        is None
    )


@pytest.mark.parametrize(
    ("code", "written"), [(0, None), (500, None), (409, (3, 0)), (403, (3, 0)), (429, (3, 0))]
)
def test_write_of_unknown_outcome_never_makes_what_is_found_a_drift(
    code: int, written: tuple[int, int] | None
) -> None:
    memory = answered(APPLY, Outcome(code), memory=evolve(known(), written=(3, 0)))
    assert memory.written == written
