"""Sets from and to JSON."""

from __future__ import annotations

from typing import Any

import pytest
from building import POD, a_set, lines
from recorded import STATES, state

from lws_core.codec import decode, decode_lenient, decode_status, encode, encode_metadata, encode_status
from lws_core.errors import InvalidManifest
from lws_core.spec import (
    Condition,
    LeaderWorkerSet,
    LeaderWorkerTemplate,
    Metadata,
    OwnerReference,
    RolloutStrategy,
    Spec,
    Status,
    SubGroupPolicy,
)
from lws_core.validation import validate_create
from lws_core.values import FrozenMap, Json, freeze, freeze_map, thaw

CLAIM = freeze_map({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}})


def everything() -> LeaderWorkerSet:
    return LeaderWorkerSet(
        metadata=Metadata(
            name="serve",
            namespace="models",
            labels=FrozenMap(app="x"),
            annotations=FrozenMap({"a.b/c": "d"}),
            uid="u1",
            resource_version="42",
            generation=7,
            creation_timestamp="2026-01-02T03:04:05Z",
            deletion_timestamp="2026-01-02T03:04:06Z",
            finalizers=("foregroundDeletion",),
            owners=(OwnerReference("apps/v1", "Deployment", "d", "u2", controller=False),),
        ),
        spec=Spec(
            leader_worker_template=LeaderWorkerTemplate(
                worker_template=freeze_map({**POD, "unknown": [None, 1.5]}),
                leader_template=freeze_map(POD),
                size=5,
                restart_policy="None",
                sub_group_policy=SubGroupPolicy(2, "LeaderExcluded"),
                volume_claim_templates=(CLAIM,),
                persistent_volume_claim_retention_policy=freeze_map({"whenDeleted": "Delete"}),
            ),
            replicas=0,
            rollout_strategy=RolloutStrategy(3, "25%", 2),
            startup_policy="LeaderReady",
            subdomain_policy="UniquePerReplica",
        ),
        status=Status(
            3, 2, 1, "a=b", 7, (Condition("Available", "False", "R", "", 7, "2026-01-02T03:04:05Z"),)
        ),
    )


def test_encoding_always_writes_every_field() -> None:
    assert encode(everything()) == freeze_map(
        {
            "apiVersion": "leaderworkerset.x-k8s.io/v1",
            "kind": "LeaderWorkerSet",
            "metadata": {
                "name": "serve",
                "namespace": "models",
                "labels": {"app": "x"},
                "annotations": {"a.b/c": "d"},
                "uid": "u1",
                "resourceVersion": "42",
                "generation": 7,
                "creationTimestamp": "2026-01-02T03:04:05Z",
                "deletionTimestamp": "2026-01-02T03:04:06Z",
                "finalizers": ["foregroundDeletion"],
                "ownerReferences": [
                    {
                        "apiVersion": "apps/v1",
                        "kind": "Deployment",
                        "name": "d",
                        "uid": "u2",
                        "controller": False,
                        "blockOwnerDeletion": True,
                    }
                ],
            },
            "spec": {
                "replicas": 0,
                "leaderWorkerTemplate": {
                    "leaderTemplate": POD,
                    "workerTemplate": {**POD, "unknown": [None, 1.5]},
                    "size": 5,
                    "restartPolicy": "None",
                    "subGroupPolicy": {"subGroupPolicyType": "LeaderExcluded", "subGroupSize": 2},
                    "volumeClaimTemplates": [CLAIM],
                    "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"},
                },
                "rolloutStrategy": {
                    "type": "RollingUpdate",
                    "rollingUpdateConfiguration": {"partition": 3, "maxUnavailable": "25%", "maxSurge": 2},
                },
                "startupPolicy": "LeaderReady",
                "networkConfig": {"subdomainPolicy": "UniquePerReplica"},
            },
            "status": {
                "replicas": 3,
                "readyReplicas": 2,
                "updatedReplicas": 1,
                "hpaPodSelector": "a=b",
                "observedGeneration": 7,
                "conditions": [
                    {
                        "type": "Available",
                        "status": "False",
                        "reason": "R",
                        "message": "",
                        "observedGeneration": 7,
                        "lastTransitionTime": "2026-01-02T03:04:05Z",
                    }
                ],
            },
        }
    )


def test_decoding_always_takes_back_what_encoding_wrote() -> None:
    assert decode(encode(everything())) == everything()


def test_decoding_always_keeps_templates_and_claims_unharmed() -> None:
    manifest = a_set(template={"workerTemplate": {"x": None, "spec": {"y": [1.0, {}]}}})
    decoded = decode(manifest).spec.leader_worker_template.worker_template
    assert decoded == freeze({"x": None, "spec": {"y": [1.0, {}]}})


@pytest.mark.parametrize("name", STATES)
def test_decoding_always_reads_what_a_real_api_server_stores(name: str) -> None:
    (stored,) = state(name).of("LeaderWorkerSet")
    lws = decode(stored)
    assert decode(encode(lws)) == lws
    assert encode(lws)["spec"] == stored["spec"]
    assert encode(lws)["status"] == stored["status"]


def test_owner_that_is_no_controller_never_becomes_one() -> None:
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "y"}
    (decoded,) = decode(a_set(metadata={"ownerReferences": [owner]})).metadata.owners
    assert (decoded.controller, decoded.block_owner_deletion) == (False, False)


def test_integral_number_always_counts_as_an_integer() -> None:
    replicas = decode(a_set({"replicas": 5.0})).spec.replicas
    assert (replicas, type(replicas)) == (5, int)


def test_status_that_is_empty_never_is_written() -> None:
    assert "status" not in encode(decode(a_set()))


def test_status_always_writes_counts_of_zero() -> None:
    assert encode_status(Status()) == freeze({"replicas": 0, "readyReplicas": 0, "updatedReplicas": 0})
    assert decode_status(encode_status(Status())) == Status()


@pytest.mark.parametrize("garbage", [None, 5, "x", [], {"replicas": "x", "conditions": [1, {"type": 2}]}])
def test_status_never_fails_to_decode(garbage: Any) -> None:
    assert isinstance(decode_status(freeze(garbage)), Status)


def test_metadata_never_holds_what_is_empty() -> None:
    assert encode_metadata(Metadata("serve")) == freeze({"name": "serve", "namespace": "default"})


SPEC = "spec.leaderWorkerTemplate"
POLICIES = '"Default", "RecreateGroupOnPodRestart", "RecreateGroupAfterStart", "None"'

FAULTS: list[tuple[FrozenMap[Json], list[str]]] = [
    (
        a_set({"replicas": "three"}),
        ['spec.replicas: Invalid value: "three": must be an integer'],
    ),
    (a_set({"replicas": True}), ["spec.replicas: Invalid value: true: must be an integer"]),
    (a_set({"replicas": 1.5}), ["spec.replicas: Invalid value: 1.5: must be an integer"]),
    (
        a_set(template={"size": 2**31}),
        [f"{SPEC}.size: Invalid value: 2147483648: must be an integer between -2147483648 and 2147483647"],
    ),
    (
        a_set(template={"restartPolicy": "RecreateGroupOnRestart"}),
        [f'{SPEC}.restartPolicy: Unsupported value: "RecreateGroupOnRestart": supported values: {POLICIES}'],
    ),
    (
        a_set({"startupPolicy": "", "networkConfig": {"subdomainPolicy": "Own"}}),
        [
            'spec.startupPolicy: Unsupported value: "": supported values: "LeaderCreated", "LeaderReady"',
            'spec.networkConfig.subdomainPolicy: Unsupported value: "Own": '
            'supported values: "Shared", "UniquePerReplica"',
        ],
    ),
    (
        a_set({"rolloutStrategy": {"type": "Recreate"}}),
        ['spec.rolloutStrategy.type: Unsupported value: "Recreate": supported values: "RollingUpdate"'],
    ),
    (
        a_set(rolling={"maxSurge": 0.5, "maxUnavailable": [1], "partition": "0"}),
        [
            "spec.rolloutStrategy.rollingUpdateConfiguration.partition: "
            'Invalid value: "0": must be an integer',
            "spec.rolloutStrategy.rollingUpdateConfiguration.maxUnavailable: "
            'Invalid value: "array": must be an integer or a string',
            "spec.rolloutStrategy.rollingUpdateConfiguration.maxSurge: "
            "Invalid value: 0.5: must be an integer or a string; write it in quotes",
        ],
    ),
    (a_set(template={"workerTemplate": None}), [f"{SPEC}.workerTemplate: Required value"]),
    (
        a_set(template={"volumeClaimTemplates": [None, "x"]}),
        [
            f"{SPEC}.volumeClaimTemplates[0]: Invalid value: null: must be a map of fields",
            f'{SPEC}.volumeClaimTemplates[1]: Invalid value: "x": must be a map of fields',
        ],
    ),
    (
        a_set(metadata={"labels": {"a": 1}, "finalizers": "x"}),
        [
            "metadata.labels[a]: Invalid value: 1: must be a string",
            'metadata.finalizers: Invalid value: "x": must be a list',
        ],
    ),
    (
        a_set().with_("kind", "LeaderWorkerSets").with_("apiVersion", "leaderworkerset.x-k8s.io/v2"),
        [
            'apiVersion: Unsupported value: "leaderworkerset.x-k8s.io/v2": '
            'supported values: "leaderworkerset.x-k8s.io/v1"',
            'kind: Unsupported value: "LeaderWorkerSets": supported values: "LeaderWorkerSet"',
        ],
    ),
    (
        freeze_map({}),
        [
            'apiVersion: Required value: must be "leaderworkerset.x-k8s.io/v1"',
            'kind: Required value: must be "LeaderWorkerSet"',
            "spec: Required value",
        ],
    ),
    (a_set().with_("spec", freeze({})), [f"{SPEC}: Required value"]),
    (a_set().with_("spec", freeze([1])), ['spec: Invalid value: "array": must be a map of fields']),
]


@pytest.mark.parametrize(("manifest", "expected"), FAULTS)
def test_decoding_always_names_every_fault(manifest: FrozenMap[Json], expected: list[str]) -> None:
    with pytest.raises(InvalidManifest) as caught:
        decode(manifest)
    assert lines(caught.value.errors) == expected


@pytest.mark.parametrize("value", [None, 5, "x", (), (1,)])
def test_decoding_never_takes_what_is_no_map(value: Json) -> None:
    lws, errors = decode_lenient(value)
    assert lws is None
    (error,) = errors
    assert (error.path, error.type, error.detail) == ("manifest", "TypeInvalid", "must be a map of fields")


def test_decoding_must_tell_how_to_freeze_a_plain_dict() -> None:
    plain: Any = thaw(a_set())
    told = 'manifest: Invalid value: "dict": must be frozen, as by freeze_map'
    with pytest.raises(InvalidManifest, match=told):
        decode(plain)
    assert lines(validate_create(plain).errors) == [told]


def test_decoding_never_minds_fields_of_a_newer_version() -> None:
    assert decode(a_set({"new": 1}, template={"newer": {}})) == decode(a_set())


def test_lenient_decoding_always_keeps_what_can_be_read() -> None:
    lws, errors = decode_lenient(a_set({"replicas": "x", "startupPolicy": "LeaderReady"}, {"size": 7}))
    assert lws is not None
    assert (lws.spec.replicas, lws.spec.startup_policy, len(errors)) == (1, "LeaderReady", 1)
    assert lws.spec.leader_worker_template.size == 7
