from __future__ import annotations

import pytest
from machine import live, statefulset

from lws_core import names
from lws_core.rendered import Rendered, encode, held, record_of, rendered_from
from lws_core.values import FrozenMap, freeze_map

TOLD = {names.EXCLUSIVE_TOPOLOGY: "rack", names.SUBGROUP_EXCLUSIVE_TOPOLOGY: "host"}


def recorded(text: str) -> Rendered:
    return record_of(statefulset(annotations=FrozenMap({names.RENDERED: text})))


@pytest.mark.parametrize(
    "record", [Rendered("new"), Rendered("new", "d", "rack", "host"), Rendered("new", "d", "", 'a"b')]
)
def test_record_always_reads_back_as_it_was_written(record: Rendered) -> None:
    assert recorded(encode(record)) == record


def test_record_always_leaves_out_what_it_does_not_know() -> None:
    assert encode(Rendered("new")) == '{"key":"new"}'


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", '{"key":"old"}', '{"key":5}', '{"key":"new","digest":5}',
        '{"key":"new","other":"x"}', '{"digest":"x"}', "[" * 100_000,
    ],
)  # fmt: skip
def test_record_that_makes_no_sense_never_is_believed(text: str) -> None:
    assert recorded(text) == Rendered("new")


def test_template_without_a_record_always_tells_its_topology_itself() -> None:
    template = freeze_map({"metadata": {"annotations": TOLD}})
    assert record_of(statefulset(template=template)) == Rendered("new", "", "rack", "host")


def test_topology_always_is_held_until_the_next_revision() -> None:
    """The set's annotations may change at any time, and no revision tells of it."""
    changed = live(metadata={"annotations": {names.EXCLUSIVE_TOPOLOGY: "zone", "other": "x"}})
    then = held(changed, Rendered("new", "", "rack", ""))
    assert then.metadata.annotations == {names.EXCLUSIVE_TOPOLOGY: "rack", "other": "x"}
    assert held(changed, Rendered("new")).metadata.annotations == {"other": "x"}
    assert rendered_from(changed, "k") == Rendered("k", "", "zone", "")
