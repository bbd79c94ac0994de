"""deploy/ against the code: names, ports, paths and rights that both must agree on."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml

from lws_core import Options, names
from lws_core.values import as_map, freeze
from lws_runtime.config import Settings, read_settings
from lws_runtime.kube.resources import RESOURCES, Resource
from lws_runtime.webhook.keeper import CONFIGURATIONS
from lws_runtime.webhook.reviews import ENDPOINTS

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DEFAULTS = Settings()
CONFIG_FILE = "controller_manager_config.yaml"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

Manifest = dict[str, Any]


@cache
def documents(path: str) -> tuple[Manifest, ...]:
    text = (DEPLOY / path).read_text(encoding="utf-8")
    return tuple(one for one in yaml.safe_load_all(text) if one is not None)


def operator() -> Iterator[Manifest]:
    """The objects of deploy/operator."""
    for path in documents("operator/kustomization.yaml")[0]["resources"]:
        yield from documents(f"operator/{path}")


def the(kind: str, name: str) -> Manifest:
    (found,) = (one for one in operator() if (one["kind"], one["metadata"]["name"]) == (kind, name))
    return found


def pod() -> Manifest:
    spec: Manifest = the("Deployment", "lws-controller-manager")["spec"]["template"]["spec"]
    return spec


def container() -> Manifest:
    (found,) = pod()["containers"]
    return dict(found)


def webhooks() -> list[Manifest]:
    kinds = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
    return [hook for one in operator() if one["kind"] in kinds for hook in one["webhooks"]]


def settings(document: str) -> Settings:
    return read_settings(as_map(freeze(yaml.safe_load(document))))


def test_kustomizations_must_list_every_file() -> None:
    for folder in (DEPLOY / "operator", *sorted((DEPLOY / "components").iterdir())):
        (found,) = documents(f"{folder.relative_to(DEPLOY)}/kustomization.yaml")
        files = {path.name for path in folder.iterdir()} - {"kustomization.yaml"}
        assert set(found["resources"]) == files
    (top,) = documents("kustomization.yaml")
    assert top["resources"] == ["crd/leaderworkerset.x-k8s.io_leaderworkersets.yaml", "operator"]


def test_image_must_have_the_version_of_the_project() -> None:
    (found,) = documents("operator/kustomization.yaml")
    (image,) = found["images"]
    assert image["name"] == container()["image"]
    assert image["newTag"] == VERSION


def test_configuration_must_be_read_and_say_the_defaults() -> None:
    data = the("ConfigMap", "lws-manager-config")["data"]
    assert list(data) == [CONFIG_FILE]
    assert settings(data[CONFIG_FILE]) == DEFAULTS


def test_configuration_must_lie_where_the_operator_is_told_to_look() -> None:
    (volume,) = (one for one in pod()["volumes"] if "configMap" in one)
    (mount,) = (one for one in container()["volumeMounts"] if one["name"] == volume["name"])
    assert volume["configMap"]["name"] == "lws-manager-config"
    assert container()["args"] == ["operator", f"--config={mount['mountPath']}/{CONFIG_FILE}"]


def test_gang_scheduling_component_must_change_nothing_else() -> None:
    (component,) = documents("components/gang-scheduling/kustomization.yaml")
    (patch,) = component["patches"]
    (operation,) = yaml.safe_load(patch["patch"])
    assert operation["path"] == f"/data/{CONFIG_FILE}"
    assert settings(operation["value"]) == attrs.evolve(DEFAULTS, options=Options(gang_scheduling=True))


def test_ports_must_be_those_that_are_listened_on() -> None:
    ports = {one["name"]: one["containerPort"] for one in container()["ports"]}
    assert DEFAULTS.metrics.address is not None
    assert DEFAULTS.health.address is not None
    assert ports == {
        "webhook-server": DEFAULTS.webhook.address.port,
        "metrics": DEFAULTS.metrics.address.port,
        "probes": DEFAULTS.health.address.port,
    }
    labels = the("Deployment", "lws-controller-manager")["spec"]["template"]["metadata"]["labels"]
    services = [one["spec"] for one in operator() if one["kind"] == "Service"]
    assert [port["targetPort"] for one in services for port in one["ports"]] == ["webhook-server", "metrics"]
    assert all(one["selector"].items() <= labels.items() for one in services)


def test_probes_must_ask_for_what_is_served() -> None:
    asked = [container()[f"{probe}Probe"]["httpGet"] for probe in ("liveness", "readiness")]
    health = DEFAULTS.health
    assert [one["path"] for one in asked] == [health.liveness_path, health.readiness_path]
    assert {one["port"] for one in asked} == {"probes"}


def test_pod_must_serve_on_until_nobody_is_sent_to_it_and_then_have_time_to_end() -> None:
    """Endpoints name a pod for a moment after it was told to end, and its port would refuse by then."""
    program, seconds = container()["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "sleep"
    assert int(seconds) >= 5
    assert pod()["terminationGracePeriodSeconds"] >= int(seconds) + 5  # as docs/operator.md says of SIGTERM


def test_certificates_must_be_put_where_a_file_can_be_written() -> None:
    assert container()["securityContext"]["readOnlyRootFilesystem"] is True
    (mount,) = (one for one in container()["volumeMounts"] if not one.get("readOnly"))
    (volume,) = (one for one in pod()["volumes"] if one["name"] == mount["name"])
    assert "emptyDir" in volume
    assert Path(DEFAULTS.webhook.cert_dir).is_relative_to(mount["mountPath"])


def test_secret_and_service_of_the_certificates_must_be_there() -> None:
    assert "data" not in the("Secret", DEFAULTS.certificates.secret_name)
    service = the("Service", DEFAULTS.certificates.service_name)
    assert [port["port"] for port in service["spec"]["ports"]] == [443]


def test_webhooks_must_ask_for_paths_that_are_served() -> None:
    for hook in webhooks():
        asked = hook["clientConfig"]["service"]
        endpoint = ENDPOINTS[asked["path"]]
        (rule,) = hook["rules"]
        assert asked["name"] == DEFAULTS.certificates.service_name
        assert asked["namespace"] == documents("operator/kustomization.yaml")[0]["namespace"]
        assert (rule["apiGroups"], rule["resources"]) == ([endpoint.group], [endpoint.resource])
    paths = {hook["clientConfig"]["service"]["path"] for hook in webhooks()}
    assert set(ENDPOINTS) - paths == {"/validate--v1-pod"}  # allows everything: for the Go controller's own


def test_pod_webhook_must_select_the_pods_of_sets_alone() -> None:
    (hook,) = (one for one in webhooks() if one["name"] == "mpod.kb.io")
    assert hook["objectSelector"] == {"matchExpressions": [{"key": names.SET_NAME, "operator": "Exists"}]}


def test_webhook_configurations_must_have_the_names_that_the_authority_is_put_into() -> None:
    found = {one["metadata"]["name"] for one in operator() if one["kind"].endswith("WebhookConfiguration")}
    assert found == {path.rpartition("/")[2] for path in CONFIGURATIONS}
    rules = the("ClusterRole", "lws-manager-role")["rules"]
    assert {name for rule in rules for name in rule.get("resourceNames", ())} == found


def test_rights_in_the_own_namespace_must_be_for_the_lease_and_the_secret() -> None:
    rules = the("Role", "lws-manager-role")["rules"]
    named = {rule["resources"][0]: rule["resourceNames"] for rule in rules if "resourceNames" in rule}
    assert named == {
        "leases": [DEFAULTS.leader_election.resource_name],
        "secrets": [DEFAULTS.certificates.secret_name],
    }


@pytest.mark.parametrize("resource", RESOURCES.values(), ids=lambda resource: resource.kind)
def test_rights_must_be_given_for_every_kind_that_is_read_or_written(resource: Resource) -> None:
    roles = [the("ClusterRole", "lws-manager-role")]
    roles += [
        one for one in documents("components/gang-scheduling/rights.yaml") if one["kind"] == "ClusterRole"
    ]
    group = resource.root.split("/")[2] if resource.root.startswith("/apis/") else ""
    verbs = {
        verb
        for role in roles
        for rule in role["rules"]
        if group in rule["apiGroups"] and resource.plural in rule["resources"]
        for verb in rule["verbs"]
    }
    assert verbs >= ({"create"} if resource.kind == "Event" else {"get", "list", "watch"})


def test_operator_never_may_read_a_secret_of_others_or_everything() -> None:
    rules = the("ClusterRole", "lws-manager-role")["rules"]
    assert all("secrets" not in rule["resources"] for rule in rules)
    every = [*rules, *the("Role", "lws-manager-role")["rules"]]
    assert all("*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]] for rule in every)


def test_bindings_must_be_of_the_account_that_the_pods_have() -> None:
    account = pod()["serviceAccountName"]
    the("ServiceAccount", account)
    namespace = documents("operator/kustomization.yaml")[0]["namespace"]
    assert the("Namespace", namespace)
    components = documents("components/gang-scheduling/rights.yaml")
    for one in (*operator(), *components):
        if one["kind"].endswith("Binding"):
            assert one["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": namespace}]
