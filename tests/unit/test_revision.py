from __future__ import annotations

import json
import re
from typing import Any

import pytest
from machine import live
from recorded import STATES, label, state

from lws_core import names
from lws_core.errors import InvalidManifest
from lws_core.revision import (
    contained,
    manifest,
    meaning,
    new_key,
    normalised,
    overlay,
    record,
    recorded_meaning,
    records_network,
)
from lws_core.values import as_go_writes, as_map, dig, freeze, freeze_map

POD = {"spec": {"containers": [{"name": "main", "image": "img:1"}]}}


def with_container(**fields: Any) -> dict[str, Any]:
    return {"workerTemplate": {"spec": {"containers": [{"name": "main", "image": "img:1", **fields}]}}}


@pytest.mark.parametrize("name", STATES)
def test_recorded_revision_always_means_what_is_recorded_afresh(name: str) -> None:
    """The original controller's records, old serialisations included, against our own."""
    recording = state(name)
    key = label(recording.leader_statefulset, names.REVISION_KEY)
    data = as_map(recording.revision(key)["data"])
    assert recorded_meaning(recording.lws, data) == meaning(recording.lws)


@pytest.mark.parametrize(
    "template",
    [
        {"size": 3},
        {"leaderTemplate": POD},
        {"restartPolicy": "None"},
        {"subGroupPolicy": {"subGroupSize": 1}},
        {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"}},
        with_container(image="img:2"),
        with_container(resources={"limits": {"cpu": "2"}}),
        with_container(securityContext={"runAsUser": 0}),
        with_container(env=[{"name": "A"}]),
        with_container(ports=[{"containerPort": 1, "protocol": "UDP"}]),
        {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Delete"}},
        {"workerTemplate": {**POD, "metadata": {"labels": {"a": ""}}}},
        {"workerTemplate": {"spec": {**POD["spec"], "volumes": [{"name": "t", "emptyDir": {}}]}}},
    ],
)
def test_change_of_a_group_always_is_another_meaning(template: dict[str, Any]) -> None:
    assert meaning(live(template=template)) != meaning(live())


def volume(**fields: Any) -> dict[str, Any]:
    source = {"targetPortal": "p", "iqn": "q", "lun": 0, **fields}
    return {"workerTemplate": {"spec": {**POD["spec"], "volumes": [{"name": "v", "iscsi": source}]}}}


def test_change_of_claims_never_is_another_meaning_but_always_is_recorded() -> None:
    """No StatefulSet can change them: a rollout would restart every group, and change nothing. Sets whose
    claims were edited while nothing denied it would all be restarted when they are taken over."""
    claims = {"volumeClaimTemplates": [{"metadata": {"name": "d"}, "spec": {"accessModes": ["A"]}}]}
    assert meaning(live(template=claims)) == meaning(live())
    assert record(live(template=claims)) != record(live())
    assert overlay(live(), record(live(template=claims))) == live(template=claims)


DELETE = {"whenDeleted": "Delete"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"}}),
        (
            {"persistentVolumeClaimRetentionPolicy": DELETE},
            {"persistentVolumeClaimRetentionPolicy": {**DELETE, "whenScaled": "Retain"}},
        ),
        ({}, {"workerTemplate": {"spec": {**POD["spec"], "restartPolicy": "Always"}}}),
        (volume(), volume(chapAuthDiscovery=False, chapAuthSession=False)),
        (
            {"workerTemplate": {"spec": {**POD["spec"], "volumes": [{"name": "v", "scaleIO": {}}]}}},
            {
                "workerTemplate": {
                    "spec": {**POD["spec"], "volumes": [{"name": "v", "scaleIO": {"sslEnabled": False}}]}
                }
            },
        ),
    ],
)
def test_default_that_is_spelled_out_never_is_another_meaning(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert meaning(live(template=one)) == meaning(live(template=other))


def test_container_that_restarts_always_is_a_sidecar_and_another_meaning() -> None:
    def with_init(**fields: Any) -> dict[str, Any]:
        return {"workerTemplate": {"spec": {**POD["spec"], "initContainers": [{"name": "i", **fields}]}}}

    assert meaning(live(template=with_init(restartPolicy="Always"))) != meaning(live(template=with_init()))


def test_network_always_is_part_of_the_meaning() -> None:
    unique = live({"networkConfig": {"subdomainPolicy": "UniquePerReplica"}})
    assert meaning(unique) != meaning(live())
    assert meaning(live({"networkConfig": {"subdomainPolicy": "Shared"}})) == meaning(live())


@pytest.mark.parametrize(
    "other",
    [
        live({"replicas": 9}),
        live({"startupPolicy": "LeaderReady"}),
        live(rolling={"maxUnavailable": 2, "partition": 1}),
        live(metadata={"labels": {"a": "b"}, "annotations": {names.EXCLUSIVE_TOPOLOGY: "rack"}}),
    ],
)
def test_change_of_the_set_alone_never_is_another_meaning(other: Any) -> None:
    assert meaning(other) == meaning(live())


@pytest.mark.parametrize(
    ("field", "empty", "means_something"),
    [
        ("emptyDir", {}, True),
        ("labelSelector", {}, True),
        ("resources", {}, False),
        ("storageClassName", "", True),
        ("serviceAccountName", "", False),
        ("runAsUser", 0, True),
        ("hostNetwork", False, False),
        ("automountServiceAccountToken", False, True),
        ("terminationGracePeriodSeconds", 0, True),
        ("env", [], False),
        ("creationTimestamp", None, False),
        ("protocol", "TCP", False),
        ("protocol", "UDP", True),
    ],
)
def test_empty_field_never_is_dropped_where_it_is_a_choice(
    field: str, empty: Any, means_something: bool
) -> None:
    assert (field in as_map(normalised(freeze_map({field: empty})))) == means_something


def test_words_of_the_user_never_are_dropped_or_taken_for_amounts() -> None:
    words = freeze_map({"labels": {"a": "", "limits": "1000m"}, "annotations": {"b": ""}})
    assert normalised(words) == words
    amounts = freeze_map({"limits": {"cpu": "1000m", "odd": "x"}})
    assert normalised(amounts) == freeze_map({"limits": {"cpu": "1", "odd": "x"}})


def test_part_always_is_contained_only_with_equal_values() -> None:
    whole = freeze({"a": 1, "b": [{"c": 2, "d": 3}]})
    assert contained(freeze({"b": [{"c": 2}]}), whole)
    assert not contained(freeze({"b": [{"c": 3}]}), whole)
    assert not contained(freeze({"b": []}), whole)
    assert not contained(freeze({"e": None}), whole)
    assert not contained(freeze({"a": True}), whole)


def test_overlay_always_takes_the_group_from_the_record_and_the_rest_from_the_set() -> None:
    then = live({"networkConfig": {"subdomainPolicy": "UniquePerReplica"}}, {"size": 5})
    now = live({"replicas": 7, "startupPolicy": "LeaderReady"}, metadata={"labels": {"a": "b"}})
    back = overlay(now, record(then))
    assert back.spec.leader_worker_template == then.spec.leader_worker_template
    assert back.spec.subdomain_policy == "UniquePerReplica"
    assert (back.spec.replicas, back.spec.startup_policy) == (7, "LeaderReady")
    assert back.metadata == now.metadata


def test_record_without_a_network_always_leaves_the_live_one() -> None:
    """Records of releases that did not write networkConfig: to take them for Shared would restart every
    group of a set with a subdomain for each when it is taken over."""
    data = freeze_map({"spec": {"leaderWorkerTemplate": {"size": 2, "workerTemplate": POD}}})
    unique = live({"networkConfig": {"subdomainPolicy": "UniquePerReplica"}})
    assert recorded_meaning(unique, data) == meaning(unique)
    assert recorded_meaning(live(), data) == meaning(live())
    assert not records_network(data)
    assert records_network(record(live()))


@pytest.mark.parametrize("data", [{}, {"spec": 5}, {"spec": {"leaderWorkerTemplate": {"size": "x"}}}])
def test_record_that_makes_no_sense_never_raises_when_compared(data: Any) -> None:
    assert recorded_meaning(live(), freeze_map(data)) is None
    with pytest.raises(InvalidManifest):
        overlay(live(), freeze_map(data))


def test_new_key_never_is_one_that_is_taken() -> None:
    first = new_key("m")
    second = new_key("m", [first])
    assert len({first, second, new_key("m", [first, second])}) == 3
    assert new_key("m", ["other"]) == first


def test_key_always_is_hashed_and_written_as_kubernetes_does() -> None:
    """FNV-1 of these bytes is 3906218260, written in the alphabet of names."""
    text = (
        '{"spec":{"leaderWorkerTemplate":{"$patch":"replace"},'
        '"networkConfig":{"$patch":"replace","subdomainPolicy":"Shared"}}}'
    )
    assert new_key(text) == "7f4b65d6b4"


def test_revision_object_always_has_what_the_original_controller_looks_for() -> None:
    found = manifest(live(metadata={"name": "x" * 300}), "k", 4)
    assert dig(found, "metadata", "name") == "x" * 220 + "-k-4"
    found = manifest(live(), "k", 4)
    assert found["revision"] == 4
    assert dig(found, "metadata", "labels") == {names.SET_NAME: "serve", names.REVISION_KEY: "k"}
    template = as_map(dig(found, "data", "spec", "leaderWorkerTemplate"))
    assert template["$patch"] == "replace"
    assert dig(found, "data", "spec", "networkConfig") == {"$patch": "replace", "subdomainPolicy": "Shared"}
    assert re.fullmatch(r"[bcdfghjklmnpqrstvwxz2456789]+", new_key(meaning(live())))


def test_record_always_is_written_as_go_would_write_it_again() -> None:
    """The API server patches a revision by writing it out anew, and then wants every byte of the record."""
    lws = live(template=with_container(env=[{"name": "A", "value": '<a> & \u2028é"'}]))
    text = as_go_writes(record(lws))
    assert '{"name":"A","value":"\\u003ca\\u003e \\u0026 \\u2028é\\""}' in text
    assert freeze(json.loads(text)) == record(lws)
    assert re.findall(r'"(\$?\w+)":', text)[:4] == ["spec", "leaderWorkerTemplate", "$patch", "restartPolicy"]
    assert " " not in re.sub(r'"(\\.|[^"\\])*"', "", text)
