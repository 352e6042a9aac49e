"""Images that a model makes up, from its prior or its entropy model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aecodec.errors import InputError
from aecodec.explore.figures import show
from aecodec.figures import new_figure
from aecodec.model.config import FAMILY as HYPERPRIOR

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from aecodec.model.families import LatentModel


@dataclass(frozen=True)
class Drawn:
    """Images of latents drawn at random.

    Attributes:
        model: name of the model.
        source: what the latents were drawn from, in words.
        seed: what decided them.
        images: (N, C, H, W) float32 in [-0.5, 0.5].
    """

    model: str
    source: str
    seed: int
    images: NDArray[np.float32]

    def draw(self) -> Figure:
        """All images as a sheet."""
        count = len(self.images)
        columns = math.ceil(math.sqrt(count))
        rows = math.ceil(count / columns)
        side = 1.5 if self.images.shape[3] <= 128 else 2.2
        tall = side * self.images.shape[2] / self.images.shape[3]
        title = f"{count} samples of {self.model}, drawn from its {self.source} (seed {self.seed})"
        figure = new_figure(max(4.5, side * columns + 0.2), tall * rows + 0.8, title)
        panels = figure.subplots(rows, columns, squeeze=False).reshape(-1)
        for axes in panels[count:]:
            axes.set_axis_off()
        for axes, x in zip(panels, self.images, strict=False):
            show(axes, x)
        return figure

    def numbers(self) -> dict[str, Any]:
        """Mean and standard deviation of the pixels of each image, pixel range 0 to 1."""
        return {
            "model": self.model,
            "source": self.source,
            "seed": self.seed,
            "shape": list(self.images.shape[1:]),
            "mean": self.images.mean(axis=(1, 2, 3)) + 0.5,
            "deviation": self.images.std(axis=(1, 2, 3)),
        }


def sample(model: LatentModel, count: int = 16, *, seed: int = 0) -> Drawn:
    """Draw latents at random and decode them.

    A variational model draws from its standard normal prior, another bottleneck from a
    Gaussian fitted to the latents of its training images, a hyperprior from the frequency
    tables that it codes files with: those images look like texture, since every position
    knows only its neighbourhood.

    Args:
        model: from `aecodec.model.families.load_model`.
        count: number of images, 1 to 400.
        seed: decides what is drawn.

    Raises:
        InputError: the count is out of range.
        ModelError: the model does not say how its latents are distributed.
    """
    if not 1 <= count <= 400:
        raise InputError(f"{count} samples are out of range: 1 to 400")
    if model.family == HYPERPRIOR:
        source = "entropy model"
    elif getattr(model.config, "variational", False):
        source = "standard normal prior"
    else:
        source = "fitted Gaussian"
    parts = model.sample(count, seed).float().cpu().numpy()
    return Drawn(model.info.name, source, seed, parts)
