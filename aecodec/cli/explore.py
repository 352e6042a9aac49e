"""`aecodec explore`: a group of commands, each in a module `aecodec.cli.explore_<name>`."""

from __future__ import annotations

import click

from aecodec.cli.main import LazyGroup

#: Name -> what the list of commands says.
COMMANDS = {
    "latents": "Encode the images of a folder to a table of latents.",
    "project": "Draw latents on a plane: PCA, t-SNE, UMAP; two models side by side.",
    "cluster": "Cluster latents with k-means and compare with the classes.",
    "interpolate": "Decode what lies between two images.",
    "sample": "Draw images from a model's prior or entropy model.",
    "traverse": "Move one dimension of the latents at a time.",
    "features": "Draw the feature maps of one image, layer by layer.",
    "weights": "Draw parameter counts and distributions, layer by layer.",
    "curves": "Draw the training curves of one or more runs.",
    "grid": "Code one image at several qualities; draw the compression curve.",
    "anomaly": "Rank images by reconstruction error and flag the worst.",
}

HELP = """Look into a model: its latents, its layers, its training.

A MODEL is the name of an installed one, a weights file, a checkpoint or a run folder. Each command
writes a picture, .png or .svg as --out says, and beside it a .json with the numbers behind
it. Needs the extra: pip install 'aecodec[explore]'.

\b
Examples:
  aecodec explore latents my.safetensors SIGNS --out signs.npz
  aecodec explore project signs.npz --method umap --out signs.png
  aecodec explore anomaly my.safetensors SIGNS --mad 4 --out odd.png
"""


class ExploreGroup(LazyGroup):
    """The group `aecodec explore`."""

    known = COMMANDS
    prefix = "aecodec.cli.explore_"


@click.group(cls=ExploreGroup, help=HELP)
def command() -> None:
    """The group has no options of its own."""
