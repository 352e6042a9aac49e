"""From one image to another through the latents, on a line and on a great circle."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aecodec.errors import InputError
from aecodec.explore.figures import row_label, show
from aecodec.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from aecodec.model.families import LatentModel

MODES = ("linear", "spherical", "both")


@dataclass(frozen=True)
class Interpolation:
    """Images between A and B.

    Attributes:
        model: name of the model.
        names: of A and B.
        ends: A and B as they went in, (2, C, H, W) in [-0.5, 0.5].
        t: (steps,) from 0 to 1.
        strips: "linear" and "spherical", (steps, C, H, W) in [-0.5, 0.5] each.
        norms: for each strip, (steps,) Euclidean lengths of the latents.
        angle: between the latents of A and B as seen from zero, in radians.
        distance: between the latents of A and B.
    """

    model: str
    names: tuple[str, str]
    ends: NDArray[np.float32]
    t: NDArray[np.float64]
    strips: dict[str, NDArray[np.float32]]
    norms: dict[str, NDArray[np.float64]]
    angle: float
    distance: float

    def draw(self) -> Figure:
        """A row for each kind of path, between A and B themselves."""
        rows, columns = len(self.strips), len(self.t) + 2
        side = 1.25
        tall = side * self.ends.shape[2] / self.ends.shape[3] + 0.25
        title = f"{self.names[0]} → {self.names[1]} through the latents of {self.model}"
        figure = new_figure(0.9 + side * columns, 0.6 + tall * rows, title)
        panels = figure.subplots(rows, columns, squeeze=False)
        for row, (mode, strip) in zip(panels, self.strips.items(), strict=True):
            show(row[0], self.ends[0], "A")
            row_label(row[0], mode)
            for axes, t, x in zip(row[1:-1], self.t, strip, strict=True):
                show(axes, x, f"t = {t:.2f}")
            show(row[-1], self.ends[1], "B")
        return figure

    def numbers(self) -> dict[str, Any]:
        """Angle, distance, and for each frame the length of its latents and its step.

        `step_rmse` is the root mean square difference of a frame to the one before it,
        where the range of pixels is 1.
        """
        frames = {}
        for mode, strip in self.strips.items():
            steps = np.sqrt(np.mean(np.diff(strip, axis=0) ** 2, axis=(1, 2, 3)))
            frames[mode] = {"latent_norm": self.norms[mode], "step_rmse": [0.0, *steps.tolist()]}
        return {
            "model": self.model,
            "a": self.names[0],
            "b": self.names[1],
            "t": self.t,
            "angle_radians": self.angle,
            "distance": self.distance,
            "frames": frames,
        }


def interpolate(
    model: LatentModel, a: Path, b: Path, *, steps: int = 8, mode: str = "both"
) -> Interpolation:
    """Decode the latents between those of two images.

    Args:
        model: from `aecodec.model.families.load_model`.
        a, b: image files. For a hyperprior both are cropped to one size.
        steps: frames, both ends included, at least 2.
        mode: "linear"; "spherical", which keeps to lengths between those of the ends
            (slerp, Shoemake 1985); or "both".

    Raises:
        InputError: an image cannot be read, fewer than 2 steps, or an unknown mode.
        ModelError: the model has skips.
    """
    import torch

    from aecodec.explore.images import load_pair

    if steps < 2:
        raise InputError(f"{steps} steps are too few: A and B alone are 2")
    if mode not in MODES:
        raise InputError(f"unknown mode '{mode}'; there are {', '.join(MODES)}")
    pair = load_pair(model, a, b)
    first, last = (model.encode_image(x).float() for x in pair)
    t = np.linspace(0, 1, steps)
    strips, norms = {}, {}
    for name in MODES[:2] if mode == "both" else (mode,):
        mix = _linear if name == "linear" else slerp
        between = torch.cat([mix(first, last, float(s)) for s in t])
        decoded = torch.cat([model.decode_latent(z[None]) for z in between])
        strips[name] = decoded.float().cpu().numpy()
        norms[name] = between.flatten(1).norm(dim=1).double().cpu().numpy()
    return Interpolation(
        model.info.name,
        (a.name, b.name) if a.name != b.name else (_with_folder(a), _with_folder(b)),
        torch.cat(pair).cpu().numpy(),
        t,
        strips,
        norms,
        _angle(first, last),
        float((last - first).norm()),
    )


def _with_folder(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _linear(a: Tensor, b: Tensor, t: float) -> Tensor:
    return a + (b - a) * t


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Spherical interpolation of two tensors seen as vectors; linear if they are parallel.

    Args:
        a, b: of one shape.
        t: 0 gives a, 1 gives b.
    """
    omega = _angle(a, b)
    if math.sin(omega) < 1e-4:
        return _linear(a, b, t)
    share_a, share_b = math.sin((1 - t) * omega), math.sin(t * omega)
    return (share_a * a + share_b * b) / math.sin(omega)


def _angle(a: Tensor, b: Tensor) -> float:
    """Between two tensors seen as vectors, 0 to π; 0 if one is zero."""
    x, y = a.double().flatten(), b.double().flatten()
    lengths = float(x.norm() * y.norm())
    return math.acos(max(-1.0, min(1.0, float(x @ y) / lengths))) if lengths else 0.0
