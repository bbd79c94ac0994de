"""The API server's and the webhook's defaults."""

from __future__ import annotations

from typing import Any

import pytest
from building import POD, a_set

from lws_core.defaulting import apply_defaults, webhook_defaults
from lws_core.values import FrozenMap, Json, as_map, dig, freeze, freeze_map

ROLLING = {"maxUnavailable": 1, "maxSurge": 0, "partition": 0}


def spec_after(manifest: FrozenMap[Json], *path: str) -> Json:
    return dig(apply_defaults(manifest), "spec", *path)


def test_defaulting_always_fills_every_field_of_a_minimal_set() -> None:
    minimal = freeze_map({"spec": {"leaderWorkerTemplate": {"workerTemplate": POD}}})
    assert apply_defaults(minimal) == freeze_map(
        {
            "spec": {
                "replicas": 1,
                "leaderWorkerTemplate": {
                    "workerTemplate": POD,
                    "size": 1,
                    "restartPolicy": "RecreateGroupOnPodRestart",
                },
                "rolloutStrategy": {"type": "RollingUpdate", "rollingUpdateConfiguration": ROLLING},
                "startupPolicy": "LeaderCreated",
                "networkConfig": {"subdomainPolicy": "Shared"},
            }
        }
    )


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        (None, "RecreateGroupOnPodRestart"),
        ("", "RecreateGroupOnPodRestart"),
        ("Default", "None"),
        ("None", "None"),
        ("RecreateGroupAfterStart", "RecreateGroupAfterStart"),
        ("RecreateGroupOnRestart", "RecreateGroupOnRestart"),  # a mistake, which validation names
    ],
)
def test_restart_policy_always_becomes(written: str | None, stored: str) -> None:
    manifest = a_set(template={"restartPolicy": written})
    assert spec_after(manifest, "leaderWorkerTemplate", "restartPolicy") == stored


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        (None, {"type": "RollingUpdate", "rollingUpdateConfiguration": ROLLING}),
        ({}, {"type": "RollingUpdate", "rollingUpdateConfiguration": ROLLING}),
        ({"type": ""}, {"type": "RollingUpdate", "rollingUpdateConfiguration": ROLLING}),
        (
            {"rollingUpdateConfiguration": {}},
            {"type": "RollingUpdate", "rollingUpdateConfiguration": ROLLING},
        ),
        (
            {"type": None, "rollingUpdateConfiguration": {"maxSurge": "50%", "partition": None}},
            {
                "type": "RollingUpdate",
                "rollingUpdateConfiguration": {"maxSurge": "50%", "partition": 0, "maxUnavailable": 1},
            },
        ),
        ({"type": "OnDelete"}, {"type": "OnDelete"}),
        ("fast", "fast"),
    ],
)
def test_rollout_strategy_always_becomes(written: Any, stored: Any) -> None:
    assert spec_after(a_set({"rolloutStrategy": written}), "rolloutStrategy") == freeze(stored)


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        (None, {"subdomainPolicy": "Shared"}),
        ({}, {"subdomainPolicy": "Shared"}),
        ({"subdomainPolicy": None}, {"subdomainPolicy": "Shared"}),
        ({"subdomainPolicy": "UniquePerReplica"}, {"subdomainPolicy": "UniquePerReplica"}),
        ({"subdomainPolicy": ""}, {"subdomainPolicy": ""}),
        (7, 7),
    ],
)
def test_network_config_always_becomes(written: Any, stored: Any) -> None:
    assert spec_after(a_set({"networkConfig": written}), "networkConfig") == freeze(stored)


def test_subgroup_policy_always_gets_its_type_and_never_a_size() -> None:
    manifest = a_set(template={"subGroupPolicy": {}})
    stored = spec_after(manifest, "leaderWorkerTemplate", "subGroupPolicy")
    assert stored == freeze({"subGroupPolicyType": "LeaderWorker"})


def test_absent_subgroup_policy_never_appears() -> None:
    assert "subGroupPolicy" not in as_map(spec_after(a_set(), "leaderWorkerTemplate"))


@pytest.mark.parametrize("field", ["replicas", "startupPolicy", "rolloutStrategy", "networkConfig"])
def test_null_always_counts_as_left_out(field: str) -> None:
    left_out = freeze_map({"spec": as_map(a_set()["spec"]).without(field)})
    null = freeze_map({"spec": {**as_map(a_set()["spec"]), field: None}})
    assert apply_defaults(null) == apply_defaults(left_out)


@pytest.mark.parametrize(
    "manifest",
    [{}, {"spec": None}, {"spec": 5}, {"spec": []}, {"spec": {"leaderWorkerTemplate": "x", "replicas": {}}}],
)
def test_defaulting_never_invents_what_only_the_user_knows(manifest: Any) -> None:
    after = apply_defaults(freeze_map(manifest))
    assert dig(after, "spec", "leaderWorkerTemplate", "workerTemplate") is None


def test_webhook_never_adds_what_the_api_server_adds() -> None:
    stored = as_map(webhook_defaults(freeze_map({"spec": {"leaderWorkerTemplate": {}}}))["spec"])
    assert sorted(stored) == ["leaderWorkerTemplate", "networkConfig", "rolloutStrategy"]
    assert stored["leaderWorkerTemplate"] == freeze({"restartPolicy": "RecreateGroupOnPodRestart"})


def test_defaulting_always_returns_the_very_same_manifest_where_nothing_lacks() -> None:
    done = apply_defaults(a_set())
    assert apply_defaults(done) is done
