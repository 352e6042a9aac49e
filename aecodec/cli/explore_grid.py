"""`aecodec explore grid`."""

from __future__ import annotations

from pathlib import Path

import click

from aecodec.cli import explore_options as shared
from aecodec.cli import options

HELP = """Code IMAGE at several qualities, and draw what comes back and the compression curve.

Bits per pixel and PSNR are those of real .aec files.

\b
Examples:
  aecodec explore grid photo.png --out grid.png
  aecodec explore grid photo.png --qualities 10,30,50 --region 100,80,200,150 --out grid.png
"""


@click.command(help=HELP)
@click.argument("image", type=options.FILE)
@shared.picture
@options.model("photo", "A name or a weights file.  [default: photo]")
@click.option(
    "--qualities",
    default="5,20,40,60,80,95",
    show_default=True,
    metavar="Q,...",
    help="Each 1 to 100.",
)
@click.option("--region", metavar="X,Y,W,H", help="Draw this detail; all is measured.")
@shared.device
def command(
    image: Path,
    out: Path,
    force: bool,
    as_json: bool,
    quiet: bool,
    model: str,
    qualities: str,
    region: str | None,
    device: str,
) -> None:
    """Code, decode and draw."""
    from aecodec import explore

    shared.prepare(out, force, image)
    part = shared.numbers(region, int, "--region")
    if part is not None and len(part) != 4:
        raise click.BadParameter(f"{region!r} is not X,Y,W,H", param_hint="--region")
    x, y, width, height = (int(value) for value in part) if part else (0, 0, 0, 0)
    found = explore.grid(
        image,
        model,
        shared.numbers(qualities, float, "--qualities") or (),
        region=(x, y, width, height) if part else None,
        device=device,
    )
    shared.finish(found, out, force, as_json)
