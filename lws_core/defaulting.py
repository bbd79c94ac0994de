"""What the API server and the mutating webhook add to a LeaderWorkerSet as its user wrote it.

First come the schema's defaults, which the API server fills in itself, then the webhook's, which depend on
more than one field. What is of a wrong type is left alone: validation reports it.
"""

from __future__ import annotations

from .schema import set_schema
from .structural import fill_defaults
from .values import EMPTY, FrozenMap, Json, freeze_map

_ROLLING_UPDATE = freeze_map({"maxUnavailable": 1, "maxSurge": 0, "partition": 0})


def apply_defaults(manifest: FrozenMap[Json]) -> FrozenMap[Json]:
    """A LeaderWorkerSet's manifest as it is stored: the schema's defaults, then the webhook's. Idempotent.

    Pod templates and claims are left as they are: what they lack is for the schema that fills those holes.
    """
    filled = fill_defaults(manifest, set_schema())
    assert isinstance(filled, FrozenMap)
    return webhook_defaults(filled)


def webhook_defaults(manifest: FrozenMap[Json]) -> FrozenMap[Json]:
    """The mutating webhook's part alone, for an object that has the schema's defaults. Idempotent."""
    spec = manifest.get("spec")
    if not isinstance(spec, FrozenMap):
        return manifest
    changed = _restart_policy(spec)
    changed = _rollout_strategy(changed)
    changed = _network_config(changed)
    return manifest if changed is spec else manifest.with_("spec", changed)


def _restart_policy(spec: FrozenMap[Json]) -> FrozenMap[Json]:
    template = spec.get("leaderWorkerTemplate")
    if not isinstance(template, FrozenMap):
        return spec
    match template.get("restartPolicy"):
        case None | "":
            policy = "RecreateGroupOnPodRestart"
        case "Default":
            policy = "None"
        case _:
            return spec
    return spec.with_("leaderWorkerTemplate", template.with_("restartPolicy", policy))


def _rollout_strategy(spec: FrozenMap[Json]) -> FrozenMap[Json]:
    found = spec.get("rolloutStrategy")
    strategy = EMPTY if found is None else found
    if not isinstance(strategy, FrozenMap):
        return spec
    if strategy.get("type") in (None, ""):
        strategy = strategy.with_("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate" and strategy.get("rollingUpdateConfiguration") is None:
        strategy = strategy.with_("rollingUpdateConfiguration", _ROLLING_UPDATE)
    return spec if strategy is found else spec.with_("rolloutStrategy", strategy)


def _network_config(spec: FrozenMap[Json]) -> FrozenMap[Json]:
    found = spec.get("networkConfig")
    config = EMPTY if found is None else found
    if not isinstance(config, FrozenMap) or config.get("subdomainPolicy") is not None:
        return spec
    return spec.with_("networkConfig", config.with_("subdomainPolicy", "Shared"))
