"""`aecodec completion`."""

from __future__ import annotations

import click

HELP = """Print the script that completes aecodec's arguments in SHELL: bash, zsh or fish.

\b
Examples:
  aecodec completion bash >~/.local/share/bash-completion/completions/aecodec
  aecodec completion zsh >~/.zfunc/_aecodec
  aecodec completion fish >~/.config/fish/completions/aecodec.fish

New shells use it. For zsh, ~/.zshrc has `fpath+=~/.zfunc` before `compinit`.
"""

VARIABLE = "_AECODEC_COMPLETE"


@click.command(help=HELP)
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the script."""
    from click.shell_completion import get_completion_class

    from aecodec.cli.main import cli

    kind = get_completion_class(shell)
    assert kind is not None  # click knows all three
    click.echo(kind(cli, {}, "aecodec", VARIABLE).source())
