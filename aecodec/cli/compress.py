"""`aecodec compress`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from aecodec import api
from aecodec.cli import options

HELP = """Code an image file as an .aec file.

INPUT is any image that Pillow reads, RGB or gray with 8 bits a sample. OUTPUT is INPUT with the
ending .aec if not given. It appears whole or not at all.

\b
Example:
  aecodec compress photo.png photo.aec --quality 60
"""


@click.command(help=HELP)
@click.argument("source", metavar="INPUT", type=options.FILE)
@click.argument("output", metavar="[OUTPUT]", required=False, type=options.FILE)
@click.option(
    "-q",
    "--quality",
    type=click.FloatRange(1, 100),
    default=api.DEFAULT_QUALITY,
    show_default=True,
    help="Small to close to the original.",
)
@options.force
@options.model(api.DEFAULT_MODEL, "Installed model, or a weights file.  [default: photo]")
@options.machine
@options.quiet
def command(
    source: Path,
    output: Path | None,
    quality: float,
    force: bool,
    model: str,
    device: str,
    threads: int | None,
    max_pixels: int,
    quiet: bool,
) -> None:
    """Code one file and say what came of it."""
    output = output or options.beside(source, ".aec")
    start = time.perf_counter()
    made = api.compress(
        source,
        output,
        quality=quality,
        overwrite=force,
        model=model,
        limits=options.limits(max_pixels),
        device=device,
        threads=threads,
    )
    if not quiet:
        seconds = time.perf_counter() - start
        before = source.stat().st_size
        sizes = f"{options.human(before)} -> {options.human(made.bytes)}"
        click.echo(
            f"{output}: {sizes}, {made.bpp:.3f} bpp, {before / made.bytes:.1f}:1, {seconds:.2f} s",
            err=True,
        )
