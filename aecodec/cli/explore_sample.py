"""`aecodec explore sample`."""

from __future__ import annotations

from pathlib import Path

import click

from aecodec.cli import explore_options as shared

HELP = """Draw latents at random and decode them.

They come from the standard normal prior of a variational model, from a Gaussian fitted to the
latents of another bottleneck model, or from the tables that a hyperprior codes files with.

\b
Example:
  aecodec explore sample my.safetensors -n 25 --seed 7 --out samples.png
"""


@click.command(help=HELP)
@shared.model
@shared.picture
@click.option(
    "-n", "--count", default=16, show_default=True, type=click.IntRange(1, 400), help="Images."
)
@shared.seed
@shared.device
def command(
    model: str,
    out: Path,
    force: bool,
    as_json: bool,
    quiet: bool,
    count: int,
    seed: int,
    device: str,
) -> None:
    """Sample and draw."""
    from aecodec import explore

    shared.prepare(out, force, model)
    found = explore.sample(shared.load_model(model, device), count, seed=seed)
    shared.finish(found, out, force, as_json)
