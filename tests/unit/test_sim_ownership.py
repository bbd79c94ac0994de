"""Server-side apply as structured-merge-diff does it, told by what is left of an object."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lws_core.values import FrozenMap, Json, as_list, as_map, freeze_map, thaw
from lws_sim.cluster import ownership

Fields = dict[str, Any]


def obj(**fields: Any) -> FrozenMap[Json]:
    return freeze_map({"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "t"}, **fields})


def apply(stored: FrozenMap[Json], manager: str, **fields: Any) -> FrozenMap[Json]:
    return ownership.apply(stored, obj(**fields), manager)


def spec_of(stored: FrozenMap[Json]) -> Any:
    return thaw(stored.get("spec"))


def test_what_a_manager_leaves_out_is_removed() -> None:
    stored = apply(obj(), "a", spec={"one": 1, "two": {"x": 1, "y": 2}})
    stored = apply(stored, "a", spec={"two": {"y": 2}})
    assert spec_of(stored) == {"two": {"y": 2}}


def test_what_nobody_applied_is_never_removed() -> None:
    stored = apply(obj(spec={"default": 1, "map": {"default": 2}}), "a", spec={"map": {"own": 3}})
    stored = apply(stored, "a", spec={})
    assert spec_of(stored) == {"default": 1, "map": {"default": 2}}


def test_what_another_manager_has_too_is_never_removed() -> None:
    stored = apply(apply(obj(), "a", spec={"one": 1, "two": 2}), "b", spec={"one": 1})
    assert spec_of(apply(stored, "a", spec={})) == {"one": 1}


def test_an_apply_always_wins_over_another_manager() -> None:
    stored = apply(apply(obj(), "a", spec={"one": 1}), "b", spec={"one": 2})
    assert spec_of(stored) == {"one": 2}


def test_keyed_lists_are_always_merged_by_their_keys() -> None:
    given_env = [{"name": "DEFAULT", "value": "1"}]
    stored = obj(spec={"containers": [{"name": "main", "env": given_env, "image": "old"}]})
    mine = {"containers": [{"name": "main", "image": "new"}, {"name": "side"}]}
    stored = apply(stored, "a", spec=mine)
    assert spec_of(stored) == {
        "containers": [{"name": "main", "env": given_env, "image": "new"}, {"name": "side"}]
    }
    stored = apply(stored, "a", spec={"containers": [{"name": "main", "image": "new"}]})
    assert [one["name"] for one in spec_of(stored)["containers"]] == ["main"]


def test_ports_without_a_protocol_are_always_tcp() -> None:
    stored = obj(spec={"ports": [{"containerPort": 80, "protocol": "TCP", "name": "http"}]})
    stored = apply(stored, "a", spec={"ports": [{"containerPort": 80}]})
    assert spec_of(stored) == {"ports": [{"containerPort": 80, "protocol": "TCP", "name": "http"}]}


def test_other_lists_are_always_replaced_as_a_whole() -> None:
    stored = apply(obj(spec={"command": ["a", "b"]}), "a", spec={"command": ["c"]})
    assert spec_of(stored) == {"command": ["c"]}


def test_a_post_is_recorded_and_never_undone_by_an_apply() -> None:
    posted = obj(spec={"one": 1, "two": 2})
    managed = ownership.record_update((), "a", posted)
    stored = posted.with_("metadata", freeze_map({"name": "t", "managedFields": managed}))
    stored = apply(stored, "a", spec={"one": 1})
    assert spec_of(stored) == {"one": 1, "two": 2}
    entries = [as_map(entry) for entry in as_list(as_map(stored["metadata"])["managedFields"])]
    assert [(e["manager"], e["operation"]) for e in entries] == [("a", "Update"), ("a", "Apply")]


def test_a_field_that_another_manager_takes_must_go_when_that_one_leaves_it_out() -> None:
    stored = apply(obj(), "a", spec={"one": 1, "two": 2})
    stored = apply(stored, "b", spec={"one": 5})
    assert spec_of(apply(stored, "b", spec={"three": 3})) == {"two": 2, "three": 3}
    shared = apply(apply(obj(), "a", spec={"one": 1}), "b", spec={"one": 1})
    assert spec_of(apply(shared, "b", spec={"three": 3})) == {"one": 1, "three": 3}, "both have it"


def test_a_selector_must_be_one_field() -> None:
    selector = {"matchLabels": {"app": "web"}}
    assert thaw(ownership.fields_of(obj(spec={"selector": selector}))) == {"f:spec": {"f:selector": {}}}
    stored = apply(obj(), "a", spec={"selector": selector})
    other = apply(stored, "b", spec={"selector": {"matchLabels": {"tier": "front"}}})
    assert spec_of(other) == {"selector": {"matchLabels": {"tier": "front"}}}


def test_a_manager_that_applies_nothing_must_have_no_entry() -> None:
    stored = apply(apply(obj(), "a", spec={"one": 1}), "b", spec={"two": 2})
    managed = as_list(as_map(apply(stored, "b")["metadata"]).get("managedFields"))
    assert [as_map(entry)["manager"] for entry in managed] == ["a"]


def test_identity_is_never_owned() -> None:
    fields = ownership.fields_of(
        freeze_map(
            {
                "apiVersion": "v1",
                "kind": "Thing",
                "metadata": {"name": "t", "uid": "1", "resourceVersion": "2", "labels": {"a": "b"}},
            }
        )
    )
    assert thaw(fields) == {"f:metadata": {"f:labels": {"f:a": {}}}}


_PARTS: st.SearchStrategy[Fields] = st.dictionaries(
    st.sampled_from("abc"),
    st.integers(0, 2) | st.dictionaries(st.sampled_from("xy"), st.integers(0, 2), min_size=1),
)


@given(st.lists(_PARTS, min_size=1, max_size=4))
def test_a_lone_manager_always_leaves_what_it_applied_last(applied: list[Fields]) -> None:
    stored = obj()
    for spec in applied:
        stored = apply(stored, "a", spec=spec)
    assert (spec_of(stored) or {}) == applied[-1]
    again = apply(stored, "a", spec=applied[-1])
    assert again == stored
