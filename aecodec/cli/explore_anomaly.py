"""`aecodec explore anomaly`."""

from __future__ import annotations

from pathlib import Path

import click

from aecodec.cli import explore_options as shared
from aecodec.cli import options

HELP = """Rank the images of DATA by how badly the model reconstructs them, and flag the worst.

An image is flagged if its error is over the median plus --mad times 1.4826 times the median
absolute deviation, or over --quantile of all errors. With --reference, a folder of normal images
sets the threshold. The JSON lists the flagged files and every error; the picture shows the worst.

\b
Examples:
  aecodec explore anomaly my.safetensors SIGNS --out odd.png
  aecodec explore anomaly my.safetensors NEW --reference SIGNS --quantile 0.99 --out odd.png
"""


@click.command(help=HELP)
@shared.model
@click.argument("data", type=options.FILE)
@shared.picture
@click.option("--mad", type=options.FloatRange(0, min_open=True), help="[default: 3.5]")
@click.option("--quantile", type=options.FloatRange(0, 1, min_open=True, max_open=True))
@click.option("--reference", type=options.FILE, metavar="DIR", help="Folder of normal images.")
@click.option(
    "--worst", default=8, show_default=True, type=click.IntRange(0, 40), help="Images to draw."
)
@shared.limit
@shared.test_files
@shared.device
def command(
    model: str,
    data: Path,
    out: Path,
    force: bool,
    as_json: bool,
    quiet: bool,
    mad: float | None,
    quantile: float | None,
    reference: Path | None,
    worst: int,
    limit: int | None,
    test_files: Path | None,
    device: str,
) -> None:
    """Reconstruct, rank and draw."""
    from aecodec import explore

    shared.prepare(out, force, model, test_files)
    shared.note_unseen(model, test_files)
    found = explore.anomaly(
        shared.load_model(model, device),
        data,
        quantile=quantile,
        mad=mad,
        reference=reference,
        limit=limit,
        test_files=test_files,
        worst=worst,
    )
    flagged, count = len(found.flagged), len(found.names)
    shared.say(f"{flagged} of {count} images are over {found.threshold:.4g} ({found.rule})")
    shared.finish(found, out, force, as_json)
