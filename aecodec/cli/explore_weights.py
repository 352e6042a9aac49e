"""`aecodec explore weights`."""

from __future__ import annotations

from pathlib import Path

import click

from aecodec.cli import explore_options as shared

HELP = """Draw how many parameters each layer has and how they are distributed.

Networks of many layers are drawn part by part; the JSON has every layer, with a histogram.

\b
Example:
  aecodec explore weights photo --out weights.svg
"""


@click.command(help=HELP)
@shared.model
@shared.picture
def command(model: str, out: Path, force: bool, as_json: bool, quiet: bool) -> None:
    """Count and draw."""
    from aecodec import explore

    shared.prepare(out, force, model)
    found = explore.weights(shared.load_model(model, "cpu"))
    shared.say(f"{found.model}: {found.count:,} parameters in {len(found.layers)} layers")
    shared.finish(found, out, force, as_json)
