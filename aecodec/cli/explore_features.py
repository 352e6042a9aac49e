"""`aecodec explore features`."""

from __future__ import annotations

from pathlib import Path

import click

from aecodec.cli import explore_options as shared
from aecodec.cli import options

HELP = """Draw the feature maps of IMAGE: a row a layer, the channels that vary most.

The JSON has shape and statistics of every layer, and so the names for --layers.

\b
Examples:
  aecodec explore features my.safetensors stop.png --out maps.png
  aecodec explore features photo photo.png --layers 'analysis.blocks_8.*' --out maps.png
"""


@click.command(help=HELP)
@shared.model
@click.argument("image", type=options.FILE)
@shared.picture
@click.option(
    "--layers",
    multiple=True,
    metavar="PATTERN",
    help="Layers to draw; may be repeated.  [default: 8, spread over the network]",
)
@click.option(
    "--channels",
    default=8,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Maps a layer.",
)
@shared.device
def command(
    model: str,
    image: Path,
    out: Path,
    force: bool,
    as_json: bool,
    quiet: bool,
    layers: tuple[str, ...],
    channels: int,
    device: str,
) -> None:
    """Run the model and draw."""
    from aecodec import explore

    shared.prepare(out, force, model, image)
    loaded = shared.load_model(model, device)
    found = explore.features(loaded, image, layers=layers, channels=channels)
    shared.finish(found, out, force, as_json)
