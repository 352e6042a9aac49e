"""`aecodec explore latents`."""

from __future__ import annotations

from pathlib import Path

import click

from aecodec.cli import explore_options as shared
from aecodec.cli import options

HELP = """Encode the images of DATA to one vector each.

The .npz holds `latents` (images, dimensions), `names`, `labels`, `classes`, `model` and `model_id`;
a .npy holds the latents, and a .json beside it the rest. Folders in DATA are the classes. Images of
a hyperprior are cropped to at most 512 pixels a side, and its latents are averaged over positions.

\b
Examples:
  aecodec explore latents my.safetensors SIGNS --out signs.npz
  aecodec explore latents runs/signs SIGNS --test-files runs/signs/test_files.txt --out test.npy
"""


@click.command(help=HELP)
@shared.model
@click.argument("data", type=options.FILE)
@click.option("-o", "--out", required=True, type=options.FILE, help="File to write, .npz or .npy.")
@shared.limit
@shared.test_files
@click.option("--batch", default=32, show_default=True, type=click.IntRange(min=1))
@shared.device
@options.force
@options.quiet
def command(
    model: str,
    data: Path,
    out: Path,
    limit: int | None,
    test_files: Path | None,
    batch: int,
    device: str,
    force: bool,
    quiet: bool,
) -> None:
    """Encode and save."""
    from aecodec import explore
    from aecodec.explore.latents import check_latents_output

    check_latents_output(out, overwrite=force)
    shared.note_unseen(model, test_files)
    loaded = shared.load_model(model, device)
    found = explore.latents(loaded, data, limit=limit, test_files=test_files, batch=batch)
    for path in found.save(out, overwrite=force):
        shared.say(f"{path}: {len(found)} images, {found.vectors.shape[1]} dimensions")
