"""`aecodec compress`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from aecodec import api
from aecodec.cli import options

HELP = """Code an image file as an .aec file.

INPUT is any image that Pillow reads, in colour or gray, with or without alpha, with 8 or 16 bits a
sample. OUTPUT is INPUT with the ending .aec if not given. It appears whole or not at all.

\b
Example:
  aecodec compress photo.png photo.aec --quality 60
  aecodec compress photo.png photo.aec --target-size 50kB
"""


@click.command(help=HELP)
@click.argument("source", metavar="INPUT", type=options.FILE)
@click.argument("output", metavar="[OUTPUT]", required=False, type=options.FILE)
@click.option(
    "-q",
    "--quality",
    type=click.FloatRange(1, 100),
    help="Small to close to the original.  [default: 75]",
)
@click.option(
    "--target-size", callback=options.size, metavar="SIZE", help="Largest size: 50kB, 2MB."
)
@click.option("--target-bpp", type=float, metavar="BPP", help="The same in bits per pixel.")
@click.option("--target-psnr", type=float, metavar="DB", help="Lowest PSNR.")
@click.option(
    "-e",
    "--effort",
    type=click.IntRange(0, 9),
    default=0,
    show_default=True,
    help="Time spent on a smaller file.",
)
@click.option(
    "--alpha-quality",
    type=click.FloatRange(1, 100),
    help="1 (opaque or transparent) to 100 (alpha without loss).  [default: 100]",
)
@options.strip
@options.force
@options.model(api.DEFAULT_MODEL, "Installed model, or a weights file.  [default: photo]")
@options.machine
@options.quiet
def command(
    source: Path,
    output: Path | None,
    effort: int,
    strip: bool,
    force: bool,
    model: str,
    device: str,
    threads: int | None,
    max_pixels: int,
    quiet: bool,
    **aim: Any,
) -> None:
    """Code one file and say what came of it."""
    output = output or options.beside(source, ".aec")
    start = time.perf_counter()
    with options.progress_bar(quiet) as progress:
        made = api.compress(
            source,
            output,
            effort=effort,
            strip=strip,
            overwrite=force,
            model=model,
            limits=options.limits(max_pixels),
            device=device,
            threads=threads,
            progress=progress,
            **aim,
        )
    if not quiet:
        seconds = time.perf_counter() - start
        before = source.stat().st_size
        sizes = f"{options.human(before)} -> {options.human(made.bytes)}"
        click.echo(
            f"{output}: {sizes}, {made.bpp:.3f} bpp, {before / made.bytes:.1f}:1, {seconds:.2f} s",
            err=True,
        )
