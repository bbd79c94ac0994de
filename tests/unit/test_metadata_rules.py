"""Kubernetes' rules for metadata, in Kubernetes' words."""

from __future__ import annotations

from typing import Any

import pytest
from building import a_set

from lws_core.metadata_rules import dns_1035_label_faults, dns_1123_label_faults, qualified_name_faults
from lws_core.validation import validate_create

KEY = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
VALUE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used "
    "for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
LABEL_1123 = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start "
    "and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)


@pytest.mark.parametrize("name", ["a", "a-1", "x" * 63])
def test_dns_1035_label_is_never_refused(name: str) -> None:
    assert list(dns_1035_label_faults(name)) == []


@pytest.mark.parametrize("name", ["", "1a", "A", "a-", "a.b", "a\n", "é", "a_b"])
def test_what_is_no_dns_1035_label_is_always_refused(name: str) -> None:
    assert len(list(dns_1035_label_faults(name))) == 1


def test_length_always_counts_bytes() -> None:
    assert next(dns_1035_label_faults("é" * 32)) == "must be no more than 63 characters"


@pytest.mark.parametrize(
    ("name", "faults"),
    [("1", []), ("a.b", ["must not contain dots"]), ("A", [LABEL_1123]), ("", [LABEL_1123])],
)
def test_dns_1123_label_is_always_told_from_other_text(name: str, faults: list[str]) -> None:
    assert list(dns_1123_label_faults(name)) == faults


@pytest.mark.parametrize(
    ("key", "faults"),
    [
        ("a", []),
        ("example.com/A_b.c", []),
        ("a" * 63, []),
        ("a" * 64, ["name part must be no more than 63 bytes"]),
        ("", ["name part must be non-empty", f"name part {KEY}"]),
        ("a/", ["name part must be non-empty", f"name part {KEY}"]),
        ("/a", ["prefix part must be non-empty"]),
        ("A/a", [f"prefix part {SUBDOMAIN}"]),
        ("a" * 254 + "/a", ["prefix part must be no more than 253 bytes"]),
        ("-", [f"name part {KEY}"]),
        (
            "a/b/c",
            [
                f"a valid label key {KEY} with an optional DNS subdomain prefix and '/' "
                "(e.g. 'example.com/MyName')"
            ],
        ),
    ],
)
def test_label_key_is_always_told_from_other_text(key: str, faults: list[str]) -> None:
    assert list(qualified_name_faults(key)) == faults


LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"  # the one that is not copied
CONTROLLERS = [
    {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": "u", "controller": True} for name in ("a", "b")
]


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"namespace": "Models"}, [("metadata.namespace", "Invalid", LABEL_1123)]),
        ({"generation": -1}, [("metadata.generation", "Invalid", "must be greater than or equal to 0")]),
        ({"labels": {"a b": "x"}}, [("metadata.labels", "Invalid", f"name part {KEY}")]),
        ({"labels": {"a": "x y"}}, [("metadata.labels", "Invalid", VALUE)]),
        ({"labels": {"a": "x" * 64}}, [("metadata.labels", "Invalid", "must be no more than 63 bytes")]),
        ({"annotations": {"a b": ""}}, [("metadata.annotations", "Invalid", f"name part {KEY}")]),
        ({"annotations": {LAST_APPLIED: "é" * (131072 - len(LAST_APPLIED) // 2)}}, []),
        (
            {"annotations": {"a": "é" * 131072}},
            [("metadata.annotations", "TooLong", "may not be more than 262144 bytes")],
        ),
        ({"finalizers": ["a b"]}, [("metadata.finalizers", "Invalid", f"name part {KEY}")]),
        (
            {"finalizers": ["orphan", "foregroundDeletion"]},
            [
                (
                    "metadata.finalizers",
                    "Invalid",
                    "finalizer orphan and foregroundDeletion cannot be both set",
                )
            ],
        ),
        (
            {"ownerReferences": [{"apiVersion": "a/b/c", "kind": "", "name": "", "uid": ""}]},
            [
                ("metadata.ownerReferences.apiVersion", "Invalid", "version must not be empty"),
                ("metadata.ownerReferences.kind", "Invalid", "must not be empty"),
                ("metadata.ownerReferences.name", "Invalid", "must not be empty"),
                ("metadata.ownerReferences.uid", "Invalid", "must not be empty"),
            ],
        ),
        (
            {"ownerReferences": [{"apiVersion": "v1", "kind": "Event", "name": "a", "uid": "b"}]},
            [("metadata.ownerReferences", "Invalid", "/v1, Kind=Event is disallowed from being an owner")],
        ),
        (
            {"ownerReferences": CONTROLLERS},
            [
                (
                    "metadata.ownerReferences",
                    "Invalid",
                    'Only one reference can have Controller set to true. Found "true" in references for '
                    "Pod/a and Pod/b",
                )
            ],
        ),
    ],
)
def test_metadata_is_always_judged_in_kubernetes_words(
    metadata: dict[str, Any], expected: list[tuple[str, str, str]]
) -> None:
    errors = validate_create(a_set(metadata=metadata)).errors
    assert [(error.path, error.type, error.detail) for error in errors] == expected


def test_long_name_of_a_controller_is_never_repeated_whole() -> None:
    first = {"apiVersion": "v1", "kind": "Pod", "name": "x" * 10_000, "uid": "1", "controller": True}
    others = [{**first, "name": "b"}] * 3
    errors = validate_create(a_set(metadata={"ownerReferences": [first, *others]})).errors
    assert len(errors) == 3
    assert max(len(error.detail) for error in errors) < 600
