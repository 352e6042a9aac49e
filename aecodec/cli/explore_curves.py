"""`aecodec explore curves`."""

from __future__ import annotations

from pathlib import Path

import click

from aecodec.cli import explore_options as shared
from aecodec.cli import options

HELP = """Draw the validations of one or more run folders, from their metrics.jsonl.

\b
Examples:
  aecodec explore curves runs/photo --out curves.png
  aecodec explore curves runs/adam runs/muon --axis minutes --out curves.svg
"""


@click.command(help=HELP)
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=options.FILE)
@shared.picture
@click.option("--axis", default="step", show_default=True, type=click.Choice(["step", "minutes"]))
def command(
    runs: tuple[Path, ...], out: Path, force: bool, as_json: bool, quiet: bool, axis: str
) -> None:
    """Read and draw."""
    from aecodec import explore

    shared.prepare(out, force)
    shared.finish(explore.curves(runs, axis=axis), out, force, as_json)
