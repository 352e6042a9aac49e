"""`aecodec train`."""

from __future__ import annotations

from pathlib import Path

import click

from aecodec.cli import options

HELP = """Train a model on a folder of images, from a TOML config.

\b
Examples:
  aecodec train configs/photo.toml --data PHOTOS --out runs/photo --minutes 120
  aecodec train --out runs/photo --resume
  aecodec train configs/photo.toml --data PHOTOS --out runs/more --init weights/photo.safetensors
  torchrun --nproc-per-node 2 -m aecodec train CONFIG --data DIR --out RUN --device cuda
  aecodec export runs/photo --data PHOTOS --out my.safetensors

Ctrl-C saves `last.safetensors` and ends; `--resume` goes on from there, with the run's own config
and images if no others are named. `best.safetensors` has the lowest validation loss. Metrics of
the validation images are in `metrics.jsonl`, TensorBoard files in `tensorboard/`, and images that
training never saw are listed in `test_files.txt`.
"""


@click.command(help=HELP)
@click.argument("config", type=options.FILE, required=False)
@click.option("--data", type=options.FILE, help="Folder of training images.")
@click.option("--out", required=True, type=options.FILE, help="Run folder to write.")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="Length of the schedule, annealed to the end.  [default: the config's minutes or steps]",
)
@click.option("--resume", is_flag=True, help="Go on from the run folder's last checkpoint.")
@click.option(
    "--init",
    type=options.FILE,
    metavar="FILE",
    help="Start from the weights of a release or a checkpoint.",
)
@click.option("--device", default="cpu", show_default=True, help="Where to compute: cuda.")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads.")
def command(
    config: Path | None,
    data: Path | None,
    out: Path,
    minutes: float | None,
    resume: bool,
    init: Path | None,
    device: str,
    threads: int | None,
) -> None:
    """Train, and say where the result lies."""
    if not resume and (config is None or data is None):
        raise click.UsageError("a new run needs CONFIG and --data; --resume goes on with one")
    if resume and init is not None:
        raise click.UsageError("--resume goes on from a checkpoint; it takes no --init")
    import torch

    from aecodec.train.distributed import rank_here
    from aecodec.train.run import train

    if threads is not None:
        torch.set_num_threads(threads)
    result = train(config, data, out, minutes=minutes, resume=resume, init=init, device=device)
    if rank_here() > 0:
        return
    best = ""
    if result.best_loss is not None:
        best = f", best validation loss {result.best_loss:.5g} at step {result.best_step}"
    click.echo(f"{out}: {result.step} steps, {result.minutes:.1f} minutes{best}", err=True)
