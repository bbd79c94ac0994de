"""`lws defaults`: prints manifests as the API server would store them."""

from __future__ import annotations

import click

from lws_runtime.yaml_values import to_yaml

from .loading import load_sets


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
def command(files: tuple[str, ...]) -> None:
    """Print the sets in manifests with every default filled in, as YAML.

    FILE is a YAML or JSON file, a directory of them, or - for standard input. The defaults are the API
    server's and the webhook's. Objects of other kinds are left out. Exit code: 2 if a set is not valid.

    \b
    Example:
      lws defaults examples/lws.yaml
    """
    click.echo("---\n".join(to_yaml(one.manifest) for one in load_sets(files)), nl=False)
