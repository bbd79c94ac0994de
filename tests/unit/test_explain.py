from __future__ import annotations

import re
from typing import Any

import attrs
import pytest
from machine import START_S, live, statefulset

from lws_core import names
from lws_core.actions import Create, Delete, Ref
from lws_core.bits import below, members
from lws_core.errors import FieldError
from lws_core.evidence import Evidence
from lws_core.explain import explain, name_groups, stall_of, waits_in_words
from lws_core.memory import Memory, Retry, Unreadable
from lws_core.plan import Trouble
from lws_core.restart import Hold
from lws_core.rollout import Blocked, Done, Step
from lws_core.spec import Condition
from lws_core.status import Stall
from lws_core.values import EMPTY, FrozenMap, evolve, freeze_map

LIVE = live()
CREATE = Create(freeze_map({"kind": "Service", "metadata": {"name": "serve", "namespace": "default"}}), "why")
REFUSED = Retry(CREATE, 3, START_S, "exceeded quota", refused=True)
WAITING = Blocked(3, 2, 0, "Loading", members(2))


def memory(**known: Any) -> Memory:
    return evolve(Memory(lws=LIVE), **known)


@pytest.mark.parametrize(
    ("known", "state", "text"),
    [
        ({"lws": None}, "Unknown", "the set does not exist, or has not been seen yet"),
        ({"decision": Done(3, 0, 1)}, "AtRest", "every group is ready and up to date"),
        ({"decision": Step(3, 1, 1)}, "Progressing", "going to 3 leaders and partition 1"),
        ({"decision": WAITING}, "Waiting", "waiting for group 2 to be ready"),
        ({"decision": None}, "Progressing", "the leader StatefulSet is being created"),
        (
            {"decision": None, "statefulset": statefulset()},
            "Progressing",
            "the new revision is being recorded",
        ),
        (
            {"lws": live(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})},
            "Deleting",
            "the set is being deleted; its objects go with it",
        ),
    ],
)
def test_set_always_is_told_where_it_stands(known: dict[str, Any], state: str, text: str) -> None:
    found = explain(memory(**known), START_S)
    assert (found.state, found.text) == (state, text)


def test_explanation_always_lists_the_groups_that_are_waited_for() -> None:
    assert explain(memory(decision=WAITING), START_S).groups == (2,)


@pytest.mark.parametrize(
    ("groups", "named"),
    [
        (0, "nothing"),
        (members(3), "group 3"),
        (members(0, 1, 4), "groups 0, 1 and 4"),
        (below(5), "groups 0, 1, 2, 3 and 4"),
        (below(500), "groups 0, 1, 2, 3, 4 and 495 more"),
    ],
)
def test_groups_always_are_named_up_to_a_few(groups: int, named: str) -> None:
    assert name_groups(groups) == named


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("ScalingUp", "waiting for group 1 to be created"),
        ("Replacing", "waiting for group 1 to be replaced"),
        ("Starting", "waiting for the leaders of group 1 to be created"),
        ("BudgetSpent", "the budget is spent: group 1 not ready"),
    ],
)
def test_every_wait_always_has_words(reason: str, words: str) -> None:
    assert waits_in_words(reason, members(1)) == words


TROUBLES: FrozenMap[Trouble | Hold] = FrozenMap(
    {
        "0": Trouble("NodeLost", "node a is lost"),
        "1": Hold("BackOff", Evidence("serve-1-1", "Restarted"), 2, START_S + 5),
        "2": Hold("Limit", Evidence("serve-2", "Evicted"), 4),
        "3": Trouble("NoNode", "not on a node yet"),
        "4": Hold("Starting", Evidence("serve-4-1", "Restarted")),
    }
)


def test_most_urgent_trouble_always_is_the_one_that_is_told() -> None:
    foreign = (Trouble("Foreign", "Service serve is another's"),)
    retries = FrozenMap({"k": REFUSED})
    told = [
        explain(memory(troubles=TROUBLES, foreign=foreign, retries=retries), START_S).text,
        explain(memory(troubles=TROUBLES, retries=retries), START_S).text,
        explain(memory(troubles=TROUBLES), START_S).text,
        explain(memory(troubles=TROUBLES.without("0")), START_S).text,
        explain(memory(troubles=TROUBLES.without("0", "2")), START_S).text,
    ]
    assert told == [
        "ForeignObject: Service serve is another's",
        "APIRefused: Service serve: exceeded quota",
        "NodeLost: node a is lost",
        "RecreationLimit: pod serve-2 evicted; its group was recreated 4 times in a row and stays failed",
        "RecreationBackOff: pod serve-1-1 restarted; its group was recreated 2 times in a row and waits "
        "before the next",
    ]


def test_refusals_and_troubles_always_are_told_by_index_whatever_came_first() -> None:
    """So the condition, and the event, stay as they are while requests are tried again in any order."""
    refused = {
        name: attrs.evolve(
            REFUSED, action=Delete(Ref("Pod", "default", name), "uid", "1", "Background", "why")
        )
        for name in ("serve-10", "serve-9", "serve-x", "serve-2")
    }
    told = explain(memory(retries=FrozenMap(refused)), START_S).text
    assert re.findall(r"Pod serve-(\w+)", told) == ["x", "2", "9", "10"]
    lost = {index: Trouble("NodeLost", f"node {index} is lost") for index in ("10", "9", "2")}
    told = explain(memory(troubles=FrozenMap(lost)), START_S).text
    assert told == "NodeLost: node 2 is lost; node 9 is lost; node 10 is lost"
    late = {index: Trouble("NoNode", f"pod {index} has no node") for index in ("10", "9")}
    stall = stall_of(memory(troubles=FrozenMap(late), decision=WAITING, progress_at_s=START_S), START_S + 600)
    assert stall is not None
    assert stall.message.endswith("(pod 9 has no node; pod 10 has no node)")


def test_first_refusal_always_waits_for_the_answers_to_what_was_sent_with_it() -> None:
    another = freeze_map({"kind": "Service", "metadata": {"name": "b", "namespace": "default"}})
    waiting = memory(retries=FrozenMap({"k": attrs.evolve(REFUSED, attempts=1, not_before_s=START_S + 1)}))
    both = evolve(waiting, pending=FrozenMap({"Create Service b": Create(another, "why")}))
    assert stall_of(both, START_S) is None
    assert stall_of(both, START_S + 1) is not None
    assert stall_of(waiting, START_S) is not None
    other = evolve(waiting, pending=FrozenMap({"Create StatefulSet b": CREATE}))
    assert stall_of(other, START_S) is not None
    told = (Condition(names.STALLED, "True", "APIRefused"),)
    stalled = attrs.evolve(LIVE, status=attrs.evolve(LIVE.status, conditions=told))
    assert stall_of(evolve(both, lws=stalled), START_S) is not None, "what has been told stays"


def test_what_only_takes_its_time_never_is_a_stall() -> None:
    passing = TROUBLES.without("0", "1", "2")
    assert stall_of(memory(troubles=passing, decision=WAITING), START_S) is None
    patient = FrozenMap({"k": Retry(CREATE, 9, START_S, "HTTP status 503")})
    assert stall_of(memory(retries=patient), START_S) is None


def test_many_troubles_never_make_an_endless_message() -> None:
    many = FrozenMap({str(index): Trouble("NodeLost", f"n{index}") for index in range(8)})
    assert explain(memory(troubles=many), START_S).text == "NodeLost: n0; n1; n2; n3; n4; and 3 more"


def test_set_that_makes_no_progress_always_is_stalled_after_its_deadline() -> None:
    waiting = memory(decision=WAITING, progress_at_s=START_S, troubles=TROUBLES.without("0", "1", "2", "4"))
    assert stall_of(waiting, START_S + 599) is None
    assert stall_of(waiting, START_S + 600) == Stall(
        "ProgressDeadlineExceeded",
        "no progress for 600 s: waiting for group 2 to be ready (not on a node yet)",
    )


def test_set_at_rest_never_is_stalled_by_time() -> None:
    resting = memory(decision=Done(3, 0, 1), progress_at_s=START_S)
    assert stall_of(resting, START_S + 10_000) is None


def test_unreadable_set_always_tells_every_fault() -> None:
    errors = (FieldError("a", "Required", ""), FieldError("b", "Invalid", "no", 1))
    found = explain(memory(unreadable=Unreadable(LIVE, errors), troubles=EMPTY), START_S)
    assert found.text == "InvalidSpec: a: Required value; b: Invalid value: 1: no"
