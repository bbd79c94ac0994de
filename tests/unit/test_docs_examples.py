"""Every command and every piece of code in README.md and in the pages below does what is said of it.

A block of `console` has commands after `$ ` and what they print below them; `...` stands for any lines. The
commands of a page run one after another in a folder with a copy of examples/. Code in blocks of `python` is a
doctest, all blocks of a page as one session.
"""

from __future__ import annotations

import doctest
import inspect
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml
from click.testing import CliRunner

from lws_core.controller import Look, step
from lws_runtime.cli import COMMANDS, main

ROOT = Path(__file__).parents[2]
PAGES = ("README", "simulation", "cli", "ci")
SHELL = re.compile(r"[|;&<>$`*]")
NEEDS_MORE = re.compile(r"\b(?:kubectl|helm|git clone|python3 -m venv)\b")
"""Commands that need a cluster, a chart or a network, and so are not run here."""


def text_of(page: str) -> str:
    path = ROOT / "README.md" if page == "README" else ROOT / "docs" / f"{page}.md"
    return path.read_text(encoding="utf-8")


def blocks(page: str, language: str) -> Iterator[str]:
    """The blocks of a language in a page."""
    yield from re.findall(rf"^```{language}\n(.*?)^```$", text_of(page), flags=re.M | re.S)


def commands(page: str) -> Iterator[tuple[str, str]]:
    """Each command of a page, and what it prints; "" where the page does not show it."""
    for block in blocks(page, "console"):
        command, printed = "", ""
        for line in block.splitlines():
            if command.endswith("\\"):
                command = command[:-1] + line.removeprefix("> ")
            elif line.startswith("$ "):
                if command:
                    yield command, printed
                command, printed = line.removeprefix("$ "), ""
            else:
                printed += line + "\n"
        yield command, printed


def execute(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a command prints, standard error first."""
    monkeypatch.chdir(folder)
    if command.startswith("lws ") and not SHELL.search(command):
        result = CliRunner().invoke(main, shlex.split(command, comments=True)[1:], prog_name="lws")
        assert result.exit_code == 0, result.output
        return result.stderr + result.stdout
    shell = f'lws() {{ "{sys.executable}" -m lws_runtime.cli "$@"; }}\nset -o pipefail\n{command}'
    done = subprocess.run(
        ["bash", "-c", shell], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stderr + done.stdout


def is_as_told(printed: str, told: str) -> bool:
    """Whether an output is what a page shows, where `...` is anything."""
    parts = [re.escape(part) for part in re.split(r"^\.\.\.\n", told, flags=re.M)]
    return re.fullmatch(r"(?:.*\n)*?".join(parts), printed) is not None


def plain(text: str) -> str:
    """Without the blanks and the empty lines at the end that a page does not show."""
    return "".join(line.rstrip() + "\n" for line in text.rstrip().splitlines())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_always_print_what_it_shows(
    page: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = list(commands(page))
    assert found != []
    monkeypatch.setenv("COLUMNS", "100")
    for command, told in found:
        if not NEEDS_MORE.search(command):
            printed = execute(command, folder, monkeypatch)
            assert not told or is_as_told(plain(printed), told), f"$ {command}\n{printed}"


@pytest.mark.parametrize("page", ["README", "library"])
def test_code_of_a_page_always_does_what_it_shows(page: str) -> None:
    code = "\n".join(blocks(page, "python"))
    assert ">>> " in code
    test = doctest.DocTestParser().get_doctest(code, {}, page, page, 0)
    output: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(test, out=output.append)
    assert runner.failures == 0, "".join(output)


def test_main_command_of_the_readme_always_prints_the_table_below_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, _ = blocks("README", "bash")
    install, _, simulate = command.rpartition(" && ")
    assert install == "python3 -m venv .venv && .venv/bin/pip install -q ."
    printed = execute(simulate.removeprefix(".venv/bin/").strip(), folder, monkeypatch)
    assert list(blocks("README", "text")) == [plain(printed)]


def test_test_command_of_the_readme_always_is_the_one_that_ci_runs() -> None:
    _, command = blocks("README", "bash")
    assert f"    {command}" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_picture_of_the_readme_always_is_the_one_that_is_made_now(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, _ = blocks("README", "bash")
    command = f"lws {command.rpartition('/lws ')[2].strip()} -o svg"
    shown = (ROOT / "docs" / "_static" / "rollout.svg").read_text(encoding="utf-8")
    assert execute(command, folder, monkeypatch) == shown, f"write it anew: {command}"
    assert "](docs/_static/rollout.svg)" in text_of("README")


# -- the check that users copy into their own repositories


def in_repository(folder: Path, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    who = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
    }
    path = f"{folder.parent / 'bin'}:{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    return subprocess.run(
        ["bash", "-ec", command], cwd=folder, capture_output=True, text=True, check=False, timeout=300,
        env={"HOME": str(folder), "PATH": path, "GIT_CONFIG_NOSYSTEM": "1", **who, **environment},
    )  # fmt: skip


RECORD = "lws simulate manifests/serve.yaml --golden manifests/serve.golden.yaml --update-golden"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a set, its golden file and the check; `lws` is on the path."""
    folder, programs = tmp_path / "repository", tmp_path / "bin"
    (folder / "ci").mkdir(parents=True)
    (folder / "manifests").mkdir()
    programs.mkdir()
    (programs / "lws").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lws_runtime.cli "$@"\n')
    (script,) = blocks("ci", "bash")
    (folder / "ci" / "check-sets").write_text(script)
    for program in (programs / "lws", folder / "ci" / "check-sets"):
        program.chmod(0o755)
    shutil.copy(ROOT / "examples" / "lws-rollout-strategy.yaml", folder / "manifests" / "serve.yaml")
    done = in_repository(
        folder,
        f"git init -q && {RECORD} && git add . && git commit -qm before",
    )
    assert done.returncode == 0, done.stderr
    return folder


CHANGE = "sed -i s/maxSurge:.2/maxSurge:\\ 0/ manifests/serve.yaml && "
COMMIT = " && git commit -qam after && ci/check-sets HEAD^"


def test_check_of_a_repository_always_shows_what_a_change_will_do(repository: Path) -> None:
    done = in_repository(repository, CHANGE + RECORD + COMMIT)
    assert done.returncode == 0, done.stderr
    shown = (repository / "rollout.md").read_text("utf-8")
    assert "The manifest changes" in shown
    assert "Rolling update" not in shown, "a change of strategy alone replaces nothing"
    assert "<svg" in (repository / "rollout.html").read_text("utf-8")
    assert not (repository / ".before").exists()


def test_check_of_a_repository_never_passes_what_nobody_has_recorded(repository: Path) -> None:
    done = in_repository(repository, CHANGE + "true" + COMMIT)
    assert done.returncode == 1
    assert "+strategy: replicas 4, maxUnavailable 2, maxSurge 0, partition 0" in done.stderr
    done = in_repository(repository, "git rm -q manifests/serve.golden.yaml" + COMMIT)
    assert done.returncode == 2
    assert "there is no such golden file" in done.stderr


@pytest.mark.parametrize("place", ["chat.yml", "chat.json", "below/two words.yaml", "below/further/chat.yml"])
def test_check_of_a_repository_never_passes_over_a_manifest(repository: Path, place: str) -> None:
    add = f"mkdir -p manifests/below/further && sed s/serve/chat/ manifests/serve.yaml >'manifests/{place}'"
    if place.endswith(".json"):
        add = f"{sys.executable} -c 'import json, sys, yaml; json.dump(yaml.safe_load("
        add += f"sys.stdin), sys.stdout)' <manifests/serve.yaml | sed s/serve/chat/ >manifests/{place}"
    done = in_repository(repository, f"{add} && git add ." + COMMIT)
    golden = f"manifests/{place.rpartition('.')[0]}.golden.yaml"
    assert done.returncode == 2
    assert f"error: {golden}: there is no such golden file" in done.stderr
    record = f"lws simulate 'manifests/{place}' --golden '{golden}' --update-golden"
    done = in_repository(
        repository, f"{record} && git add . && git commit -qm recorded && ci/check-sets HEAD^"
    )
    assert done.returncode == 0, done.stderr


def test_check_of_a_repository_never_passes_a_manifest_that_is_not_valid(repository: Path) -> None:
    done = in_repository(repository, "sed -i s/maxSurge/maxSurges/ manifests/serve.yaml" + COMMIT)
    assert done.returncode == 2
    assert "maxSurges: Unknown field" in done.stderr


def test_jobs_always_are_yaml_that_runs_the_check() -> None:
    github, gitlab = (yaml.safe_load(block) for block in blocks("ci", "yaml"))
    steps: list[dict[str, Any]] = github["jobs"]["simulate"]["steps"]
    assert [step["run"] for step in steps if step.get("run", "").startswith("ci/check-sets ")] != []
    assert any(line.startswith("ci/check-sets ") for line in gitlab["simulate-sets"]["script"])


# -- completeness


def test_page_on_the_architecture_always_has_every_module() -> None:
    guide = text_of("architecture").partition("## Reading the code")[2]
    for package in ("lws_core", "lws_sim", "lws_runtime"):
        for path in sorted((ROOT / package).iterdir()):
            if path.stem.startswith("_") or not (path.suffix == ".py" or (path / "__init__.py").exists()):
                continue
            assert f"`{path.stem}`" in guide or f"`{path.stem}." in guide, f"{package}.{path.stem}"


def test_page_on_the_architecture_always_calls_the_machine_as_it_is() -> None:
    text = text_of("architecture")
    (call,) = re.findall(r"^look = step\(memory, sight, now_s\) +# (.*)$", text, re.MULTILINE)
    fields = [field.name for field in attrs.fields(Look)]
    assert re.findall(r"look\.(\w+)", call) == fields
    assert [*inspect.signature(step).parameters] == ["memory", "sight", "now_s"]


def test_page_on_the_operator_always_names_the_ways_to_a_cluster_in_their_order() -> None:
    section = text_of("operator").partition("## The cluster")[2].partition("\n## ")[0]
    ways = ("--kubeconfig", "KUBECONFIG", "service account", "~/.kube/config")
    places = [section.index(way) for way in ways]
    assert places == sorted(places)


def test_page_on_the_command_always_has_every_command_and_option() -> None:
    text = text_of("cli")
    for name in COMMANDS:
        assert f"\n## lws {name}\n" in text
        assert any(f"lws {name}" in command for command, _ in commands("cli"))
    for name in ("validate", "defaults", "render", "simulate", "crd"):
        for parameter in main.get_command(None, name).params:  # type: ignore[attr-defined]
            for option in parameter.opts if parameter.param_type_name == "option" else ():
                assert f"`{option}" in text + text_of("simulation"), f"{name} {option}"
