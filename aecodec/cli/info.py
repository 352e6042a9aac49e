"""`aecodec info`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click

from aecodec import fileinfo
from aecodec.cli import options

HELP = """Show what an .aec file says about itself. Nothing is decoded.

\b
Example:
  aecodec info --json photo.aec
"""


@click.command(help=HELP)
@click.argument("source", metavar="FILE", type=options.FILE)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@options.max_pixels
def command(source: Path, as_json: bool, max_pixels: int) -> None:
    """Read the header and list it."""
    found = fileinfo.info(source, limits=options.limits(max_pixels))
    if as_json:
        click.echo(json.dumps({"file": str(source), **dataclasses.asdict(found)}, indent=2))
        return
    lines = {
        "file": source,
        "size": f"{found.width} x {found.height}",
        "mode": f"{found.mode}, {found.bit_depth} bits a sample",
        "bytes": f"{found.bytes} ({found.bpp:.3f} bpp)",
        "quality": f"{found.quality:g}",
        "effort": found.effort,
        "model": found.model_id,
        "precision": found.precision,
        "chunks": f"{found.chunks} of up to {found.chunk_side} x {found.chunk_side}",
    }
    if found.alpha_bytes is not None:
        lines["alpha"] = f"{found.alpha_bytes} bytes"
    if found.orientation != 1:
        lines["orientation"] = found.orientation
    if not found.complete:
        lines["complete"] = "no: the file ends early"
    for key, value in lines.items():
        click.echo(f"{key + ':':<12} {value}")
