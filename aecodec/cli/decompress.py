"""`aecodec decompress`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from aecodec import api
from aecodec.cli import options
from aecodec.cli.main import EXIT_PARTLY

HELP = """Decode an .aec file to an image file.

The ending of OUTPUT chooses the format: png, webp (lossless), tif, bmp, ppm, or jpg (quality 95).
OUTPUT is INPUT with the ending .png if not given. It appears whole or not at all.

\b
Example:
  aecodec decompress photo.aec photo.png
  aecodec decompress photo.aec part.png --region 200,100,320,240
"""


def _region(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[int, int, int, int] | None:
    """Callback: `X,Y,W,H` -> four integers."""
    if value is None:
        return None
    try:
        x, y, width, height = (int(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not four whole numbers X,Y,W,H") from None
    return x, y, width, height


@click.command(help=HELP)
@click.argument("source", metavar="INPUT", type=options.FILE)
@click.argument("output", metavar="[OUTPUT]", required=False, type=options.FILE)
@click.option("--region", callback=_region, metavar="X,Y,W,H", help="Only that part, in pixels.")
@click.option("--best-effort", is_flag=True, help="Decode what is left of a damaged file.")
@options.strip
@options.force
@options.model(None, "Installed model, or a weights file.  [default: the one the file names]")
@options.machine
@options.quiet
def command(
    source: Path,
    output: Path | None,
    region: tuple[int, int, int, int] | None,
    best_effort: bool,
    strip: bool,
    force: bool,
    model: str | None,
    device: str,
    threads: int | None,
    max_pixels: int,
    quiet: bool,
) -> int:
    """Decode one file and say what came of it."""
    output = output or options.beside(source, ".png")
    machine: dict[str, Any] = {
        "model": model,
        "limits": options.limits(max_pixels),
        "device": device,
        "threads": threads,
    }
    if best_effort:
        if region is not None:
            raise click.UsageError("--best-effort decodes the whole picture, not a --region")
        return _rescue(source, output, force, machine)
    start = time.perf_counter()
    with options.progress_bar(quiet) as progress:
        found = api.decompress(
            source,
            output,
            region=region,
            strip=strip,
            overwrite=force,
            progress=progress,
            **machine,
        )
    if not quiet:
        seconds = time.perf_counter() - start
        sizes = f"{options.human(found.bytes)} -> {options.human(output.stat().st_size)}"
        deep = ", 16 bits" if found.bit_depth == 16 else ""
        size = f"{found.width} x {found.height} {found.mode}{deep}"
        click.echo(f"{output}: {size}, {sizes}, {seconds:.2f} s", err=True)
    return 0


def _rescue(source: Path, output: Path, force: bool, machine: dict[str, Any]) -> int:
    """Write what is left, and say which chunks are not."""
    lost = api.rescue(source, output, overwrite=force, **machine)
    if not lost:
        return 0
    numbers = ", ".join(map(str, lost))
    click.echo(f"{output}: chunks lost: {numbers}; painted gray, lost alpha opaque", err=True)
    return EXIT_PARTLY
