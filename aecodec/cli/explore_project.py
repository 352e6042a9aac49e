"""`aecodec explore project`."""

from __future__ import annotations

from pathlib import Path

import click

from aecodec.cli import explore_options as shared
from aecodec.errors import InputError

HELP = """Draw latents on a plane, coloured by class.

A SOURCE is a file of latents (.npz, .npy) or a model, for which --data names the images. Two of
them, of the same images, stand side by side.

\b
Examples:
  aecodec explore project signs.npz --method tsne --out signs.png
  aecodec explore project small.npz large.npz --method umap --seed 3 --out both.svg
  aecodec explore project photo my.safetensors --data SIGNS --out both.png
"""


@click.command(help=HELP)
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@shared.picture
@shared.method
@shared.seed
@click.option("--perplexity", type=float, help="Of t-SNE.  [default: 30, fewer for few images]")
@click.option("--neighbours", type=int, help="Of UMAP.  [default: 15, fewer for few images]")
@shared.data
@shared.limit
@shared.test_files
@shared.device
def command(
    sources: tuple[str, ...],
    out: Path,
    force: bool,
    as_json: bool,
    quiet: bool,
    method: str,
    seed: int,
    perplexity: float | None,
    neighbours: int | None,
    data: Path | None,
    limit: int | None,
    test_files: Path | None,
    device: str,
) -> None:
    """Project and draw."""
    from aecodec import explore

    shared.prepare(out, force, *sources)
    if len(sources) > 2:
        raise InputError(f"{len(sources)} sources do not fit side by side; give one or two")
    tables = shared.load_latents(sources, data, limit=limit, test_files=test_files, device=device)
    found = explore.project(tables, method, seed=seed, perplexity=perplexity, neighbours=neighbours)
    shared.finish(found, out, force, as_json)
