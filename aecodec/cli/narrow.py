"""`aecodec narrow`."""

from __future__ import annotations

from pathlib import Path

import click

from aecodec.cli import options

HELP = """Make weights narrower, to train a faster model on from them.

CONFIG is that of WEIGHTS but for a smaller `synthesis_inner`, `context_inner`, `scale_width` or
`scale_context_width`. The channels that are left out are those that others stand in for best,
measured on training images; what they did is handed to the others as well as can be.

\b
Example:
  aecodec narrow weights/photo.safetensors faster.toml --data PHOTOS --out start.safetensors
  aecodec train faster.toml --data PHOTOS --out runs/faster --init start.safetensors
"""


@click.command(help=HELP)
@click.argument("weights", type=options.FILE)
@click.argument("config", type=options.FILE)
@click.option("--data", required=True, type=options.FILE, help="Folder of training images.")
@click.option("--out", required=True, type=options.FILE, help="File to write, for `--init`.")
@options.force
def command(weights: Path, config: Path, data: Path, out: Path, force: bool) -> None:
    """Narrow one weights file."""
    from aecodec.output import check_output
    from aecodec.train.narrow import narrow_file

    for source in (weights, config):
        check_output(out, overwrite=force, source=source)
    narrow_file(weights, config, data, out)
    click.echo(f"{out}: weights for --init", err=True)
