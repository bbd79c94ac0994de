from __future__ import annotations

from clusters import a_pod, an_object, owned_by, put
from hypothesis import given
from hypothesis import strategies as st

from lws_core.values import freeze_map
from lws_sim.cluster.store import (
    Store,
    controller_uid,
    key_of,
    label,
    meta,
    name_of,
    owners,
    terminating,
    uid_of,
    with_meta,
    with_status,
)


def test_inserted_objects_always_have_identity_and_the_next_version() -> None:
    store, one = put(Store(), a_pod("a"))
    store, two = put(store, a_pod("b"))
    assert uid_of(one) != uid_of(two)
    assert [meta(o)["resourceVersion"] for o in (one, two)] == ["1", "2"]
    assert meta(one)["creationTimestamp"] == "2027-01-15T08:00:00Z"
    assert meta(one)["generation"] == 1
    assert store.get("Pod", "ns", "a") == one
    assert store.get("Pod", "other", "a") is None
    assert [name_of(o) for o in store.all("Pod")] == ["a", "b"]
    assert store.all("Po") == ()


def test_replacing_an_object_by_itself_never_makes_a_version() -> None:
    store, pod = put(Store(), a_pod())
    same, again = store.replace(pod, pod)
    assert same is store
    assert again is pod


def test_changes_are_always_told_once_in_order() -> None:
    store, pod = put(Store(), a_pod())
    store, other = store.replace(pod, with_status(pod, phase="Failed"))
    store = store.remove(other)
    store, changes = store.take()
    assert [change.type for change in changes] == ["ADDED", "MODIFIED", "DELETED"]
    assert changes[1].before == pod
    assert [meta(change.object)["resourceVersion"] for change in changes] == ["1", "2", "3"]
    assert store.take()[1] == ()
    assert store.get("Pod", "ns", "p") is None


def test_an_older_store_never_changes() -> None:
    store, pod = put(Store(), a_pod())
    store.remove(pod)
    store.replace(pod, with_status(pod, phase="Failed"))
    assert store.get("Pod", "ns", "p") == pod
    assert store.version == 1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.integers(0, 2), unique=True) | st.none())))
def test_dependents_always_are_the_objects_that_name_an_owner(
    writes: list[tuple[str, list[int] | None]],
) -> None:
    """Objects are made, change owners, and go (None); the index follows."""
    store = Store()
    owning = []
    for index in range(3):
        store, owner = put(store, an_object("Owner", f"o{index}"))
        owning.append(owner)
    for name, chosen in writes:
        before = store.get("Thing", "ns", name)
        references = [owned_by(owning[index]) for index in chosen or ()]
        if chosen is None:
            store = store if before is None else store.remove(before)
        elif before is None:
            store, _ = put(store, an_object("Thing", name, {"ownerReferences": references}))
        else:
            after = with_meta(before, ownerReferences=freeze_map({"x": references})["x"])
            store, _ = store.replace(before, after)
    for owner in owning:
        expected = {
            obj for obj in store.all("Thing") if any(ref["uid"] == uid_of(owner) for ref in owners(obj))
        }
        assert set(store.owned_by(uid_of(owner))) == expected


def test_an_owner_is_there_only_by_uid() -> None:
    store, owner = put(Store(), an_object("Owner", "o"))
    reference = freeze_map(owned_by(owner))
    assert store.exists(reference, "ns")
    assert store.owner(reference, "ns") == owner
    assert not store.exists(reference, "other")
    store, another = put(store.remove(owner), an_object("Owner", "o"))
    assert uid_of(another) != uid_of(owner)
    assert not store.exists(reference, "ns")


def test_readers_always_give_the_empty_word_for_what_is_missing() -> None:
    pod = a_pod(metadata={"labels": {"a": "b"}})
    assert (label(pod, "a"), label(pod, "c"), uid_of(pod), controller_uid(pod)) == ("b", "", "", "")
    assert key_of(freeze_map({"kind": "Node", "metadata": {"name": "n"}})) == "Node//n"
    assert not terminating(pod)
    assert terminating(with_meta(pod, deletionTimestamp="2027-01-15T08:00:00Z"))
    assert "labels" not in meta(with_meta(pod, labels=None))
    one = {**owned_by(a_pod()), "uid": "1"}
    both = a_pod(metadata={"ownerReferences": [{**one, "controller": False}, {**one, "uid": "2"}]})
    assert controller_uid(both) == "2"
