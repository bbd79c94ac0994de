"""The schema, the CustomResourceDefinition made from it, and Kubernetes' part of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import yaml
from building import a_set, lines

from lws_core.crd import compose_crd, inline
from lws_core.structural import check, fill_defaults
from lws_core.values import FrozenMap, Json, as_list, as_map, dig, freeze, freeze_map, thaw
from lws_runtime.cli import crd as crd_command
from lws_runtime.schema_data import KUBERNETES_MINOR, definitions, manifest_schema

ROOT = Path(__file__).parents[2]
CRD_FILE = ROOT / "deploy" / "crd" / "leaderworkerset.x-k8s.io_leaderworkersets.yaml"
DATA_FILE = ROOT / "lws_runtime" / "data" / f"kubernetes-{KUBERNETES_MINOR}.json"
LIMIT = 256 * 1024  # of an object's annotations, which client-side apply writes the object into

CRD = compose_crd(definitions())
(VERSION,) = as_list(dig(CRD, "spec", "versions"))


def crd_schema() -> FrozenMap[Json]:
    return as_map(dig(VERSION, "schema", "openAPIV3Schema"))


def test_crd_always_has_the_names_and_columns_of_the_api() -> None:
    assert dig(CRD, "metadata", "name") == "leaderworkersets.leaderworkerset.x-k8s.io"
    assert as_map(CRD["spec"]).without("versions") == freeze(
        {
            "group": "leaderworkerset.x-k8s.io",
            "names": {
                "kind": "LeaderWorkerSet",
                "listKind": "LeaderWorkerSetList",
                "plural": "leaderworkersets",
                "singular": "leaderworkerset",
                "shortNames": ["lws"],
            },
            "scope": "Namespaced",
        }
    )
    assert as_map(VERSION).without("schema") == freeze(
        {
            "name": "v1",
            "served": True,
            "storage": True,
            "additionalPrinterColumns": [
                {"name": "Ready", "type": "integer", "jsonPath": ".status.readyReplicas"},
                {"name": "Desired", "type": "integer", "jsonPath": ".spec.replicas"},
                {"name": "Up-to-date", "type": "integer", "jsonPath": ".status.updatedReplicas"},
                {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
            ],
            "subresources": {
                "status": {},
                "scale": {
                    "specReplicasPath": ".spec.replicas",
                    "statusReplicasPath": ".status.replicas",
                    "labelSelectorPath": ".status.hpaPodSelector",
                },
            },
        }
    )


def field(path: str) -> dict[str, Any]:
    """A field's schema without what is below it."""
    schema: Json = crd_schema()
    for name in path.split("."):
        schema = dig(schema, "items") if name == "[]" else dig(schema, "properties", name)
    kept = as_map(schema).without("properties", "items", "description")
    return {key: thaw(value) for key, value in kept.items()}


EITHER = {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True}
ROLLING = "spec.rolloutStrategy.rollingUpdateConfiguration"
TEMPLATE = "spec.leaderWorkerTemplate"
POLICIES = ["Default", "RecreateGroupOnPodRestart", "RecreateGroupAfterStart", "None"]
INT32 = {"type": "integer", "format": "int32"}
INT64 = {"type": "integer", "format": "int64"}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("metadata", {"type": "object"}),
        ("spec", {"type": "object", "required": ["leaderWorkerTemplate"]}),
        ("spec.replicas", {**INT32, "default": 1, "minimum": 0, "maximum": 1000000}),
        (TEMPLATE, {"type": "object", "required": ["workerTemplate"]}),
        (f"{TEMPLATE}.size", {**INT32, "default": 1}),
        (
            f"{TEMPLATE}.restartPolicy",
            {"type": "string", "default": "RecreateGroupOnPodRestart", "enum": POLICIES},
        ),
        (f"{TEMPLATE}.subGroupPolicy", {"type": "object"}),
        (
            f"{TEMPLATE}.subGroupPolicy.subGroupPolicyType",
            {"type": "string", "default": "LeaderWorker", "enum": ["LeaderWorker", "LeaderExcluded"]},
        ),
        (f"{TEMPLATE}.subGroupPolicy.subGroupSize", INT32),
        (f"{TEMPLATE}.volumeClaimTemplates", {"type": "array", "x-kubernetes-list-type": "atomic"}),
        (f"{TEMPLATE}.persistentVolumeClaimRetentionPolicy.whenDeleted", {"type": "string"}),
        (f"{TEMPLATE}.persistentVolumeClaimRetentionPolicy.whenScaled", {"type": "string"}),
        (f"{TEMPLATE}.leaderTemplate", {"type": "object"}),
        (f"{TEMPLATE}.workerTemplate.spec", {"type": "object", "required": ["containers"]}),
        (
            "spec.rolloutStrategy.type",
            {"type": "string", "default": "RollingUpdate", "enum": ["RollingUpdate"]},
        ),
        (f"{ROLLING}.partition", {**INT32, "default": 0}),
        (f"{ROLLING}.maxUnavailable", {**EITHER, "default": 1}),
        (f"{ROLLING}.maxSurge", {**EITHER, "default": 0}),
        (
            "spec.startupPolicy",
            {"type": "string", "default": "LeaderCreated", "enum": ["LeaderCreated", "LeaderReady"]},
        ),
        ("spec.networkConfig", {"type": "object", "required": ["subdomainPolicy"]}),
        ("spec.networkConfig.subdomainPolicy", {"type": "string", "enum": ["Shared", "UniquePerReplica"]}),
        (
            "status.conditions",
            {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
        ("status.replicas", INT32),
        ("status.readyReplicas", INT32),
        ("status.updatedReplicas", INT32),
        ("status.hpaPodSelector", {"type": "string"}),
        ("status.observedGeneration", INT64),
    ],
)
def test_field_is_always_declared_as_the_api_has_it(path: str, expected: dict[str, Any]) -> None:
    assert field(path) == expected


def test_every_own_field_always_explains_itself() -> None:
    def walk(schema: FrozenMap[Json], path: str) -> Iterator[str]:
        for name, below in as_map(schema.get("properties")).items():
            if not as_map(below).get("description"):
                yield f"{path}.{name}"
            if name not in ("leaderTemplate", "workerTemplate", "volumeClaimTemplates"):
                yield from walk(as_map(below), f"{path}.{name}")
                yield from walk(as_map(as_map(below).get("items")), f"{path}.{name}[]")

    assert list(walk(crd_schema(), "")) == [".metadata"]


# What the API server demands of a schema (apiextensions-apiserver: pkg/apiserver/schema/validation.go and
# pkg/apis/apiextensions/validation).

ALLOWED = {
    "type", "format", "description", "default", "enum", "required", "properties", "items", "pattern", "anyOf",
    "additionalProperties", "minimum", "maximum", "minLength", "maxLength", "x-kubernetes-int-or-string",
    "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields",
}  # fmt: skip


def flaws(schema: FrozenMap[Json], path: str = "") -> Iterator[str]:
    for keyword in schema:
        if keyword not in ALLOWED:
            yield f"{path}: has {keyword}"
    if schema.get("x-kubernetes-int-or-string"):
        if "type" in schema or schema["anyOf"] != freeze(EITHER["anyOf"]):
            yield f"{path}: int-or-string with a type"
    elif not isinstance(schema.get("type"), str):
        yield f"{path}: no type"
    if ("items" in schema) != (schema.get("type") == "array"):
        yield f"{path}: items"
    if "properties" in schema and "additionalProperties" in schema:
        yield f"{path}: properties beside additionalProperties"
    items = as_map(schema.get("items"))
    for key in as_list(schema.get("x-kubernetes-list-map-keys")):
        if (
            key not in as_list(items.get("required"))
            and dig(items, "properties", str(key), "default") is None
        ):
            yield f"{path}: list map key {key} is neither required nor defaulted"
    for name in as_list(schema.get("required")):
        if name not in as_map(schema.get("properties")):
            yield f"{path}: requires {name}, which is not declared"
    for name, below in as_map(schema.get("properties")).items():
        yield from flaws(as_map(below), f"{path}.{name}")
    for keyword in ("items", "additionalProperties"):
        if keyword in schema:
            yield from flaws(as_map(schema[keyword]), f"{path}.{keyword}")


def test_schema_always_keeps_the_rules_for_structural_schemas() -> None:
    assert list(flaws(crd_schema())) == []


def test_crd_always_fits_into_a_plain_kubectl_apply() -> None:
    assert len(json.dumps(CRD, separators=(",", ":")).encode()) < LIMIT
    assert CRD_FILE.stat().st_size < LIMIT


def test_crd_file_is_always_what_the_command_prints() -> None:
    assert CRD_FILE.read_text(encoding="utf-8") == crd_command.text(), "run: lws crd --output " + str(
        CRD_FILE
    )


def test_crd_file_always_says_the_same_to_any_yaml_reader() -> None:
    assert freeze(yaml.safe_load(CRD_FILE.read_text(encoding="utf-8"))) == CRD


def test_inlining_never_takes_a_name_it_does_not_know() -> None:
    with pytest.raises(KeyError):
        inline("PodTemplateSpec", freeze_map({"PodTemplateSpec": {"$ref": "PodSpec"}}))


# Kubernetes' part.


@pytest.fixture
def swagger() -> Path:
    """Kubernetes' OpenAPI document, from Go's module cache."""
    version = json.loads(DATA_FILE.read_text(encoding="utf-8"))["kubernetes"]
    get_it = f"go mod download k8s.io/kubernetes@v{version} (in a module that requires it) gets it"
    cache = ""
    if which("go"):
        asked = subprocess.run(["go", "env", "GOMODCACHE"], capture_output=True, text=True, check=False)
        cache = asked.stdout.strip()
    path = Path(cache, "k8s.io", f"kubernetes@v{version}", "api", "openapi-spec", "swagger.json")
    if not cache or not path.exists():
        reason = f"no Kubernetes {version} in Go's module cache: {get_it}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def test_shipped_definitions_are_always_what_kubernetes_says(swagger: Path, tmp_path: Path) -> None:
    output = tmp_path / "again.json"
    script = ROOT / "tools" / "extract_schema.py"
    subprocess.run([sys.executable, script, swagger, "--output", output], check=True, capture_output=True)
    assert output.read_text(encoding="utf-8") == DATA_FILE.read_text(encoding="utf-8")


def test_every_field_of_a_pod_is_always_known(swagger: Path) -> None:
    official = {
        name.rsplit(".", 1)[1]: definition
        for name, definition in json.loads(swagger.read_text(encoding="utf-8"))["definitions"].items()
        if name.startswith(("io.k8s.api.core.v1.", "io.k8s.apimachinery."))
    }
    for name, definition in definitions().without("ObjectMeta").items():
        assert set(as_map(dig(definition, "properties"))) == set(official[name].get("properties", {}))


def test_embedded_metadata_always_keeps_what_the_api_server_keeps() -> None:
    kept = as_map(dig(definitions(), "ObjectMeta", "properties"))
    assert sorted(kept) == ["annotations", "finalizers", "labels", "name", "namespace"]


def test_lists_of_a_pod_always_merge_by_their_keys() -> None:
    pod = as_map(dig(inline("PodTemplateSpec", definitions()), "properties", "spec", "properties"))
    keys = {name: dig(below, "x-kubernetes-list-map-keys") for name, below in pod.items()}
    assert {name: found for name, found in keys.items() if found} == {
        "containers": ("name",),
        "ephemeralContainers": ("name",),
        "hostAliases": ("ip",),
        "imagePullSecrets": ("name",),
        "initContainers": ("name",),
        "resourceClaims": ("name",),
        "schedulingGates": ("name",),
        "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
        "volumes": ("name",),
    }
    ports = dig(pod["containers"], "items", "properties", "ports")
    assert dig(ports, "x-kubernetes-list-map-keys") == ("containerPort", "protocol")


def test_port_always_gets_its_protocol() -> None:
    container = {"name": "a", "ports": [{"containerPort": 80}]}
    filled = fill_defaults(
        a_set(template={"workerTemplate": {"spec": {"containers": [container]}}}), manifest_schema()
    )
    (found,) = as_list(dig(filled, "spec", "leaderWorkerTemplate", "workerTemplate", "spec", "containers"))
    assert dig(found, "ports") == freeze([{"containerPort": 80, "protocol": "TCP"}])


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        ({"name": "a", "resources": {"limits": {"cpu": "1.5", "google.com/tpu": 4}}}, []),
        ({"name": "a", "resources": {"limits": {"cpu": "1GB"}}},
         ['resources.limits[cpu]: Invalid value: "1GB": must be a quantity such as "500m", "2" or "16Gi"']),
        ({"name": "a", "livenessProbe": {"httpGet": {"port": "http"}}}, []),
        ({"name": "a", "livenessProbe": {"httpGet": {}}}, ["livenessProbe.httpGet.port: Required value"]),
        ({"name": "a", "imagePullPolcy": "Always"},
         ['imagePullPolcy: Unknown field: did you mean "imagePullPolicy"?']),
        ({"name": "a", "env": [{"name": "A", "value": 5}]},
         ["env[0].value: Invalid value: 5: must be a string"]),
        ({"name": "a", "env": [{"name": "A"}, {"name": "A"}]},
         ['env[1]: Invalid value: {"name":"A"}: duplicates an earlier entry']),
    ],
)  # fmt: skip
def test_pod_template_is_always_checked_field_by_field(
    container: dict[str, Any], expected: list[str]
) -> None:
    path = "spec.leaderWorkerTemplate.workerTemplate.spec.containers[0]."
    manifest = a_set(template={"workerTemplate": {"spec": {"containers": [container]}}})
    assert lines(check(manifest, manifest_schema())) == [path + line for line in expected]
