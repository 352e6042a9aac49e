"""Windows with halos: what part of the picture or of the latents a chunk needs.

Transforms run over windows that reach past their chunk by at least the receptive field,
so that chunks meet without seams and memory is bounded by the window.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .layout import STRIDE, Header, Rect


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


def whole(header: Header) -> Rect:
    """All pixels of a picture."""
    return Rect(0, 0, header.width, header.height)


def inside(region: tuple[int, int, int, int], header: Header) -> Rect:
    """(x, y, width, height) as a rectangle of the picture's pixels.

    Raises:
        InputError: it is empty, or not inside the picture.
    """
    x, y, width, height = region
    rect = Rect(x, y, x + width, y + height)
    if width < 1 or height < 1 or overlap(rect, whole(header)) != rect:
        raise InputError(
            f"region {x},{y},{width},{height} does not lie within "
            f"{header.width} x {header.height} pixels"
        )
    return rect


def overlap(a: Rect, b: Rect) -> Rect | None:
    """What two rectangles share, None if nothing."""
    rect = Rect(
        max(a.left, b.left), max(a.top, b.top), min(a.right, b.right), min(a.bottom, b.bottom)
    )
    return rect if rect.left < rect.right and rect.top < rect.bottom else None


def bounds(rects: Iterable[Rect]) -> Rect:
    """The smallest rectangle around some rectangles, of which there is at least one."""
    lefts, tops, rights, bottoms = zip(*rects, strict=True)
    return Rect(min(lefts), min(tops), max(rights), max(bottoms))


def paste(
    image: NDArray[np.uint8],
    shown: Rect,
    pixels: NDArray[np.uint8],
    origin: Rect,
    rect: Rect,
) -> None:
    """Copy a chunk into the picture.

    Args:
        image: (h, w, 3), the pixels of `shown`.
        shown: what part of the picture `image` is.
        pixels: the chunk's window; its first pixel lies at `origin.left`, `origin.top`.
        rect: the chunk's own pixels.
    """
    part = overlap(rect, shown)
    if part is not None:
        _view(image, part, shown)[...] = _view(pixels, part, origin)


def paint(image: NDArray[np.uint8], shown: Rect, rect: Rect, value: int) -> None:
    """Fill a chunk of the picture with one value; arguments as for `paste`."""
    part = overlap(rect, shown)
    if part is not None:
        _view(image, part, shown)[...] = value


def _view(pixels: NDArray[np.uint8], part: Rect, origin: Rect) -> NDArray[np.uint8]:
    rows = slice(part.top - origin.top, part.bottom - origin.top)
    return pixels[rows, part.left - origin.left : part.right - origin.left]
