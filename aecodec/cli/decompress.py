"""`aecodec decompress`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from aecodec import api
from aecodec.cli import options

HELP = """Decode an .aec file to an image file.

The ending of OUTPUT chooses the format: png, webp (lossless), tif, bmp, ppm, or jpg (quality 95).
OUTPUT is INPUT with the ending .png if not given. It appears whole or not at all.

\b
Example:
  aecodec decompress photo.aec photo.png
"""


@click.command(help=HELP)
@click.argument("source", metavar="INPUT", type=options.FILE)
@click.argument("output", metavar="[OUTPUT]", required=False, type=options.FILE)
@options.strip
@options.force
@options.model(None, "Installed model, or a weights file.  [default: the one the file names]")
@options.machine
@options.quiet
def command(
    source: Path,
    output: Path | None,
    strip: bool,
    force: bool,
    model: str | None,
    device: str,
    threads: int | None,
    max_pixels: int,
    quiet: bool,
) -> None:
    """Decode one file and say what came of it."""
    output = output or options.beside(source, ".png")
    start = time.perf_counter()
    found = api.decompress(
        source,
        output,
        strip=strip,
        overwrite=force,
        model=model,
        limits=options.limits(max_pixels),
        device=device,
        threads=threads,
    )
    if not quiet:
        seconds = time.perf_counter() - start
        sizes = f"{options.human(found.bytes)} -> {options.human(output.stat().st_size)}"
        size = f"{found.width} x {found.height} {found.mode}"
        click.echo(f"{output}: {size}, {sizes}, {seconds:.2f} s", err=True)
