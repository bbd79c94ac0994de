"""Generators for property tests: `manifests()` makes valid sets, `any_json()` anything at all."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from lws_core import names
from lws_core.values import FrozenMap, Json, freeze, freeze_map

Draw = st.DrawFn

_NAME = st.sampled_from(("a", "serve", "my-set-2", "x" * 40))
_KEY = st.sampled_from(("app", "team.example.com/role", "X_y.z", "volcano.sh/a", "0"))
_LABEL_VALUE = st.sampled_from(("", "a", "v1.2", "A_b-c"))
_TEXT = st.text("ab1 :<&\"'\n\\é😀%$()", max_size=6)
_QUANTITIES = st.sampled_from(
    (1, 2, "1", "1000m", "500m", "0.5", "1e3", "1k", "1024Mi", "1Gi", "1536Mi", "2G")
)


def any_json(max_leaves: int = 20) -> st.SearchStrategy[Json]:
    """Any JSON value at all, frozen."""
    numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    scalars = st.none() | st.booleans() | numbers | _TEXT
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
        max_leaves=max_leaves,
    ).map(freeze)


def _optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


def _labels() -> st.SearchStrategy[dict[str, str]]:
    return st.dictionaries(_KEY, _LABEL_VALUE, max_size=2)


@st.composite
def pod_templates(draw: Draw) -> dict[str, Any]:
    """A pod template that a StatefulSet takes."""
    count = draw(st.integers(1, 2))
    spec: dict[str, Any] = {"containers": [draw(_containers(f"c{index}")) for index in range(count)]}
    if draw(st.booleans()):
        spec["initContainers"] = [draw(_containers("init"))]
    spec |= draw(
        _optional(
            nodeSelector=_labels(),
            restartPolicy=st.just("Always"),
            terminationGracePeriodSeconds=st.integers(0, 60),
            volumes=st.just([{"name": "tmp", "emptyDir": {"sizeLimit": "1024Mi"}}]),
        )
    )
    metadata = _optional(labels=_labels(), annotations=st.dictionaries(_KEY, _TEXT, max_size=2))
    return {"spec": spec, **draw(_optional(metadata=metadata))}


def _containers(name: str) -> st.SearchStrategy[dict[str, Any]]:
    resources = st.dictionaries(st.sampled_from(("cpu", "memory", "google.com/tpu")), _QUANTITIES, max_size=2)
    return st.fixed_dictionaries(
        {"name": st.just(name), "image": st.sampled_from(("img:1", "img:2"))},
        optional={
            "env": st.lists(
                st.fixed_dictionaries({"name": st.sampled_from("ABC"), "value": _TEXT}),
                max_size=2,
                unique_by=lambda one: one["name"],
            ),
            "ports": st.just([{"containerPort": 8080}]),
            "resources": _optional(limits=resources, requests=resources),
            "command": st.lists(_TEXT, max_size=2),
        },
    )


@st.composite
def _sub_group_policies(draw: Draw, size: int) -> dict[str, Any]:
    kind = draw(st.sampled_from((None, "LeaderWorker", "LeaderExcluded")))
    dividends = (size - 1,) if kind == "LeaderExcluded" else (size, size - 1)
    fitting = [g for g in range(1, size + 1) if any(whole % g == 0 for whole in dividends)]
    policy = {"subGroupSize": draw(st.sampled_from(fitting))}
    return policy if kind is None else {"subGroupPolicyType": kind, **policy}


_CLAIM = {
    "metadata": {"name": "data"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}},
}
_RETENTION = st.sampled_from(("Retain", "Delete"))


@st.composite
def _leader_worker_templates(draw: Draw) -> dict[str, Any]:
    template: dict[str, Any] = {"workerTemplate": draw(pod_templates())}
    size = draw(st.none() | st.integers(1, 8))
    if size is not None:
        template["size"] = size
    return template | draw(
        _optional(
            leaderTemplate=pod_templates(),
            restartPolicy=st.sampled_from(
                ("", "Default", "None", "RecreateGroupOnPodRestart", "RecreateGroupAfterStart")
            ),
            subGroupPolicy=_sub_group_policies(size or 1),
            volumeClaimTemplates=st.just([_CLAIM]),
            persistentVolumeClaimRetentionPolicy=_optional(whenDeleted=_RETENTION, whenScaled=_RETENTION),
        )
    )


def _budgets() -> st.SearchStrategy[dict[str, Any]]:
    """Rolling update configurations that can always take a step."""
    counts = st.integers(0, 5)
    percents = st.integers(0, 100).map(lambda share: f"{share}%")
    steady = st.integers(1, 5) | st.just("100%")
    partition = st.integers(0, 5)
    return _optional(maxUnavailable=steady, maxSurge=counts | percents, partition=partition) | (
        st.fixed_dictionaries({"maxUnavailable": counts | percents, "maxSurge": st.integers(1, 5)})
    )


@st.composite
def manifests(draw: Draw) -> FrozenMap[Json]:
    """A valid LeaderWorkerSet as a user would write it: any of its optional fields may be missing."""
    template = draw(_leader_worker_templates())
    annotations = draw(st.dictionaries(_KEY, _TEXT, max_size=2))
    if draw(st.booleans()):
        annotations[names.EXCLUSIVE_TOPOLOGY] = draw(st.sampled_from(("", "zone", "example.com/rack")))
    if "subGroupPolicy" in template and draw(st.booleans()):
        annotations[names.SUBGROUP_EXCLUSIVE_TOPOLOGY] = draw(st.sampled_from(("", "zone")))
    metadata = {"name": draw(_NAME), **({"annotations": annotations} if annotations else {})}
    strategy = _optional(type=st.sampled_from(("", "RollingUpdate")), rollingUpdateConfiguration=_budgets())
    network = _optional(subdomainPolicy=st.sampled_from(("Shared", "UniquePerReplica")))
    spec = _optional(
        replicas=st.integers(0, 12),
        rolloutStrategy=strategy,
        startupPolicy=st.sampled_from(("LeaderCreated", "LeaderReady")),
        networkConfig=network,
    )
    return freeze_map(
        {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": metadata | draw(_optional(namespace=_NAME, labels=_labels())),
            "spec": {"leaderWorkerTemplate": template, **draw(spec)},
        }
    )


@st.composite
def broken_manifests(draw: Draw) -> FrozenMap[Json]:
    """A valid set with anything at all in the place of one of its values."""
    broken = _replaced(draw, draw(manifests()))
    return broken if isinstance(broken, FrozenMap) else freeze_map({"spec": broken})


def _replaced(draw: Draw, value: Json) -> Json:
    match value:
        case FrozenMap() if value and draw(st.integers(0, 5)) > 0:
            key = draw(st.sampled_from(list(value)))
            return value.with_(key, _replaced(draw, value[key]))
        case tuple() if value and draw(st.integers(0, 5)) > 0:
            index = draw(st.integers(0, len(value) - 1))
            return (*value[:index], _replaced(draw, value[index]), *value[index + 1 :])
        case _:
            return draw(any_json(5))
