"""The headless Services that give pods their names: one for the whole set, or one for each group."""

from __future__ import annotations

from collections.abc import Mapping

from lws_core import names
from lws_core.observed import Pod
from lws_core.spec import LeaderWorkerSet
from lws_core.values import EMPTY, FrozenMap, Json, freeze_map

from .metadata import object_metadata, pod_reference, set_reference


def shared_service(lws: LeaderWorkerSet) -> FrozenMap[Json]:
    """The Service of all pods of the set (subdomainPolicy Shared): `<pod>.<set>.<namespace>`."""
    return _headless(lws, lws.name, {names.SET_NAME: lws.name}, set_reference(lws))


def group_service(lws: LeaderWorkerSet, leader: Pod) -> FrozenMap[Json]:
    """The Service of one group (UniquePerReplica): `<pod>.<leader>.<namespace>`. It goes with its leader."""
    selector = {names.SET_NAME: lws.name, names.GROUP_INDEX: str(leader.group_index)}
    return _headless(lws, leader.name, selector, pod_reference(leader.name, leader.uid))


def _headless(
    lws: LeaderWorkerSet, name: str, selector: Mapping[str, str], owner: FrozenMap[Json]
) -> FrozenMap[Json]:
    return freeze_map(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": object_metadata(name, lws.namespace, {names.SET_NAME: lws.name}, EMPTY, owner),
            "spec": {
                "clusterIP": "None",
                # Members find each other while they start, so before any of them is ready.
                "publishNotReadyAddresses": True,
                "selector": selector,
            },
        }
    )
