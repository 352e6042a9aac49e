"""From the stream of a chunk to its integers, and on to its latents ŷ."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aecodec import tiles
from aecodec.container import AecFile, Chunk, chunk_grid
from aecodec.entropy import ChunkDecoder, symbols_crc
from aecodec.errors import ChecksumError, in_chunk
from aecodec.layout import DEPTH
from aecodec.model.network import Network
from aecodec.model.quantiser import Symbols, hyper_shape
from aecodec.model.vector_network import AnyNetwork, VectorNetwork
from aecodec.parallel import Workers
from aecodec.rate import prior_row


def read_symbols(network: AnyNetwork, file: AecFile, number: int) -> Symbols:
    """Decode the integers of a chunk.

    Raises:
        FormatError: they cannot be decoded; says which chunk it is.
    """
    with in_chunk(number):
        if isinstance(network, VectorNetwork):
            return _vector(network, file, number)
        if _is_blank(file, number):
            return _blank(network, file, number)
        reading = Reading(network, file, number)
        for _ in reading:
            pass
        return reading.symbols()


def read_latents(network: AnyNetwork, file: AecFile, workers: Workers, number: int) -> Tensor:
    """Decode a chunk to ŷ (C, h, w) float32.

    Residuals become latents as they come: with threads to spare, both at the same time.

    Raises:
        FormatError: the integers cannot be decoded; says which chunk it is.
    """
    quality = file.header.quality
    if isinstance(network, VectorNetwork) or _is_blank(file, number) or not _in_step(network):
        s = read_symbols(network, file, number)
        return network.quantiser.dequantise(s.z, s.q, quality)
    with in_chunk(number):
        reading = Reading(network, file, number)
        coming = workers.ahead(reading)
        return network.quantiser.reconstruct(reading.z, coming, quality, reading.size)


class Reading:
    """ẑ of a chunk; its residuals are decoded as they are iterated over, once.

    Args:
        network: the model.
        file: the file.
        number: of the chunk, which has a payload.

    Attributes:
        z: (Cz, ⌈H/4⌉, ⌈W/4⌉).
        size: (H, W), positions of y.

    Raises:
        FormatError: the stream cannot be decoded; from the iterator, too.
    """

    def __init__(self, network: Network, file: AecFile, number: int) -> None:
        self._network, self._quality = network, file.header.quality
        self._chunk = file.chunks[number]
        self._stream = _stream(network, file, number)
        self._indices: list[Tensor] = []
        self.size = _size(file, number)
        self.z = self._stream.z((network.config.hyper_channels, *hyper_shape(*self.size)))

    def __iter__(self) -> Iterator[Tensor]:
        """Residuals of each pass, (4, P, group) int32; after the last, they are checked."""
        scales = self._network.quantiser.scales(self.z, self._quality, self.size)
        passes = scales.passes
        cells = passes.inside.shape[1]
        q = torch.zeros(4, cells, passes.shape[0], dtype=torch.int32)
        for p in range(passes.count):
            now = passes.of(p)
            index = scales.index(p, q).cpu()
            self._indices.append(index)
            values = self._stream.q(index.numpy(), passes.in_order(p))
            q[:, :, now] = torch.from_numpy(values)
            yield q[:, :, now]
        self._stream.finish()
        self._passes, self._q = passes, passes.restore(q).numpy()
        _check(self._chunk, self.z, self._q)

    def symbols(self) -> Symbols:
        """All integers, once they have been iterated over."""
        index = self._passes.restore(torch.cat(self._indices, dim=2)).numpy()
        return Symbols(self.z, self._q, index, self._passes.index.numpy())


def zeros(network: Network, size: tuple[int, int]) -> Symbols:
    """Integers that are all 0, of a chunk of so many positions of y; its scales are not known."""
    q = np.zeros((network.config.latent_channels, *size), np.int32)
    z = np.zeros((network.config.hyper_channels, *hyper_shape(*size)), np.int32)
    return Symbols(z, q, q.astype(np.uint8), q.astype(np.uint8))


def _in_step(network: Network) -> bool:
    """Whether residuals are coded in the passes that latents are made in."""
    return network.config.scale_passes == network.config.passes


def _is_blank(file: AecFile, number: int) -> bool:
    return file.header.planes == DEPTH and not file.chunks[number].payload


def _blank(network: Network, file: AecFile, number: int) -> Symbols:
    symbols = zeros(network, _size(file, number))
    _check(file.chunks[number], symbols.z, symbols.q)
    return symbols


def _vector(network: VectorNetwork, file: AecFile, number: int) -> Symbols:
    stream = _stream(network, file, number)
    symbols = network.quantiser.read(stream, file.header.quality)
    stream.finish()
    _check(file.chunks[number], symbols.z, symbols.q)
    return symbols


def _stream(network: AnyNetwork, file: AecFile, number: int) -> ChunkDecoder:
    tables, row = network.tables_of(file.header), prior_row(file.header.quality)
    return ChunkDecoder(file.chunks[number].payload, tables, row)


def _size(file: AecFile, number: int) -> tuple[int, int]:
    """Positions of y in a chunk: rows and columns."""
    return tiles.size(tiles.positions(chunk_grid(file.header).rects[number]))


def _check(chunk: Chunk, z: NDArray[np.int32], q: NDArray[np.int32]) -> None:
    if symbols_crc(z, q) != chunk.symbols_crc:
        raise ChecksumError("decoded integers fail their checksum")
