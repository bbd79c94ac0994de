"""Where the programs of a control plane come from. Nothing is built here, and no cluster is needed."""

from __future__ import annotations

from pathlib import Path

import binaries
import pytest


@pytest.fixture
def no_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is built yet, and there is no Go."""
    monkeypatch.setattr(binaries, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(binaries, "_go", lambda: None)


def put(folder: Path, *names: str, version: str = binaries.version()) -> dict[str, str]:
    """Programs in a folder that say a version, and the environment that names it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(f"#!/bin/sh\necho Kubernetes {version}\n")
        (folder / name).chmod(0o755)
    return {"KUBEBUILDER_ASSETS": str(folder)}


@pytest.mark.usefixtures("no_go")
def test_programs_of_the_given_folder_always_come_first(tmp_path: Path) -> None:
    environment = put(tmp_path / "given", *binaries.PACKAGES)
    put(binaries.CACHE / binaries.version(), *binaries.PACKAGES)

    assert binaries.find(environment=environment) == {
        name: tmp_path / "given" / name for name in binaries.PACKAGES
    }


@pytest.mark.usefixtures("no_go")
def test_programs_that_the_given_folder_lacks_are_taken_from_the_cache(tmp_path: Path) -> None:
    environment = put(tmp_path / "given", "etcd", "kube-apiserver", "kubectl")
    put(binaries.CACHE / binaries.version(), *binaries.PACKAGES)

    found = binaries.find(environment=environment)

    assert found["etcd"] == tmp_path / "given" / "etcd"
    assert found["kube-scheduler"] == binaries.CACHE / binaries.version() / "kube-scheduler"


@pytest.mark.usefixtures("no_go")
def test_programs_of_two_minor_versions_are_never_mixed(tmp_path: Path) -> None:
    environment = put(tmp_path / "given", "etcd", "kube-apiserver", "kubectl", version="v1.30.0")

    with pytest.raises(binaries.Unavailable, match=r"lacks kube-controller-manager, kube-scheduler.*v1\.30"):
        binaries.find(environment=environment)


@pytest.mark.usefixtures("no_go")
def test_missing_programs_without_go_must_be_named_with_what_to_do() -> None:
    with pytest.raises(binaries.Unavailable, match=r"no etcd, kubectl, and no Go.*KUBEBUILDER_ASSETS"):
        binaries.find(("etcd", "kubectl"), environment={})


def test_module_never_refers_to_a_folder_of_this_machine() -> None:
    lines = (binaries.MODULE / "go.mod").read_text().splitlines()
    replaced = [line.split("=>")[1].split() for line in lines if "=>" in line]

    assert all(len(words) == 2 and words[1].startswith("v") for words in replaced)
