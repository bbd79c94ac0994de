"""The commands that read manifests: what they print, and that bad input ends in lines and exit code 2."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from building import a_set
from click.testing import CliRunner, Result

from lws_core import names
from lws_core.defaulting import apply_defaults
from lws_core.values import FrozenMap, Json, freeze
from lws_runtime.cli import COMMANDS, loading, main
from lws_runtime.yaml_values import to_yaml

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


def run(*arguments: str, stdin: str | bytes | None = None, **environment: str) -> Result:
    result = CliRunner().invoke(main, arguments, input=stdin, env=environment)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def written(tmp_path: Path, *values: FrozenMap[Json] | str, name: str = "sets.yaml") -> str:
    texts = [value if isinstance(value, str) else to_yaml(value) for value in values]
    (tmp_path / name).write_text("---\n".join(texts), encoding="utf-8")
    return str(tmp_path / name)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_always_valid(example: Path) -> None:
    result = run("validate", str(example))
    assert result.exit_code == 0
    assert result.stdout == "1 valid LeaderWorkerSet\n"


def test_examples_must_have_those_that_the_guide_names() -> None:
    assert {path.name for path in EXAMPLES} >= {
        "horizontal-pod-autoscaler.yaml",
        "lws-exclusive-placement.yaml",
        "lws-multi-template.yaml",
        "lws-restart-policy.yaml",
        "lws-rollout-strategy.yaml",
        "lws.yaml",
    }


def test_readme_must_list_each_example() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert [path.name for path in EXAMPLES if f"| [{path.name}](examples/{path.name}) |" not in readme] == []


def test_examples_must_show_each_field_and_what_it_may_be_asked_for() -> None:
    """Each field of the API's table, and what annotations, resources and schedulers bring about."""
    text = "\n".join(path.read_text("utf-8") for path in EXAMPLES)
    table = (ROOT / "docs" / "api.md").read_text("utf-8").partition("\n## Fields\n")[2].partition("\n## ")[0]
    fields = [path.rpartition(".")[2] for path in re.findall(r"^\| `(spec\.[\w.]+)`", table, re.MULTILINE)]
    assert len(fields) > 15
    assert [field for field in fields if not re.search(rf"^ *{field}:", text, re.MULTILINE)] == []
    annotations = (names.EXCLUSIVE_TOPOLOGY, names.SUBGROUP_EXCLUSIVE_TOPOLOGY, names.VOLCANO_QUEUE)
    asked = (*annotations, names.TPU_RESOURCE, "schedulerName: volcano")
    assert [word for word in asked if word not in text] == []


def test_validate_always_names_file_document_object_and_field(tmp_path: Path) -> None:
    bad = a_set({"replicas": -1, "replica": 1}, {"restartPolicy": "RecreateGroupOnRestart"})
    path = written(
        tmp_path, a_set(), bad, a_set(metadata={"name": None, "generateName": "g-"}, spec={"x": 1})
    )
    result = run("validate", path)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        f"error: {path}[doc 2] LeaderWorkerSet/serve: spec.leaderWorkerTemplate.restartPolicy: "
        'Unsupported value: "RecreateGroupOnRestart": supported values: "Default", '
        '"RecreateGroupOnPodRestart", "RecreateGroupAfterStart", "None"',
        f"error: {path}[doc 2] LeaderWorkerSet/serve: spec.replicas: Invalid value: -1: "
        "replicas must be equal or greater than 0",
        f'error: {path}[doc 2] LeaderWorkerSet/serve: spec.replica: Unknown field: did you mean "replicas"?',
        f"error: {path}[doc 3] LeaderWorkerSet/g-: spec.x: Unknown field",
    ]


def test_validate_always_reports_every_file(tmp_path: Path) -> None:
    bad = written(tmp_path, a_set({"replicas": "x"}), name="bad.yaml")
    torn = written(tmp_path, "a: 1\na: 2\n", name="torn.yaml")
    result = run("validate", bad, torn, str(tmp_path / "none.yaml"))
    assert result.exit_code == 2
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == [
        torn,
        str(tmp_path / "none.yaml"),
        f"{bad}[doc 1] LeaderWorkerSet/serve",
    ]


def test_validate_never_tells_all_of_very_many_faults(tmp_path: Path) -> None:
    unknown: dict[str, Any] = {f"field{index}": 1 for index in range(300)}
    labels = {str(index): "_" for index in range(60)}
    found = run("validate", written(tmp_path, a_set(unknown, metadata={"labels": labels})))
    assert found.exit_code == 2
    told = found.stderr.splitlines()
    assert len(told) == 101
    assert told[-1].endswith("manifest: Too many: only 100 faults are told")


def test_validate_always_passes_other_kinds_with_a_note(tmp_path: Path) -> None:
    path = written(tmp_path, "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n", a_set())
    result = run("validate", path)
    assert (result.exit_code, result.stdout) == (0, "1 valid LeaderWorkerSet\n")
    assert result.stderr == f"note: {path}[doc 1] Service/s: not checked\n"
    assert run("validate", "-q", path).output == ""


@pytest.mark.parametrize(
    ("document", "line"),
    [
        ("metadata: {name: a}\n", "[doc 1]: kind: Required value"),
        (
            "apiVersion: leaderworkerset.x-k8s.io/v1\nkind: Leaderworkerset\n",
            '[doc 1] Leaderworkerset/?: kind: Unsupported value: "Leaderworkerset": '
            'supported values: "LeaderWorkerSet"',
        ),
        (
            "apiVersion: leaderworkerset.x-k8s.io/v1alpha1\nkind: LeaderWorkerSet\n",
            '[doc 1] LeaderWorkerSet/?: apiVersion: Unsupported value: "leaderworkerset.x-k8s.io/v1alpha1": '
            'supported values: "leaderworkerset.x-k8s.io/v1"',
        ),
    ],
)
def test_misspelt_set_never_passes_as_another_kind(tmp_path: Path, document: str, line: str) -> None:
    path = written(tmp_path, document)
    result = run("validate", path)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[0] == f"error: {path}{line}"


def test_set_without_a_kind_must_be_told_of_as_such(tmp_path: Path) -> None:
    path = written(tmp_path, "apiVersion: leaderworkerset.x-k8s.io/v1\nmetadata: {name: serve}\n")
    line = run("validate", path).stderr.splitlines()[0]
    assert line == f'error: {path}[doc 1] ?/serve: kind: Required value: must be "LeaderWorkerSet"'


@pytest.mark.parametrize("stdin", [b"", b"\xff", b"[", b"- 1", b"{", b"a: &a [*a]"])
def test_standard_input_that_is_no_manifest_never_ends_in_a_traceback(stdin: bytes) -> None:
    for command in ("validate", "defaults"):
        result = run(command, "-", stdin=stdin)
        assert result.exit_code == 2
        assert result.stderr.startswith("error: stdin: ")
        assert result.stderr.count("\n") == 1


def test_line_of_output_is_never_forged_by_a_manifest(tmp_path: Path) -> None:
    evil = a_set({"x\nerror: forged\x1b[2J": 1})
    result = run("validate", written(tmp_path, evil))
    (line,) = result.stderr.splitlines()
    assert line.endswith(r"spec.x\nerror: forged\x1b[2J: Unknown field")


def test_nothing_is_ever_coloured_unless_asked_by_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loading.say("error", "x")
    assert capsys.readouterr().err == "error: x\n"
    monkeypatch.setattr("click.utils.should_strip_ansi", lambda *_: False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    loading.say("error", "x")
    assert capsys.readouterr().err == "\x1b[31m\x1b[1merror:\x1b[0m x\n"
    monkeypatch.setenv("NO_COLOR", "1")
    loading.say("error", "x")
    assert capsys.readouterr().err == "error: x\n"


def test_defaults_always_prints_what_would_be_stored(tmp_path: Path) -> None:
    ports = {"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 80}]}]}}
    path = written(tmp_path, a_set(), "kind: Other\n", a_set(template={"workerTemplate": ports}))
    result = run("defaults", path)
    assert result.exit_code == 0
    first, second = yaml.safe_load_all(result.stdout)
    assert freeze(first) == apply_defaults(a_set())
    (container,) = second["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]["containers"]
    assert container["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    assert run("validate", "-", stdin=result.stdout).exit_code == 0


def test_defaults_never_prints_a_set_that_is_not_valid(tmp_path: Path) -> None:
    result = run("defaults", written(tmp_path, a_set(), a_set({"replicas": -1})))
    assert (result.exit_code, result.stdout) == (2, "")


def test_defaults_always_needs_a_set(tmp_path: Path) -> None:
    path = written(tmp_path, "kind: Other\n")
    result = run("defaults", path)
    assert (result.exit_code, result.stderr) == (2, f"error: {path}: no LeaderWorkerSet in it\n")


def test_crd_always_prints_the_file_that_is_shipped(tmp_path: Path) -> None:
    shipped = (ROOT / "deploy" / "crd" / "leaderworkerset.x-k8s.io_leaderworkersets.yaml").read_text("utf-8")
    assert run("crd").stdout == shipped
    assert run("crd", "--output", str(tmp_path / "crd.yaml")).exit_code == 0
    assert (tmp_path / "crd.yaml").read_text("utf-8") == shipped


def test_crd_never_ends_in_a_traceback_where_it_cannot_write(tmp_path: Path) -> None:
    result = run("crd", "-o", str(tmp_path))
    assert (result.exit_code, result.stderr) == (2, f"error: {tmp_path}: cannot be written: Is a directory\n")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_always_has_help_with_an_example(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert "Example:" in result.stdout
    assert f"lws {name}" in result.stdout
    assert COMMANDS[name] in run("--help").stdout


def test_unknown_command_is_always_refused() -> None:
    assert run("frobnicate").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (["--help"], ["yaml", "attrs", "lws_core", "rich", "importlib.metadata"]),
        (["validate", "examples/lws.yaml"], ["rich", "asyncio", "lws_sim", "aiohttp", "kubernetes"]),
    ],
)
def test_command_never_imports_what_only_others_need(arguments: list[str], absent: list[str]) -> None:
    script = (
        "import sys\nfrom lws_runtime.cli import main\n"
        f"main({arguments!r}, standalone_mode=False)\n"
        f"found = [name for name in {absent!r} if name in sys.modules]\n"
        "assert not found, found\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
