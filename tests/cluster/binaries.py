"""The programs of a control plane: found where KUBEBUILDER_ASSETS says, or built once from their Go modules.

controlplane/go.mod says which versions. What is built lies in .cache/controlplane/<version>/ of the checkout,
so that a build of some minutes is needed once for each version.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

MODULE: Final = Path(__file__).parent / "controlplane"
CACHE: Final = Path(__file__).resolve().parents[2] / ".cache" / "controlplane"
PACKAGES: Final = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
}
"""Each program's Go package."""

_HOW: Final = (
    "Install Go (https://go.dev/dl) and run the tests again: they build what they need, which takes some "
    "minutes the first time. Or point KUBEBUILDER_ASSETS at a folder that holds the programs."
)


class Unavailable(Exception):
    """A program is neither there nor can it be built. The message says what to do."""


def version() -> str:
    """The version of Kubernetes that is built, such as v1.36.3."""
    found = re.search(r"^\s*k8s\.io/kubernetes (v\S+)$", (MODULE / "go.mod").read_text(), re.MULTILINE)
    assert found is not None, "controlplane/go.mod requires no k8s.io/kubernetes"
    return found[1]


def find(
    names: Sequence[str] = tuple(PACKAGES), environment: Mapping[str, str] = os.environ
) -> dict[str, Path]:
    """Each program's path; what is missing is built first. Raises Unavailable.

    A program in the folder of KUBEBUILDER_ASSETS comes first; envtest's set has no kube-controller-manager
    and no kube-scheduler, which are then built if its kube-apiserver is of the same minor version.
    """
    given = environment.get("KUBEBUILDER_ASSETS")
    found = _in_folder(Path(given), names) if given else {}
    missing = [name for name in names if name not in found]
    if given and found and missing:
        _say(f"{given} lacks {', '.join(missing)}")
        _require_same_minor(found, missing, given)
    if missing:
        found |= _built(missing)
    return {name: found[name] for name in names}


def _in_folder(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    return {name: folder / name for name in names if os.access(folder / name, os.X_OK)}


def _require_same_minor(found: Mapping[str, Path], missing: Sequence[str], given: str) -> None:
    server = found.get("kube-apiserver")
    if server is None:
        return
    told = subprocess.run([server, "--version"], capture_output=True, text=True, check=True).stdout
    theirs = re.search(r"v\d+\.\d+", told)
    ours = re.match(r"v\d+\.\d+", version())
    if theirs is None or ours is None or theirs[0] != ours[0]:
        raise Unavailable(
            f"KUBEBUILDER_ASSETS={given} lacks {', '.join(missing)}. Those that can be built are of "
            f"{version()}, the kube-apiserver there says {told.strip()}: add them, or unset the variable."
        )


def _built(names: Sequence[str]) -> dict[str, Path]:
    folder = CACHE / version()
    with _only_one_builds(folder):
        missing = [name for name in names if name not in _in_folder(folder, names)]
        if missing:
            _build(missing, folder)
    return _in_folder(folder, names)


@contextlib.contextmanager
def _only_one_builds(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(names: Sequence[str], folder: Path) -> None:
    go = _go()
    if go is None:
        raise Unavailable(f"There is no {', '.join(names)}, and no Go to build with. {_HOW}")
    number = version().removeprefix("v")
    major, minor = number.split(".")[:2]
    flags = {"gitVersion": f"v{number}", "gitMajor": major, "gitMinor": minor}  # else it says v0.0.0
    linked = " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in flags.items())
    _say(f"building {', '.join(names)} of {version()}: some minutes, once")
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        packages = [PACKAGES[name] for name in names]
        command = [go, "build", "-trimpath", "-ldflags", f"-s -w {linked}", "-o", f"{fresh}/", *packages]
        environment = os.environ | {"CGO_ENABLED": "0"}
        done = subprocess.run(
            command, cwd=MODULE, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Unavailable(f"Building {', '.join(names)} failed: {done.stderr[-2000:]}\n{_HOW}")
        for name in names:
            Path(fresh, "server" if name == "etcd" else name).replace(folder / name)


def _go() -> str | None:
    return shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")


def _say(text: str) -> None:
    print(f"control plane: {text}", file=sys.__stderr__, flush=True)
