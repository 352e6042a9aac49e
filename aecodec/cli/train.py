"""`aecodec train`."""

from __future__ import annotations

from pathlib import Path

import click

from aecodec.cli import options

HELP = """Train a model on a folder of images, from a TOML config.

\b
Examples:
  aecodec train configs/photo.toml --data PHOTOS --out runs/photo --minutes 120
  aecodec train configs/photo.toml --data PHOTOS --out runs/photo --resume
  aecodec train configs/photo.toml --data PHOTOS --out runs/more --init weights/photo.safetensors
  aecodec export runs/photo --data PHOTOS --out my.safetensors

Ctrl-C saves `last.safetensors` and ends; `--resume` goes on from there. Metrics of the
held-out images are in `metrics.jsonl`, TensorBoard files in `tensorboard/`.
"""


@click.command(help=HELP)
@click.argument("config", type=options.FILE)
@click.option("--data", required=True, type=options.FILE, help="Folder of training images.")
@click.option("--out", required=True, type=options.FILE, help="Run folder to write.")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="Length of the schedule, annealed to the end.  [default: the config's steps]",
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
    config: Path,
    data: Path,
    out: Path,
    minutes: float | None,
    resume: bool,
    init: Path | None,
    device: str,
    threads: int | None,
) -> None:
    """Train, and say where the result lies."""
    import torch

    from aecodec.errors import TrainingError
    from aecodec.train.config import TrainConfig
    from aecodec.train.loop import Trainer

    last = out / "last.safetensors"
    if last.exists() and not resume:
        raise TrainingError(f"{last} exists: use --resume, or another folder")
    if resume and init is not None:
        raise click.UsageError("--resume goes on from a checkpoint; it takes no --init")
    if threads is not None:
        torch.set_num_threads(threads)
    trainer = Trainer(TrainConfig.load(config), data, out, device=device, minutes=minutes)
    if resume:
        trainer.resume(last)
    else:
        trainer.start(init)
    trainer.fit()
    click.echo(f"{last}: {trainer.step} steps, {trainer.elapsed / 60:.1f} minutes", err=True)
