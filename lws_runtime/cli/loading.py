"""What every command that takes manifests shares: reading them, judging them, and refusing them politely."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, Final

import attrs
import click

from lws_core.codec import decode
from lws_core.defaulting import webhook_defaults
from lws_core.errors import FieldError, first_faults
from lws_core.names import GROUP, KIND
from lws_core.spec import LeaderWorkerSet
from lws_core.structural import check, fill_defaults
from lws_core.validation import Verdict, validate_create, validate_update
from lws_core.values import FrozenMap, Json, as_map, dig
from lws_runtime.manifests import Document, read_manifests
from lws_runtime.schema_data import manifest_schema


class BadInput(click.ClickException):
    """Input that cannot be used. Ends the command with exit code 2 and prints each of `lines`."""

    exit_code = 2

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)

    def show(self, file: IO[Any] | None = None) -> None:
        """Prints the lines on standard error."""
        for line in self.lines:
            say("error", line)


_COLOURS: Final = {"error": "red", "warning": "yellow", "note": "blue"}


def say(level: str, line: str) -> None:
    """Prints one line on standard error, led by `error:`, `warning:` or `note:` in colour."""
    word = coloured(f"{level}:", fg=_COLOURS[level], bold=True)
    # One line, whatever a manifest's text holds.
    click.echo(f"{word} {printable(line)}", err=True)


def coloured(text: str, *, fg: str | None, bold: bool | None = None) -> str:
    """`text` in a colour, which `click.echo` leaves out where there is no terminal; plain where the
    environment has NO_COLOR."""
    return text if os.environ.get("NO_COLOR") else click.style(text, fg=fg, bold=bold)


def printable(text: str) -> str:
    """`text` without control characters, which a manifest could hold to forge or hide a line of output."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


@attrs.frozen
class LoadedSet:
    """A valid set: where it was read, its manifest with every default, its value, and what to warn of."""

    where: str
    manifest: FrozenMap[Json]
    lws: LeaderWorkerSet
    warnings: tuple[str, ...] = ()


@attrs.frozen
class Loaded:
    """What manifests hold: the sets, and the objects of other kinds, in order."""

    sets: tuple[LoadedSet, ...]
    others: tuple[Document, ...]


def load(paths: Sequence[str]) -> Loaded:
    """Everything in the manifests at `paths`. Raises BadInput with every fault of every set in them."""
    manifests = read_manifests(paths)
    faults = list(manifests.problems)
    sets: list[LoadedSet] = []
    others: list[Document] = []
    for document in manifests.documents:
        if is_set(document.value):
            found, errors = _judge(document)
            faults += [f"{place(document)}: {error}" for error in errors]
            sets += found
        elif not isinstance(document.value.get("kind"), str):
            faults.append(f"{document.where}: kind: Required value")
        else:
            others.append(document)
    if faults:
        raise BadInput(faults)
    return Loaded(tuple(sets), tuple(others))


def load_sets(paths: Sequence[str]) -> list[LoadedSet]:
    """The sets in the manifests at `paths`. Raises BadInput with every fault, or if there is no set."""
    sets = load(paths).sets
    if not sets:
        raise BadInput([f"{', '.join(paths)}: no {KIND} in it"])
    return list(sets)


def is_set(manifest: FrozenMap[Json]) -> bool:
    """Whether a manifest is meant as a LeaderWorkerSet, be its version or a letter of its kind wrong."""
    kind, version = manifest.get("kind"), manifest.get("apiVersion")
    return kind == KIND or (isinstance(version, str) and version.partition("/")[0] == GROUP)


def place(document: Document) -> str:
    """Where a document stands and what it is: `sets.yaml[doc 2] LeaderWorkerSet/serve`."""
    kind = document.value.get("kind")
    name = dig(document.value, "metadata", "name") or dig(document.value, "metadata", "generateName")
    kind, name = (word if isinstance(word, str) else "?" for word in (kind, name))
    return f"{document.where} {kind}/{name}"


def admit(
    manifest: FrozenMap[Json], stored: FrozenMap[Json] | None = None
) -> tuple[FrozenMap[Json], Verdict]:
    """A set's manifest with every default, and the verdict on it, as a new set or in place of `stored`: the
    rules' errors, then the schema's on fields that no rule speaks of, pod templates included."""
    schema = manifest_schema()
    completed = webhook_defaults(as_map(fill_defaults(manifest, schema)))
    verdict = validate_create(completed) if stored is None else validate_update(completed, stored)
    ruled = {error.path for error in verdict.errors}
    others = (error for error in check(completed, schema) if error.path not in ruled)
    return completed, attrs.evolve(verdict, errors=first_faults((*verdict.errors, *others)))


def _judge(document: Document) -> tuple[list[LoadedSet], tuple[FieldError, ...]]:
    """The set in a document, or why there is none."""
    manifest, verdict = admit(document.value)
    if verdict.errors:
        return [], verdict.errors
    return [LoadedSet(place(document), manifest, decode(manifest), verdict.warnings)], ()


@contextmanager
def no_collector() -> Iterator[None]:
    """Without the collector of cycles. Immutable values make none, and to look for them in a cluster of some
    thousand pods costs a sixth of all time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
