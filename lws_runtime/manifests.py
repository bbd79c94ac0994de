"""Reads manifests: YAML or JSON, from files, directories or standard input, many documents in each.

What a document means is what Kubernetes takes it to mean (yaml_values.py). Whatever is in a file, the outcome
is documents or problems, each one line; never an exception, and never more memory than a file deserves:
files are bounded in size, values in depth, and aliases in what they come to.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import yaml

from lws_core.values import FrozenMap, Json, canonical, freeze_decoded

from .yaml_events import BadYaml, documents_of_events
from .yaml_values import whole

MAX_BYTES: Final = 16 * 1024 * 1024
MAX_DEPTH: Final = 100
STDIN: Final = "-"
_MOST_DIGITS: Final = 400  # of an integer; the largest float has 309
_LIBYAML_TOO_DEEP: Final = "exceeded maximum nesting depth"
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_SUFFIXES: Final = (".yaml", ".yml", ".json")

_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@attrs.frozen
class Document:
    """One object: where it stands, and what it is. `index` counts a file's documents, `item_index` the
    items of a document that is a List; both are zero-based."""

    source: str
    index: int
    value: FrozenMap[Json]
    item_index: int | None = None

    @property
    def where(self) -> str:
        """Its place for people: `sets.yaml[doc 2]`, `sets.yaml[doc 2, item 1]`."""
        item = "" if self.item_index is None else f", item {self.item_index + 1}"
        return f"{self.source}[doc {self.index + 1}{item}]"


@attrs.frozen
class Manifests:
    """What was read. `problems` are lines for people, each naming the file it is about."""

    documents: tuple[Document, ...] = ()
    problems: tuple[str, ...] = ()


class _Unreadable(Exception):
    """Why a file, or the rest of one, cannot be read."""


def read_manifests(paths: Sequence[str]) -> Manifests:
    """All objects in files, in directories (all their .yaml, .yml and .json files) and, for "-", on standard
    input, in the order given; a directory's files in the order of their names."""
    documents: list[Document] = []
    problems: list[str] = []
    for path in paths:
        files, complaints = _files(path)
        problems += complaints
        for file in files:
            source = "stdin" if file == STDIN else file
            try:
                documents.extend(_documents(source, _text(file)))
            except _Unreadable as problem:
                problems.append(f"{source}: {problem}")
    return Manifests(tuple(documents), tuple(problems))


def read_value(text: str) -> Json:
    """One YAML value, as it stands on a command line. Raises ValueError, saying what is wrong."""
    try:
        values = list(_yaml_values(text))
    except _Unreadable as problem:
        raise ValueError(str(problem)) from None
    if len(values) > 1:
        raise ValueError("is more than one value")
    return values[0] if values else None


def _files(path: str) -> tuple[list[str], list[str]]:
    if path == STDIN or not os.path.isdir(path):
        return [path], []
    failures: list[OSError] = []
    found = []
    for folder, _, names in os.walk(path, onerror=failures.append):
        found += [os.path.join(folder, name) for name in names if name.endswith(_SUFFIXES)]
    problems = [f"{failure.filename}: cannot be read: {failure.strerror}" for failure in failures]
    if not found and not problems:
        problems.append(f"{path}: holds no file that ends in .yaml, .yml or .json")
    return sorted(found), problems


def _text(file: str) -> str:
    try:
        if file == STDIN:
            if sys.stdin is None:  # so Python has it where it is closed
                raise _Unreadable("cannot be read: it is closed")
            raw = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(file).open("rb") as stream:
                raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise _Unreadable(f"cannot be read: {error.strerror}") from None
    except ValueError as error:  # a path with a null character
        raise _Unreadable(f"cannot be read: {error}") from None
    if len(raw) > MAX_BYTES:
        raise _Unreadable(f"is larger than {MAX_BYTES // 2**20} MiB")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _Unreadable(f"is not UTF-8 text: byte {error.start + 1} is 0x{raw[error.start]:02x}") from None


def _documents(source: str, text: str) -> Iterator[Document]:
    """The objects in a text, until the first that cannot be read. Raises _Unreadable."""
    empty = True
    for index, value in enumerate(_values(source, text)):
        if value is None:
            continue
        empty = False
        if not isinstance(value, FrozenMap):
            raise _Unreadable(f"document {index + 1} is not an object with apiVersion and kind")
        _check_text(value, index)
        yield from _objects(source, index, value)
    if empty:
        raise _Unreadable("holds no manifest")


def _values(source: str, text: str) -> Iterator[Json]:
    if source.endswith(".json"):
        return _json_values(text)
    if text.lstrip().startswith("{"):
        # JSON, as kubectl guesses too, unless it is YAML in that style.
        try:
            return iter(list(_json_values(text)))
        except _Unreadable:
            pass
    return _yaml_values(text)


def _check_text(value: FrozenMap[Json], index: int) -> None:
    """Refuses text that cannot be written again: JSON's escapes can say half a character."""
    try:
        canonical(value).encode()
    except UnicodeEncodeError:
        raise _Unreadable(f"document {index + 1} has text with half a surrogate pair") from None


def _objects(source: str, index: int, value: FrozenMap[Json]) -> Iterator[Document]:
    """The document, or the items of a List. Items of a typed list may leave out what the list says."""
    kind, items = value.get("kind"), value.get("items")
    if not (isinstance(kind, str) and kind.endswith("List") and isinstance(items, tuple)):
        yield Document(source, index, value)
        return
    common: dict[str, Json] = {}
    if kind != "List":
        common = {"apiVersion": value.get("apiVersion"), "kind": kind.removesuffix("List")}
    for item_index, item in enumerate(items):
        if not isinstance(item, FrozenMap):
            place = f"document {index + 1}, item {item_index + 1}"
            raise _Unreadable(f"{place} is not an object with apiVersion and kind")
        yield Document(source, index, FrozenMap({**common, **item}), item_index)


def _yaml_values(text: str) -> Iterator[Json]:
    try:
        yield from documents_of_events(yaml.parse(text, Loader=_Loader), MAX_DEPTH)
    except BadYaml as error:
        raise _Unreadable(str(error)) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if error.problem == _LIBYAML_TOO_DEEP:  # it reads ahead, and may stop before the builder does
            line = mark.line + 1 if mark else 1
            raise _Unreadable(f"line {line}: is nested more than {MAX_DEPTH} levels deep") from None
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise _Unreadable(f"is not YAML: {place}{error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise _Unreadable(f"is not YAML: {str(error).splitlines()[0]}") from None


def _json_values(text: str) -> Iterator[Json]:
    """The values of a text that holds JSON values one after another."""
    decoder = json.JSONDecoder(
        object_pairs_hook=_json_object,
        parse_constant=_no_number,
        parse_float=_json_float,
        parse_int=_json_int,
    )
    position = _skip_space(text, 0)
    while position < len(text):
        try:
            value, position = decoder.raw_decode(text, position)
            frozen = freeze_decoded(value, MAX_DEPTH)
        except json.JSONDecodeError as error:
            raise _Unreadable(
                f"is not JSON: line {error.lineno}, column {error.colno}: {error.msg}"
            ) from None
        except RecursionError:
            raise _Unreadable(f"is nested more than {MAX_DEPTH} levels deep") from None
        except ValueError as error:  # of a hook
            raise _Unreadable(f"is not JSON: {error}") from None
        yield frozen
        position = _skip_space(text, position)


def _skip_space(text: str, position: int) -> int:
    space = _SPACE.match(text, position)
    return space.end() if space else position


def _json_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f'the field "{key}" is there twice')
        found[key] = value
    return found


def _json_float(text: str) -> int | float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is too large")
    return whole(number)


def _json_int(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"a number has {len(text)} digits")
    return int(text)


def _no_number(word: str) -> object:
    raise ValueError(f"{word} is no number that a manifest can hold")
