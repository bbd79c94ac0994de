"""`lws validate`: checks manifests."""

from __future__ import annotations

import click

from .loading import load, place, say


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("-q", "--quiet", is_flag=True, help="Print errors and warnings only.")
def command(files: tuple[str, ...], quiet: bool) -> None:
    """Check manifests as the API server and the webhooks would, fields that do not exist included.

    FILE is a YAML or JSON file, a directory of them, or - for standard input. Every error is printed, one a
    line: the file, the document in it, the object, the field, and what is wrong. Objects of other kinds are
    passed over. Exit code: 0 if all sets are valid, 2 if not.

    \b
    Example:
      lws validate examples/lws.yaml my-sets/
      helm template my-chart | lws validate -
    """
    loaded = load(files)
    for one in loaded.sets:
        for warning in one.warnings:
            say("warning", f"{one.where}: {warning}")
    if quiet:
        return
    for document in loaded.others:
        say("note", f"{place(document)}: not checked")
    count = len(loaded.sets)
    click.echo(f"{count} valid LeaderWorkerSet{'' if count == 1 else 's'}")
