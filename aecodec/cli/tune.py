"""`aecodec tune`."""

from __future__ import annotations

from pathlib import Path

import click

from aecodec.cli import options

HELP = """Search for the best values of a training config, with Optuna.

The section [tune] of CONFIG says what to try, by dotted keys:

\b
  [tune]
  learning_rate = {low = 1e-4, high = 1e-2, log = true}
  "model.latent_dim" = {low = 16, high = 256, step = 16}
  optimiser = {choices = ["adamw", "muon"]}

Each trial is a training run in --out; poor ones end early. --out gets `best.toml`, a config for
`aecodec train`, `trials.json` and plots. The same command goes on with a search that was stopped,
and several processes may search in one folder at a time.

\b
Examples:
  aecodec tune signs.toml --data SIGNS --out search --trials 50
  aecodec tune signs.toml --data SIGNS --out search --timeout 120 --metric psnr
  aecodec train search/best.toml --data SIGNS --out runs/best
"""


@click.command(help=HELP)
@click.argument("config", type=options.FILE)
@click.option("--data", required=True, type=options.FILE, help="Folder of training images.")
@click.option("-o", "--out", required=True, type=options.FILE, help="Folder of the search.")
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    metavar="N",
    help="How many there are in the end, over all processes and sessions.",
)
@click.option(
    "--timeout",
    type=options.FloatRange(min=0, min_open=True),
    metavar="MINUTES",
    help="Begin no other trial after so long.",
)
@click.option(
    "--metric",
    default="loss",
    show_default=True,
    metavar="NAME",
    help="What is optimised, of what validations measure, such as psnr.",
)
@click.option(
    "--pruner",
    type=click.Choice(["median", "hyperband", "none"]),
    default="median",
    show_default=True,
    help="What ends poor trials early.",
)
@click.option(
    "--seed", type=options.SEED, metavar="N", help="Of the search.  [default: another each time]"
)
@options.device
@options.threads
def command(
    config: Path,
    data: Path,
    out: Path,
    trials: int,
    timeout: float | None,
    metric: str,
    pruner: str,
    seed: int | None,
    device: str,
    threads: int | None,
) -> None:
    """Search, and say what was found."""
    import torch

    from aecodec.tune import tune

    if threads is not None:
        torch.set_num_threads(threads)
    found = tune(
        config,
        data,
        out,
        trials=trials,
        timeout=timeout,
        metric=metric,
        pruner=pruner,
        seed=seed,
        device=device,
    )
    click.echo(
        f"{out}: {found.completed} trials completed, {found.pruned} pruned, {found.failed} failed",
        err=True,
    )
    if found.best_trial is None:
        return
    click.echo(f"{out / 'best.toml'}: {metric} {found.best_value:.6g}, trial {found.best_trial}")
    for key, value in found.best_values.items():
        click.echo(f"  {key} = {value}")
