"""From the latents of chunks to pixels, in bounded memory: a walk over the picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from . import tiles
from .container import ColourMode, Header, chunk_grid
from .layout import Rect
from .model.vector_network import AnyNetwork
from .parallel import Workers
from .samples import Samples, dtype
from .tiles import Window

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
    halo = network.halo if scale == 1 or network.halo is None else 0
    windows = [
        (number, window)
        for number, chunk in enumerate(chunk_grid(header).rects)
        if tiles.overlap(chunk, wanted)
        for window in tiles.windows(chunk, header, halo)
        if tiles.overlap(window.rect, wanted)
    ]
    under = [_needed(window, wanted, header, halo) for _, window in windows]
    last_use = {number: i for i, numbers in enumerate(under) for number in numbers}
    needed = sorted(last_use)

    def surrounded() -> Iterator[tuple[Window, torch.Tensor | None]]:
        """Every window with ŷ of its outer rectangle, None if its chunk is lost."""
        cores: dict[int, torch.Tensor | None] = {}
        coming = zip(needed, workers.map(source, needed), strict=True)
        for i, (number, window) in enumerate(windows):
            while under[i][-1] not in cores:
                cores.update([next(coming)])
            lost = cores[number] is None
            yield window, None if lost else _join(network, header, window.outer, cores, under[i])
            for done in under[i]:
                if last_use[done] == i:
                    del cores[done]

    def pixels(item: tuple[Window, torch.Tensor | None]) -> tuple[Rect, Samples]:
        window, outer = item
        rect = tiles.shrunk(tiles.overlap(window.rect, wanted) or window.rect, scale)
        if outer is None:
            part = np.full(
                (*tiles.size(rect), 3), 1 << header.bit_depth - 1, dtype(header.bit_depth)
            )
        else:
            if scale == 1:
                whole = network.synthesise(
                    outer, header.synthesis_q, header.bit_depth, window.margins
                )
            else:
                whole = network.preview(outer, header.bit_depth)
            part = whole[tiles.within(rect, tiles.shrunk(window.shown, scale))]
        return rect, part if header.colour is ColourMode.RGB else _gray(part)

    yield from workers.map(pixels, surrounded())


def _needed(window: Window, wanted: Rect, header: Header, halo: int | None) -> list[int]:
    """Numbers of the chunks that the wanted pixels of a window depend on, ascending.

    The rest of the window may have any ŷ: nothing of that reaches them.
    """
    part = tiles.overlap(window.rect, wanted)
    if halo is None or part is None:
        return tiles.chunks_under(window.outer, header)
    return tiles.chunks_under(tiles.widened(tiles.positions(part), header, halo), header)


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
