"""`aecodec compress`."""

from __future__ import annotations

from typing import Any

import click

from aecodec import api
from aecodec.cli import many, options
from aecodec.layout import MAX_ERROR

HELP = """Code image files as .aec files.

INPUT is any image that Pillow reads, in colour or gray, with or without alpha, with 8 or 16 bits a
sample. OUTPUT is INPUT with the ending .aec if not given. It appears whole or not at all. - is
standard input or output.

With --out, INPUTs are files, folders, patterns ('**' stands for any folders) and URLs (s3://...).
The tree below a folder is kept. A file that fails does not stop the others; it is named at the
end, and the exit code is 8.

\b
Examples:
  aecodec compress photo.png photo.aec --quality 60
  aecodec compress photo.png photo.aec --target-size 50kB
  aecodec compress photos --recursive --out coded --jobs 4 --skip-existing
  aecodec compress 'photos/**/*.jpg' --out coded --json
  aecodec compress - - <photo.png >photo.aec
  aecodec compress photo.png photo.aec --preview
  aecodec compress depth.png depth.aec --model depth --max-error 5
"""


@click.command(help=HELP)
@many.arguments
@click.option(
    "-q",
    "--quality",
    type=options.FloatRange(1, 100),
    help="Small to close to the original.  [default: 75]",
)
@click.option(
    "--target-size",
    callback=options.size,
    metavar="SIZE",
    help="Size of the file, met from below to 1 %: 50kB, 2MB.",
)
@click.option("--target-bpp", type=float, metavar="BPP", help="The same in bits per pixel.")
@click.option("--target-psnr", type=float, metavar="DB", help="PSNR, met from above to 0.05 dB.")
@click.option(
    "-e",
    "--effort",
    type=click.IntRange(0, 9),
    default=0,
    show_default=True,
    help="Time spent on a smaller file of equal PSNR.",
)
@click.option("--preview", is_flag=True, help="Store a small picture, too, one eighth of the size.")
@click.option(
    "--alpha-quality",
    type=options.FloatRange(1, 100),
    help="1 (opaque or transparent) to 100 (alpha without loss).  [default: 100]",
)
@click.option(
    "--max-error",
    type=click.IntRange(0, MAX_ERROR),
    metavar="MM",
    help="Depth maps: no reading is off by more; 0 is lossless.",
)
@options.strip
@options.model(api.DEFAULT_MODEL, "Installed model, or a weights file.  [default: photo]")
@options.machine
def command(max_pixels: int, **given: Any) -> int:
    """Code the files and say what came of them; gives the exit code."""
    return many.run("compress", {**given, "limits": options.limits(max_pixels)})
