"""What one dimension of the latents does: moved alone, in units of its standard deviation."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aecodec.errors import InputError, ModelMismatchError
from aecodec.explore.figures import row_label, show
from aecodec.explore.latents import Latents
from aecodec.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from aecodec.model.families import LatentModel

log = logging.getLogger("aecodec")


@dataclass(frozen=True)
class Traversal:
    """A strip of images for each dimension.

    Attributes:
        model: name of the model.
        start: where it starts: the name of an image, or "mean latent".
        unit: what the standard deviations were taken over, in words.
        dimensions: (K,) which were moved.
        deviations: (K,) their standard deviations, in latent units.
        offsets: (steps,) in standard deviations, from −extent to +extent.
        strips: (K, steps, C, H, W) float32 in [-0.5, 0.5].
        change: (K, steps) root mean square difference to the start's image, pixel range 1.
    """

    model: str
    start: str
    unit: str
    dimensions: tuple[int, ...]
    deviations: NDArray[np.float64]
    offsets: NDArray[np.float64]
    strips: NDArray[np.float32]
    change: NDArray[np.float64]

    def draw(self) -> Figure:
        """A row a dimension."""
        rows, columns = self.strips.shape[:2]
        side = 1.25
        tall = side * self.strips.shape[3] / self.strips.shape[4] + 0.12
        title = f"One dimension at a time: {self.model}, from {self.start}; σ over {self.unit}"
        figure = new_figure(1.4 + side * columns, 0.9 + tall * rows, title)
        panels = figure.subplots(rows, columns, squeeze=False)
        for i, row in enumerate(panels):
            for j, axes in enumerate(row):
                show(axes, self.strips[i, j], f"{self.offsets[j]:+.1f} σ" if i == 0 else "")
            row_label(row[0], f"dim {self.dimensions[i]}\nσ = {self.deviations[i]:.3g}")
        return figure

    def numbers(self) -> dict[str, Any]:
        """Dimensions, deviations, offsets, and how much every step changes the image."""
        return {
            "model": self.model,
            "start": self.start,
            "deviations_over": self.unit,
            "offsets": self.offsets,
            "dimensions": [
                {"dimension": d, "deviation": s, "change_rmse": change}
                for d, s, change in zip(self.dimensions, self.deviations, self.change, strict=True)
            ],
        }


def traverse(
    model: LatentModel,
    image: Path | None = None,
    *,
    latents: Latents | None = None,
    dimensions: Sequence[int] | None = None,
    count: int = 8,
    steps: int = 7,
    extent: float = 3.0,
) -> Traversal:
    """Move one dimension at a time and decode.

    Args:
        model: from `aecodec.model.families.load_model`.
        image: where to start; None for the mean of `latents`, or zero for a variational
            model without any. A hyperprior needs one.
        latents: of many images of this model: their standard deviations are the units.
            Without, a variational model takes those of its prior, 1; a hyperprior those
            over the positions of `image`.
        dimensions: which to move; None for the `count` with the largest deviations.
        count: how many, if they are not named.
        steps: images a dimension, at least 2.
        extent: how far to go each way, in standard deviations, above 0.

    Returns:
        The strips. Of a hyperprior a dimension is a channel, moved at all positions.

    Raises:
        InputError: no deviations are known, nowhere to start, a dimension that does not
            exist, or a number out of range.
        ModelMismatchError: `latents` are those of another model.
        ModelError: the model has skips.
    """
    import torch

    if steps < 2 or extent <= 0 or count < 1:
        raise InputError("a traversal needs at least 2 steps and 1 dimension, and extent above 0")
    start, where = _start(model, image, latents)
    deviations, unit = _deviations(model, start, latents)
    chosen = _choose(deviations, dimensions, count)
    offsets = np.linspace(-extent, extent, steps)
    origin = model.decode_latent(start).float().cpu().numpy()
    strips = []
    for d in chosen:
        moved = start.repeat(steps, *[1] * (start.ndim - 1))
        shift = torch.from_numpy(offsets * deviations[d]).to(moved)
        moved[:, d] += shift.reshape(-1, *[1] * (start.ndim - 2))
        decoded = torch.cat([model.decode_latent(z[None]) for z in moved])
        strips.append(decoded.float().cpu().numpy())
    found = np.stack(strips)
    change = np.sqrt(np.mean((found - origin[None]).astype(np.float64) ** 2, axis=(2, 3, 4)))
    return Traversal(
        model.info.name, where, unit, chosen, deviations[list(chosen)], offsets, found, change
    )


def _start(model: LatentModel, image: Path | None, latents: Latents | None) -> tuple[Tensor, str]:
    """Latents to start from, (1, D) or (1, C, h, w), and what they are."""
    import torch

    from aecodec.explore.images import load_image

    if image is not None:
        return model.encode_image(load_image(model, image)[0]).float(), image.name
    if model.image_shape is None:
        raise InputError(f"{model.info.name}: takes images of any size: give one to start from")
    if latents is not None:
        return torch.from_numpy(latents.vectors.mean(axis=0, keepdims=True)), "the mean latent"
    dimensions = int(getattr(model.config, "latent_dim", 0))
    return torch.zeros(1, dimensions), "zero"


def _deviations(
    model: LatentModel, start: Tensor, latents: Latents | None
) -> tuple[NDArray[np.float64], str]:
    if latents is not None:
        _check(model, latents, start.shape[1])
        if len(latents) < 2:
            raise InputError(f"{latents.model}: standard deviations need at least 2 images")
        return latents.vectors.astype(np.float64).std(axis=0), f"{len(latents)} images"
    if start.ndim == 4:
        return start[0].double().std(dim=(1, 2), correction=0).cpu().numpy(), "its positions"
    if getattr(model.config, "variational", False):
        return np.ones(start.shape[1]), "the prior"
    raise InputError(
        f"{model.info.name}: is not variational, so that only latents of many images tell the "
        "standard deviations: give some (see `aecodec explore latents`)"
    )


def _check(model: LatentModel, latents: Latents, dimensions: int) -> None:
    mine = getattr(model.config, "latent_dim", dimensions)
    other = latents.model_id and model.info.id and latents.model_id != model.info.id
    if latents.vectors.shape[1] != mine or other:
        raise ModelMismatchError(
            f"the latents are those of {latents.model} ({latents.vectors.shape[1]} dimensions), "
            f"not of {model.info.name} ({mine})"
        )
    if not (latents.model_id and model.info.id) and latents.model != model.info.name:
        # checkpoints have no identity
        log.warning("the latents are those of %s, not of %s?", latents.model, model.info.name)


def _choose(
    deviations: NDArray[np.float64], wanted: Sequence[int] | None, count: int
) -> tuple[int, ...]:
    if wanted is None:
        order = np.argsort(-deviations, kind="stable")
        return tuple(int(d) for d in order[:count])
    for d in wanted:
        if not 0 <= d < len(deviations):
            raise InputError(f"dimension {d} does not exist: there are 0 to {len(deviations) - 1}")
    if not wanted:
        raise InputError("no dimension to move")
    return tuple(wanted)
