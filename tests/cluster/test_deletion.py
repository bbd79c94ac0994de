"""Sets that are deleted in every way, and made again under the same name: nothing is left over."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any, Final

import pytest
from audit import Entry
from client import Manifest
from conftest import StartKubelet
from kubelet import Kubelet
from operator_process import Operator
from sandbox import Sandbox, is_terminating
from sets import lws, owner_uid, stays, uid

from lws_core import names

KINDS: Final = (
    "StatefulSet",
    "Pod",
    "Service",
    "ControllerRevision",
    "PersistentVolumeClaim",
    "EndpointSlice",
)
CLAIM: Final = {
    "metadata": {"name": "data"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}
CLAIMS: Final = {"data-serve-0", "data-serve-1", "data-serve-0-1", "data-serve-1-1"}
STOP_S: Final = 1.0  # pods take their time, so that what goes and what comes are there together


def with_claims(when_deleted: str, **how: Any) -> Manifest:
    policy = {"whenDeleted": when_deleted, "whenScaled": "Retain"}
    fields = {"volumeClaimTemplates": [CLAIM], "persistentVolumeClaimRetentionPolicy": policy}
    return lws(template=fields, **how)


def there(sandbox: Sandbox) -> dict[str, set[str]]:
    """The names of what is there, by kind, without the kinds of which there is nothing."""
    found = {kind: {one["metadata"]["name"] for one in sandbox.all(kind)} for kind in (names.KIND, *KINDS)}
    return {kind: listed for kind, listed in found.items() if listed}


def leaked(sandbox: Sandbox) -> list[str]:
    """What has an owner that is gone, or none; claims that are kept have none, and are not told."""
    living = [one for kind in (names.KIND, *KINDS) for one in sandbox.all(kind)]
    uids = {uid(one) for one in living}
    return [
        f"{one['kind']} {one['metadata']['name']}"
        for one in living
        if one["kind"] not in (names.KIND, "PersistentVolumeClaim") and owner_uid(one) not in uids
    ]


def creates(sandbox: Sandbox, since: int) -> list[Entry]:
    """What the operator has created from a mark on, or tried to."""
    return [one for one in sandbox.writes("operator", since) if one.verb == "create"]


def owners_in(entries: list[Entry]) -> set[str]:
    """The UIDs of the owners that were written into what was created."""
    return {one["uid"] for entry in entries for one in entry.body["metadata"]["ownerReferences"]}


@pytest.fixture
def slow_kubelet(sandbox: Sandbox, start_kubelet: StartKubelet) -> Kubelet:
    return start_kubelet(sandbox, stop_s=STOP_S)


@pytest.mark.usefixtures("slow_kubelet", "operator")
@pytest.mark.parametrize(
    ("propagation", "when_deleted"), [("Foreground", "Delete"), ("Background", "Retain")], ids=str.lower
)
def test_deleted_set_always_goes_with_all_that_was_made_for_it(
    sandbox: Sandbox, propagation: str, when_deleted: str
) -> None:
    sandbox.apply(with_claims(when_deleted))
    sandbox.wait_condition("serve", "Available")
    sandbox.wait_quiet()  # the last event may come after the status
    assert there(sandbox)["PersistentVolumeClaim"] == CLAIMS
    mark = sandbox.plane.audit.mark()

    sandbox.delete(names.KIND, "serve", propagation=propagation)
    if propagation == "Foreground":
        assert is_terminating(sandbox.must_get(names.KIND, "serve"))
    kept = {"PersistentVolumeClaim": CLAIMS} if when_deleted == "Retain" else {}

    def is_gone() -> bool:
        is_set_gone = sandbox.get(names.KIND, "serve") is None
        now = there(sandbox)
        if propagation == "Foreground" and is_set_gone:
            assert "StatefulSet" not in now  # the set is the last of its own
            assert "Pod" not in now
        return now == kept

    sandbox.wait("all is gone that should go", is_gone)
    stays(lambda: there(sandbox) == kept)
    assert sandbox.writes("operator", mark, events=True) == []


@pytest.mark.usefixtures("slow_kubelet", "operator")
def test_orphaned_objects_never_are_touched_and_never_taken_for_a_new_sets_own(sandbox: Sandbox) -> None:
    sandbox.apply(lws(pod_annotations={"note": "<a> & b"}))
    sandbox.wait_condition("serve", "Available")
    sandbox.wait_quiet()
    before = there(sandbox)
    pods = {name: uid(pod) for name, pod in sandbox.pods().items()}
    mark = sandbox.plane.audit.mark()

    sandbox.delete(names.KIND, "serve", propagation="Orphan")
    sandbox.wait_gone(names.KIND, "serve")
    sandbox.wait("nobody owns it", lambda: not owner_uid(sandbox.must_get("StatefulSet", "serve")))
    del before[names.KIND]
    stays(lambda: there(sandbox) == before)
    assert sandbox.writes("operator", mark, events=True) == []

    sandbox.apply(lws(image="img:2"))
    sandbox.wait_condition("serve", "Stalled", reason="ForeignObject")
    sandbox.wait(
        "it says so of the StatefulSet too",
        lambda: "StatefulSet serve" in str(sandbox.must_get(names.KIND, "serve")["status"]["conditions"]),
    )
    assert {name: uid(pod) for name, pod in sandbox.pods().items()} == pods
    changed = {one.resource for one in sandbox.writes("operator", mark) if one.verb != "create"}
    assert changed == {"leaderworkersets"}

    for kind in ("StatefulSet", "Service", "ControllerRevision"):
        for one in sandbox.all(kind, f"{names.SET_NAME}=serve"):
            if not owner_uid(one):
                sandbox.delete(kind, one["metadata"]["name"])
    sandbox.wait_condition("serve", "Available", timeout_s=60)
    sandbox.wait("it is stalled no more", lambda: not is_stalled(sandbox))
    images = {pod["spec"]["containers"][0]["image"] for pod in sandbox.pods().values()}
    assert images == {"img:2"}
    sandbox.wait("nothing is left over", lambda: leaked(sandbox) == [])


def is_stalled(sandbox: Sandbox) -> bool:
    told = sandbox.must_get(names.KIND, "serve")["status"]["conditions"]
    return any(one["type"] == "Stalled" and one["status"] == "True" for one in told)


@pytest.mark.usefixtures("slow_kubelet")
def test_deleted_namespace_always_goes_with_its_sets(sandbox: Sandbox, operator: Operator) -> None:
    for index in range(3):
        sandbox.apply(lws(f"serve-{index}"))
    for index in range(3):
        sandbox.wait_condition(f"serve-{index}", "Available")
    sandbox.wait_quiet()
    mark, begun = sandbox.plane.audit.mark(), operator.log_size()

    began_s = time.monotonic()
    sandbox.client.delete("v1", "Namespace", None, sandbox.name)

    def is_gone() -> bool:
        return sandbox.client.get("v1", "Namespace", None, sandbox.name) is None

    sandbox.wait("the namespace is gone", is_gone, 120)
    took_s = time.monotonic() - began_s
    tried = creates(sandbox, mark)
    assert [str(one) for one in tried if one.code < 300] == []
    counts = Counter((one.resource, one.name) for one in tried)
    assert len(counts) < 20, tried  # of objects that went before their set, until that had gone too
    assert all(2 ** (count - 1) - 1 <= took_s for count in counts.values()), tried  # after 1 s, 2 s and so on
    later = sandbox.plane.audit.mark()
    stays(lambda: sandbox.writes("operator", later, events=True) == [], 2.0)
    assert operator.is_ready()
    assert "Traceback" not in operator.tail(100_000, since=begun)


@pytest.mark.usefixtures("slow_kubelet", "operator")
@pytest.mark.parametrize("image", ["img:1", "img:2"], ids=["as it was", "as another"])
def test_set_made_again_at_once_always_becomes_available(sandbox: Sandbox, image: str) -> None:
    first = uid(sandbox.apply(with_claims("Retain")))
    sandbox.wait_condition("serve", "Available")
    old = {uid(one) for kind in KINDS for one in sandbox.all(kind)} | {first}
    claims = {uid(one) for one in sandbox.all("PersistentVolumeClaim")}
    mark = sandbox.plane.audit.mark()

    sandbox.delete(names.KIND, "serve")
    second = uid(sandbox.apply(with_claims("Retain", image=image)))
    sandbox.wait_condition("serve", "Available", timeout_s=60)

    def is_all_new() -> bool:
        living = {uid(one) for kind in KINDS for one in sandbox.all(kind)}
        return not living & (old - claims) and leaked(sandbox) == []

    sandbox.wait("all of the first is gone", is_all_new)
    pods = sandbox.pods()
    assert set(pods) == {"serve-0", "serve-0-1", "serve-1", "serve-1-1"}
    assert {pod["spec"]["containers"][0]["image"] for pod in pods.values()} == {image}
    made = [one for one in creates(sandbox, mark) if one.code == 201]
    leaders = {uid(pods["serve-0"]), uid(pods["serve-1"])}
    assert owners_in(creates(sandbox, mark)) == {second, *leaders}
    assert sorted((one.resource, one.name) for one in made if one.resource != "controllerrevisions") == [
        ("services", "serve"),
        ("statefulsets", "serve"),
        ("statefulsets", "serve-0"),
        ("statefulsets", "serve-1"),
    ]
    assert {uid(one) for one in sandbox.all("PersistentVolumeClaim")} == claims
    assert len(own_revisions(sandbox)) == 1
    assert sandbox.events("ForeignObject") == []  # what is about to go stands in nobody's way


@pytest.mark.usefixtures("slow_kubelet", "operator")
def test_set_deleted_and_made_again_in_any_state_never_leaves_anything(sandbox: Sandbox) -> None:
    for step in range(8):
        sandbox.apply(lws(image=f"img:{step}"))
        time.sleep(0.15 * step)
        sandbox.delete(names.KIND, "serve", propagation=("Background", "Foreground")[step % 4 == 3])
        sandbox.wait_gone(names.KIND, "serve", 60)
    sandbox.apply(lws(image="img:last"))
    sandbox.wait_condition("serve", "Available", timeout_s=60)

    def is_settled() -> bool:
        pods = sandbox.pods()
        images = {pod["spec"]["containers"][0]["image"] for pod in pods.values()}
        return len(pods) == 4 and images == {"img:last"} and leaked(sandbox) == []

    sandbox.wait("only the last is there", is_settled)
    assert len(own_revisions(sandbox)) == 1


def own_revisions(sandbox: Sandbox) -> list[Manifest]:
    owner = uid(sandbox.must_get(names.KIND, "serve"))
    return [one for one in sandbox.all("ControllerRevision") if owner_uid(one) == owner]
