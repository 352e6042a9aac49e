"""`aecodec verify`."""

from __future__ import annotations

from pathlib import Path

import click

from aecodec import api
from aecodec.cli import options
from aecodec.cli.main import exit_code, report
from aecodec.errors import AecError

HELP = """Check that .aec files are whole and decode to exactly the integers that were coded.

Every file is looked at; the exit code is that of the first one that fails.

\b
Example:
  aecodec verify one.aec two.aec
"""


@click.command(help=HELP)
@click.argument("sources", metavar="FILE...", nargs=-1, required=True, type=options.FILE)
@options.model(None, "Installed model, or a weights file.  [default: the one each file names]")
@options.machine
@options.quiet
def command(
    sources: tuple[Path, ...],
    model: str | None,
    device: str,
    threads: int | None,
    max_pixels: int,
    quiet: bool,
) -> int:
    """Verify each file; gives the exit code."""
    code = 0
    limits = options.limits(max_pixels)
    for source in sources:
        try:
            api.verify(source, model=model, limits=limits, device=device, threads=threads)
        except AecError as error:
            report(error)
            code = code or exit_code(error)
        else:
            if not quiet:
                click.echo(f"{source}: ok")
    return code
