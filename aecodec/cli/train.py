"""`aecodec train`."""

from __future__ import annotations

from pathlib import Path

import click

from aecodec.cli import options
from aecodec.cli.main import EXIT_INTERRUPTED

HELP = """Train a model on a folder of images, from a TOML config.

\b
Examples:
  aecodec train configs/photo.toml --data PHOTOS --out runs/photo --minutes 120
  aecodec train --resume runs/photo
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
@click.option("--out", type=options.FILE, help="Run folder to write.")
@click.option(
    "--minutes",
    type=options.FloatRange(min=0, min_open=True),
    help="Length of the schedule, annealed to the end.  [default: the config's minutes or steps]",
)
@click.option(
    "--resume",
    type=options.FILE,
    metavar="RUN",
    help="Go on from the last checkpoint of this run folder.",
)
@click.option(
    "--init",
    type=options.FILE,
    metavar="FILE",
    help="Start from the weights of a release, a checkpoint or another run folder.",
)
@options.device
@options.threads
def command(
    config: Path | None,
    data: Path | None,
    out: Path | None,
    minutes: float | None,
    resume: Path | None,
    init: Path | None,
    device: str,
    threads: int | None,
) -> int:
    """Train, and say where the result lies; gives the exit code."""
    folder = resume or out
    if folder is None or (resume is None and (config is None or data is None)):
        raise click.UsageError("a new run needs CONFIG, --data and --out; --resume RUN goes on")
    if resume is not None and (init is not None or out is not None):
        raise click.UsageError("--resume goes on with a run; it takes no --init and no --out")
    import torch

    from aecodec.train.distributed import rank_here
    from aecodec.train.run import train

    if threads is not None:
        torch.set_num_threads(threads)
    go_on = resume is not None
    result = train(config, data, folder, minutes=minutes, resume=go_on, init=init, device=device)
    code = 0 if result.finished else EXIT_INTERRUPTED
    if rank_here() > 0:
        return code
    best = ""
    if result.best_loss is not None:
        best = f", best validation loss {result.best_loss:.5g} at step {result.best_step}"
    click.echo(f"{folder}: {result.step} steps, {result.minutes:.1f} minutes{best}", err=True)
    return code
