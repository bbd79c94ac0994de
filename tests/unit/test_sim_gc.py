from __future__ import annotations

from typing import Any

import pytest
from clusters import NOW_S, a_pod, an_object, owned_by, put

from lws_core.values import freeze_map
from lws_sim.cluster import api, gc, kubelet
from lws_sim.cluster.store import Object, Store, key_of, meta, owners, terminating, uid_of, with_meta


class Family:
    """A parent, its child, and the child's child; pods on a node where `graceful`."""

    def __init__(self, *, blocks: bool = True, graceful: bool = False) -> None:
        self.store = Store()
        self.blocks, self.graceful = blocks, graceful
        self.parent = self._add("parent", None)
        self.child = self._add("child", self.parent)
        self.grandchild = self._add("grandchild", self.child)

    def _add(self, name: str, owner: Object | None) -> Object:
        references = {} if owner is None else {"ownerReferences": [owned_by(owner, blocks=self.blocks)]}
        obj = (
            a_pod(name, node="n", metadata=references)
            if self.graceful
            else an_object("Thing", name, references)
        )
        self.store, stored = put(self.store, obj)
        return stored

    def now(self, obj: Object) -> Object | None:
        found = self.store.objects.get(key_of(obj))
        return found if found is not None and uid_of(found) == uid_of(obj) else None

    def delete(self, obj: Object, propagation: str = "Background") -> None:
        self.store, _ = api.delete(self.store, key_of(obj), NOW_S, propagation=propagation)

    def collect(self) -> None:
        """The collector looks at everything until nothing changes, deletions among it."""
        while True:
            before = self.store.version
            self.store, changes = self.store.take()
            for change in changes:
                if change.type == "DELETED":
                    self.store = gc.after_deletion(self.store, change.object, NOW_S)
            for key, _ in self.store.objects.items():
                self.store = gc.collect(self.store, key, NOW_S)
            if self.store.version == before:
                return

    @property
    def left(self) -> list[str]:
        return [key.rsplit("/", 1)[1] for key, _ in self.store.objects.items()]


def test_background_deletion_always_takes_the_owner_first() -> None:
    family = Family()
    family.delete(family.parent)
    assert family.left == ["child", "grandchild"]
    family.collect()
    assert family.left == []


def test_dependents_that_take_their_time_keep_theirs() -> None:
    family = Family(graceful=True)
    family.delete(family.parent)
    family.store = kubelet.end(family.store, family.now(family.parent) or a_pod(), NOW_S)
    family.collect()
    child, grandchild = family.now(family.child), family.now(family.grandchild)
    assert child is not None
    assert grandchild is not None
    assert terminating(child)
    assert not terminating(grandchild), "its owner is still there"


def test_foreground_deletion_always_takes_the_owner_last() -> None:
    family = Family(graceful=True)
    family.delete(family.parent, "Foreground")
    family.collect()
    assert family.left == ["child", "grandchild", "parent"]
    assert all(terminating(obj) for _, obj in family.store.objects.items())
    child = family.now(family.child)
    assert child is not None
    assert meta(child)["finalizers"] == ("foregroundDeletion",), "it has a dependent"
    assert "finalizers" not in meta(family.now(family.grandchild) or a_pod())
    for obj in (family.parent, family.child):
        family.store = kubelet.end(family.store, family.now(obj) or a_pod(), NOW_S)
    family.collect()
    assert family.left == ["child", "grandchild", "parent"], "a grandchild still runs"
    family.store = kubelet.end(family.store, family.now(family.grandchild) or a_pod(), NOW_S)
    family.collect()
    assert family.left == []


def test_an_owner_in_the_foreground_never_goes_at_the_look_that_takes_its_last_dependent() -> None:
    family = Family()
    family.store = family.store.remove(family.grandchild)
    family.delete(family.parent, "Foreground")
    family.store = gc.collect(family.store, key_of(family.parent), NOW_S)
    assert family.left == ["parent"], "others may act before the next look"
    family.store = gc.collect(family.store, key_of(family.parent), NOW_S)
    assert family.left == []


def test_an_owner_in_the_foreground_never_waits_for_one_whose_dependent_is_being_deleted_so_too() -> None:
    """What might be a circle is cut."""
    family = Family()
    family.delete(family.grandchild, "Foreground")
    family.delete(family.parent, "Foreground")
    for _ in range(2):
        family.store = gc.collect(family.store, key_of(family.parent), NOW_S)
    assert family.left == ["child", "grandchild"]
    child = family.now(family.child)
    assert child is not None
    assert terminating(child)
    assert meta(child)["finalizers"] == ("foregroundDeletion",)
    family.collect()
    assert family.left == []


def test_foreground_deletion_waits_only_for_dependents_that_block() -> None:
    family = Family(blocks=False, graceful=True)
    family.delete(family.parent, "Foreground")
    family.store = kubelet.end(family.store, family.now(family.parent) or a_pod(), NOW_S)
    family.collect()
    assert family.now(family.parent) is None
    child = family.now(family.child)
    assert child is not None
    assert terminating(child)


def test_orphan_deletion_always_leaves_the_dependents() -> None:
    family = Family()
    family.delete(family.parent, "Orphan")
    family.collect()
    assert family.left == ["child", "grandchild"]
    child = family.now(family.child)
    assert child is not None
    assert "ownerReferences" not in meta(child)
    assert not terminating(child)


def test_an_object_with_another_owner_never_goes() -> None:
    for propagation in ("Background", "Foreground"):
        family = Family()
        family.store, other = put(family.store, an_object("Thing", "other"))
        both = freeze_map({"x": [owned_by(family.parent), owned_by(other)]})["x"]
        family.store, _ = family.store.replace(family.child, with_meta(family.child, ownerReferences=both))
        family.delete(family.parent, propagation)
        family.collect()
        assert family.left == ["child", "grandchild", "other"]
        child = family.now(family.child)
        assert child is not None
        assert [reference["name"] for reference in owners(child)] == ["other"]


@pytest.mark.parametrize("uid", ["gone", ""])
def test_an_object_of_an_owner_that_is_not_there_always_goes(uid: str) -> None:
    store, owner = put(Store(), an_object("Thing", "owner"))
    reference: dict[str, Any] = {**owned_by(owner), "uid": uid}
    store, child = put(store, an_object("Thing", "child", {"ownerReferences": [reference]}))
    assert gc.lacks_an_owner(store, child)
    assert gc.collect(store, key_of(child), NOW_S).objects.get(key_of(child)) is None


def test_what_belongs_to_nobody_never_goes() -> None:
    store, obj = put(Store(), an_object("Thing", "t"))
    assert gc.collect(store, key_of(obj), NOW_S) is store
    assert gc.collect(store, "Thing/ns/none", NOW_S) is store
    assert not gc.lacks_an_owner(store, obj)
    assert not gc.is_kept(obj)


def test_the_collector_keeps_only_what_waits_for_it() -> None:
    for finalizer, kept in (("foregroundDeletion", True), ("orphan", True), ("example.com/mine", False)):
        obj = an_object(
            "Thing", "t", {"finalizers": [finalizer], "deletionTimestamp": "2027-01-15T08:00:00Z"}
        )
        assert gc.is_kept(obj) is kept
        assert not gc.is_kept(with_meta(obj, deletionTimestamp=None))


def test_a_finalizer_set_beforehand_always_decides_how_a_dependent_goes() -> None:
    for finalizer, left in (("orphan", ["grandchild"]), ("foregroundDeletion", [])):
        family = Family()
        family.store, _ = family.store.replace(family.child, with_meta(family.child, finalizers=(finalizer,)))
        family.delete(family.parent)
        family.collect()
        assert family.left == left
