"""What deploy/ installs, as kubectl renders it, and of that what the operator may do."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import yaml
from client import Manifest
from control_plane import ControlPlane

DEPLOY: Final = Path(__file__).resolve().parents[2] / "deploy"
NAMESPACE: Final = "lws-system"
_RIGHTS: Final = ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
_USED_IN_TESTS: Final = ("Namespace", "Secret", *_RIGHTS)


def rendered(kubectl: Path, *components: str) -> list[Manifest]:
    """The objects of deploy/, with components of deploy/components by name."""
    with tempfile.TemporaryDirectory() as folder:
        own = {
            "resources": [os.path.relpath(DEPLOY, folder)],
            "components": [os.path.relpath(DEPLOY / "components" / name, folder) for name in components],
        }
        Path(folder, "kustomization.yaml").write_text(yaml.safe_dump(own))
        command = [str(kubectl), "kustomize", folder]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [one for one in yaml.load_all(told.stdout, loader) if one is not None]


def grant(plane: ControlPlane, *components: str) -> None:
    """Create the operator's namespace and Secret, and give the user `operator` what an installation gives
    the operator's ServiceAccount: nothing else."""
    for manifest in rendered(plane.programs["kubectl"], *components):
        if manifest["kind"] in _USED_IN_TESTS:
            plane.client().apply(_bound(manifest))


def _bound(manifest: Manifest) -> Manifest:
    """A binding to the ServiceAccount as one to the user; anything else as it is."""
    if not any(one["kind"] == "ServiceAccount" for one in manifest.get("subjects", ())):
        return manifest
    user = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "operator"}
    return {**manifest, "subjects": [user]}
