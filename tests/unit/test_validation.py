"""The rules for sets: each with its path, its type and its exact words, on create and on update."""

from __future__ import annotations

from itertools import repeat
from typing import Any

import pytest
from building import POD, a_set, lines

from lws_core import names, validation
from lws_core.codec import decode_lenient
from lws_core.errors import MAX_FAULTS, MORE, FieldError, first_faults
from lws_core.validation import validate_create, validate_update
from lws_core.values import FrozenMap, Json, freeze, freeze_map

ROLLING = "spec.rolloutStrategy.rollingUpdateConfiguration"
SUBGROUP = "spec.leaderWorkerTemplate.SubGroupPolicy.subGroupSize"
TEMPLATE = "spec.leaderWorkerTemplate"
SUBGROUP_TOPOLOGY = names.SUBGROUP_EXCLUSIVE_TOPOLOGY
PERCENT = (
    "a valid percent string must be a numeric string followed by an ending '%' "
    "(e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"
)
DNS_1035 = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
    "character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for "
    "validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
)
NO_STEP = f"{ROLLING}.maxUnavailable: Invalid value: {{}}: must not be 0 when `maxSurge` is 0"


def subgroups(size: int, sub_group_size: Any, kind: str = "LeaderWorker") -> FrozenMap[Json]:
    policy = {"subGroupPolicyType": kind, "subGroupSize": sub_group_size}
    return a_set(template={"size": size, "subGroupPolicy": policy})


def annotated(key: str, value: str) -> FrozenMap[Json]:
    return a_set(metadata={"annotations": {key: value}})


RULES: list[tuple[str, FrozenMap[Json], list[str]]] = [
    ("1", a_set(metadata={"name": "My_set"}), [f'metadata.name: Invalid value: "My_set": {DNS_1035}']),
    (
        "1-missing",
        a_set(metadata={"name": ""}),
        ["metadata.name: Required value: name or generateName is required"],
    ),
    (
        "1-long",
        a_set(metadata={"name": "x" * 64}),
        [f'metadata.name: Invalid value: "{"x" * 64}": must be no more than 63 characters'],
    ),
    (
        "1-generated",
        a_set(metadata={"name": "", "generateName": "1-"}),
        # The dash at the end goes for what the server will put there.
        [],
    ),
    (
        "1-generated-badly",
        a_set(metadata={"name": "", "generateName": "Serve-"}),
        [f'metadata.generateName: Invalid value: "Serve-": {DNS_1035}'],
    ),
    (
        "2",
        a_set({"replicas": -1}),
        ["spec.replicas: Invalid value: -1: replicas must be equal or greater than 0"],
    ),
    (
        "3",
        a_set({"replicas": 1_000_001}),
        ["spec.replicas: Invalid value: 1000001: replicas must be equal or less than 1000000"],
    ),
    (
        "4",
        a_set(template={"size": 0}),
        [f"{TEMPLATE}.size: Invalid value: 0: size must be equal or greater than 1"],
    ),
    (
        "5",
        a_set({"replicas": 1_000_000}, {"size": 2148}),
        [
            "spec.replicas: Invalid value: 1000000: "
            "the product of replicas and worker replicas must not exceed 2147483647"
        ],
    ),
    (
        "6",
        a_set(rolling={"maxUnavailable": "-5%"}),
        [f'{ROLLING}.maxUnavailable: Invalid value: "-5%": {PERCENT}'],
    ),
    (
        "6-and-10",
        a_set(rolling={"maxUnavailable": "5"}),
        [
            f'{ROLLING}.maxUnavailable: Invalid value: "5": {PERCENT}',
            f'{ROLLING}.maxUnavailable: Invalid value: "5": invalid value',
        ],
    ),
    (
        "7",
        a_set(rolling={"maxUnavailable": -1}),
        [f"{ROLLING}.maxUnavailable: Invalid value: -1: must be greater than or equal to 0"],
    ),
    (
        "8",
        a_set(rolling={"maxUnavailable": "101%"}),
        [f'{ROLLING}.maxUnavailable: Invalid value: "101%": must not be greater than 100%'],
    ),
    (
        "8-and-10",  # too large for any integer type
        a_set(rolling={"maxUnavailable": "99999999999999999999%"}),
        [
            f'{ROLLING}.maxUnavailable: Invalid value: "{"9" * 20}%": must not be greater than 100%',
            f'{ROLLING}.maxUnavailable: Invalid value: "{"9" * 20}%": invalid value',
        ],
    ),
    (
        "9-6",
        a_set(rolling={"maxSurge": "٥%"}),
        [
            f'{ROLLING}.maxSurge: Invalid value: "٥%": {PERCENT}',
            f'{ROLLING}.maxSurge: Invalid value: "٥%": invalid value',
        ],
    ),
    (
        "9-7",
        a_set(rolling={"maxSurge": -1}),
        [f"{ROLLING}.maxSurge: Invalid value: -1: must be greater than or equal to 0"],
    ),
    (
        "9-8",
        a_set(rolling={"maxSurge": "200%"}),
        [f'{ROLLING}.maxSurge: Invalid value: "200%": must not be greater than 100%'],
    ),
    (
        "10",
        a_set(rolling={"maxSurge": "%"}),
        [
            f'{ROLLING}.maxSurge: Invalid value: "%": {PERCENT}',
            f'{ROLLING}.maxSurge: Invalid value: "%": invalid value',
        ],
    ),
    (
        "11",
        a_set(rolling={"partition": -1}),
        [f"{ROLLING}.partition: Invalid value: -1: must be greater than or equal to 0"],
    ),
    ("12", a_set(rolling={"maxUnavailable": 0}), [NO_STEP.format(0)]),
    ("12-percent", a_set(rolling={"maxUnavailable": "25%", "maxSurge": 0}), [NO_STEP.format('"25%"')]),
    ("12-both", a_set(rolling={"maxUnavailable": "33%", "maxSurge": "0%"}), [NO_STEP.format('"33%"')]),
    (
        "13",
        subgroups(4, 0),
        [f"{SUBGROUP}: Invalid value: 0: subGroupSize must be equal or greater than 1"],
    ),
    ("13-missing", subgroups(4, None), [f"{SUBGROUP}: Required value: must be set if subGroupPolicy is"]),
    (
        "14",
        subgroups(6, 4),
        [f"{SUBGROUP}: Invalid value: 4: size or size - 1 must be divisible by subGroupSize"],
    ),
    (
        "15",
        subgroups(1, 2),  # size - 1 is 0, which everything divides
        [f"{SUBGROUP}: Invalid value: 2: subGroupSize cannot be larger than size"],
    ),
    (
        "14-and-15",
        subgroups(4, 5),
        [
            f"{SUBGROUP}: Invalid value: 5: size or size - 1 must be divisible by subGroupSize",
            f"{SUBGROUP}: Invalid value: 5: subGroupSize cannot be larger than size",
        ],
    ),
    (
        "16",
        subgroups(4, 2, "LeaderExcluded"),
        [f"{SUBGROUP}: Invalid value: 2: size-1 must be divisible by subGroupSize when using LeaderExcluded"],
    ),
    (
        "17",
        annotated(SUBGROUP_TOPOLOGY, "zone"),
        [
            f'metadata.annotations.{SUBGROUP_TOPOLOGY}: Invalid value: "zone": '
            "cannot have subgroup-exclusive-topology without subGroupSize set"
        ],
    ),
    (
        "17-empty",
        annotated(SUBGROUP_TOPOLOGY, ""),
        [
            f'metadata.annotations.{SUBGROUP_TOPOLOGY}: Invalid value: "": '
            "cannot have subgroup-exclusive-topology without subGroupSize set"
        ],
    ),
]


@pytest.mark.parametrize(("manifest", "expected"), [pytest.param(m, e, id=i) for i, m, e in RULES])
def test_rule_always_speaks_in_its_own_words(manifest: FrozenMap[Json], expected: list[str]) -> None:
    assert lines(validate_create(manifest).errors) == expected


@pytest.mark.parametrize(("manifest", "expected"), [pytest.param(m, e, id=i) for i, m, e in RULES])
def test_rule_always_holds_on_update_too(manifest: FrozenMap[Json], expected: list[str]) -> None:
    valid = (
        a_set(template={"subGroupPolicy": {"subGroupSize": 2}}) if "SubGroup" in str(expected) else a_set()
    )
    found = lines(validate_update(manifest, valid).errors)
    assert found[: len(expected)] == expected
    assert all("immutable" in line for line in found[len(expected) :])


def test_faults_are_always_reported_all_at_once_and_in_order() -> None:
    manifest = a_set(
        {"replicas": -1, "startupPolicy": "Never"},
        {"size": 0, "subGroupPolicy": {"subGroupSize": 5}, "workerTemplate": {}},
        {"name": "X", "annotations": {names.EXCLUSIVE_TOPOLOGY: "a b"}},
        {"maxUnavailable": "x", "maxSurge": "y%", "partition": -2},
    )
    assert [(error.path, error.detail[:30]) for error in validate_create(manifest).errors] == [
        ("spec.startupPolicy", 'supported values: "LeaderCreat'),
        ("metadata.name", DNS_1035[:30]),
        ("spec.replicas", "replicas must be equal or grea"),
        (f"{TEMPLATE}.size", "size must be equal or greater "),
        (f"{ROLLING}.maxUnavailable", PERCENT[:30]),
        (f"{ROLLING}.maxSurge", PERCENT[:30]),
        (f"{ROLLING}.partition", "must be greater than or equal "),
        (f"{ROLLING}.maxUnavailable", "invalid value"),
        (f"{ROLLING}.maxSurge", "invalid value"),
        (SUBGROUP, "subGroupSize cannot be larger "),
        (f"metadata.annotations.{names.EXCLUSIVE_TOPOLOGY}", "name part must consist of alph"),
        (f"{TEMPLATE}.workerTemplate.spec.containers", ""),
    ]


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        # Each of these fields takes part in rules that could be broken by the value put in its place.
        (a_set({"replicas": "x"}, rolling={"maxUnavailable": "10%"}), ["spec.replicas"]),
        (a_set(template={"size": "x", "subGroupPolicy": {"subGroupSize": 4}}), [f"{TEMPLATE}.size"]),
        (a_set(rolling={"maxUnavailable": 0, "maxSurge": []}), [f"{ROLLING}.maxSurge"]),
        (
            a_set(template={"subGroupPolicy": 1}, metadata={"annotations": {SUBGROUP_TOPOLOGY: "zone"}}),
            [f"{TEMPLATE}.subGroupPolicy"],
        ),
        (subgroups(4, 2, "LeaderOnly"), [f"{TEMPLATE}.subGroupPolicy.subGroupPolicyType"]),
        (subgroups(4, "two"), [f"{TEMPLATE}.subGroupPolicy.subGroupSize"]),
        (a_set().with_("metadata", 5), ["metadata"]),
        (a_set(metadata={"name": 5}), ["metadata.name"]),
        (a_set(template={"workerTemplate": []}), [f"{TEMPLATE}.workerTemplate"]),
    ],
)
def test_field_of_a_wrong_type_is_never_reported_twice(
    manifest: FrozenMap[Json], expected: list[str]
) -> None:
    assert [error.path for error in validate_create(manifest).errors] == expected


@pytest.mark.parametrize(
    "manifest",
    [
        a_set({"replicas": 0}, rolling={"maxUnavailable": "25%", "maxSurge": "0%"}),
        a_set({"replicas": 0}, rolling={"maxUnavailable": 0, "maxSurge": 0}),
        a_set(rolling={"maxUnavailable": 99, "maxSurge": 99, "partition": 99}),
        a_set(rolling={"maxUnavailable": "0%", "maxSurge": "1%"}),  # rounded up
        a_set(rolling={"maxUnavailable": "0034%"}),
        a_set({"replicas": 1_000_000}, {"size": 2147}),
        subgroups(9, 4),
        subgroups(8, 4),
        subgroups(9, 4, "LeaderExcluded"),
        subgroups(1, 1),
        annotated(names.EXCLUSIVE_TOPOLOGY, ""),
        annotated("UPPER.Case/Key", ""),
        a_set(
            template={"subGroupPolicy": {"subGroupSize": 2}},
            metadata={"annotations": {SUBGROUP_TOPOLOGY: "zone", names.EXCLUSIVE_TOPOLOGY: "zone"}},
        ),
        a_set(template={"restartPolicy": "Default"}),
        a_set(metadata={"name": None, "generateName": "serve-"}),
        a_set({"networkConfig": {"subdomainPolicy": None}}),
    ],
)
def test_what_the_rules_allow_is_always_admitted(manifest: FrozenMap[Json]) -> None:
    assert lines(validate_create(manifest).errors) == []
    assert lines(validate_update(manifest, manifest).errors) == []


# Names: a label of each pod holds its StatefulSet's name, a dash and ten characters, 63 at most.


@pytest.mark.parametrize(
    ("length", "replicas", "size", "surge", "longest"),
    [
        (52, 3, 1, 0, None),
        (53, 3, 1, 0, 52),
        (50, 10, 4, 0, None),
        (51, 10, 4, 0, 50),
        (50, 11, 4, 0, 49),  # group 10
        (50, 10, 4, 1, 49),  # group 10 is a surge group
        (50, 5, 4, 7, None),  # no more surge than replicas: group 9 is the highest
        (50, 6, 4, "100%", 49),
        (50, 0, 4, 0, None),
        (63, 1, 1, 0, 52),
    ],
)
def test_name_always_leaves_room_for_what_pods_add_to_it(
    length: int, replicas: int, size: int, surge: Any, longest: int | None
) -> None:
    manifest = a_set({"replicas": replicas}, {"size": size}, {"name": "x" * length}, {"maxSurge": surge})
    verdict = validate_create(manifest)
    assert [(error.path, error.type) for error in verdict.errors] == (
        [] if longest is None else [("metadata.name", "Invalid")]
    )
    if longest is not None:
        assert f"must be no more than {longest} characters" in verdict.errors[0].detail
    stored = validate_update(manifest, manifest)
    assert stored.admitted
    assert len(stored.warnings) == (longest is not None)


def test_generated_name_always_counts_with_what_the_server_adds() -> None:
    assert validate_create(a_set(metadata={"name": None, "generateName": "x" * 45})).admitted
    verdict = validate_create(a_set(metadata={"name": None, "generateName": "x" * 46}))
    assert [error.path for error in verdict.errors] == ["metadata.generateName"]


# Pod templates and claims that no StatefulSet takes.


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ({"workerTemplate": {}}, [f"{TEMPLATE}.workerTemplate.spec.containers: Required value"]),
        (
            {"leaderTemplate": {"spec": {"containers": []}}},
            [f"{TEMPLATE}.leaderTemplate.spec.containers: Required value"],
        ),
        (
            {"workerTemplate": {"spec": {**POD["spec"], "restartPolicy": "OnFailure"}}},
            [
                f'{TEMPLATE}.workerTemplate.spec.restartPolicy: Unsupported value: "OnFailure": '
                'supported values: "Always"'
            ],
        ),
        (
            {"workerTemplate": {"spec": {**POD["spec"], "activeDeadlineSeconds": 5}}},
            [
                f"{TEMPLATE}.workerTemplate.spec.activeDeadlineSeconds: Invalid value: 5: "
                "must not be set: the pods of a StatefulSet have no deadline"
            ],
        ),
        (
            {
                "volumeClaimTemplates": [
                    {"spec": {}},
                    {"metadata": {"name": "a.b"}},
                    {"metadata": {"name": "data"}},
                    {"metadata": {"name": "data"}},
                ]
            },
            [
                f"{TEMPLATE}.volumeClaimTemplates[0].metadata.name: Required value",
                f'{TEMPLATE}.volumeClaimTemplates[1].metadata.name: Invalid value: "a.b": '
                "must not contain dots",
                f'{TEMPLATE}.volumeClaimTemplates[3].metadata.name: Invalid value: "data": '
                "is the name of another claim",
            ],
        ),
        (
            {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Keep", "whenScaled": ""}},
            [
                f'{TEMPLATE}.persistentVolumeClaimRetentionPolicy.whenDeleted: Unsupported value: "Keep": '
                'supported values: "Retain", "Delete"'
            ],
        ),
    ],
)
def test_what_no_statefulset_takes_is_never_admitted(template: dict[str, Any], expected: list[str]) -> None:
    manifest = a_set(template=template)
    assert lines(validate_create(manifest).errors) == expected
    # What is stored stays editable.
    stored = validate_update(
        manifest.with_("metadata", freeze({"name": "serve", "labels": {"a": "b"}})), manifest
    )
    assert stored.errors == ()
    assert [warning.partition("; ")[0] for warning in stored.warnings] == expected


def annotated(**annotations: str) -> FrozenMap[Json]:
    metadata = freeze(
        {"name": "serve", "annotations": {k.replace("_", "/"): v for k, v in annotations.items()}}
    )
    return a_set().with_("metadata", metadata)


def test_annotations_never_fill_all_that_their_copies_may_have() -> None:
    """The operator's own stand beside them; what kubectl keeps is not copied."""
    assert validate_create(annotated(a="x" * (245760 - 1))).errors == ()
    full = annotated(a="x" * 245760)
    (fault,) = lines(validate_create(full).errors)
    told = "metadata.annotations: Too long: may not be more than 245760 bytes: "
    assert fault == told + "the StatefulSets have them too, beside the operator's own"
    stored = validate_update(full, full)
    assert (stored.errors, stored.warnings) == ((), (f"{fault}; the StatefulSet may be refused",))
    last_applied = "kubectl.kubernetes.io_last-applied-configuration"
    assert validate_create(annotated(a="x" * 200000, **{last_applied: "x" * 62000})).errors == ()
    (fault,) = lines(validate_create(annotated(a="x" * 262144)).errors)
    assert fault == "metadata.annotations: Too long: may not be more than 262144 bytes"


# Updates.


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (subgroups(8, 4), subgroups(8, 2), [f"{SUBGROUP}: Invalid value: 2: field is immutable"]),
        (
            a_set(template={"size": 8}),
            subgroups(8, 4),
            [f"{SUBGROUP}: Invalid value: 4: cannot enable subGroupSize after the lws is already created"],
        ),
        (
            subgroups(8, 4),
            a_set(template={"size": 8}),
            [f"{SUBGROUP}: Invalid value: 4: cannot remove subGroupSize after enabled"],
        ),
        (
            subgroups(8, 4),
            subgroups(8, None),
            [f"{SUBGROUP}: Required value: must be set if subGroupPolicy is"],
        ),
        (subgroups(9, 4), subgroups(9, 4, "LeaderExcluded"), []),
        (subgroups(8, 4), subgroups(4, 4), []),
        (
            subgroups(4, 2),
            subgroups(4, 3),
            [f"{SUBGROUP}: Invalid value: 3: field is immutable"],
        ),
    ],
)
def test_subgroups_never_change_once_a_set_exists(
    old: FrozenMap[Json], new: FrozenMap[Json], expected: list[str]
) -> None:
    assert lines(validate_update(new, old).errors) == expected


def test_subdomain_policy_of_null_is_never_seen_after_defaulting() -> None:
    null = a_set({"networkConfig": {"subdomainPolicy": None}})
    assert validate_update(null, a_set()).errors == ()


def percentages(replicas: int, max_unavailable: Any, **rest: Any) -> FrozenMap[Json]:
    return a_set({"replicas": replicas, **rest}, rolling={"maxUnavailable": max_unavailable, "maxSurge": 0})


def test_percentage_that_an_autoscaler_made_zero_never_locks_a_set() -> None:
    stored = percentages(3, "25%")
    for edited in (stored, percentages(2, "25%"), percentages(3, "25%", startupPolicy="LeaderReady")):
        verdict = validate_update(edited, stored)
        assert verdict.errors == ()
        assert verdict.warnings == (
            f"{NO_STEP.format(chr(34) + '25%' + chr(34))}; a rollout goes on as if maxUnavailable were 1",
        )


@pytest.mark.parametrize("max_unavailable", ["26%", "0%", 0])
def test_budget_of_zero_is_never_admitted_where_it_is_new(max_unavailable: Any) -> None:
    verdict = validate_update(percentages(3, max_unavailable), percentages(3, "25%"))
    assert [error.detail for error in verdict.errors] == ["must not be 0 when `maxSurge` is 0"]
    assert verdict.warnings == ()


def claims(*found: dict[str, Any]) -> FrozenMap[Json]:
    return a_set(template={"volumeClaimTemplates": list(found)})


def claim(storage: Any = "1Gi", **spec: Any) -> dict[str, Any]:
    requests = {"resources": {"requests": {"storage": storage}}}
    return {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], **requests, **spec}}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (claims(), claims(claim())),
        (claims(claim()), a_set()),
        (claims(claim("1Gi")), claims(claim("2Gi"))),
        (claims(claim("1Gi")), claims(claim("1G"))),
        (claims(claim()), claims(claim(storageClassName=""))),  # no class, not the default one
        (claims(claim()), claims(claim(volumeMode="Block"))),
        (claims(claim()), claims({**claim(), "metadata": {"name": "data", "labels": {"a": "b"}}})),
        (claims(claim(), {"metadata": {"name": "b"}}), claims({"metadata": {"name": "b"}}, claim())),
    ],
)
def test_claims_never_change_once_a_set_exists(old: FrozenMap[Json], new: FrozenMap[Json]) -> None:
    (error,) = validate_update(new, old).errors
    assert (error.path, error.type, error.detail) == (
        f"{TEMPLATE}.volumeClaimTemplates",
        "Invalid",
        "field is immutable",
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (claims(), a_set()),
        (claims(claim("1Gi")), claims(claim("1024Mi"))),
        (claims(claim("1")), claims(claim(1))),
        (claims(claim()), claims(claim(volumeMode="Filesystem", selector=None))),
        (claims({**claim(), "status": {}}), claims(claim())),
        (claims({**claim(), "apiVersion": "v1", "kind": "PersistentVolumeClaim"}), claims(claim())),
        (
            claims(claim()),
            claims({**claim(), "metadata": {"name": "data", "creationTimestamp": None, "labels": {}}}),
        ),
    ],
)
def test_claims_that_mean_the_same_are_always_admitted(old: FrozenMap[Json], new: FrozenMap[Json]) -> None:
    assert validate_update(new, old).errors == ()
    assert validate_update(old, new).errors == ()


def test_stored_set_that_cannot_be_read_never_blocks_its_repair() -> None:
    for old in (None, 5, freeze_map({}), a_set(template={"subGroupPolicy": 5, "volumeClaimTemplates": 5})):
        assert validate_update(a_set(), old).errors == ()


def test_cost_never_grows_with_faults_of_types_times_faults_of_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    class Path(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            compared.append(other)
            return str.__eq__(self, other)

    manifest = a_set(metadata={"labels": {str(index): "_" for index in range(50)}})
    lws, _ = decode_lenient(manifest)
    faults = tuple([FieldError(Path(f"spec[{index}]"), "Invalid", "") for index in range(50)])
    monkeypatch.setattr(validation, "decode_lenient", lambda _: (lws, faults))
    assert len(validate_create(manifest).errors) == 100
    assert len(compared) < 100


def test_faults_beyond_the_first_are_never_looked_for() -> None:
    fault = FieldError("spec", "Required", "")
    assert first_faults(repeat(fault)) == (*[fault] * MAX_FAULTS, MORE)
    assert first_faults([fault] * MAX_FAULTS) == (fault,) * MAX_FAULTS


def many(value: Any, count: int = MAX_FAULTS) -> dict[str, Any]:
    return {str(index): value for index in range(count)}


@pytest.mark.parametrize(
    ("spec", "metadata"),
    [
        ({}, {"annotations": many(5, MAX_FAULTS + 1)}),
        ({}, {"labels": many("_", MAX_FAULTS + 1)}),
        ({}, {"labels": many("_", MAX_FAULTS // 2), "annotations": many(5, MAX_FAULTS // 2 + 1)}),
        # With so many faults of types it is not known which fields the rules could not read.
        ({"replicas": -1}, {"annotations": many(5), "name": 5}),
    ],
)
def test_too_many_faults_always_end_with_a_word_on_the_rest(
    spec: dict[str, Any], metadata: dict[str, Any]
) -> None:
    manifest = a_set(spec, metadata=metadata)
    for verdict in (validate_create(manifest), validate_update(manifest, a_set())):
        assert len(verdict.errors) == MAX_FAULTS + 1
        assert verdict.errors[-1] == MORE
        assert str(MORE) == "manifest: Too many: only 100 faults are told"
        assert all(error != MORE and error.path != "spec.replicas" for error in verdict.errors[:-1])
