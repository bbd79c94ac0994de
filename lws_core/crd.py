"""The CustomResourceDefinition: schema.py's fields, their two holes filled with Kubernetes' own schemas.

Kubernetes' part comes in as `definitions`: structural schemas by name, referring to each other by
{"$ref": "<name>"}, PodTemplateSpec and PersistentVolumeClaim among them (tools/extract_schema.py makes them).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .names import GROUP, KIND, PLURAL, VERSION
from .schema import Schema, set_schema
from .values import FrozenMap, Json, freeze_map

Definitions = Mapping[str, Json]

_SCALE: Final = {
    "specReplicasPath": ".spec.replicas",
    "statusReplicasPath": ".status.replicas",
    "labelSelectorPath": ".status.hpaPodSelector",
}

_PRINTER_COLUMNS: Final = (
    {"name": "Ready", "type": "integer", "jsonPath": ".status.readyReplicas"},
    {"name": "Desired", "type": "integer", "jsonPath": ".spec.replicas"},
    {"name": "Up-to-date", "type": "integer", "jsonPath": ".status.updatedReplicas"},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
)

_OBJECT: Final = FrozenMap[Json]({"type": "object"})


def full_schema(definitions: Definitions) -> Schema:
    """The schema of a whole manifest, pod templates and all: what `check` and `fill_defaults` take.

    Raises KeyError for a definition that is missing. Cost: some milliseconds.
    """
    return set_schema(inline("PodTemplateSpec", definitions), inline("PersistentVolumeClaim", definitions))


def compose_crd(definitions: Definitions) -> FrozenMap[Json]:
    """The CustomResourceDefinition, as it is installed in a cluster. Raises KeyError like `full_schema`."""
    schema = set_schema(
        inline("PodTemplateSpec", definitions),
        inline("PersistentVolumeClaim", definitions),
        _OBJECT,  # the API server knows an object's metadata, and allows no schema for it
    )
    names = {
        "kind": KIND,
        "listKind": f"{KIND}List",
        "plural": PLURAL,
        "singular": KIND.lower(),
        "shortNames": ("lws",),
    }
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": _PRINTER_COLUMNS,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}, "scale": _SCALE},
    }
    # Without `conversion`, whose default is none: where the Go controller has put a conversion webhook, which
    # nothing ever calls, an apply that said so would be refused for the fields that it leaves behind.
    return freeze_map(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{PLURAL}.{GROUP}"},
            "spec": {
                "group": GROUP,
                "names": names,
                "scope": "Namespaced",
                "versions": (version,),
            },
        }
    )


def inline(name: str, definitions: Definitions) -> Schema:
    """The definition of that name, with every reference in it replaced by what it refers to.

    Each definition is resolved once and shared, so that the result is small in memory though large as text.
    Raises KeyError for a name that is missing.
    """
    done: dict[str, Json] = {}

    def resolve(schema: Json) -> Json:
        match schema:
            case {"$ref": str(other)}:
                if other not in done:
                    done[other] = resolve(definitions[other])
                return done[other]
            case FrozenMap():
                return FrozenMap({key: resolve(value) for key, value in schema.items()})
            case tuple():
                return tuple([resolve(item) for item in schema])
            case _:
                return schema

    resolved = resolve(definitions[name])
    assert isinstance(resolved, FrozenMap)
    return resolved
