"""From the integers of chunks to pixels, in bounded memory: a walk over the picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from . import tiles
from .container import AecFile, Chunk, ColourMode, Header, chunk_grid
from .entropy import ChunkDecoder, symbols_crc
from .errors import ChecksumError, FormatError
from .layout import DEPTH, Rect
from .model.network import Network
from .model.quantiser import Symbols, hyper_shape
from .model.vector_network import AnyNetwork
from .parallel import Workers
from .rate import prior_row
from .samples import Samples, dtype
from .tiles import Window

Source = Callable[[int], Symbols | None]
"""Number of a chunk -> its integers, None if they are lost. Called from several threads."""


def read_symbols(network: AnyNetwork, file: AecFile, number: int) -> Symbols:
    """Decode the integers of a chunk.

    Raises:
        FormatError: they cannot be decoded; says which chunk it is.
    """
    try:
        return _read_symbols(network, file, number)
    except FormatError as error:
        error.cause = f"chunk {number}: {error.cause}"
        raise


def _read_symbols(network: AnyNetwork, file: AecFile, number: int) -> Symbols:
    quality, chunk = file.header.quality, file.chunks[number]
    size = tiles.size(tiles.positions(chunk_grid(file.header).rects[number]))
    if file.header.alpha == DEPTH and not chunk.payload and isinstance(network, Network):
        return _checked(zeros(network, size), chunk)
    decoder = ChunkDecoder(chunk.payload, network.tables_of(file.header), prior_row(quality))
    if isinstance(network, Network):
        symbols = _hyperprior_symbols(network, decoder, quality, size)
    else:
        symbols = network.quantiser.read(decoder, quality)
    decoder.finish()
    return _checked(symbols, chunk)


def _hyperprior_symbols(
    network: Network, decoder: ChunkDecoder, quality: int, size: tuple[int, int]
) -> Symbols:
    z = decoder.z((network.config.hyper_channels, *hyper_shape(*size)))
    scales = network.quantiser.scales(z, quality, size)
    passes = scales.passes
    cells = passes.inside.shape[1]
    q = torch.zeros(4, cells, passes.shape[0], dtype=torch.int32)
    index = torch.zeros(q.shape, dtype=torch.uint8)
    for p in range(passes.count):
        now, order = passes.of(p), passes.in_order(p)
        index[:, :, now] = scales.index(p, q)
        indices = index[:, :, now].reshape(-1).numpy()
        values = np.zeros(len(indices), np.int32)
        values[order] = decoder.q(indices[order])
        q[:, :, now] = torch.from_numpy(values).reshape(4, cells, -1)
    return Symbols(
        z, passes.restore(q).numpy(), passes.restore(index).numpy(), passes.index.numpy()
    )


def zeros(network: Network, size: tuple[int, int]) -> Symbols:
    """Integers that are all 0, of a chunk of so many positions of y; its scales are not known."""
    q = np.zeros((network.config.latent_channels, *size), np.int32)
    z = np.zeros((network.config.hyper_channels, *hyper_shape(*size)), np.int32)
    return Symbols(z, q, q.astype(np.uint8), q.astype(np.uint8))


def _checked(symbols: Symbols, chunk: Chunk) -> Symbols:
    if symbols_crc(symbols.z, symbols.q) != chunk.symbols_crc:
        raise ChecksumError("decoded integers fail their checksum")
    return symbols


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
        source: the integers of its chunks.
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

    def latents(number: int) -> torch.Tensor | None:
        s = source(number)
        return None if s is None else network.quantiser.dequantise(s.z, s.q, header.quality)

    def surrounded() -> Iterator[tuple[Window, torch.Tensor | None]]:
        """Every window with ŷ of its outer rectangle, None if its chunk is lost."""
        cores: dict[int, torch.Tensor | None] = {}
        coming = zip(needed, workers.map(latents, needed), strict=True)
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
    channels = network.latent_channels  # last in memory, as the transform wants them
    y = torch.zeros(*tiles.size(outer), channels, device=network.device).permute(2, 0, 1)
    rects = chunk_grid(header).rects
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
