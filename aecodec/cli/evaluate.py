"""`aecodec evaluate`."""

from __future__ import annotations

from pathlib import Path

import click

from aecodec.cli import options
from aecodec.cli.explore_options import note_unseen

HELP = """Measure a model, or two side by side, on a folder of images.

MODEL is the name of an installed model, a model file, a checkpoint or a run folder. Every image
becomes a real .aec file at every quality, and comes back; run folders, checkpoints and models with
skips write no files and are measured by their reconstructions. --out gets `evaluation.json` (PSNR,
SSIM, MS-SSIM, MAE and RMSE in the units of the files, bits, bits per pixel, for each image and as
means), rate-distortion curves, histograms, and sheets of the worst, median and best images.

\b
Examples:
  aecodec evaluate photo PHOTOS --out report
  aecodec evaluate my.safetensors PHOTOS --out report -q 30 -q 60 --against photo
  aecodec evaluate runs/signs SIGNS --out report --test-files runs/signs/test_files.txt
"""


@click.command(help=HELP)
@click.argument("model", metavar="MODEL")
@click.argument("data", type=options.FILE)
@click.option("-o", "--out", required=True, type=options.FILE, help="Folder for the report.")
@click.option("--against", metavar="MODEL", help="Another model, on the same images.")
@click.option(
    "-q",
    "--quality",
    "qualities",
    multiple=True,
    type=options.FloatRange(1, 100),
    help="May be repeated.  [default: 10, 30, 50, 70, 90]",
)
@click.option(
    "--test-files",
    type=options.FILE,
    metavar="FILE",
    help="Take the images that a text file names, relative to DATA, as `test_files.txt` of a run.",
)
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="At most so many, evenly spread."
)
@options.device
@options.threads
@options.force
@options.quiet
def command(
    model: str,
    data: Path,
    out: Path,
    against: str | None,
    qualities: tuple[float, ...],
    test_files: Path | None,
    limit: int | None,
    device: str,
    threads: int | None,
    force: bool,
    quiet: bool,
) -> None:
    """Measure, write the report, show the means."""
    import torch
    from tqdm import tqdm

    from aecodec.measure import evaluate_report
    from aecodec.measure.evaluate import QUALITIES, evaluate
    from aecodec.measure.evaluate_summary import table

    evaluate_report.check(out, overwrite=force)
    if threads is not None:
        torch.set_num_threads(threads)
    if not quiet:
        note_unseen(model, test_files)
    with tqdm(unit="image", disable=True if quiet else None) as bar:

        def progress(done: int, expected: int) -> None:
            bar.total = expected
            bar.update(done - bar.n)

        found = evaluate(
            model,
            data,
            against=against,
            qualities=qualities or QUALITIES,
            test_files=test_files,
            limit=limit,
            device=device,
            progress=progress,
        )
    written = evaluate_report.write(found, out, overwrite=force)
    click.echo(table(found))
    if not quiet:
        for path in written:
            click.echo(path, err=True)
