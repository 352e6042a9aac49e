"""`aecodec explore traverse`."""

from __future__ import annotations

from pathlib import Path

import click

from aecodec.cli import explore_options as shared
from aecodec.cli import options

HELP = """Move one dimension of the latents at a time, in units of its standard deviation.

The deviations are those of --latents, a file of the same model's. Without, a variational model has
those of its prior, and a hyperprior those over the positions of the image. A hyperprior moves a
channel at all positions.

\b
Examples:
  aecodec explore traverse my.safetensors --latents signs.npz --out dims.png
  aecodec explore traverse my.safetensors --image stop.png --dims 0,5,17 --out dims.png
"""


@click.command(help=HELP)
@shared.model
@shared.picture
@click.option("--image", type=options.FILE, help="Where to start.  [default: the mean latent]")
@click.option("--latents", type=options.FILE, help="A file of `aecodec explore latents`.")
@click.option("--dims", metavar="N,...", help="Dimensions.  [default: those that vary most]")
@click.option(
    "-n", "--count", default=8, show_default=True, type=click.IntRange(1, 64), help="Dimensions."
)
@click.option(
    "--steps",
    default=7,
    show_default=True,
    type=click.IntRange(2, 64),
    help="Images a dimension.",
)
@click.option(
    "--extent",
    default=3.0,
    show_default=True,
    type=options.FloatRange(0, min_open=True),
    help="How far each way, in standard deviations.",
)
@shared.device
def command(
    model: str,
    out: Path,
    force: bool,
    as_json: bool,
    quiet: bool,
    image: Path | None,
    latents: Path | None,
    dims: str | None,
    count: int,
    steps: int,
    extent: float,
    device: str,
) -> None:
    """Traverse and draw."""
    from aecodec import explore

    shared.prepare(out, force, model, image, latents)
    wanted = shared.numbers(dims, int, "--dims")
    table = None if latents is None else explore.Latents.load(latents)
    found = explore.traverse(
        shared.load_model(model, device),
        image,
        latents=table,
        dimensions=None if wanted is None else [int(d) for d in wanted],
        count=count,
        steps=steps,
        extent=extent,
    )
    shared.finish(found, out, force, as_json)
