"""Looking into a model: its latents, what they mean, its layers, its curves.

Each function gives a result that draws itself and has its numbers; `write` makes a picture of
it, PNG or SVG, with a JSON beside it:

    from pathlib import Path

    from aecodec import explore
    from aecodec.model.families import load_model

    model = load_model("my.safetensors")
    table = explore.latents(model, Path("signs"))
    explore.write(explore.project(table, "umap"), Path("signs.png"))

Drawing, projections and clusters need the extra `aecodec[explore]`.
"""

from aecodec.explore.anomaly import anomaly
from aecodec.explore.cluster import cluster
from aecodec.explore.curves import curves
from aecodec.explore.features import features
from aecodec.explore.figures import write
from aecodec.explore.grid import grid
from aecodec.explore.interpolate import interpolate
from aecodec.explore.latents import Latents, latents
from aecodec.explore.project import project
from aecodec.explore.sample import sample
from aecodec.explore.traverse import traverse
from aecodec.explore.weights import weights

# The functions take the place of the modules of the same names in this package; a module's
# other names are imported from it: `from aecodec.explore.project import Projection`.
__all__ = [
    "Latents",
    "anomaly",
    "cluster",
    "curves",
    "features",
    "grid",
    "interpolate",
    "latents",
    "project",
    "sample",
    "traverse",
    "weights",
    "write",
]
