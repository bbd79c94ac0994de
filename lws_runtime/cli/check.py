"""`lws check`: explores all that can happen to a set, and says whether anything of it must not."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import attrs
import click

from lws_core.codec import decode
from lws_core.values import FrozenMap, Json, as_map, canonical, dig, freeze_map
from lws_runtime.manifests import read_manifests
from lws_runtime.yaml_values import to_yaml
from lws_sim.checking.bounds import MOST_REPLICAS, Bounded, bounded
from lws_sim.checking.check import Scope, recheck
from lws_sim.checking.edits import EDITS
from lws_sim.checking.explorer import MOST_STATES, Finding, Report, replay
from lws_sim.checking.model import FAULTS, is_move

from .loading import BadInput, LoadedSet, admit, load_sets, no_collector, say

EXIT_FAILS: Final = 3
EXIT_NOT_DONE: Final = 4
MOST_EDITS: Final = 4
MOST_FAULTS: Final = 3
MOST_SLACK: Final = 9
KIND: Final = "Trace"
API_VERSION: Final = "checking.lws.x-k8s.io/v1"
_TELL_EVERY_S: Final = 0.2
T = TypeVar("T")


@click.command()
@click.argument("files", nargs=-1, metavar="[FILE...]")
@click.option(
    "--edits", "edit_count", type=click.IntRange(0, MOST_EDITS), default=1, show_default=True, help="Edits."
)
@click.option(
    "--edit",
    "edits",
    multiple=True,
    type=click.Choice(EDITS),
    help="What an edit may be. Repeatable. [default: template, revert, up, down]",
)
@click.option(
    "--faults",
    "fault_count",
    type=click.IntRange(0, MOST_FAULTS),
    default=1,
    show_default=True,
    help="Faults.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    type=click.Choice(FAULTS),
    help="What a fault may be. Repeatable. [default: all]",
)
@click.option(
    "--slack",
    type=click.IntRange(1, MOST_SLACK),
    default=1,
    show_default=True,
    help="Steps of the cluster that may come before the controller has done what there is to do.",
)
@click.option("--gate/--no-gate", default=None, help="With or without maxUnavailable. [default: both]")
@click.option("--creation", is_flag=True, help="Begin with the creation of the set.")
@click.option("--most", type=click.IntRange(1), metavar="N", help="Stop after N states.")
@click.option("--trace", "trace_file", metavar="FILE", help="Write the way to the first violation here.")
@click.option(
    "--replay", "replayed", metavar="FILE", help="Show the moves of such a file, and the violation."
)
@click.pass_context
def command(
    ctx: click.Context,
    files: tuple[str, ...],
    edit_count: int,
    edits: tuple[str, ...],
    fault_count: int,
    faults: tuple[str, ...],
    slack: int,
    gate: bool | None,
    creation: bool,
    most: int | None,
    trace_file: str | None,
    replayed: str | None,
) -> None:
    """Explore all that can happen to the sets in FILE, and check each state and each write.

    From a set at rest: every order of the steps of the operator, the StatefulSet controller, the garbage
    collector and the kubelet in which the cluster is ahead of the operator by the slack at most, with so many
    edits and faults in between. Sets of more than 6 replicas are checked as smaller ones that are like them,
    and the verdict says so. It may take minutes, and some 9 kB of memory for each state: a gigabyte for three
    groups of four pods. docs/reliability.md tells what is checked, and what is not.

    Exit codes: 2 for input that cannot be used; 3 if something that must not happen can; 4 if nothing did,
    but there are more states than --most; 130 if it is interrupted; 0.

    \b
    Example:
      lws check examples/lws.yaml
      lws check examples/lws.yaml --edits 2 --faults 0 --gate
      lws check --replay trace.yaml
    """
    if replayed is not None:
        if files:
            raise BadInput(["--replay FILE holds its set: give no other FILE with it"])
        ctx.exit(_replay(replayed))
    if not files:
        raise BadInput(["give a FILE with a set, or --replay FILE"])
    scope = Scope(
        edits=edits or Scope().edits,
        edit_count=edit_count,
        faults=faults or FAULTS,
        fault_count=fault_count,
        slack=slack,
        from_creation=creation,
    )
    if trace_file is not None:
        _refuse_unwritable(trace_file)
    codes: set[int] = set()
    for one in load_sets(files):
        for warning in one.warnings:
            say("warning", f"{one.where}: {warning}")
        for on in (False, True) if gate is None else (gate,):
            to = None if EXIT_FAILS in codes else trace_file
            codes.add(_check(one, attrs.evolve(scope, gate=on), most, to))
    ctx.exit(next((code for code in (EXIT_FAILS, EXIT_NOT_DONE) if code in codes), 0))


def _check(one: LoadedSet, scope: Scope, most: int | None, trace_file: str | None) -> int:
    """Check one set, and tell of it; the exit code that this comes to."""
    if not one.lws.name:
        raise BadInput([f"{one.where}: metadata.name is needed: every object is named after it"])
    metadata = as_map(one.manifest["metadata"]).with_("namespace", one.lws.namespace)
    target = bounded(one.manifest.with_("metadata", metadata))
    try:
        explorer = scope.explorer(target.manifest)
    except ValueError as problem:
        raise BadInput([f"{one.where}: {problem}"]) from None
    interrupted = False
    title = (
        f"{one.lws.namespace}/{one.lws.name}, maxUnavailable of StatefulSets {'on' if scope.gate else 'off'}"
    )
    began_s = time.monotonic()
    with _progress(title) as tell, no_collector():
        try:
            report = explorer.run(most or MOST_STATES, tell)
        except KeyboardInterrupt:
            report, interrupted = explorer.so_far(), True
    took_s = time.monotonic() - began_s
    click.echo(f"{title}:")
    for line in (*_figures(report, took_s), *_verdict(report, scope, target)):
        click.echo(f"  {line}")
    if interrupted:
        raise click.Abort
    if report.finding is None:
        return 0 if report.complete else EXIT_NOT_DONE
    for number, move in enumerate(report.finding.trace, 1):
        click.echo(f"  {number:4}  {': '.join(move)}")
    if trace_file is not None:
        _write_trace(trace_file, target.manifest, scope, report.finding)
    return EXIT_FAILS


def _figures(report: Report, took_s: float) -> Iterator[str]:
    rate = report.states / max(took_s, 0.001)
    states, ends = _counted(report.states, "state"), _counted(report.ends, "end")
    yield f"{states} in {took_s:.1f} s ({rate:,.0f} a second), {ends}"
    counts = ", ".join(f"{kind} {count:,}" for kind, count in report.moves.items())
    yield f"moves: {counts}"
    if report.most_writes is not None:
        yield f"writes on the longest way: {report.most_writes}"


def _verdict(report: Report, scope: Scope, target: Bounded) -> Iterator[str]:
    where = f" in a smaller set ({'; '.join(target.reductions)})" if target.reductions else ""
    if report.finding is not None:
        yield f"VIOLATION of {report.finding.check}{where}: {report.finding.text}"
        yield f"the shortest way there, from the set {_start(scope)}:"
        return
    edits, faults = ", ".join(scope.edits), ", ".join(scope.faults)
    assert scope.slack is not None  # the command bounds it
    within = ", ".join(
        [
            f"from the set {_start(scope)}",
            f"up to {_counted(scope.edit_count, 'edit')} ({edits})" if scope.edit_count else "no edits",
            f"up to {_counted(scope.fault_count, 'fault')} ({faults})" if scope.fault_count else "no faults",
            f"{_counted(scope.slack, 'step')} of slack",
        ]
    )
    if not report.complete:
        yield f"NOT DONE: nothing wrong in the states looked at{where}; there are more, {within}"
    elif target.reductions:
        yield f"BOUNDED: nothing wrong{where}, {within}"
    else:
        yield f"EXHAUSTED: nothing wrong in any state, {within}"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _start(scope: Scope) -> str:
    return "being created" if scope.from_creation else "at rest"


@contextmanager
def _progress(title: str) -> Iterator[Callable[[int, int], None] | None]:
    """A line that tells how far it is, on a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console  # noqa: PLC0415  # costs a tenth of a second

    began_s = time.monotonic()
    told_s = began_s
    with Console(stderr=True).status(title) as status:

        def tell(known: int, done: int) -> None:
            nonlocal told_s
            now_s = time.monotonic()
            if now_s - told_s > _TELL_EVERY_S:
                told_s = now_s
                status.update(
                    f"{title}: {done:,} states done of {known:,} known so far, "
                    f"{done / (now_s - began_s):,.0f} a second"
                )

        yield tell


# -- traces


def _refuse_unwritable(path: str) -> None:
    """Raises BadInput: better now than when the way to a violation would be lost."""
    file = Path(path)
    if file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
        raise BadInput([f"{path}: cannot be written"])


def _write_trace(path: str, manifest: FrozenMap[Json], scope: Scope, finding: Finding) -> None:
    document = freeze_map(
        {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "violation": {"check": finding.check, "text": finding.text},
            "scope": {
                "gate": scope.gate,
                "edits": list(scope.edits),
                "editCount": scope.edit_count,
                "faults": list(scope.faults),
                "faultCount": scope.fault_count,
                "slack": scope.slack,
                "fromCreation": scope.from_creation,
            },
            "moves": [list(move) for move in finding.trace],
            "set": manifest,
        }
    )
    try:
        Path(path).write_text(to_yaml(document), encoding="utf-8")
    except OSError as problem:
        raise BadInput([f"{path}: cannot be written: {problem.strerror}"]) from None
    say("note", f"{path}: written; lws check --replay {path} shows it")


def _replay(path: str) -> int:
    manifest, scope, moves, text = _read_trace(path)
    model = scope.model(manifest)
    state = scope.start(model)
    click.echo(f"  {'':4}  {model.stands(state)}")
    try:
        for number, move in enumerate(replay(model, state, moves), 1):
            click.echo(f"  {number:4}  {model.stands(move.after)}  {': '.join(move.label)}")
    except ValueError as problem:
        click.echo(f"        the trace ends here: {problem}. The violation was: {text}")
        return 0
    finding = recheck(manifest, scope, moves)
    if finding is None:
        click.echo(f"        no violation any more; it was: {text}")
        return 0
    click.echo(f"        VIOLATION of {finding.check}: {finding.text}")
    return EXIT_FAILS


def _read_trace(path: str) -> tuple[FrozenMap[Json], Scope, tuple[tuple[str, ...], ...], str]:
    manifests = read_manifests([path])
    if manifests.problems:
        raise BadInput(manifests.problems)
    if len(manifests.documents) != 1 or manifests.documents[0].value.get("kind") != KIND:
        raise BadInput([f"{path}: is no trace: one document of kind {KIND}, as --trace writes it"])
    document = manifests.documents[0].value
    fields = as_map(document.get("scope"))
    try:
        moves = _moves(document)
        scope = Scope(
            gate=_of(fields, "gate", bool),
            edits=_words(fields, "edits", EDITS),
            edit_count=_count(fields, "editCount", 0, MOST_EDITS),
            faults=_words(fields, "faults", FAULTS),
            fault_count=_count(fields, "faultCount", 0, MOST_FAULTS),
            slack=_count(fields, "slack", 1, MOST_SLACK),
            from_creation=_of(fields, "fromCreation", bool),
        )
    except ValueError as problem:
        raise BadInput([f"{path}: {problem}"]) from None
    manifest, verdict = admit(as_map(document.get("set")))
    if verdict.errors:
        raise BadInput([f"{path}: set.{error}" for error in verdict.errors])
    for field in ("name", "namespace"):
        if not dig(manifest, "metadata", field):
            raise BadInput([f"{path}: set.metadata.{field}: is needed"])
    if decode(manifest).spec.replicas > MOST_REPLICAS:
        raise BadInput([f"{path}: set.spec.replicas: must be {MOST_REPLICAS} at most"])
    return manifest, scope, moves, str(as_map(document.get("violation")).get("text", ""))


def _of(fields: FrozenMap[Json], name: str, kind: type[T]) -> T:
    value = fields.get(name)
    if not isinstance(value, kind):
        raise ValueError(f"scope.{name}: must be {kind.__name__}, is {value!r}")
    return value


def _count(fields: FrozenMap[Json], name: str, least: int, most: int) -> int:
    value = _of(fields, name, int)
    if isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"scope.{name}: must be from {least} to {most}, is {value!r}")
    return value


def _moves(document: FrozenMap[Json]) -> tuple[tuple[str, ...], ...]:
    if document.get("apiVersion") != API_VERSION:
        raise ValueError(f"apiVersion: must be {API_VERSION}, is {document.get('apiVersion')!r}")
    found = document.get("moves")
    if not isinstance(found, tuple):
        raise ValueError("moves: must be a list, each a list of words")
    return tuple(_move(move, f"moves[{index}]") for index, move in enumerate(found))


def _move(value: Json, path: str) -> tuple[str, ...]:
    words = _texts(value, path)
    if not is_move(words):
        raise ValueError(f"{path}: there is no move {': '.join(words)!r}")
    return words


def _texts(value: Json, path: str) -> tuple[str, ...]:
    if not isinstance(value, tuple) or not all(isinstance(word, str) for word in value):
        raise ValueError(f"{path}: must be a list of words, is {canonical(value)}")
    return tuple(str(word) for word in value)


def _words(fields: FrozenMap[Json], name: str, known: tuple[str, ...]) -> tuple[str, ...]:
    words = _texts(fields.get(name), f"scope.{name}")
    unknown = [word for word in words if word not in known]
    if unknown:
        raise ValueError(f"scope.{name}: {', '.join(unknown)}: must be of {', '.join(known)}")
    return words
