"""The command line. Each command is a module of its own, imported only when it is used.

A command's module is named like the command and has the click command as `command`. Exit codes: 0, or 2 for
input that cannot be used, with the reasons on standard error; docs/cli.md has all.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import click

from .ending import ending

COMMANDS: Final = {
    "check": "Explore all that can happen to a set, and check it.",
    "completion": "Print a completion script for a shell.",
    "crd": "Print the CustomResourceDefinition.",
    "defaults": "Print manifests with every default filled in.",
    "operator": "Take care of all sets in a cluster.",
    "simulate": "Show each step of a rollout, on a model of a cluster.",
    "render": "Print the objects that the operator makes for sets.",
    "validate": "Check manifests as the API server and the webhooks would.",
}
"""Each command's name and what `lws --help` says of it."""


class _Commands(click.Group):
    """Finds commands by name, so that help and one command need not import all others."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with ending():  # it prints helps
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with ending():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"{__name__}.{cmd_name.replace('-', '_')}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    from importlib import metadata  # noqa: PLC0415  # costs as much as all of click, and is hardly ever used

    try:
        click.echo(f"lws {metadata.version('leaderworkerset')}")
    except metadata.PackageNotFoundError:
        click.echo("lws, not installed as a package")
    ctx.exit()


version_option: Final = click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version and exit.",
)
"""For `lws`, and for `lws operator`, which the flags of the Go controller must fit."""


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@version_option
def main() -> None:
    """LeaderWorkerSet: check, render and simulate sets without a cluster, or run their operator in one.

    \b
    Example:
      lws validate examples/lws.yaml
    """
