"""`lws crd`: prints the CustomResourceDefinition."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from lws_core.crd import compose_crd
from lws_runtime.schema_data import KUBERNETES_MINOR, definitions
from lws_runtime.yaml_values import to_yaml

from .loading import BadInput

_HEAD: Final = (
    f"# Made by `lws crd`. Pod templates hold what those of Kubernetes {KUBERNETES_MINOR} may hold.\n"
)


def text() -> str:
    """The CustomResourceDefinition as YAML."""
    return _HEAD + to_yaml(compose_crd(definitions()), compact=True)


@click.command()
@click.option("-o", "--output", metavar="FILE", help="Write to FILE instead of standard output.")
def command(output: str | None) -> None:
    """Print the CustomResourceDefinition that makes a cluster know LeaderWorkerSets, as YAML.

    \b
    Example:
      lws crd | kubectl apply -f -
    """
    if output is None:
        click.echo(text(), nl=False)
        return
    try:
        Path(output).write_text(text(), encoding="utf-8")
    except OSError as error:
        raise BadInput([f"{output}: cannot be written: {error.strerror}"]) from None
