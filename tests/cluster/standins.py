"""CRDs that stand in for APIs which others would serve: Volcano's PodGroups, the metrics of pods."""

from __future__ import annotations

from typing import Final

from client import Manifest


def _crd(
    group: str, kind: str, plural: str, version: str, schema: Manifest, annotations: Manifest
) -> Manifest:
    served = {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}", "annotations": annotations},
        "spec": {
            "group": group,
            "names": {"kind": kind, "plural": plural},
            "scope": "Namespaced",
            "versions": [served],
        },
    }


_AMOUNTS: Final = {"type": "object", "additionalProperties": {"x-kubernetes-int-or-string": True}}

POD_GROUPS: Final = _crd(
    "scheduling.volcano.sh",
    "PodGroup",
    "podgroups",
    "v1beta1",
    {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "minMember": {"type": "integer", "format": "int32"},
                    "queue": {"type": "string", "default": "default"},
                    "minResources": _AMOUNTS,
                },
            }
        },
    },
    {},
)

POD_METRICS: Final = _crd(
    "metrics.k8s.io",
    "PodMetrics",
    "pods",
    "v1beta1",
    {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    {"api-approved.kubernetes.io": "unapproved, for tests alone"},
)
