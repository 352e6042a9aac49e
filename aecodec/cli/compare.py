"""`aecodec compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from aecodec.cli import options
from aecodec.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aecodec.measure.compare import Picture
    from aecodec.measure.peers import Peer

HELP = """Show images beside aecodec and other codecs at the same size, in an HTML page.

Each image is coded with aecodec at every QUALITY, and with the other codecs at the quality whose
file is the largest that is not above aecodec's. The page shows any two of them on both sides of a
divider, zooms, and has the numbers: bytes, bits per pixel, PSNR, MS-SSIM. It is one file that needs
no network; the pictures in it are lossless, so it takes about 1 MB a megapixel and version.

\b
Example:
  aecodec compare photo.png --out report.html
  aecodec compare *.png --out report.html -q 15 -q 40 --codecs jpeg,avif-s4
"""


@click.command(help=HELP)
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=options.FILE)
@click.option("-o", "--out", required=True, type=options.FILE, help="The HTML file to write.")
@click.option(
    "-q",
    "--quality",
    "qualities",
    multiple=True,
    default=(30.0,),
    type=options.FloatRange(1, 100),
    help="Quality of aecodec; may be repeated.  [default: 30]",
)
@click.option(
    "--codecs",
    default="jpeg,webp,avif-s6",
    show_default=True,
    metavar="NAME,...",
    help="The others: jpeg, webp, avif-s4, avif-s6, jxl.",
)
@options.model(None, "The aecodec model: a name or a weights file.  [default: photo]")
@options.force
@options.quiet
def command(
    images: tuple[Path, ...],
    out: Path,
    qualities: tuple[float, ...],
    codecs: str,
    model: str | None,
    force: bool,
    quiet: bool,
) -> None:
    """Compare every image and write the page."""
    from aecodec.measure.compare_page import page
    from aecodec.measure.peers import OWN, make_peers
    from aecodec.output import check_output, write_text

    for image in images:
        check_output(out, overwrite=force, source=image)
    names = options.codec_names(codecs)
    if OWN in names:
        raise InputError(f"--codecs names the others; {OWN} is always there")
    own, *peers = make_peers([OWN, *names], model=model)
    pictures = _compare(images, own, peers, sorted(set(qualities)), quiet)
    described = [f"{peer.label}: {peer.describe()}" for peer in (own, *peers)]
    html = page(pictures, codecs=described)
    write_text(out, html, overwrite=force)
    if not quiet:
        click.echo(f"{out}: {options.human(out.stat().st_size)}", err=True)


def _compare(
    paths: Sequence[Path],
    own: Peer,
    peers: Sequence[Peer],
    qualities: Sequence[float],
    quiet: bool,
) -> list[Picture]:
    """Run it all under a progress bar (on stderr)."""
    from tqdm import tqdm

    from aecodec.measure.compare import Picture, compare
    from aecodec.measure.runner import load_image

    pictures = []
    total = len(paths) * len(qualities)
    with tqdm(total=total, unit="comparison", disable=True if quiet else None) as bar:
        for path in paths:
            image = load_image(path)
            done = []
            for quality in qualities:
                bar.set_postfix_str(path.name)
                done.append(compare(image, str(path), own, peers, quality))
                bar.update()
            pictures.append(Picture(path.name, path.stat().st_size, image, done))
    return pictures
