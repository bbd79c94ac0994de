"""Reading manifests: what is understood, and that everything else ends in one line that says why."""

from __future__ import annotations

import io
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import yaml

from lws_core.values import freeze
from lws_runtime import manifests
from lws_runtime.manifests import Manifests, read_manifests

OBJECT = "kind: A\n"


def read(tmp_path: Path, content: str | bytes, name: str = "f.yaml") -> Manifests:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    found = read_manifests([str(path)])
    assert all("\n" not in problem for problem in found.problems)
    cut = f"{path}: "
    return Manifests(found.documents, tuple(problem.removeprefix(cut) for problem in found.problems))


@pytest.fixture(params=["C", "Python"])
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """PyYAML's reader in C, if there is one, and the one in Python."""
    if request.param == "C" and not hasattr(yaml, "CSafeLoader"):
        pytest.skip("PyYAML was built without libyaml")
    chosen = yaml.CSafeLoader if request.param == "C" else yaml.SafeLoader
    monkeypatch.setattr(manifests, "_Loader", chosen)
    return str(request.param)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a: 1", [{"a": 1}]),
        ("---\na: 1\n---\n---\nb: 2\n...\n", [{"a": 1}, {"b": 2}]),
        ("# only a remark\n---\na: yes", [{"a": True}]),
        ("a: &x {b: [1, 2]}\nc: *x", [{"a": {"b": [1, 2]}, "c": {"b": [1, 2]}}]),
        ("p: &p {a: 1, b: 2}\nq: {<<: *p, b: 3}", [{"p": {"a": 1, "b": 2}, "q": {"a": 1, "b": 3}}]),
        ("p: &p {a: 1}\nq: &q {a: 2, b: 2}\nr: {<<: [*p, *q]}",
         [{"p": {"a": 1}, "q": {"a": 2, "b": 2}, "r": {"a": 1, "b": 2}}]),
        ("1: a\ntrue: b\n1.5: c\n'<<': d", [{"1": "a", "true": "b", "1.5": "c", "<<": "d"}]),
        ("a: '1'\nb: \"yes\"\nc: !!str 5\nd: !!float 5\ne: !!int '7'\nf: ! 5",
         [{"a": "1", "b": "yes", "c": "5", "d": 5, "e": 7, "f": "5"}]),
        ("a: 2001-01-01\nb: 1:30", [{"a": "2001-01-01", "b": "1:30"}]),
        ("a: |\n  x\n  y\n", [{"a": "x\ny\n"}]),
        ("\ufeffa: ü", [{"a": "ü"}]),
        ("{a: 1, b: [x, z]}", [{"a": 1, "b": ["x", "z"]}]),
        ('{"a": 1.0, "b": null, "c": "\\ud83d\\ude00"}', [{"a": 1, "b": None, "c": "😀"}]),
        ('{"a": 1} {"b": 2}\n{"c": 3}', [{"a": 1}, {"b": 2}, {"c": 3}]),
        ("a: {}\nb: []\nc:", [{"a": {}, "b": [], "c": None}]),
    ],
)  # fmt: skip
def test_text_is_always_read_as_kubernetes_reads_it(
    tmp_path: Path, loader: str, text: str, values: list[Any]
) -> None:
    found = read(tmp_path, text)
    assert found.problems == ()
    assert [document.value for document in found.documents] == [freeze(value) for value in values]


BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "holds no manifest"),
        ("---\n# nothing\n---\n", "holds no manifest"),
        ("just text", "document 1 is not an object with apiVersion and kind"),
        ("a: 1\n---\n- b\n", "document 2 is not an object with apiVersion and kind"),
        ("a: 1\nb: 2\na: 3\n", 'line 3: the field "a" is there twice'),
        ("a: {x: 1,\n  x: 1}", 'line 2: the field "x" is there twice'),
        ("1: a\n'1': b", 'line 2: the field "1" is there twice'),
        ("a: .nan", "line 1: .nan is no number that a manifest can hold"),
        ("a: !!binary aGk=", "line 1: the tag tag:yaml.org,2002:binary is not known"),
        ("a: !thing {}", "line 1: the tag !thing is not known"),
        ("a: !!int x", "line 1: 'x' is not of the type that its tag says"),
        ("a: &a [*a]", "line 1: the alias *a is inside what it stands for"),
        ("[a]: b", "line 1: a key must be text"),
        ("~: b", "line 1: a key must be text"),
        ("a: {<<: 5}", "line 1: << merges maps only"),
        (BOMB, "line 7: comes to more than 2000000 values"),
        ("a: " + "[" * 100_000, "line 1: is nested more than 100 levels deep"),
        ("\n".join(" " * n + "-" for n in range(300)), "line 101: is nested more than 100 levels deep"),
        ("a: \x01", "is not YAML: "),
        ("a: b: c", "is not YAML: line 1, column 5: mapping values are not allowed"),
        ("a: [1, 2", "is not YAML: line "),
        ("a: *b", "line 1: the alias *b has no anchor"),
        ("\ta: 1", "is not YAML: line 1, column 1: found character "),
        (b"a: \xff", "is not UTF-8 text: byte 4 is 0xff"),
        ("a: 1".encode("utf-16"), "is not UTF-8 text: byte 1 is 0xff"),
        ("kind: List\nitems: [5]", "document 1, item 1 is not an object with apiVersion and kind"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_always_ends_in_one_line(
    tmp_path: Path, loader: str, text: str | bytes, problem: str
) -> None:
    (found,) = read(tmp_path, text).problems
    assert found.startswith(problem)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a": 1,}', "is not JSON: line 1, column "),
        ('{"a": 1, "a": 2}', 'is not JSON: the field "a" is there twice'),
        ('{"a": NaN}', "is not JSON: NaN is no number that a manifest can hold"),
        ('{"a": 1e999}', "is not JSON: "),
        ('{"a": ' + "9" * 5000 + "}", "is not JSON: a number has 5000 digits"),
        ('{"a": "\\ud800"}', "document 1 has text with half a surrogate pair"),
        ('{"a":' * 200 + "1" + "}" * 200, "is nested more than 100 levels deep"),
        ('{"a":' * 100_000, "is nested more than 100 levels deep"),
        ("[]", "document 1 is not an object with apiVersion and kind"),
        ("", "holds no manifest"),
    ],
)
def test_json_that_cannot_be_read_always_ends_in_one_line(tmp_path: Path, text: str, problem: str) -> None:
    (found,) = read(tmp_path, text, "f.json").problems
    assert found.startswith(problem)


def test_documents_before_a_mistake_are_always_kept(tmp_path: Path) -> None:
    found = read(tmp_path, "a: 1\n---\nb: 2\nb: 3\n---\nc: 4")
    assert [document.value for document in found.documents] == [freeze({"a": 1})]
    assert found.problems == ('line 4: the field "b" is there twice',)


def test_list_is_always_taken_apart(tmp_path: Path) -> None:
    text = "kind: A\n---\nkind: List\nitems: [{kind: B}, {kind: C}]\n---\n"
    text += "apiVersion: g/v1\nkind: DList\nitems: [{x: 1}]"
    found = read(tmp_path, text)
    assert [(document.where.rpartition("f.yaml")[2], document.value) for document in found.documents] == [
        ("[doc 1]", freeze({"kind": "A"})),
        ("[doc 2, item 1]", freeze({"kind": "B"})),
        ("[doc 2, item 2]", freeze({"kind": "C"})),
        ("[doc 3, item 1]", freeze({"apiVersion": "g/v1", "kind": "D", "x": 1})),
    ]


def test_directory_is_always_read_whole_and_in_order(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "sub/c.json", "sub/deep/d.yaml", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(
            "{}" if name == "notes.txt" else f'{{"kind": "{name}"}}', encoding="utf-8"
        )
    found = read_manifests([str(tmp_path)])
    assert found.problems == ()
    assert [document.value["kind"] for document in found.documents] == [
        "a.yml",
        "b.yaml",
        "sub/c.json",
        "sub/deep/d.yaml",
    ]


def test_missing_file_and_empty_directory_are_always_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    found = read_manifests([str(tmp_path / "none.yaml"), str(tmp_path / "empty"), "\0"])
    assert found.documents == ()
    assert found.problems == (
        f"{tmp_path}/none.yaml: cannot be read: No such file or directory",
        f"{tmp_path}/empty: holds no file that ends in .yaml, .yml or .json",
        "\0: cannot be read: embedded null byte",
    )


def test_file_that_fails_to_be_read_is_always_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert read_manifests(["f.yaml"]).problems == ("f.yaml: cannot be read: Permission denied",)


def test_large_file_is_never_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "MAX_BYTES", 2**20)
    assert read(tmp_path, "# " + "x" * 2**20).problems == ("is larger than 1 MiB",)
    assert len(read(tmp_path, OBJECT + "# " + "x" * 1000).documents) == 1


def test_standard_input_is_always_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(b"kind: A\n---\n5")))
    found = read_manifests(["-"])
    assert [document.where for document in found.documents] == ["stdin[doc 1]"]
    assert found.problems == ("stdin: document 2 is not an object with apiVersion and kind",)


def test_closed_standard_input_is_always_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert read_manifests(["-"]).problems == ("stdin: cannot be read: it is closed",)
