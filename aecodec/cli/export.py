"""`aecodec export`."""

from __future__ import annotations

from pathlib import Path

import click

from aecodec.cli import options

HELP = """Turn a training run into a weights file that the codec runs.

The moving average of the weights is stored in half precision, what decides how symbols are
coded becomes integers, and the frequency tables are counted on images of the training set.
Of a folder `best.safetensors` is taken, else `last.safetensors`.

\b
Example:
  aecodec export runs/photo --data PHOTOS --out my.safetensors
  aecodec compress photo.png --model my.safetensors
"""


@click.command(help=HELP)
@click.argument("run", type=options.FILE)
@click.option("--data", required=True, type=options.FILE, help="The images it was trained on.")
@click.option("--out", required=True, type=options.FILE, help="Weights file to write.")
@click.option("--description", default="", help="One line for `aecodec models`.")
@click.option(
    "--images",
    type=click.IntRange(min=1),
    help="How many images make the tables; 120, or 2000 for the family bottleneck.",
)
@click.option(
    "--refined",
    default=0,
    show_default=True,
    type=click.IntRange(min=0),
    help="How many images, of some seconds each, make tables for files of efforts 4 to 9, "
    "which are 0.4 % smaller with them; 100 are enough.",
)
@click.option(
    "--deadzone",
    default=0.0,
    show_default=True,
    type=options.FloatRange(0, 1),
    help="Strength of rate-distortion optimised rounding in the encoder.",
)
@options.force
def command(
    run: Path,
    data: Path,
    out: Path,
    description: str,
    images: int | None,
    refined: int,
    deadzone: float,
    force: bool,
) -> None:
    """Export one run."""
    from aecodec.model.weights import read_info
    from aecodec.output import check_output
    from aecodec.train.export import export

    for source in (run, run / "last.safetensors", run / "best.safetensors"):
        check_output(out, overwrite=force, source=source)
    export(
        run, data, out, description=description, count=images, refined=refined, deadzone=deadzone
    )
    click.echo(f"{out}: model {read_info(out).id}", err=True)
