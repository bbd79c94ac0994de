"""The API server takes every object that the controller makes or writes in explorations of small sets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import pytest
from client import Client, Manifest
from control_plane import ControlPlane

from lws_core.actions import Apply, Create
from lws_core.values import thaw
from lws_sim.checking.explorer import Explorer

sys.path.append(str(Path(__file__).parents[1]))

from exploration.first_finding import cases  # found by the line above

pytestmark = pytest.mark.usefixtures("no_operator")

_KEPT: Final = ("name", "labels", "annotations", "ownerReferences")


def bare(manifest: Manifest) -> Manifest:
    """A manifest as for an object that is not there yet, in a namespace that is."""
    kept = {field: value for field, value in manifest["metadata"].items() if field in _KEPT}
    return {**manifest, "metadata": {**kept, "namespace": "default"}}


def emitted() -> dict[str, Any]:
    """What is created or applied in each case, every manifest once, by its text."""
    found: dict[str, Any] = {}
    for case in cases():
        if case.scope.fault_count * case.shape.size > 1 or case.scope.slack != 1:
            continue  # some ten thousands of states more, and no other objects
        model = case.scope.model(case.shape.manifest)
        report = Explorer(model, case.scope.start(model), keeps_floor=False).run(limit=70_000)
        assert report.finding is None
        for action in model.actions:
            if isinstance(action, Create | Apply):
                manifest = bare(thaw(action.manifest))
                found[f"{type(action).__name__} {manifest}"] = (type(action), manifest)
    return found


def test_every_object_that_is_emitted_must_be_accepted(cluster: ControlPlane) -> None:
    client: Client = cluster.client()
    found = emitted()
    kinds = {(verb.__name__, manifest["kind"]) for verb, manifest in found.values()}
    assert {("Create", "StatefulSet"), ("Apply", "StatefulSet"), ("Create", "ControllerRevision")} <= kinds
    assert len(found) > 100
    made = {key_of(manifest): manifest for verb, manifest in found.values() if verb is Create}
    for verb, manifest in found.values():
        if verb is Create:
            client.create(manifest, dryRun="All")
        else:
            whole = {**made.get(key_of(manifest), {}), **manifest}  # a revision's number is applied alone
            client.apply(whole, dryRun="All", fieldValidation="Strict")


def key_of(manifest: Manifest) -> tuple[str, str]:
    """Kind and name."""
    return manifest["kind"], manifest["metadata"]["name"]
