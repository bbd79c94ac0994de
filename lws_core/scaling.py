"""What `maxUnavailable` and `maxSurge` come to as numbers of groups (docs/api.md, "Rollout strategy").

A percentage is of the current `spec.replicas`: rounded down for what may be missing and up for what may be
extra, as Deployments do it (Kubernetes' pkg/controller/deployment/util, ResolveFenceposts).
"""

from __future__ import annotations

from .spec import IntOrPercent, Spec


def scaled_max_unavailable(spec: Spec) -> int:
    """`maxUnavailable` as a number of groups, rounded down. It may exceed `spec.replicas`."""
    numerator, denominator = _share(spec.rollout_strategy.max_unavailable, spec.replicas)
    return numerator // denominator


def scaled_max_surge(spec: Spec) -> int:
    """`maxSurge` as a number of groups, rounded up. It may exceed `spec.replicas`."""
    numerator, denominator = _share(spec.rollout_strategy.max_surge, spec.replicas)
    return -(-numerator // denominator)


def unavailable_count(spec: Spec) -> int:
    """How many groups a rollout may have unready: `maxUnavailable`, or 1 where it and `maxSurge` both come
    to 0, as a percentage may after a scale-down; no rollout could move otherwise."""
    count = scaled_max_unavailable(spec)
    return 1 if count == 0 and scaled_max_surge(spec) == 0 else count


def surge_count(spec: Spec) -> int:
    """How many extra groups a rollout may start: `maxSurge`, at most `spec.replicas`."""
    return min(scaled_max_surge(spec), spec.replicas)


def _share(value: IntOrPercent, replicas: int) -> tuple[int, int]:
    """The fraction that `value` is of `replicas`. Raises ValueError for a string that is no percentage."""
    if isinstance(value, int):
        return value, 1
    if not value.endswith("%"):
        raise ValueError(f'{value!r} is neither a count nor a percentage such as "25%"')
    return int(value[:-1]) * replicas, 100
