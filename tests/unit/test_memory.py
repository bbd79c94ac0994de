from __future__ import annotations

import attrs
import pytest
from machine import leader

from lws_core.memory import Groups, Memory, Record
from lws_core.observed import Group
from lws_core.values import evolve


def test_groups_always_keep_what_was_put_whatever_their_number() -> None:
    groups = Groups()
    for index in (0, 63, 64, 1000):
        groups = groups.put(Record(Group(index, leader(index))))
    before = groups
    groups = groups.put(Record(Group(64)))
    assert groups.get(64).group == Group(64)
    assert before.get(64).group.leader == leader(64)  # the earlier value stays what it was
    assert groups.get(1000).group.leader == leader(1000)
    assert groups.get(5).group == Group(5)
    assert groups.get(99_999).group == Group(99_999)


def test_memory_never_is_changed_in_place() -> None:
    memory = Memory()
    assert evolve(memory, synced=True).synced
    assert not memory.synced
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        memory.synced = True  # type: ignore[misc]
