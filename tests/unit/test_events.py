from __future__ import annotations

from typing import Any

import attrs
import pytest
from machine import leader, live, own_revision, statefulset, workers

from lws_core import names
from lws_core.actions import Apply, Create, Event, PatchStatus, Ref, Request
from lws_core.errors import FieldError
from lws_core.events import event_of
from lws_core.memory import Memory, Unreadable
from lws_core.observed import Child
from lws_core.sights import Thing
from lws_core.status import Stall, unreadable_status
from lws_core.values import EMPTY, FrozenMap, evolve, freeze_map
from lws_core.view import see

LIVE = live()


def of(kind: str, name: str, **fields: Any) -> Any:
    return freeze_map({"kind": kind, "metadata": {"name": name, "namespace": "default"}, **fields})


PATCH = PatchStatus(Ref("LeaderWorkerSet", "default", "serve"), "uid-set", "1", EMPTY, "")
APPLY = Apply(of("StatefulSet", "serve"), "")


def known(**fields: Any) -> Memory:
    return evolve(see(see(Memory(), LIVE), statefulset(**fields)))


def note(action: Request, thing: Thing, before: Memory | None = None) -> str | None:
    event = event_of(known() if before is None else before, action, thing)
    return None if event is None else event.note


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({"partition": 4}, {"partition": 3}, "Updating replica 3"),
        ({"partition": 4}, {"partition": 1}, "Updating replicas 1 to 3 (inclusive)"),
        ({"partition": 1}, {"partition": 3}, "Holding replicas 1 to 2 (inclusive) back again"),
        ({"replicas": 4}, {"replicas": 3}, "deleting surge replica serve-3"),
        ({"replicas": 6}, {"replicas": 3}, "deleting surge replicas from serve-3 to serve-5"),
        ({"replicas": 6}, {"replicas": 4}, "deleting surge replicas from serve-4 to serve-5"),
        ({"replicas": 3}, {"replicas": 5}, None),
        ({}, {}, None),
        ({"partition": 0}, {"partition": 3, "labels": FrozenMap({names.REVISION_KEY: "next"})}, None),
    ],
)
def test_rollout_step_always_is_told_by_what_it_moves(
    before: dict[str, Any], after: dict[str, Any], told: str | None
) -> None:
    after_watch = evolve(known(**after), basis=statefulset(**before))  # which may be faster than the answer
    assert note(APPLY, statefulset(**after), after_watch) == told


def test_creation_of_leaders_always_is_told() -> None:
    event = event_of(known(), Create(of("StatefulSet", "serve"), ""), statefulset())
    assert event == Event("Normal", "GroupsProgressing", "Create", "Created leader statefulset serve")


@pytest.mark.parametrize(
    ("leaders", "words"),
    [
        (None, "Creating revision with key k for a newly created LeaderWorkerSet"),
        ({"labels": EMPTY}, "Creating revision with key k for a newly created LeaderWorkerSet"),
        ({"owner": None}, "Creating revision with key k for a newly created LeaderWorkerSet"),
        ({"labels": FrozenMap({names.REVISION_KEY: "old"})}, "Creating revision with key k for updated LWS"),
        (
            {"labels": FrozenMap({names.REVISION_KEY: "k"})},
            "Creating missing revision with key k for existing LeaderWorkerSet",
        ),
    ],
)
def test_creation_of_a_revision_always_says_on_what_occasion(
    leaders: dict[str, Any] | None, words: str
) -> None:
    """The watch may have shown the revision before the answer: then nothing remembers that it was missing."""
    created = own_revision(LIVE, "k", 1, EMPTY)
    before = see(Memory(), LIVE) if leaders is None else known(**leaders)
    action = Create(of("ControllerRevision", "serve-k-1"), "")
    event = event_of(see(before, created), action, created)
    assert event is not None
    assert (event.note, event.reason) == (words, "CreatingRevision")
    assert event.related == Ref("ControllerRevision", "default", "serve-k-1")


def test_service_always_is_told_of_only_where_one_was_there_before() -> None:
    action = Create(of("Service", "serve"), "")
    service = Child("Service", "serve", "u", "1", None, False)
    assert note(action, service) is None
    told = note(action, service, evolve(known(), bereft=("serve",)))
    assert told == "Service serve was deleted from outside: created again"
    of_group = Create(of("Service", "serve-1"), "")
    assert note(of_group, attrs.evolve(service, name="serve-1"), evolve(known(), bereft=("serve",))) is None
    told = note(of_group, attrs.evolve(service, name="serve-1"), evolve(known(), bereft=("serve-1",)))
    assert told == "Service serve-1 was deleted from outside: created again"


def test_workers_set_back_always_are_told_with_their_number() -> None:
    apply = Apply(of("StatefulSet", "serve-1", spec={"replicas": 3}), "")
    told = "StatefulSet serve-1 was scaled from outside: set back to 3 workers"
    assert note(apply, workers(1)) == told


def test_status_always_is_told_by_its_conditions() -> None:
    assert note(PATCH, LIVE) is None


@pytest.mark.parametrize("before", [Memory(), known()])
def test_set_that_cannot_be_read_always_is_told_of(before: Memory) -> None:
    faults = (FieldError("spec", "Required", ""),)
    status = unreadable_status(LIVE.status, Stall("InvalidSpec", "spec: Required value"), 0.0)
    found = Unreadable(attrs.evolve(LIVE, status=status), faults)
    event = event_of(before, PATCH, found)
    assert event == Event("Warning", "InvalidSpec", "Update", "spec: Required value")
    assert event_of(evolve(before, status_basis=status), PATCH, found) is None


def test_what_nobody_asks_for_never_is_an_event() -> None:
    assert note(Create(of("StatefulSet", "serve-1"), ""), workers(1)) is None
    assert note(Create(of("PodGroup", "x"), ""), leader(1)) is None
    assert event_of(Memory(), APPLY, statefulset()) is None


def test_note_never_is_longer_than_the_api_takes() -> None:
    event = Event("Normal", "R", "A", "é" * 2000)
    assert len(event.note.encode()) <= 1024
    assert event.note.endswith("...")
