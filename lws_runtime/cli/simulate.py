"""`lws simulate`: shows what a rollout does, without a cluster."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs
import click

from lws_core.errors import FieldError, InvalidManifest
from lws_core.options import Options
from lws_core.values import FrozenMap, Json, as_map, dig
from lws_runtime.golden import BadGolden, Golden, compare, read_golden, write_golden
from lws_runtime.manifests import read_manifests, read_value
from lws_sim import scenario as script
from lws_sim.deeds import ImpossibleStep
from lws_sim.simulation import TooLarge, simulate, simulate_creation
from lws_sim.trace import Trace

from .loading import BadInput, LoadedSet, admit, coloured, load, no_collector, place, printable, say
from .showing import FORMATS, show

EXIT_DIFFERS: Final = 1
EXIT_FAILS: Final = 3


@attrs.frozen
class _Plan:
    """What to simulate of one set: from `before` (None: it is created) through `steps`."""

    where: str
    before: FrozenMap[Json] | None
    steps: tuple[script.Step, ...] = ()
    scenario: str = ""
    after: FrozenMap[Json] | None = None


class _Duration(click.ParamType):  # type: ignore[type-arg]  # click takes an argument from 8.4 on only
    """A duration as scenarios write it."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value)
        try:
            return script.parse_duration_s(float(text) if text.isdecimal() else text)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--to", metavar="FILE", help="What the sets become: a file or directory of the same sets.")
@click.option(
    "--set", "fields", multiple=True, metavar="PATH=VALUE", help="A field that changes. Repeatable."
)
@click.option("--scenario", metavar="FILE", help="A script of what happens, docs/simulation.md.")
@click.option("--load", type=_Duration(), help="How long a pod takes to become ready. [default: 60s]")
@click.option(
    "--gate/--no-gate",
    default=None,
    help="Whether the cluster has the feature gate MaxUnavailableStatefulSet on. [default: off]",
)
@click.option("--gang", is_flag=True, help="The operator does gang scheduling.")
@click.option("--seed", type=int, metavar="N", help="Do what is independent in an order drawn from N.")
@click.option(
    "-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True, help="Form of output."
)
@click.option("--golden", metavar="FILE", help="Compare with this file; exit code 1 if it differs.")
@click.option("--update-golden", is_flag=True, help="Write the file that --golden names.")
@click.pass_context
def command(
    ctx: click.Context,
    files: tuple[str, ...],
    to: str | None,
    fields: tuple[str, ...],
    scenario: str | None,
    load: float | None,
    gate: bool | None,
    gang: bool,
    seed: int | None,
    output: str,
    golden: str | None,
    update_golden: bool,
) -> None:
    """Show each step of a rollout, on a model of a cluster with the operator's own decisions.

    FILE is a YAML or JSON file, a directory of them, or - for standard input. Without --to, --set or
    --scenario: what happens when the pod template changes now. Each set is simulated in a cluster of its own.

    Exit codes, the first that applies: 2 for input that cannot be used; 1 if the golden file differs; 3 if a
    rollout breaks its budget or cannot finish, unless a matching golden file records just that; 0.

    \b
    Example:
      lws simulate examples/lws.yaml
      lws simulate examples/lws.yaml --set spec.replicas=8
      lws simulate old.yaml --to new.yaml --golden rollout.golden.yaml
      lws simulate examples/lws-rollout-strategy.yaml --scenario examples/scenarios/guide-stages.yaml
    """
    if len([1 for given in (to, fields or None, scenario) if given is not None]) > 1:
        raise BadInput(["--to, --set and --scenario cannot be given together: a scenario can set fields too"])
    if golden == "":
        raise BadInput(["--golden: names no file"])
    if update_golden and golden is None:
        raise BadInput(["--update-golden needs --golden FILE: that is the file it writes"])
    expected = None
    if golden is not None and not update_golden:
        expected = _read_golden(golden)
    script_ = script.Scenario((script.Step((script.ChangeTemplate(),)),))
    if scenario is not None:
        script_ = _read_scenario(scenario)
    setting = script_.cluster
    if load is not None:
        setting = attrs.evolve(setting, load_s=load)
    if gate is not None:
        setting = attrs.evolve(setting, gate=gate)
    plans = _plans(files, to, fields, script_.steps, scenario or "")
    if output == "svg" and len(plans) != 1:
        raise BadInput([f"a picture shows one set, and there are {len(plans)}: choose --output html"])
    if update_golden and not plans:
        raise BadInput(["no set changes, so there is nothing that a golden file could record"])
    options = Options(gang_scheduling=gang)
    seed = setting.seed if seed is None else seed
    with _working(), no_collector():
        traces = [_run(plan, setting, options, seed, script_.strict) for plan in plans]
    show(traces, output)
    if golden is not None and update_golden:
        _write_golden(golden, traces)
    elif golden is not None and expected is not None:
        difference = compare(expected, traces, golden)
        if difference:
            _show_difference(golden, difference)
            ctx.exit(EXIT_DIFFERS)
    elif any(trace.failed for trace in traces):
        ctx.exit(EXIT_FAILS)


# -- what to simulate


def _plans(
    files: Sequence[str],
    to: str | None,
    fields: Sequence[str],
    steps: tuple[script.Step, ...],
    scenario: str,
) -> list[_Plan]:
    if to is not None:
        before, after = _sets(files, needed=False), _sets([to], needed=False)
        if not before and not after:
            raise BadInput([f"{', '.join([*files, to])}: no LeaderWorkerSet in them"])
        return list(_transitions(before, after, to))
    before = _sets(files)
    if fields:
        steps = (script.Step(tuple([_field(text) for text in fields])),)
    return [_Plan(where, manifest, steps, scenario) for where, manifest in before.values()]


def _sets(files: Sequence[str], *, needed: bool = True) -> dict[tuple[str, str], tuple[str, FrozenMap[Json]]]:
    """The sets in files, by namespace and name; at least one, if that is needed."""
    loaded = load(files)
    for document in loaded.others:
        say("note", f"{place(document)}: not simulated")
    if needed and not loaded.sets:
        raise BadInput([f"{', '.join(files)}: no LeaderWorkerSet in it"])
    found: dict[tuple[str, str], tuple[str, FrozenMap[Json]]] = {}
    for one in loaded.sets:
        for warning in one.warnings:
            say("warning", f"{one.where}: {warning}")
        manifest = _with_namespace(one)
        key = (str(dig(manifest, "metadata", "namespace")), one.lws.name)
        if key in found:
            raise BadInput([f"{one.where}: {found[key][0]} is the same set, {key[0]}/{key[1]}"])
        found[key] = one.where, manifest
    return found


def _with_namespace(one: LoadedSet) -> FrozenMap[Json]:
    if not one.lws.name:
        raise BadInput([f"{one.where}: metadata.name is needed: every object is named after it"])
    metadata = as_map(one.manifest["metadata"]).with_("namespace", one.lws.namespace)
    return one.manifest.with_("metadata", metadata)


def _transitions(
    before: dict[tuple[str, str], tuple[str, FrozenMap[Json]]],
    after: dict[tuple[str, str], tuple[str, FrozenMap[Json]]],
    to: str,
) -> Iterator[_Plan]:
    for key in dict.fromkeys((*before, *after)):
        if key not in after:
            where, manifest = before[key]
            say("note", f"{where}: is not in {to}: it is deleted")
            yield _Plan(where, manifest, (script.Step((script.DeleteSet(),)),))
        elif key not in before:
            where, manifest = after[key]
            say("note", f"{where}: is new")
            yield _Plan(where, None, after=manifest)
        else:
            where, manifest = after[key]
            if _decisive(manifest) == _decisive(before[key][1]):
                say("note", f"{where}: does not change")
                continue
            yield _Plan(where, before[key][1], (script.Step((script.Become(manifest),)),))


def _decisive(manifest: FrozenMap[Json]) -> tuple[Json, ...]:
    """What of a set its user decides."""
    metadata = as_map(manifest["metadata"])
    return manifest["spec"], as_map(metadata.get("labels")), as_map(metadata.get("annotations"))


def _field(text: str) -> script.SetField:
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise BadInput([f"--set {text}: is not PATH=VALUE, such as spec.replicas=8"])
    if not path.startswith(("spec.", "metadata.labels", "metadata.annotations")):
        raise BadInput(
            [f"--set {text}: the path must begin with spec., metadata.labels or metadata.annotations"]
        )
    try:
        return script.SetField(path, read_value(value))
    except ValueError as problem:
        raise BadInput([f"--set {text}: {problem}"]) from None


def _read_scenario(path: str) -> script.Scenario:
    manifests = read_manifests([path])
    if manifests.problems:
        raise BadInput(manifests.problems)
    if len(manifests.documents) != 1:
        raise BadInput([f"{path}: holds {len(manifests.documents)} documents, and a scenario is one"])
    (document,) = manifests.documents
    try:
        return script.read_scenario(document.value)
    except InvalidManifest as problem:
        raise BadInput([f"{document.where} Scenario: {error}" for error in problem.errors]) from None


# -- the simulation


def _run(plan: _Plan, setting: script.Cluster, options: Options, seed: int | None, strict: bool) -> Trace:
    choose = None if seed is None else random.Random(seed).randrange
    try:
        if plan.before is None:
            assert plan.after is not None
            return simulate_creation(plan.after, setting, options=options, choose=choose)
        return simulate(
            plan.before,
            plan.steps,
            setting,
            options=options,
            choose=choose,
            admit=_admit_update,
            strict=strict,
        )
    except ImpossibleStep as problem:
        raise BadInput([f"{plan.where}: {_step(plan, problem.step_index)}{problem}"]) from problem
    except TooLarge as problem:
        raise BadInput([f"{plan.where}: {problem}"]) from problem


def _step(plan: _Plan, index: int | None) -> str:
    """Where in a scenario something was asked for."""
    if not plan.scenario:
        return ""
    return f"{plan.scenario}: {'cluster' if index is None else f'steps[{index}]'}: "


def _admit_update(
    manifest: FrozenMap[Json], stored: FrozenMap[Json]
) -> tuple[FrozenMap[Json], tuple[FieldError, ...]]:
    completed, verdict = admit(manifest, stored)
    return completed, verdict.errors


@contextmanager
def _working() -> Iterator[None]:
    """A sign of life on a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console  # noqa: PLC0415  # costs a tenth of a second

    with Console(stderr=True).status("simulating"):
        yield


# -- golden files


def _read_golden(path: str) -> Golden:
    try:
        return read_golden(path)
    except FileNotFoundError:
        raise BadInput([f"{path}: there is no such golden file: --update-golden writes it"]) from None
    except BadGolden as problem:
        raise BadInput([f"{path}: {problem}"]) from None


def _write_golden(path: str, traces: Sequence[Trace]) -> None:
    try:
        changed = write_golden(Path(path), traces)
    except OSError as problem:
        raise BadInput([f"{path}: cannot be written: {problem.strerror}"]) from None
    say("note", f"{path}: {'written' if changed else 'is up to date'}")


def _show_difference(path: str, lines: Sequence[str]) -> None:
    colours = {"+": "green", "-": "red", "@": "cyan"}
    for line in lines:
        click.echo(coloured(printable(line), fg=colours.get(line[:1])), err=True)
    say("error", f"{path}: differs, see above: - is expected, + is what happens; --update-golden accepts it")
