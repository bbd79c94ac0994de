"""Which objects are a set's, and that nothing an object holds can break the reading of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import any_json

from lws_core import names
from lws_core.observed import Child, Node, Pod, WorkerStatefulSet
from lws_core.projection import leader_statefulset, thing
from lws_core.values import FrozenMap, Json, freeze_map


def obj(kind: str, name: str, labels: dict[str, str] | None = None, **fields: Any) -> FrozenMap[Json]:
    labels = {names.SET_NAME: "serve", **(labels or {})}
    return freeze_map({"kind": kind, "metadata": {"name": name, "labels": labels}, **fields})


@pytest.mark.parametrize(
    ("name", "label", "place"),
    [
        ("serve-3", "0", (3, 0)),
        ("serve-3-1", "1", (3, 1)),
        ("serve-3-1", "", (3, 1)),
        ("other-3", "0", None),
        ("serve-x-3", "0", None),
        ("serve-3", "1", None),
        ("serve-1999999", "0", (1_999_999, 0)),
        ("serve-2000000", "0", None),
        ("serve-2147483647-1", "1", None),
        ("serve", "0", None),
    ],
)
def test_pod_always_has_the_place_that_its_name_gives_it(
    name: str, label: str, place: tuple[int, int] | None
) -> None:
    found = thing(obj("Pod", name, {names.WORKER_INDEX: label}), "serve")
    assert (None if found is None else (found.group_index, found.worker_index)) == place  # type: ignore[union-attr]


def test_pod_of_a_set_whose_name_begins_another_s_never_is_taken_for_its_own() -> None:
    """Leader 2 of set `serve-1` is named as worker 2 of group 1 of set `serve`."""
    leader = obj("Pod", "serve-1-2", {names.WORKER_INDEX: "0"})
    assert thing(leader, "serve") is None
    found = thing(leader, "serve-1")
    assert isinstance(found, Pod)
    assert (found.group_index, found.worker_index) == (2, 0)


@pytest.mark.parametrize("name", ["serve-api", "api", "serve-2000000", "other-1"])
def test_user_s_service_with_the_set_s_label_never_counts_as_the_set_s(name: str) -> None:
    assert thing(obj("Service", name), "serve") is None


def test_service_always_is_placed_by_its_name() -> None:
    shared, own = (thing(obj("Service", name), "serve") for name in ("serve", "serve-1"))
    assert isinstance(shared, Child)
    assert isinstance(own, Child)
    assert (shared.group_index, own.group_index) == (None, 1)


@pytest.mark.parametrize("index", ["", "x", "-1", "\u0663", "2000000", "9" * 60])
def test_pod_group_without_a_group_s_index_never_counts(index: str) -> None:
    assert thing(obj("PodGroup", "serve-1-k", {names.GROUP_INDEX: index}), "serve") is None


def test_worker_statefulset_beyond_any_set_never_counts() -> None:
    assert isinstance(thing(obj("StatefulSet", "serve-5"), "serve"), WorkerStatefulSet)
    assert thing(obj("StatefulSet", "serve-2000000"), "serve") is None


@pytest.mark.parametrize(
    ("kind", "name", "known"),
    [(names.KIND, "serve", True), ("StatefulSet", "serve", True), ("StatefulSet", "serve-0", False)],
)
def test_revision_of_a_worker_statefulset_never_counts(kind: str, name: str, known: bool) -> None:
    owner = {"kind": kind, "name": name, "uid": "u", "controller": True}
    revision = obj("ControllerRevision", f"{name}-abc")
    metadata = {**revision["metadata"], "ownerReferences": [owner]}  # type: ignore[dict-item]
    assert (thing(freeze_map({**revision, "metadata": metadata}), "serve") is not None) == known


@pytest.mark.parametrize(
    ("status", "spec", "ready"),
    [
        ([{"type": "Ready", "status": "True"}], {}, True),
        ([], {}, True),
        ([{"type": "Ready", "status": "Unknown"}], {}, False),
        ([{"type": "Ready", "status": "False"}], {}, False),
        ([], {"taints": [{"key": "node.kubernetes.io/unreachable"}]}, False),
        ([], {"taints": [{"key": "nvidia.com/gpu"}]}, True),
    ],
)
def test_node_that_cannot_be_reached_never_is_ready(status: Any, spec: Any, ready: bool) -> None:
    found = thing(obj("Node", "n", status={"conditions": status}, spec=spec), "serve")
    assert isinstance(found, Node)
    assert found.ready == ready


KINDS = ("Pod", "StatefulSet", "Service", "PodGroup", "ControllerRevision", "Node", "Secret")


@given(
    st.sampled_from(KINDS),
    st.sampled_from(("serve", "serve-1", "serve-1-2", "x")),
    st.dictionaries(st.sampled_from(("metadata", "spec", "status", "data", "revision")), any_json(8)),
)
def test_reading_an_object_never_raises(kind: str, name: str, fields: dict[str, Json]) -> None:
    thing(freeze_map({"kind": kind, "metadata": {"name": name}, **fields}), "serve")
    thing(obj(kind, name, {}, **{key: value for key, value in fields.items() if key != "metadata"}), "serve")


def test_applied_template_always_is_what_our_own_applies_tell() -> None:
    """Not what a POST wrote, nor what others have: decisions may be carried out under another name."""
    fields = {"f:spec": {"f:template": {"f:spec": {"f:containers": {}}}}}

    def entry(manager: str, operation: str) -> dict[str, object]:
        return {"manager": manager, "operation": operation, "fieldsV1": fields}

    def applied(*entries: dict[str, object]) -> object:
        found = {"metadata": {"name": "serve", "managedFields": list(entries)}}
        return leader_statefulset(found).applied_template

    assert applied(entry("other", "Apply"), entry("lws", "Update")) is None
    assert applied(entry("other", "Apply"), entry("lws", "Apply")) == {"f:spec": {"f:containers": {}}}
