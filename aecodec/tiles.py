"""Windows with halos: what part of the picture or of the latents a chunk needs.

Transforms run over windows that reach past their chunk by at least the receptive field,
so that chunks meet without seams and memory is bounded by the window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .layout import Rect

STRIDE = 16
"""Pixels per position of y, each way."""


@dataclass(frozen=True)
class Window:
    """A chunk and its surroundings, in positions of y.

    Attributes:
        core: the chunk's own positions, in the whole latent grid.
        outer: core and halo, clipped to the grid.
    """

    core: Rect
    outer: Rect

    @property
    def inner(self) -> tuple[slice, slice]:
        """Rows and columns of the core within the outer window."""
        top, left = self.core.top - self.outer.top, self.core.left - self.outer.left
        return (
            slice(top, top + self.core.bottom - self.core.top),
            slice(left, left + self.core.right - self.core.left),
        )


def latent_size(height: int, width: int) -> tuple[int, int]:
    """Size of the latent grid for a picture."""
    return -(-height // STRIDE), -(-width // STRIDE)


def window(rect: Rect, height: int, width: int, halo: int) -> Window:
    """The window of a chunk.

    Args:
        rect: the chunk, in pixels; left and top are multiples of 16.
        height, width: of the picture, in pixels.
        halo: in positions of y.
    """
    rows, cols = latent_size(height, width)
    core = Rect(
        rect.left // STRIDE, rect.top // STRIDE, -(-rect.right // STRIDE), -(-rect.bottom // STRIDE)
    )
    outer = Rect(
        max(core.left - halo, 0),
        max(core.top - halo, 0),
        min(core.right + halo, cols),
        min(core.bottom + halo, rows),
    )
    return Window(core, outer)


def cut_pixels(image: NDArray[np.uint8], outer: Rect) -> NDArray[np.uint8]:
    """Pixels (h, w, 3) of a latent window; past the picture's edge its last row or column."""
    top, left = outer.top * STRIDE, outer.left * STRIDE
    bottom, right = outer.bottom * STRIDE, outer.right * STRIDE
    part = image[top:bottom, left:right]
    missing = (bottom - top - part.shape[0], right - left - part.shape[1])
    if any(missing):
        part = np.pad(part, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
    return part
