from __future__ import annotations

import pytest
from building import a_set

from lws_core import names
from lws_core.codec import decode
from lws_core.options import Options
from lws_core.preview import preview
from lws_core.values import FrozenMap, Json, dig


def shown(
    manifest: FrozenMap[Json],
    options: Options = Options(),
    groups: list[int] | None = None,
    pods: bool = False,
) -> list[FrozenMap[Json]]:
    return list(preview(decode(manifest), options, groups, with_pods=pods))


def lines(manifests: list[FrozenMap[Json]]) -> list[str]:
    return [f"{manifest['kind']} {dig(manifest, 'metadata', 'name')}" for manifest in manifests]


def test_objects_always_stand_in_the_order_in_which_they_are_made() -> None:
    found = lines(shown(a_set({"replicas": 2}, {"size": 2}), pods=True))
    assert found[0].startswith("ControllerRevision serve-")
    assert found[1:] == [
        "StatefulSet serve",
        "Service serve",
        "Pod serve-0",
        "StatefulSet serve-0",
        "Pod serve-0-1",
        "Pod serve-1",
        "StatefulSet serve-1",
        "Pod serve-1-1",
    ]


def test_group_always_has_only_the_children_that_its_set_asks_for() -> None:
    unique = a_set({"networkConfig": {"subdomainPolicy": "UniquePerReplica"}}, {"size": 1})
    found = lines(shown(unique, Options(gang_scheduling=True), [2]))
    assert found[1] == "StatefulSet serve"
    assert found[2] == "Service serve-2"
    assert found[3].startswith("PodGroup serve-2-")
    assert len(found) == 4


def test_leaders_and_their_groups_always_carry_the_key_of_the_revision() -> None:
    revision, leaders, _, *group = shown(a_set(), groups=[0], pods=True)
    key = dig(revision, "metadata", "labels", names.REVISION_KEY)
    assert dig(leaders, "metadata", "labels", names.REVISION_KEY) == key
    assert {dig(one, "metadata", "labels", names.REVISION_KEY) for one in group} == {key}


def test_owner_that_is_not_known_never_is_made_up() -> None:
    assert all(dig(one, "metadata", "ownerReferences") is None for one in shown(a_set()))
    stored = shown(a_set(metadata={"uid": "u"}), groups=[])
    assert [dig(one, "metadata", "ownerReferences")[0]["uid"] for one in stored] == ["u", "u", "u"]  # type: ignore[index,call-overload]


def test_domain_that_only_a_cluster_knows_always_is_named() -> None:
    exclusive = a_set(metadata={"annotations": {names.EXCLUSIVE_TOPOLOGY: "rack"}})
    workers = shown(exclusive, groups=[0])[-1]
    selector = dig(workers, "spec", "template", "spec", "nodeSelector")
    assert selector == {"rack": "<rack of the leader's node>"}


def test_amount_that_is_none_always_raises_for_gangs_only() -> None:
    container = {"name": "m", "resources": {"limits": {"cpu": "much"}}}
    bad = a_set(template={"workerTemplate": {"spec": {"containers": [container]}}})
    assert shown(bad)
    with pytest.raises(ValueError, match="much"):
        shown(bad, Options(gang_scheduling=True))
