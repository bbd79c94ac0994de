"""`lws completion`: prints a script that completes commands and options in a shell."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

SHELLS: Final = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print a script that completes commands, options and their values in a shell.

    \b
    Example:
      source <(lws completion bash)
      lws completion fish > ~/.config/fish/completions/lws.fish
    """
    class_ = get_completion_class(shell)
    assert class_ is not None
    click.echo(class_(ctx.find_root().command, {}, "lws", "_LWS_COMPLETE").source())
