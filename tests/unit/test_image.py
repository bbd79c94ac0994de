"""What the Dockerfile installs: its steps are run in an empty folder, as there may be no container engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import lock_subset  # noqa: E402

STAGES = re.sub(r"\\\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8")).split("\nFROM ")[1:]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
OFFLINE = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeoutError|Network is unreachable|Connection refused"
)
DEVELOPMENT = {"pytest", "sphinx", "mypy", "ruff", "hypothesis", "hatchling", "pip"}
"""Of what the lock file holds and an image must not, the largest part."""

SMALL = """\
# made by hand
one==1 \\
    --hash=sha256:11
    # via project (pyproject.toml)
two==2 ; python_version < '3.12' \\
    --hash=sha256:22
    # via
    #   one
    #   four
two==3 ; python_version >= '3.12' \\
    --hash=sha256:23
    # via one
Three.Point==3 \\
    --hash=sha256:33
    # via two
four==4 \\
    --hash=sha256:44
    # via project (pyproject.toml)
"""


def steps() -> Iterator[tuple[str, str]]:
    """The instructions of the stage that builds."""
    for line in STAGES[0].splitlines():
        word, _, rest = line.partition(" ")
        if word in ("COPY", "RUN"):
            yield word, rest


def carry_out(folder: Path) -> None:
    """Do in a folder what the stage does in a file system of its own: /opt is the folder's."""
    source = folder / "src"
    source.mkdir()
    (folder / "opt").mkdir()
    for word, rest in steps():
        if word == "COPY":
            *names, target = rest.split()
            for name in names:
                copy(ROOT / name, source / target / ("" if (ROOT / name).is_dir() else Path(name).name))
        else:
            run(rest.replace("/opt/", f"{folder}/opt/"), source)


def copy(found: Path, target: Path) -> None:
    if found.is_dir():
        shutil.copytree(found, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(found, target)


def run(command: str, folder: Path) -> None:
    outside = ("VIRTUAL_ENV", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if name not in outside}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        ["sh", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    told = done.stdout + done.stderr
    if done.returncode != 0 and OFFLINE.search(told):
        pytest.skip("the image's packages cannot be fetched: there is no way to a package index")
    assert done.returncode == 0, told[-4000:]


def told(image: Path, *arguments: str) -> str:
    """What the installed command prints, started in a folder that holds no checkout, as no special user."""
    command = [str(image / "bin" / "lws"), *arguments]
    environment = {"PATH": f"{image}/bin:/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=image, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_image_always_starts_and_never_holds_what_only_development_needs(tmp_path: Path) -> None:
    carry_out(tmp_path)
    image = tmp_path / "opt" / "lws"
    assert PROJECT["project"]["version"] in told(image, "--version")
    assert "--config" in told(image, "operator", "--help")
    assert "kind: CustomResourceDefinition" in told(image, "crd")
    (packages,) = image.glob("lib/python*/site-packages")
    names = {re.split(r"-\d", path.name)[0].lower() for path in packages.glob("*.dist-info")}
    assert {"leaderworkerset", "aiohttp", "kubernetes", "orjson"} <= names
    assert names & DEVELOPMENT == set()


def test_image_always_starts_the_command_that_it_installs() -> None:
    _, last = STAGES
    assert 'ENTRYPOINT ["/opt/lws/bin/lws"]' in last
    assert re.search(r"^USER 65532:65532$", last, re.M) is not None


def test_lock_subset_always_holds_what_is_wanted_and_all_that_it_needs() -> None:
    assert lock_subset.subset(SMALL, ["one"]).splitlines() == SMALL.splitlines()[1:15]
    assert lock_subset.subset(SMALL, ["three_point"]).startswith("Three.Point==3 \\\n    --hash=sha256:33\n")
    found = lock_subset.subset(SMALL, ["four"])
    assert "two==2" in found
    assert "one==1" not in found


def test_lock_subset_never_passes_over_a_name_that_the_lock_does_not_hold() -> None:
    with pytest.raises(KeyError, match="five"):
        lock_subset.subset(SMALL, ["one", "five"])


@pytest.mark.parametrize("extras", [(), ("operator",), ("dev",), ("operator", "dev", "docs")])
def test_lock_subset_always_holds_what_the_project_requires(extras: tuple[str, ...]) -> None:
    wanted = lock_subset.requirements(PROJECT, extras)
    found = lock_subset.subset(LOCK, wanted)
    assert all(re.search(rf"^{name}==", found, re.M) for name in wanted)
    assert ("pytest==" in found) == ("dev" in extras)
    assert ("sphinx==" in found) == ("docs" in extras)


def test_lock_subset_of_everything_always_is_the_lock() -> None:
    everything = lock_subset.requirements(PROJECT, ["operator", "dev", "docs"])
    whole = "\n".join(line for line in LOCK.splitlines() if not line.startswith("#")) + "\n"
    assert lock_subset.subset(LOCK, everything) == whole
