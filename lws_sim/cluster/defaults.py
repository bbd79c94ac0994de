"""What the API server fills in: a controller reads back more than it wrote, and must not take that for drift.

The defaults of pkg/apis/apps/v1 and pkg/apis/core/v1, for the fields that the templates of sets use.
"""

from __future__ import annotations

from typing import Final

from lws_core.quantity import canonical_quantity
from lws_core.values import FrozenMap, Json, as_list, as_map, freeze_map

_STATEFULSET: Final = freeze_map(
    {
        "replicas": 1,
        "podManagementPolicy": "OrderedReady",
        "revisionHistoryLimit": 10,
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
    }
)
_POD: Final = freeze_map(
    {
        "dnsPolicy": "ClusterFirst",
        "restartPolicy": "Always",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "terminationGracePeriodSeconds": 30,
    }
)
_CONTAINER: Final = freeze_map(
    {
        "resources": {},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
    }
)
_PROBE: Final = freeze_map(
    {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
)
_STRATEGY: Final = freeze_map({"type": "RollingUpdate"})
_ROLLING: Final = freeze_map({"partition": 0})
_PORT: Final = freeze_map({"protocol": "TCP"})
_CLAIM: Final = freeze_map({"volumeMode": "Filesystem"})
_SERVICE: Final = freeze_map(
    {"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"}
)


def complete_statefulset(obj: FrozenMap[Json], *, gate: bool) -> FrozenMap[Json]:
    """The StatefulSet as it is stored: maxUnavailable is 1 if it is not given, dropped with the gate off."""
    spec = _STATEFULSET | as_map(obj.get("spec"))
    strategy = as_map(spec.get("updateStrategy"))
    rolling = _ROLLING.with_("maxUnavailable", 1) | as_map(strategy.get("rollingUpdate"))
    if not gate:
        rolling = rolling.without("maxUnavailable")
    strategy = _STRATEGY | strategy | {"rollingUpdate": rolling}
    template = as_map(spec.get("template"))
    retention = as_map(_STATEFULSET["persistentVolumeClaimRetentionPolicy"])
    spec = spec | {
        "updateStrategy": strategy,
        "template": template.with_("spec", complete_pod_spec(as_map(template.get("spec")))),
        "persistentVolumeClaimRetentionPolicy": retention
        | as_map(spec.get("persistentVolumeClaimRetentionPolicy")),
    }
    claims = tuple(_complete_claim(as_map(claim)) for claim in as_list(spec.get("volumeClaimTemplates")))
    if claims:
        spec = spec.with_("volumeClaimTemplates", claims)
    completed = obj.with_("spec", spec)
    return completed if completed != obj else obj


def complete_service(obj: FrozenMap[Json]) -> FrozenMap[Json]:
    """The Service as it is stored."""
    return obj.with_("spec", _SERVICE | as_map(obj.get("spec")))


def complete_pod_spec(spec: FrozenMap[Json]) -> FrozenMap[Json]:
    """A pod's spec with the defaults of a pod and of its containers."""
    completed = _POD | spec
    for field in ("initContainers", "containers"):
        if field in spec:
            containers = tuple(_complete_container(as_map(item)) for item in as_list(spec[field]))
            completed = completed.with_(field, containers)
    return completed


def _complete_container(container: FrozenMap[Json]) -> FrozenMap[Json]:
    image = str(container.get("image", ""))
    tag = image.rsplit("/", 1)[-1]
    latest = "@" not in tag and (":" not in tag or tag.endswith(":latest"))
    pull: Json = "Always" if latest else "IfNotPresent"
    completed = _CONTAINER.with_("imagePullPolicy", pull) | container
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if probe in container:
            completed = completed.with_(probe, _PROBE | as_map(container[probe]))
    if "ports" in container:
        ports = (as_map(port) for port in as_list(container["ports"]))
        completed = completed.with_("ports", tuple(_PORT | port for port in ports))
    return completed.with_("resources", _canonical_resources(as_map(completed["resources"])))


def _canonical_resources(resources: FrozenMap[Json]) -> FrozenMap[Json]:
    return FrozenMap(
        {
            kind: FrozenMap({name: _canonical(amount) for name, amount in as_map(amounts).items()})
            if kind in ("limits", "requests")
            else amounts
            for kind, amounts in resources.items()
        }
    )


def _canonical(amount: Json) -> Json:
    try:
        return canonical_quantity(amount)
    except ValueError:
        return amount


def _complete_claim(claim: FrozenMap[Json]) -> FrozenMap[Json]:
    spec = _CLAIM | as_map(claim.get("spec"))
    if "resources" in spec:
        spec = spec.with_("resources", _canonical_resources(as_map(spec["resources"])))
    return claim | {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "spec": spec,
        "status": as_map(claim.get("status")) or FrozenMap({"phase": "Pending"}),
    }
