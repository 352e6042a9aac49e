"""From the latents of chunks to pixels, in bounded memory: a walk over the picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch

from aecodec import tiles
from aecodec.container import ColourMode, Header, chunk_grid
from aecodec.layout import Rect
from aecodec.model.vector_network import AnyNetwork
from aecodec.parallel import Workers
from aecodec.samples import Samples, dtype
from aecodec.tiles import Window

Source = Callable[[int], torch.Tensor | None]
"""Number of a chunk -> its ŷ (C, h, w), None if it is lost. Called from several threads."""


def parts(
    network: AnyNetwork,
    workers: Workers,
    header: Header,
    source: Source,
    wanted: Rect,
    *,
    scale: int = 1,
) -> Iterator[tuple[Rect, Samples]]:
    """Colour of a picture, window by window, before its orientation is applied.

    Latents are kept no longer than a window needs them for itself or its halo: about
    two rows of chunks at a time.

    Args:
        network: the model.
        workers: what chunks and windows are computed on.
        header: of the file.
        source: ŷ of its chunks.
        wanted: the pixels to return.
        scale: 1, or `PREVIEW_SCALE` for a preview of the whole picture.

    Yields:
        Rectangles that together make up `wanted`, shrunk by the scale, and their colour:
        (h, w, 3) or (h, w), medium gray where it is lost.
    """
    halo = network.synthesis_halo if scale == 1 or network.synthesis_halo is None else 0
    views = _views(header, wanted, halo)
    needed = sorted({number for view in views for number in view.under})
    coming = zip(needed, workers.map(source, needed), strict=True)

    def shown(item: tuple[_View, torch.Tensor | None]) -> tuple[Rect, Samples]:
        view, y = item
        rect = tiles.shrunk(view.wanted, scale)
        return rect, _colour(network, header, view.window, y, rect, scale)

    yield from workers.map(shown, _surrounded(network, header, views, coming))


class _View(NamedTuple):
    """A window that is to be shown, or a part of it."""

    chunk: int  # the number of the one that it lies in
    window: Window
    wanted: Rect  # its pixels that are wanted
    under: list[int]  # numbers of the chunks that these depend on, ascending


def _views(header: Header, wanted: Rect, halo: int | None) -> list[_View]:
    """The windows that the wanted pixels lie in, chunk by chunk."""
    return [
        _View(number, window, part, _needed(window, part, header, halo))
        for number, chunk in enumerate(chunk_grid(header).rects)
        if tiles.overlap(chunk, wanted)
        for window in tiles.windows(chunk, header, halo)
        if (part := tiles.overlap(window.rect, wanted))
    ]


def _needed(window: Window, wanted: Rect, header: Header, halo: int | None) -> list[int]:
    """Numbers of the chunks that the wanted pixels of a window depend on, ascending.

    The rest of the window may have any ŷ: nothing of that reaches them.
    """
    if halo is None:
        return tiles.chunks_under(window.outer, header)
    return tiles.chunks_under(tiles.widened(tiles.positions(wanted), header, halo), header)


def _surrounded(
    network: AnyNetwork,
    header: Header,
    views: list[_View],
    coming: Iterator[tuple[int, torch.Tensor | None]],
) -> Iterator[tuple[_View, torch.Tensor | None]]:
    """Every window with ŷ of its outer rectangle, None if its chunk is lost.

    Args:
        coming: numbers of all chunks that are needed, ascending, with their ŷ; they are
            taken no earlier and kept no longer than windows need them.
    """
    last_use = {number: i for i, view in enumerate(views) for number in view.under}
    cores: dict[int, torch.Tensor | None] = {}
    for i, view in enumerate(views):
        while view.under[-1] not in cores:
            cores.update([next(coming)])
        lost = cores[view.chunk] is None
        outer = view.window.outer
        yield view, None if lost else _join(network, header, outer, cores, view.under)
        for done in view.under:
            if last_use[done] == i:
                del cores[done]


def _colour(
    network: AnyNetwork,
    header: Header,
    window: Window,
    y: torch.Tensor | None,
    rect: Rect,
    scale: int,
) -> Samples:
    """Colour of a part of a window, both shrunk by the scale; medium gray without ŷ."""
    if y is None:
        medium = 1 << header.bit_depth - 1
        part: Samples = np.full((*tiles.size(rect), 3), medium, dtype(header.bit_depth))
    else:
        if scale == 1:
            whole = network.synthesise(y, header.synthesis_q, header.bit_depth, window.margins)
        else:
            whole = network.preview(y, header.bit_depth)
        part = whole[tiles.within(rect, tiles.shrunk(window.shown, scale))]
    return part if header.colour is ColourMode.RGB else _gray(part)


def _join(
    network: AnyNetwork,
    header: Header,
    outer: Rect,
    cores: dict[int, torch.Tensor | None],
    under: list[int],
) -> torch.Tensor:
    """ŷ (C, h, w) of a rectangle of positions, from some chunks; 0 where others are, or lost."""
    rects = chunk_grid(header).rects
    first = cores[under[0]]
    if first is not None and tiles.positions(rects[under[0]]) == outer:
        return first  # a chunk without neighbours
    channels = network.latent_channels  # last in memory, as the transform wants them
    shape = (*tiles.size(outer), channels)
    y = torch.zeros(shape, dtype=torch.float32, device=network.device).permute(2, 0, 1)
    for number in under:
        core, place = cores[number], tiles.positions(rects[number])
        part = tiles.overlap(place, outer)
        if core is not None and part is not None:
            y[tiles.latents_within(part, outer)] = core[tiles.latents_within(part, place)]
    return y


def _gray(image: Samples) -> Samples:
    """Mean of the three channels, rounded."""
    total = image.sum(axis=2, dtype=np.uint32)
    mean: Samples = ((total + 1) // 3).astype(image.dtype)
    return mean
