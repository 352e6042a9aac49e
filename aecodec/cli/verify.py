"""`aecodec verify`."""

from __future__ import annotations

import json

import click

from aecodec import api, storage
from aecodec.cli import options
from aecodec.cli.main import error_fields, exit_code, report
from aecodec.errors import AecError

HELP = """Check that .aec files are whole and decode to exactly the integers that were coded.

Every file is looked at; the exit code is that of the first one that fails.

\b
Examples:
  aecodec verify one.aec two.aec
  aecodec verify --json *.aec
  aecodec verify - <photo.aec
"""


@click.command(help=HELP)
@click.argument("sources", metavar="FILE...", nargs=-1, required=True, type=options.NAME)
@options.model(None, "Installed model, or a weights file.  [default: the one each file names]")
@options.machine
@options.as_json
@options.quiet
def command(
    sources: tuple[str, ...],
    model: str | None,
    device: str,
    threads: int | None,
    max_pixels: int,
    as_json: bool,
    quiet: bool,
) -> int:
    """Verify each file; gives the exit code."""
    code = 0
    limits = options.limits(max_pixels)
    for source in sources:
        found: AecError | None = None
        try:
            with storage.local_input(storage.plain(source)) as path:
                api.verify(path, model=model, limits=limits, device=device, threads=threads)
        except AecError as error:
            report(error)
            code = code or exit_code(error)
            found = error
        if as_json:
            click.echo(_json(source, found))
        elif found is None and not quiet:
            click.echo(f"{source}: ok")
    return code


def _json(source: str, error: AecError | None) -> str:
    """One file, for machines."""
    return json.dumps({"path": source, "ok": error is None, **error_fields(error)})
