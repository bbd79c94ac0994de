"""Extracts what a pod template and a claim may hold from Kubernetes' own OpenAPI document.

The result is package data, lws_runtime/data/kubernetes-<minor>.json: the definitions reachable from
PodTemplateSpec and PersistentVolumeClaim in the structural form that a CustomResourceDefinition demands,
without descriptions, with {"$ref": "<name>"} between them. Run it for a new version of Kubernetes:

    python tools/extract_schema.py .../kubernetes@v1.36.3/api/openapi-spec/swagger.json

The document does not say its own version, so it is read from the path, or given with --version.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOTS = ("io.k8s.api.core.v1.PodTemplateSpec", "io.k8s.api.core.v1.PersistentVolumeClaim")

# Of the schema keywords, those that a structural schema may hold. Left out: descriptions (1 MB), unions and
# patch strategies (not known to custom resources; list types say what server-side apply needs).
KEPT = (
    "type", "format", "required", "enum", "x-kubernetes-list-type", "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
)  # fmt: skip
FORMATS = ("int32", "int64", "double", "date-time", "byte")

# Of an embedded object's metadata the API server keeps these; the rest is the server's to write.
METADATA = ("labels", "annotations", "finalizers", "name", "namespace")

# A key of a list-map must be required or have a default. These are Go's markers, which OpenAPI v2 leaves out.
DEFAULTS = {("ContainerPort", "protocol"): "TCP", ("LocalObjectReference", "name"): ""}

INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]
QUANTITY = (
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))"
    r"(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
)
OWN = {
    "IntOrString": {"anyOf": INT_OR_STRING, "x-kubernetes-int-or-string": True},
    "Quantity": {"anyOf": INT_OR_STRING, "pattern": QUANTITY, "x-kubernetes-int-or-string": True},
}

Schema = dict[str, Any]


def short(reference: str) -> str:
    """`PodSpec` for `#/definitions/io.k8s.api.core.v1.PodSpec`."""
    return reference.rsplit(".", 1)[1]


def references(schema: object) -> Iterator[str]:
    """Every $ref below a schema, in order."""
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from references(item)


def structural(name: str, schema: Schema) -> Schema:
    """A definition, or a schema inside one, with only what a structural schema may hold."""
    if "$ref" in schema:
        return {"$ref": short(schema["$ref"])}
    kept = {key: schema[key] for key in KEPT if key in schema}
    if kept.get("format") not in FORMATS:
        kept.pop("format", None)
    if "items" in schema:
        kept["items"] = structural(name, schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        kept["additionalProperties"] = structural(name, schema["additionalProperties"])
    if "properties" in schema:
        chosen = METADATA if name == "ObjectMeta" else sorted(schema["properties"])
        kept["properties"] = {field: structural(name, schema["properties"][field]) for field in chosen}
        for field in chosen:
            if (name, field) in DEFAULTS:
                kept["properties"][field]["default"] = DEFAULTS[name, field]
    return kept


def extract(swagger: Schema) -> dict[str, Schema]:
    """The definitions reachable from ROOTS, by short name, in alphabetical order."""
    found: dict[str, Schema] = {}
    waiting = list(ROOTS)
    while waiting:
        full = waiting.pop()
        name = short(full)
        if name in found:
            continue
        source = swagger["definitions"][full]
        found[name] = OWN[name] if name in OWN else structural(name, source)
        if name not in OWN and name != "ObjectMeta":
            waiting += [reference.removeprefix("#/definitions/") for reference in references(source)]
    check_list_keys(found)
    return dict(sorted(found.items()))


def check_list_keys(definitions: dict[str, Schema]) -> None:
    """Refuses a list-map whose keys the API server would refuse."""
    for name, definition in definitions.items():
        for field, schema in definition.get("properties", {}).items():
            for key in schema.get("x-kubernetes-list-map-keys", ()):
                item = definitions[schema["items"]["$ref"]]
                if key not in item.get("required", ()) and "default" not in item["properties"][key]:
                    sys.exit(f"{name}.{field} is a map by {key}, which has no default: add one to DEFAULTS")


def main() -> None:
    """Writes the data file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("swagger", type=Path, help="api/openapi-spec/swagger.json of Kubernetes' source")
    parser.add_argument("--version", help="its version, such as 1.36.3, where the path does not name it")
    parser.add_argument("--output", type=Path, help="default: lws_runtime/data/kubernetes-<minor>.json")
    arguments = parser.parse_args()
    in_path = re.search(r"kubernetes@v([0-9.]+)", str(arguments.swagger.resolve()))
    version = arguments.version or (in_path and in_path[1])
    if not version:
        parser.error("cannot tell the version of Kubernetes from the path: give --version")
    data = Path(__file__).parent.parent / "lws_runtime" / "data"
    output = arguments.output or data / f"kubernetes-{version.rpartition('.')[0]}.json"
    definitions = extract(json.loads(arguments.swagger.read_text(encoding="utf-8")))
    document = {"kubernetes": version, "definitions": definitions}
    output.write_text(json.dumps(document, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{output}: {len(definitions)} definitions of Kubernetes {version}")


if __name__ == "__main__":
    main()
