"""What the operator may do in the cluster tests: what deploy/ gives it, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml
from client import Client, Manifest

DEPLOY: Final = Path(__file__).resolve().parents[2] / "deploy"
NAMESPACE: Final = "lws-system"
_KINDS: Final = ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")


def rights(deploy: Path = DEPLOY, namespace: str = NAMESPACE, user: str = "operator") -> list[Manifest]:
    """The roles of deploy/ and their bindings, bound to a user instead of the operator's ServiceAccount."""
    found: dict[tuple[str, str], Manifest] = {}
    for path in sorted(deploy.rglob("*.yaml")):
        text = path.read_text()
        if "{{" in text or not any(f"kind: {kind}\n" in text for kind in _KINDS):
            continue  # a chart's template, or nothing about rights
        for document in yaml.safe_load_all(text):
            if isinstance(document, dict) and document.get("kind") in _KINDS:
                found[document["kind"], document["metadata"]["name"]] = _bound(document, namespace, user)
    return list(found.values())


def _bound(document: Manifest, namespace: str, user: str) -> Manifest:
    metadata = dict(document["metadata"])
    if document["kind"] in ("Role", "RoleBinding"):
        metadata["namespace"] = namespace
    if "subjects" not in document:
        return {**document, "metadata": metadata}
    subject: dict[str, Any] = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user}
    accounts = [one for one in document["subjects"] if one["kind"] == "ServiceAccount"]
    return {**document, "metadata": metadata, "subjects": [subject] if accounts else []}


def grant(client: Client, namespace: str = NAMESPACE, user: str = "operator") -> None:
    """Create the operator's namespace and give the user its rights there and everywhere."""
    if client.get("v1", "Namespace", None, namespace) is None:
        client.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    for manifest in rights(namespace=namespace, user=user) or _all_rights(user):
        client.apply(manifest)


def _all_rights(user: str) -> list[Manifest]:
    """For a checkout whose deploy/ says nothing about rights yet."""
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    subject = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "lws-operator-in-tests"},
        "roleRef": role,
        "subjects": [subject],
    }
    return [binding]
