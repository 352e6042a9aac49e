"""`aecodec info`."""

from __future__ import annotations

import dataclasses
import json

import click

from aecodec import fileinfo, storage
from aecodec.cli import options
from aecodec.cli.main import error_fields, exit_code, report
from aecodec.errors import AecError
from aecodec.fileinfo import FileInfo

HELP = """Show what .aec files say about themselves. Nothing is decoded.

Every file is looked at; the exit code is that of the first one that fails.

\b
Examples:
  aecodec info photo.aec
  aecodec info --json *.aec
  aecodec info - <photo.aec
"""


@click.command(help=HELP)
@click.argument("sources", metavar="FILE...", nargs=-1, required=True, type=options.NAME)
@options.as_json
@options.max_pixels
def command(sources: tuple[str, ...], as_json: bool, max_pixels: int) -> int:
    """Read the headers and list them; gives the exit code."""
    code = 0
    for number, source in enumerate(sources):
        try:
            with storage.local_input(storage.plain(source)) as path:
                found = fileinfo.info(path, limits=options.limits(max_pixels))
        except AecError as error:
            report(error)
            code = code or exit_code(error)
            if as_json:
                click.echo(json.dumps({"path": source, **error_fields(error)}))
            continue
        if as_json:
            click.echo(json.dumps({"path": source, **dataclasses.asdict(found)}))
        else:
            click.echo("\n" * (number > 0) + _text(source, found))
    return code


def _text(source: str, found: FileInfo) -> str:
    """One file, for people."""
    lines = {
        "file": source,
        "size": f"{found.width} x {found.height}",
        "mode": f"{found.mode}, {found.bit_depth} bits a sample",
        "bytes": f"{options.human(found.bytes)} ({found.bytes} bytes, {found.bpp:.3f} bpp)",
        "quality": f"{found.quality:g}" + f", softness {found.softness}" * bool(found.softness),
        "effort": found.effort,
        "model": found.model_id,
        "precision": found.precision,
        "chunks": f"{found.chunks} of up to {found.chunk_side} x {found.chunk_side}",
    }
    if found.alpha_bytes is not None:
        lines["alpha"] = f"{found.alpha_bytes} bytes"
    if found.depth_bytes is not None:
        lines["depth"] = f"{found.depth_bytes} bytes for holes and errors"
    if found.orientation != 1:
        lines["orientation"] = found.orientation
    if not found.complete:
        lines["complete"] = "no: the file ends early"
    return "\n".join(f"{key + ':':<12} {value}" for key, value in lines.items())
