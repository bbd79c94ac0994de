"""What the operator leaves for the Go controller, should a set be given back to it (docs/install.md)."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Final

from client import APPLY, Manifest
from conftest import ROOT, NewOperator, StartKubelet
from kubelet import Kubelet
from operator_process import Operator
from sandbox import Sandbox
from sets import key_of, label, lws, set_image
from taking_over import recorded

from lws_core import names

KINDS: Final = ("StatefulSet", "Service", "ControllerRevision")
SERVERS: Final = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "namespace")
DROPPED: Final = "example.com/dropped"


def test_objects_must_be_those_that_the_go_controller_makes_of_the_same_set(
    sandbox: Sandbox, kubelet: Kubelet, operator: Operator
) -> None:
    theirs = recorded("at-rest")
    (user,) = (one for one in theirs if one["kind"] == names.KIND)
    name = user["metadata"]["name"]
    sandbox.create({**user, "metadata": {"name": name}, "status": {}})
    sandbox.wait_ready(name, user["spec"]["replicas"])
    ours = [{**one, "kind": kind} for kind in KINDS for one in sandbox.all(kind, f"{names.SET_NAME}={name}")]

    made, left = named(ours), named([one for one in theirs if one["kind"] in KINDS])

    assert set(made) == set(left) != set()
    record = made[f"StatefulSet {name}"]["metadata"]["annotations"].pop(names.RENDERED)
    assert json.loads(record) == {"key": "the revision's"}
    for what in left:
        assert made[what] == left[what], what
    assert {what: writers(one) for what, one in named(ours, bare=False).items()} == {
        what: {("lws", "Update")} if what == f"StatefulSet {name}" else writers(one)  # a POST, not an apply
        for what, one in named([one for one in theirs if one["kind"] in KINDS], bare=False).items()
    }


def named(manifests: list[Manifest], *, bare: bool = True) -> dict[str, Manifest]:
    """What the controller of the set has made, by kind and name, without what differs in every cluster if
    that is wished. Revisions of StatefulSets are not its own."""
    found = {}
    for one in manifests:
        if one["kind"] == "ControllerRevision" and owner(one)["kind"] != names.KIND:
            continue
        key = label(one, names.REVISION_KEY)
        name = one["metadata"]["name"].replace(key, "revision") if key else one["metadata"]["name"]
        found[f"{one['kind']} {name}"] = without_accidents(one) if bare else one
    return found


def owner(one: Manifest) -> Manifest:
    (found,) = one["metadata"]["ownerReferences"]
    return dict(found)


def without_accidents(one: Manifest) -> Manifest:
    text = json.dumps(one)
    for key, stands_for in ((names.REVISION_KEY, "the revision's"), (names.GROUP_KEY, "the group's")):
        if value := label(one, key):
            text = text.replace(value, stands_for)
    same: Manifest = json.loads(text)
    metadata = {name: value for name, value in same["metadata"].items() if name not in SERVERS}
    for each in metadata["ownerReferences"]:
        del each["uid"]
    return {**{name: value for name, value in same.items() if name != "status"}, "metadata": metadata}


def writers(one: Manifest) -> set[tuple[str, str]]:
    """Who has written what is not its status, and how."""
    entries = one["metadata"]["managedFields"]
    return {(entry["manager"], entry["operation"]) for entry in entries if "subresource" not in entry}


# -- what the Go controller's applies can take back


def test_fields_must_be_given_up_once_the_go_controller_applies_without_them(
    sandbox: Sandbox, start_kubelet: StartKubelet, new_operator: NewOperator, programs: dict[str, Path]
) -> None:
    """At once where this operator has applied; after a POST alone, once the command of the page was run."""
    start_kubelet(sandbox, load_s=1.2)  # the last status is a second later: entries are in order of time
    operator = new_operator("leaves").start()
    operator.register_webhooks()
    for name in ("applied", "posted", "turned"):
        sandbox.create(lws(name, 1, pod_annotations={DROPPED: "yes"}))
        sandbox.wait_ready(name, 1)
    first = key_of(sandbox, "applied")
    set_image(sandbox, "applied", "img:2")
    sandbox.wait_ready("applied", 1)
    assert key_of(sandbox, "applied") != first
    operator.stop()
    turn(sandbox, "turned", programs["kubectl"])

    for name in ("applied", "posted", "turned"):
        apply_as_go(sandbox, name)

    found = {name: sandbox.must_get("StatefulSet", name) for name in ("applied", "posted", "turned")}
    assert {name: has_dropped(one) for name, one in found.items()} == {
        "applied": False,
        "posted": True,
        "turned": False,
    }
    kept = {
        name: [key for key in one["metadata"]["annotations"] if key.startswith(names.OWN_PREFIX)]
        for name, one in found.items()
    }
    assert kept == {"applied": [], "posted": [names.RENDERED], "turned": []}


def apply_as_go(sandbox: Sandbox, name: str) -> None:
    """Apply the leader StatefulSet as the Go controller does, the pods' annotation left out."""
    one = sandbox.must_get("StatefulSet", name)
    metadata, spec = one["metadata"], one["spec"]
    annotations = {
        key: value for key, value in metadata["annotations"].items() if not key.startswith(names.OWN_PREFIX)
    }
    del spec["template"]["metadata"]["annotations"][DROPPED]
    kept: Manifest = {each: metadata[each] for each in ("name", "namespace", "labels", "ownerReferences")}
    body = {**one, "metadata": {**kept, "annotations": annotations}}
    del body["status"]
    sandbox.client.patch(sandbox.path("StatefulSet", name), body, APPLY, fieldManager="lws", force="true")


def has_dropped(statefulset: Manifest) -> bool:
    return DROPPED in statefulset["spec"]["template"]["metadata"].get("annotations", {})


def turn(sandbox: Sandbox, name: str, kubectl: Path) -> None:
    """Run the command of docs/install.md for one leader StatefulSet."""
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    found = re.search(r"kubectl (-n <namespace> patch statefulset <set> .*?)\n *```", page, flags=re.S)
    assert found is not None
    text = found[1].replace("<namespace>", sandbox.name).replace("<set>", name).replace("\\\n", " ")
    command = [str(kubectl), "--kubeconfig", str(sandbox.plane.kubeconfig()), *shlex.split(text)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
