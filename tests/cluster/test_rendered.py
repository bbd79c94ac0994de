"""The API server takes every object that sets come to, and all that is installed, with strict validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import attrs
import pytest
import rights
import yaml
from client import Client, Manifest, Refused
from conftest import ROOT
from control_plane import ControlPlane
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from standins import POD_GROUPS
from stateful import stateful_set
from strategies import manifests

from lws_core.codec import decode
from lws_core.defaulting import webhook_defaults
from lws_core.options import Options
from lws_core.preview import preview
from lws_core.structural import fill_defaults
from lws_core.values import FrozenMap, Json, as_map, dig, freeze_map, thaw
from lws_runtime.schema_data import manifest_schema

pytestmark = pytest.mark.usefixtures("no_operator")

EXAMPLES: Final = sorted((ROOT / "examples").glob("lws*.yaml"))
UID: Final = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def client(cluster: ControlPlane) -> Client:
    """Of a cluster that knows PodGroups too."""
    cluster.install_crd(POD_GROUPS)
    return cluster.client()


def owned(manifest: Manifest) -> Manifest:
    """With the owner reference that a preview leaves out, as it does not know the leader pod's UID."""
    metadata = {**manifest["metadata"], "namespace": "default"}
    if "ownerReferences" not in metadata:
        leader = {"apiVersion": "v1", "kind": "Pod", "name": "leader", "uid": UID}
        metadata["ownerReferences"] = [{**leader, "controller": True, "blockOwnerDeletion": True}]
    return {**manifest, "metadata": metadata}


def placed(value: Any) -> Any:
    """With a label's value where a preview can only say what is to stand there."""
    if isinstance(value, dict):
        return {key: placed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [placed(item) for item in value]
    return "domain-a" if isinstance(value, str) and value.endswith(" of the leader's node>") else value


def try_out(client: Client, manifest: Manifest) -> None:
    """Create it in a dry run. Raises Refused."""
    client.create(placed(owned(manifest)), dryRun="All")


def rendered(manifest: FrozenMap[Json], options: Options) -> list[Manifest]:
    """All that a set comes to, its pods included."""
    filled = webhook_defaults(as_map(fill_defaults(manifest, manifest_schema())))
    lws = decode(filled)
    lws = attrs.evolve(lws, metadata=attrs.evolve(lws.metadata, uid=UID, namespace="default"))
    return [thaw(one) for one in preview(lws, options, with_pods=True)]


@pytest.mark.parametrize("gang", [False, True], ids=["plain", "gang"])
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_objects_of_an_example_are_always_accepted(client: Client, path: Path, gang: bool) -> None:
    for manifest in yaml.safe_load_all(path.read_text()):
        for one in rendered(freeze_map(manifest), Options(gang_scheduling=gang)):
            try_out(client, one)


@settings(max_examples=40)
@given(manifests(), st.booleans(), st.booleans())
def test_objects_of_any_set_are_accepted_where_its_pods_are(
    client: Client, manifest: FrozenMap[Json], gang: bool, across: bool
) -> None:
    templates = as_map(dig(manifest, "spec", "leaderWorkerTemplate"))
    for field in ("leaderTemplate", "workerTemplate"):
        if field in templates:
            assume(is_fine(client, thaw(templates[field])))
    options = Options(gang_scheduling=gang, exclusive_across_namespaces=across)

    for one in rendered(manifest, options):
        try_out(client, one)


def is_fine(client: Client, template: Any) -> bool:
    """The API server takes the template in a plain StatefulSet."""
    plain = stateful_set()
    labels = {**template.get("metadata", {}).get("labels", {}), "app": "web"}
    plain["spec"]["template"] = {**template, "metadata": {**template.get("metadata", {}), "labels": labels}}
    try:
        client.create(plain, dryRun="All")
    except Refused as refused:
        if refused.code != 422:
            raise
        return False
    return True


@pytest.mark.parametrize("components", [(), ("gang-scheduling",)], ids=["plain", "gang"])
def test_installation_is_always_accepted(cluster: ControlPlane, components: tuple[str, ...]) -> None:
    for manifest in rights.rendered(cluster.programs["kubectl"], *components):
        cluster.client().apply(manifest, dryRun="All", fieldValidation="Strict")
