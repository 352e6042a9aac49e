"""`aecodec explore interpolate`."""

from __future__ import annotations

from pathlib import Path

import click

from aecodec.cli import explore_options as shared
from aecodec.cli import options

HELP = """Decode the latents between those of images A and B, on a line and on a great circle.

\b
Example:
  aecodec explore interpolate my.safetensors stop.png yield.png --steps 10 --out strip.png
"""


@click.command(help=HELP)
@shared.model
@click.argument("a", type=options.FILE)
@click.argument("b", type=options.FILE)
@shared.picture
@click.option(
    "--steps",
    default=8,
    show_default=True,
    type=click.IntRange(2, 100),
    help="Frames, both ends included.",
)
@click.option(
    "--mode",
    default="both",
    show_default=True,
    type=click.Choice(["linear", "spherical", "both"]),
)
@shared.device
def command(
    model: str,
    a: Path,
    b: Path,
    out: Path,
    force: bool,
    as_json: bool,
    quiet: bool,
    steps: int,
    mode: str,
    device: str,
) -> None:
    """Interpolate and draw."""
    from aecodec import explore

    shared.prepare(out, force, model, a, b)
    loaded = shared.load_model(model, device)
    found = explore.interpolate(loaded, a, b, steps=steps, mode=mode)
    shared.finish(found, out, force, as_json)
