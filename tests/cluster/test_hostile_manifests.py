"""Mutated manifests, against the real CRD and the webhooks: refused by both, or by neither."""

from __future__ import annotations

import copy
import math
import os
import random
from collections.abc import Iterator
from typing import Any

import hostile
import pytest
from client import Refused
from operator_process import Operator
from sandbox import Sandbox
from test_crd import _told_apart

from lws_core.values import as_map, freeze
from lws_runtime.cli.loading import admit
from lws_runtime.webhook.reviews import MAX_VALUES

COUNT = 3000 if os.environ.get("LWS_PROFILE") == "long" else 300
BUDGET = ("maxUnavailable", "maxSurge")


def test_mutated_set_is_judged_alike_by_the_server_with_its_webhooks_and_by_lws_core(
    sandbox: Sandbox, operator: Operator
) -> None:
    first, bases = random.randrange(10**9), hostile.corpus()
    differences, refused = [], 0
    for number in range(first, first + COUNT):
        chance = random.Random(number)
        manifest = _mutated(chance, copy.deepcopy(chance.choice(bases)))
        told, found = refusal(sandbox, manifest, number), admit(as_map(freeze(manifest)))[1].errors
        refused += bool(told)
        if bool(told) != bool(found):
            words = "; ".join(map(str, found)) or "fine"
            differences.append(f"{number}: the server: {told or 'fine'}\nlws_core: {words}")
    assert not differences, "\n".join(line[:1500] for line in differences)
    assert COUNT // 20 < refused < COUNT - COUNT // 20


@pytest.mark.parametrize(
    ("containers", "told"),
    [
        (hostile.nested(120, in_lists=True), "the object is nested more than 100 levels deep"),
        ([0] * MAX_VALUES, f"the body holds more than {MAX_VALUES} values"),
    ],
    ids=["deep", "large"],
)
def test_set_that_the_webhooks_do_not_read_is_refused_in_words(
    sandbox: Sandbox, operator: Operator, containers: Any, told: str
) -> None:
    manifest = copy.deepcopy(hostile.corpus()[0])
    manifest["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]["containers"] = containers
    with pytest.raises(Refused, match=told):
        sandbox.create(manifest)


def _mutated(chance: random.Random, base: dict[str, Any]) -> dict[str, Any]:
    """A set whose spec is spoiled in ways that both are known to judge alike; test_crd.py has the others."""
    while True:
        spec = _told_apart(hostile.mutated(chance, base["spec"], most=2))
        if not any(_is_known_to_differ(key, item) for key, item in _items(spec)):
            return {
                "apiVersion": base["apiVersion"],
                "kind": base["kind"],
                "metadata": {"name": "mutated"},
                "spec": spec,
            }


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in pairs:
        yield key, item
        yield from _items(item)


def _is_known_to_differ(key: Any, item: Any) -> bool:
    if isinstance(item, float) and not math.isfinite(item):
        return True  # JSON has no such numbers
    return key in BUDGET and isinstance(item, int) and abs(item) >= 2**31


def refusal(sandbox: Sandbox, manifest: dict[str, Any], number: int) -> str:
    """What the server, its schema and its webhooks say against a set; empty where they take it."""
    placed = {**manifest, "metadata": {**manifest["metadata"], "namespace": sandbox.name}}
    try:
        sandbox.client.create(placed, dryRun="All")
    except Refused as refused:
        if refused.code not in (400, 403, 422):
            raise AssertionError(f"{number}: {refused}") from None
        return refused.message or "refused"
    return ""
