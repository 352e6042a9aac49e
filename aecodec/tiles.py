"""Windows with halos: what part of the picture or of the latents a chunk needs.

Transforms run over windows that reach past their chunk by at least the receptive field,
so that chunks meet without seams, and memory is bounded by the window.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from aecodec.errors import InputError, in_chunk
from aecodec.layout import STRIDE, AecFile, Header, Margins, Rect, chunk_grid, grid_shape
from aecodec.samples import Samples

_Plane = TypeVar("_Plane")

WINDOW = 1024
"""Largest side of a window without its halo, in pixels; larger chunks have several."""

DIVIDED = 512
"""Shortest long side of a chunk that `halves` divides: of less, halos would be too large a part."""

VECTOR = Rect(0, 0, 1, 1)
"""The grid of a latent vector: one position."""


@dataclass(frozen=True)
class Window:
    """A chunk, or a part of a large one, and its surroundings.

    Attributes:
        rect: its own pixels.
        core: its own positions of y, in the whole latent grid.
        outer: core and halo, clipped to the grid.
        seen: the pixels of `outer`, some of them past the picture's edge.
    """

    rect: Rect
    core: Rect
    outer: Rect
    seen: Rect

    @property
    def margins(self) -> Margins:
        """The halo, in positions of y."""
        return margins(self.core, self.outer)

    @property
    def shown(self) -> Rect:
        """The pixels of `core`, some of them past the picture's edge."""
        left, top, right, bottom = (STRIDE * m for m in self.margins)
        seen = self.seen
        return Rect(seen.left + left, seen.top + top, seen.right - right, seen.bottom - bottom)


def windows(chunk: Rect, header: Header, halo: int | None) -> list[Window]:
    """The windows of a chunk.

    Args:
        chunk: in pixels; left and top are multiples of 16.
        header: with the size of the picture.
        halo: in positions of y; None if the chunk is the picture and y a single vector.
    """
    if halo is None:
        return [Window(chunk, VECTOR, VECTOR, chunk)]
    found = []
    for top in range(chunk.top, chunk.bottom, WINDOW):
        for left in range(chunk.left, chunk.right, WINDOW):
            right, bottom = min(left + WINDOW, chunk.right), min(top + WINDOW, chunk.bottom)
            found.append(_window(Rect(left, top, right, bottom), header, halo))
    return found


def halves(chunk: Rect, header: Header, halo: int | None) -> list[Window]:
    """Two windows of a chunk, for two threads; one if it is small. Arguments as for `windows`."""
    height, width = size(chunk)
    if halo is None or not DIVIDED <= max(height, width) <= WINDOW:
        return windows(chunk, header, halo)
    left, top, right, bottom = chunk
    middle = STRIDE * -(-max(height, width) // (2 * STRIDE))
    if width >= height:
        rects = Rect(left, top, left + middle, bottom), Rect(left + middle, top, right, bottom)
    else:
        rects = Rect(left, top, right, top + middle), Rect(left, top + middle, right, bottom)
    return [_window(rect, header, halo) for rect in rects]


def _window(rect: Rect, header: Header, halo: int) -> Window:
    core = positions(rect)
    outer = widened(core, header, halo)
    return Window(rect, core, outer, pixels(outer))


def widened(core: Rect, header: Header, halo: int) -> Rect:
    """Positions of y with a halo, as far as the grid goes."""
    rows, cols = -(-header.height // STRIDE), -(-header.width // STRIDE)
    return Rect(
        max(core.left - halo, 0),
        max(core.top - halo, 0),
        min(core.right + halo, cols),
        min(core.bottom + halo, rows),
    )


def positions(rect: Rect) -> Rect:
    """Positions of y whose pixels a rectangle touches."""
    return shrunk(rect, STRIDE)


def pixels(rect: Rect) -> Rect:
    """Pixels of a rectangle of positions of y."""
    return Rect(*(STRIDE * side for side in rect))


def chunks_under(outer: Rect, header: Header) -> list[int]:
    """Numbers of the chunks that a rectangle of positions of y touches, ascending."""
    side = (1 << header.chunk_log2) // STRIDE
    across = grid_shape(header)[1]
    return [
        row * across + col
        for row in range(outer.top // side, -(-outer.bottom // side))
        for col in range(outer.left // side, -(-outer.right // side))
    ]


def plane(file: AecFile, number: int, decode: Callable[[bytes | None, int, int], _Plane]) -> _Plane:
    """The plane of a chunk.

    Args:
        file: one that has planes.
        number: of the chunk.
        decode: takes a coded plane, None if it is damaged, its height and its width.

    Raises:
        FormatError: it cannot be decoded; names the chunk.
    """
    with in_chunk(number):
        return decode(file.planes[number], *size(chunk_grid(file.header).rects[number]))


def check_planes(file: AecFile, decode: Callable[[bytes | None, int, int], object]) -> None:
    """Raise `FormatError`, which names the chunk, unless every plane can be decoded."""
    for number in range(len(file.planes)):
        plane(file, number, decode)


def cut_pixels(image: Samples, rect: Rect) -> Samples:
    """Samples of a rectangle; past the picture's edge its last row or column.

    Args:
        image: see `aecodec.samples`.
        rect: in pixels.
    """
    part = image[rect.top : rect.bottom, rect.left : rect.right]
    height, width = size(rect)
    missing = (height - part.shape[0], width - part.shape[1])
    if any(missing):
        channels = [(0, 0)] * (part.ndim - 2)
        part = np.pad(part, ((0, missing[0]), (0, missing[1]), *channels), mode="edge")
    return part


def whole(header: Header) -> Rect:
    """All pixels of a picture."""
    return Rect(0, 0, header.width, header.height)


def inside(region: tuple[int, int, int, int], header: Header) -> Rect:
    """(x, y, width, height) of the upright picture as a rectangle of the stored one's pixels.

    Raises:
        InputError: not four whole numbers, empty, or not inside the picture.
    """
    try:
        x, y, width, height = (operator.index(value) for value in region)  # NumPy's overflow
    except (TypeError, ValueError) as error:
        what = "a region is x, y, width, height in whole pixels"
        raise InputError(f"{what}, not {region!r}") from error
    left, top, right, bottom = x, y, x + width, y + height
    on_its_side = header.orientation in (5, 6, 7, 8)
    sides = (header.width, header.height)[:: -1 if on_its_side else 1]
    if not (0 <= left < right <= sides[0] and 0 <= top < bottom <= sides[1]):
        raise InputError(
            f"region {x},{y},{width},{height} does not lie within {sides[0]} x {sides[1]} pixels"
        )
    if on_its_side:
        left, top, right, bottom = top, left, bottom, right
    if header.orientation in (2, 3, 7, 8):  # stored from right to left
        left, right = header.width - right, header.width - left
    if header.orientation in (3, 4, 6, 7):  # from bottom to top
        top, bottom = header.height - bottom, header.height - top
    return Rect(left, top, right, bottom)


def bounds(rects: Sequence[Rect]) -> Rect:
    """The smallest rectangle around some rectangles, of which there is at least one."""
    lefts, tops, rights, bottoms = zip(*rects, strict=True)
    return Rect(min(lefts), min(tops), max(rights), max(bottoms))


def shrunk(rect: Rect, scale: int) -> Rect:
    """The rectangle in a picture shrunk by a scale, with all that it touches."""
    return Rect(
        rect.left // scale, rect.top // scale, -(-rect.right // scale), -(-rect.bottom // scale)
    )


def margins(inner: Rect, outer: Rect) -> Margins:
    """What a rectangle has around one inside it."""
    return Margins(
        inner.left - outer.left,
        inner.top - outer.top,
        outer.right - inner.right,
        outer.bottom - inner.bottom,
    )


def size(rect: Rect) -> tuple[int, int]:
    """Height and width."""
    return rect.bottom - rect.top, rect.right - rect.left


def area(rect: Rect) -> int:
    """Height times width."""
    return (rect.bottom - rect.top) * (rect.right - rect.left)


def overlap(a: Rect, b: Rect) -> Rect | None:
    """What two rectangles share, None if nothing."""
    rect = Rect(
        max(a.left, b.left), max(a.top, b.top), min(a.right, b.right), min(a.bottom, b.bottom)
    )
    return rect if rect.left < rect.right and rect.top < rect.bottom else None


def within(rect: Rect, outer: Rect) -> tuple[slice, slice]:
    """Rows and columns of a rectangle in an array (h, w, ...) that holds a larger one."""
    rows = slice(rect.top - outer.top, rect.bottom - outer.top)
    return rows, slice(rect.left - outer.left, rect.right - outer.left)


def latents_within(rect: Rect, outer: Rect) -> tuple[slice, slice, slice]:
    """The same in a tensor (C, h, w)."""
    return slice(None), *within(rect, outer)
