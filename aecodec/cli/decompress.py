"""`aecodec decompress`."""

from __future__ import annotations

from typing import Any

import click

from aecodec.cli import many, options

HELP = """Decode .aec files to image files.

The ending of OUTPUT chooses the format: png, webp (lossless), tif, bmp, ppm, or jpg (quality 95).
OUTPUT is INPUT with the ending .png if not given. It appears whole or not at all. - is standard
input or output.

With --out, INPUTs are files, folders, patterns ('**' stands for any folders) and URLs (s3://...).
The tree below a folder is kept. A file that fails does not stop the others; it is named at the
end, and the exit code is 8.

\b
Examples:
  aecodec decompress photo.aec photo.png
  aecodec decompress photo.aec part.png --region 200,100,320,240
  aecodec decompress coded --recursive --out photos --format webp --jobs 4
  aecodec decompress - - --format ppm <photo.aec | display
  aecodec decompress photo.aec small.png --preview
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
@many.arguments
@click.option(
    "--format",
    "ending",
    metavar="ENDING",
    shell_complete=options.complete_format,
    help="Format of outputs that are not named.  [default: png]",
)
@click.option("--region", callback=_region, metavar="X,Y,W,H", help="Only that part, in pixels.")
@click.option("--preview", is_flag=True, help="The whole picture at one eighth of its size.")
@click.option("--best-effort", is_flag=True, help="Decode what is left of damaged files.")
@options.strip
@options.model(None, "Installed model, or a weights file.  [default: the one the file names]")
@options.machine
def command(ending: str | None, best_effort: bool, max_pixels: int, **given: Any) -> int:
    """Decode the files and say what came of them; gives the exit code."""
    given["limits"] = options.limits(max_pixels)
    if ending is not None and given["out"] is None and given["names"][1:] not in ((), ("-",)):
        raise click.UsageError("--format is for outputs without a name; OUTPUT has one")
    ending = f".{(ending or 'png').lower().lstrip('.')}"
    if given["preview"] and given["region"] is not None:
        raise click.UsageError("--preview shows the whole picture, not a --region")
    if not best_effort:
        return many.run("decompress", given, ending=ending)
    if given.pop("region") is not None or given.pop("preview"):
        raise click.UsageError("--best-effort decodes the whole picture, at its own size")
    return many.run("rescue", given, ending=ending)
