"""`lws render`: prints the objects that a set comes to."""

from __future__ import annotations

from collections.abc import Iterator

import click

from lws_core.admission import Denied
from lws_core.options import Options
from lws_core.preview import Manifest, preview
from lws_runtime.yaml_values import to_yaml

from .loading import BadInput, LoadedSet, load_sets, say


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--gang", is_flag=True, help="Render for gang scheduling: a PodGroup for each group.")
@click.option("--pods", is_flag=True, help="Print the pods too, as they are after admission.")
@click.option(
    "--group", type=click.IntRange(min=0), metavar="N", help="Of the groups print only N, the first being 0."
)
def command(files: tuple[str, ...], gang: bool, pods: bool, group: int | None) -> None:
    """Print, as YAML, the objects that the operator makes for the sets in manifests.

    FILE is a YAML or JSON file, a directory of them, or - for standard input. For each set: its
    ControllerRevision, the StatefulSet of its leaders, and its Service; then for each group its Service or
    PodGroup, if it has such, and the StatefulSet of its workers. Owner references are left out where a UID is
    not known, and <KEY of the leader's node> stands for a node's label. Exit code: 2 if a set is not valid.

    \b
    Example:
      lws render examples/lws.yaml
      lws render --pods --group 0 examples/lws.yaml
    """
    options = Options(gang_scheduling=gang)
    first = True
    for one in load_sets(files):
        for warning in one.warnings:
            say("warning", f"{one.where}: {warning}")
        for manifest in _objects(one, options, group, pods):
            click.echo(("" if first else "---\n") + to_yaml(manifest), nl=False)
            first = False


def _objects(one: LoadedSet, options: Options, group: int | None, pods: bool) -> Iterator[Manifest]:
    replicas = one.lws.spec.replicas
    if not one.lws.name:
        raise BadInput([f"{one.where}: metadata.name is needed: every object is named after it"])
    if group is not None and group >= replicas:
        raise BadInput([f"{one.where}: there is no group {group}: spec.replicas is {replicas}"])
    try:
        yield from preview(one.lws, options, None if group is None else (group,), with_pods=pods)
    except (ValueError, Denied) as problem:
        raise BadInput([f"{one.where}: {problem}"]) from problem
