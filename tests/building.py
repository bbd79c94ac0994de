"""Manifests for tests, built from what each test is about."""

from __future__ import annotations

from typing import Any

from lws_core import names
from lws_core.bits import GroupSet, members
from lws_core.rollout import Groups
from lws_core.values import FrozenMap, Json, freeze_map

POD: dict[str, Any] = {"spec": {"containers": [{"name": "main", "image": "img:1"}]}}


def a_set(
    spec: dict[str, Any] | None = None,
    template: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
    rolling: dict[str, Any] | None = None,
) -> FrozenMap[Json]:
    """A valid set of 3 groups of 4, but for what is given: fields of spec, of its leaderWorkerTemplate, of
    metadata, and of its rollingUpdateConfiguration."""
    strategy = {} if rolling is None else {"rolloutStrategy": {"rollingUpdateConfiguration": rolling}}
    return freeze_map(
        {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": "serve", **(metadata or {})},
            "spec": {
                "replicas": 3,
                "leaderWorkerTemplate": {"size": 4, "workerTemplate": POD, **(template or {})},
                **strategy,
                **(spec or {}),
            },
        }
    )


def lines(errors: tuple[object, ...]) -> list[str]:
    """Errors as their users read them."""
    return [str(error) for error in errors]


def groups_in(states: str, broken: GroupSet = 0, terminating: GroupSet = 0) -> Groups:
    """Groups by one letter each, index 0 first: o ready old, n ready new, x unready old, u unready new, a dot
    for none."""

    def where(letters: str) -> GroupSet:
        return members(*(index for index, letter in enumerate(states) if letter in letters))

    return Groups(where("onxu"), where("on"), where("ox"), terminating, broken)
