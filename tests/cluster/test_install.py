"""deploy/, installed into an empty cluster as its reader would, and the operator with exactly what it gives.

The API server is not of the cluster's network, and reaches no Service. So one thing is changed after the
installation: the webhooks' Service points to this machine, at the port that the operator listens on.
"""

from __future__ import annotations

import re
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
import rights
import yaml
from audit import MANAGER, Entry
from client import JSON_PATCH, Client, Manifest, Refused, eventually
from conftest import ROOT
from control_plane import ControlPlane, Setup, token
from kubelet import Kubelet, Node
from operator_process import CONFIGURATIONS, Operator
from sandbox import Sandbox, conditions
from sets import lws, set_image, uid

from lws_core import Options, names
from lws_core.values import as_map, freeze
from lws_runtime.config import Settings, read_settings

DEPLOY: Final = ROOT / "deploy"
RBAC: Final = "rbac.authorization.k8s.io/v1"
REGISTRATION: Final = "admissionregistration.k8s.io/v1"
SOON_S: Final = 120.0
PLACES: Final = {
    "statefulsets": ("apps", ""),
    "controllerrevisions": ("apps", ""),
    "services": ("", ""),
    "secrets": ("", "lws-webhook-server-cert"),
    "leases": ("coordination.k8s.io", "b8b2488c.x-k8s.io"),
}
"""Each resource's group, and the name of what a right to it is for."""

READ_AGAIN: Final = ("leaderworkersets", "statefulsets", "controllerrevisions", "pods", "services", "nodes")
UNUSED: Final = {
    "delete statefulsets": "the workers of a leader on a lost node",
    "update leaderworkersets/finalizers": "owner references, where an admission plugin checks them",
    "update pods/finalizers": "the same",
    "patch controllerrevisions": "one that is gone back to while groups are still of it",
    **{f"get {one}": "after a write that failed, or nobody answered" for one in READ_AGAIN},
}
"""Of what the operator may do, what the test may have no occasion for."""


@attrs.define
class Installation:
    """The cluster after `kubectl apply -k deploy`, and the operator as the Deployment would run it."""

    plane: ControlPlane
    sandbox: Sandbox
    told: list[str]
    """What kubectl printed, of a client-side apply and then of a server-side one."""

    operator: Operator
    kubelet: Kubelet
    client: Client
    mark: int

    def refused(self) -> list[Entry]:
        """What the operator was forbidden, from the beginning."""
        return [one for one in self.plane.audit.entries(self.mark) if one.user == MANAGER and one.code == 403]


def kubectl(plane: ControlPlane, *words: str) -> subprocess.CompletedProcess[str]:
    command = [str(plane.programs["kubectl"]), f"--kubeconfig={plane.kubeconfig()}", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)


def must(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    assert "arning" not in done.stderr, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def empty(programs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A cluster without anything; a Service can point to this machine."""
    with ControlPlane(tmp_path_factory.mktemp("install"), programs, Setup()) as plane:
        yield plane


@pytest.fixture(scope="module")
def installation(empty: ControlPlane) -> Iterator[Installation]:
    mark = empty.audit.mark()
    told = [
        must(kubectl(empty, "apply", "-k", str(DEPLOY))),
        must(
            kubectl(
                empty, "apply", "--server-side", "--force-conflicts", "--validate=strict", "-k", str(DEPLOY)
            )
        ),
    ]
    client = empty.client()
    operator = Operator(empty, "manager", config=configuration(empty), token=account_token(client))
    point_webhooks_to(client, operator.webhook_port)
    client.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "user"}})
    sandbox = Sandbox(empty, "user")
    nodes = [Node(f"node-{index}", {"zone": f"zone-{index}"}) for index in range(2)]
    with Kubelet(empty.client("kubelet"), nodes, namespace="user") as kubelet:
        yield Installation(empty, sandbox, told, operator.start(SOON_S), kubelet, client, mark)
        operator.stop()


def installed(client: Client, kind: str, name: str, version: str = "v1") -> Manifest:
    found = client.get(version, kind, rights.NAMESPACE, name)
    assert found is not None, f"{kind} {name} is not installed"
    return found


def configuration(plane: ControlPlane) -> Manifest:
    """The installed configuration; what is laid over it is what a machine of its own would allow."""
    stored = installed(plane.client(), "ConfigMap", "lws-manager-config")
    config: Manifest = yaml.safe_load(stored["data"]["controller_manager_config.yaml"])
    folder = plane.folder / "manager-certificates"
    folder.mkdir()
    return {**config, "webhook": {"certDir": str(folder)}}


def account_token(client: Client) -> str:
    """What the pods of the Deployment would authenticate with."""
    account = installed(client, "ServiceAccount", "lws-controller-manager")["metadata"]["name"]
    path = client.path("v1", "ServiceAccount", rights.NAMESPACE, account, "token")
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    return str(client.request("POST", path, request)["status"]["token"])


def point_webhooks_to(client: Client, port: int) -> None:
    service = client.path("v1", "Service", rights.NAMESPACE, "lws-webhook-service")
    spec = {"type": "ExternalName", "externalName": "localhost", "clusterIP": None, "clusterIPs": None}
    client.patch(service, {"spec": spec})
    for kind, name in CONFIGURATIONS.items():
        path = client.path(REGISTRATION, kind, None, name)
        webhooks = client.request("GET", path)["webhooks"]
        change = [
            {"op": "add", "path": f"/webhooks/{index}/clientConfig/service/port", "value": port}
            for index in range(len(webhooks))
        ]
        client.patch(path, change, JSON_PATCH)


# -- what is installed


def test_every_object_always_is_applied_without_a_warning(installation: Installation) -> None:
    """By a client that has the CRD's size to fit into an annotation, too."""
    wanted = rights.rendered(installation.plane.programs["kubectl"])
    first, second = ([line.rsplit(" ", 1) for line in told.splitlines()] for told in installation.told)
    assert len(first) == len(second) == len(wanted)
    assert {how for _, how in first} == {"created"}
    assert {how for _, how in second} == {"serverside-applied"}


def test_operator_always_is_asked_by_the_api_server_with_a_certificate_of_its_own(
    installation: Installation,
) -> None:
    client = installation.client
    for kind, name in CONFIGURATIONS.items():
        hooks = client.request("GET", client.path(REGISTRATION, kind, None, name))["webhooks"]
        assert all(hook["clientConfig"].get("caBundle") for hook in hooks)
    secret = installed(client, "Secret", "lws-webhook-server-cert")
    assert {"ca.crt", "ca.key", "tls.crt", "tls.key"} <= set(secret["data"])
    with pytest.raises(Refused, match="size must be equal or greater than 1"):
        installation.sandbox.apply(lws("wrong", size=0))


def test_operator_always_needs_just_the_rights_that_its_installation_gives(
    installation: Installation,
) -> None:
    """It leads, rolls a set out and back, recreates a group and places others: nothing that it asks for is
    forbidden, and of what it may do it does everything but what is explained."""
    box, client = installation.sandbox, installation.client
    box.apply(ROOT / "examples" / "lws.yaml")
    (found,) = box.all(names.KIND)
    name, groups = found["metadata"]["name"], found["spec"]["replicas"]
    box.wait_condition(name, "Available", timeout_s=SOON_S)
    lease = installed(client, "Lease", "b8b2488c.x-k8s.io", "coordination.k8s.io/v1")
    assert lease["spec"]["holderIdentity"]
    before = found["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]["containers"][0]["image"]
    for image in ("img:2", before, "img:2"):
        set_image(box, name, image)
        box.wait_ready(name, groups, timeout_s=SOON_S)
    leader = box.must_get("Pod", f"{name}-0")
    installation.kubelet.restart_container(f"{name}-0-1")
    box.wait(
        "its group is recreated", lambda: uid(box.get("Pod", f"{name}-0") or leader) != uid(leader), SOON_S
    )
    box.wait_ready(name, groups, timeout_s=SOON_S)
    box.apply(lws("placed", annotations={names.EXCLUSIVE_TOPOLOGY: "zone"}))
    box.wait_ready("placed", 2, timeout_s=SOON_S)
    assert scrape(installation.operator) == 403

    assert [str(one) for one in installation.refused()] == []
    assert granted(installation.plane) - used(installation) - set(UNUSED) == set()


def scrape(operator: Operator) -> int:
    """How the metrics answer a user without rights."""
    headers = {"Authorization": f"Bearer {token('nobody')}"}
    request = urllib.request.Request(f"https://127.0.0.1:{operator.metrics_port}/metrics", headers=headers)
    try:
        urllib.request.urlopen(request, timeout=15, context=ssl._create_unverified_context()).close()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code
    return 200


def granted(plane: ControlPlane) -> set[str]:
    """What the installation lets the operator do."""
    roles = [one for one in rights.rendered(plane.programs["kubectl"]) if one["kind"].endswith("Role")]
    rules = [rule for one in roles if one["metadata"]["name"] == "lws-manager-role" for rule in one["rules"]]
    return {
        f"{verb} {resource}" for rule in rules for verb in rule["verbs"] for resource in rule["resources"]
    }


def used(installation: Installation) -> set[str]:
    """What it has done."""
    entries = installation.plane.audit.entries(installation.mark)
    mine = [one for one in entries if one.user == MANAGER]
    return {f"{one.verb} {one.resource}{one.subresource and '/' + one.subresource}" for one in mine}


def without(resource: str, verb: str) -> Callable[[list[Manifest]], list[Manifest]]:
    """Takes a verb on a resource from the rules of a role."""

    def less(rule: Manifest) -> list[Manifest]:
        if resource not in rule["resources"] or verb not in rule["verbs"]:
            return [rule]
        others = [one for one in rule["resources"] if one != resource]
        verbs = [one for one in rule["verbs"] if one != verb]
        split = ({**rule, "resources": others}, {**rule, "resources": [resource], "verbs": verbs})
        return [one for one in split if one["resources"] and one["verbs"]]

    return lambda rules: [one for rule in rules for one in less(rule)]


def change_role(client: Client, kind: str, change: Callable[[list[Manifest]], list[Manifest]]) -> Manifest:
    """Change the rules of the operator's role or cluster role; the role as it was."""
    path = client.path(RBAC, kind, rights.NAMESPACE, "lws-manager-role")
    before: Manifest = client.request("GET", path)
    client.patch(path, {"rules": change(before["rules"])})
    return before


@pytest.fixture
def less(installation: Installation) -> Iterator[Callable[[str, str, str], None]]:
    """Takes a right away while the test runs: `less("Role", "leases", "update")`."""
    taken: list[tuple[str, Manifest]] = []

    def take(kind: str, resource: str, verb: str) -> None:
        taken.append((kind, change_role(installation.client, kind, without(resource, verb))))
        eventually("it counts", lambda: not may(installation.client, resource, verb), SOON_S)

    yield take
    for kind, before in reversed(taken):
        change_role(installation.client, kind, lambda _, before=before: before["rules"])


def may(client: Client, resource: str, verb: str) -> bool:
    """The operator may do that to what lies in its own namespace, as the API server says."""
    group, name = PLACES[resource]
    attributes = {"namespace": rights.NAMESPACE, "group": group, "resource": resource, "name": name}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": MANAGER, "resourceAttributes": {**attributes, "verb": verb}},
    }
    answered = client.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return bool(answered["status"]["allowed"])


@pytest.mark.parametrize(
    ("resource", "verb"),
    [("statefulsets", "create"), ("services", "create"), ("controllerrevisions", "create")],
)
def test_right_that_is_taken_away_always_is_missed_and_told(
    installation: Installation, less: Callable[[str, str, str], None], resource: str, verb: str
) -> None:
    box = installation.sandbox
    less("ClusterRole", resource, verb)
    box.apply(lws(f"less-{resource}"))
    found = box.wait_condition(f"less-{resource}", "Stalled", reason="APIRefused", timeout_s=SOON_S)
    assert f'cannot {verb} resource "{resource}"' in conditions(found)["Stalled"]["message"]


def test_operator_without_its_secret_or_lease_never_acts(
    installation: Installation, less: Callable[[str, str, str], None]
) -> None:
    box, operator = installation.sandbox, installation.operator
    operator.stop()
    less("Role", "secrets", "get")
    less("Role", "leases", "get")
    begun = operator.log_size()
    operator.launch()

    def told() -> str:
        text = operator.tail(10**6, since=begun)
        return text if "secrets" in text else ""

    said = eventually("it says why", told, SOON_S)
    assert "403" in said or "forbidden" in said
    assert operator.get("/readyz")[0] == 503
    assert installation.refused() != []
    mark = installation.plane.audit.mark()
    eventually("it asks for the lease", lambda: asked(installation, mark, "leases"), SOON_S)
    assert box.plane.audit.writes(mark, user=MANAGER, namespace=box.name) == []


def asked(installation: Installation, mark: int, resource: str) -> list[Entry]:
    entries = installation.plane.audit.entries(mark)
    return [one for one in entries if one.user == MANAGER and one.resource == resource and one.code == 403]


# -- the pods that it describes


def pod_of(deployment: Manifest) -> Manifest:
    template: Manifest = deployment["spec"]["template"]
    metadata = {**template["metadata"], "name": "tried", "namespace": rights.NAMESPACE}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def loosened(pod: Manifest, where: str) -> Manifest:
    """The pod without one of the fields that make it harmless."""
    spec = dict(pod["spec"])
    if where in spec["securityContext"]:
        kept = {name: value for name, value in spec["securityContext"].items() if name != where}
        spec["securityContext"] = kept
    else:
        (container,) = spec["containers"]
        kept = {name: value for name, value in container["securityContext"].items() if name != where}
        spec["containers"] = [{**container, "securityContext": kept}]
    return {**pod, "spec": spec}


def test_pods_of_the_deployment_always_are_admitted_where_only_restricted_ones_are(
    installation: Installation,
) -> None:
    namespace = installation.client.get("v1", "Namespace", None, rights.NAMESPACE)
    assert namespace is not None
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    pod = pod_of(installed(installation.client, "Deployment", "lws-controller-manager", "apps/v1"))
    installation.client.create(pod, dryRun="All")
    for field in ("runAsNonRoot", "seccompProfile", "allowPrivilegeEscalation", "capabilities"):
        with pytest.raises(Refused, match="violates PodSecurity"):
            installation.client.create(loosened(pod, field), dryRun="All")


# -- components


def settings_of(plane: ControlPlane, *components: str) -> Settings:
    (stored,) = (
        one for one in rights.rendered(plane.programs["kubectl"], *components) if one["kind"] == "ConfigMap"
    )
    config: Any = yaml.safe_load(stored["data"]["controller_manager_config.yaml"])
    return read_settings(as_map(freeze(config)))


def test_gang_scheduling_component_always_changes_that_alone(empty: ControlPlane) -> None:
    plain, gang = settings_of(empty), settings_of(empty, "gang-scheduling")
    assert plain == Settings()
    assert gang == attrs.evolve(plain, options=Options(gang_scheduling=True))
    before = rights.rendered(empty.programs["kubectl"])
    after = rights.rendered(empty.programs["kubectl"], "gang-scheduling")
    kinds = [one["kind"] for one in after if one not in before]
    assert sorted(kinds) == ["ClusterRole", "ClusterRoleBinding", "ConfigMap"]


# -- over what was there


def test_crd_always_is_applied_over_one_with_a_conversion_webhook(empty: ControlPlane) -> None:
    """Which the Go controller has, and which nothing ever calls."""
    crd, client = DEPLOY / "crd" / "leaderworkerset.x-k8s.io_leaderworkersets.yaml", empty.client()
    must(kubectl(empty, "apply", "--server-side", "--force-conflicts", "-f", str(crd)))
    service = {"name": "lws-webhook-service", "namespace": rights.NAMESPACE, "path": "/convert"}
    webhook = {"conversionReviewVersions": ["v1"], "clientConfig": {"service": service}}
    version, kind = "apiextensions.k8s.io/v1", "CustomResourceDefinition"
    path = client.path(version, kind, None, f"{names.PLURAL}.{names.GROUP}")
    client.patch(path, {"spec": {"conversion": {"strategy": "Webhook", "webhook": webhook}}})

    must(kubectl(empty, "apply", "--server-side", "--force-conflicts", "--validate=strict", "-f", str(crd)))
    client.patch(path, {"spec": {"conversion": {"strategy": "None", "webhook": None}}})


def test_installation_applied_again_never_takes_away_what_the_operator_has_put_there(
    installation: Installation,
) -> None:
    client = installation.client
    before = certificates(client)
    must(kubectl(installation.plane, "apply", "--server-side", "-k", str(DEPLOY)))
    must(kubectl(installation.plane, "apply", "-k", str(DEPLOY)))
    assert certificates(client) == before
    assert all(before)


def certificates(client: Client) -> list[Any]:
    """What the Secret holds, and each webhook's bundle."""
    bundles = [
        hook["clientConfig"].get("caBundle")
        for kind, name in CONFIGURATIONS.items()
        for hook in client.request("GET", client.path(REGISTRATION, kind, None, name))["webhooks"]
    ]
    return [installed(client, "Secret", "lws-webhook-server-cert").get("data"), *bundles]


# -- what the documentation has its reader write


def test_folders_of_the_documentation_always_render(empty: ControlPlane, tmp_path: Path) -> None:
    """The reader's own kustomization.yaml, then with gang scheduling, then with cert-manager."""
    text = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    own, gang, certificate, patches = re.findall(r"^```yaml\n(.*?)^```$", text, re.M | re.S)
    (tmp_path / "deploy").symlink_to(DEPLOY)
    folder = tmp_path / "installation"
    folder.mkdir()
    (folder / "certificate.yaml").write_text(certificate)
    with_certificate = own.replace("- ../deploy\n", "- ../deploy\n- certificate.yaml\n")
    found = [
        rendered_text(empty, folder, content) for content in (own, own + gang, with_certificate + patches)
    ]
    assert all("image: registry.example.com/lws:0.1.0" in one for one in found)
    assert ["schedulerProvider: volcano" in one for one in found] == [False, True, False]
    assert ["cert-manager.io/inject-ca-from: lws-system/lws-webhook" in one for one in found] == [
        False,
        False,
        True,
    ]
    objects = [one for one in yaml.safe_load_all(found[2]) if one["kind"] == "Deployment"]
    mounts = objects[0]["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert Settings().webhook.cert_dir in [one["mountPath"] for one in mounts]


def test_namespace_of_another_name_always_is_said_everywhere(empty: ControlPlane, tmp_path: Path) -> None:
    """Accounts, subjects, Services and webhooks go with it, those of the component as well."""
    (tmp_path / "deploy").symlink_to(DEPLOY)
    folder = tmp_path / "installation"
    folder.mkdir()
    own = {
        "namespace": "elsewhere",
        "resources": ["../deploy"],
        "components": ["../deploy/components/gang-scheduling"],
    }
    text = rendered_text(empty, folder, yaml.safe_dump(own))
    assert rights.NAMESPACE not in text
    assert text.count("namespace: elsewhere") > 10


def rendered_text(plane: ControlPlane, folder: Path, content: str) -> str:
    (folder / "kustomization.yaml").write_text(content)
    return must(kubectl(plane, "kustomize", "--load-restrictor=LoadRestrictionsNone", str(folder)))


# -- away with it


def test_uninstalled_operator_never_leaves_anything(installation: Installation) -> None:
    """As docs/install.md, "Uninstalling" has it: the sets first, while the operator is there."""
    plane, box = installation.plane, installation.sandbox
    installation.operator.wait_ready(SOON_S)
    must(kubectl(plane, "delete", "lws", "--all", "--all-namespaces", "--cascade=foreground"))
    must(kubectl(plane, "delete", "--timeout=120s", "-k", str(DEPLOY)))
    assert [box.all(kind) for kind in ("StatefulSet", "Service", "ControllerRevision", "Pod")] == [[]] * 4
    for one in rights.rendered(plane.programs["kubectl"]):
        namespace, name = one["metadata"].get("namespace"), one["metadata"]["name"]
        assert installation.client.get(one["apiVersion"], one["kind"], namespace, name) is None, name
