"""Depth maps on the road of the codec: how they are coded beside their planes, and decoded."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aecodec import decoder, depthplane, reading, tiles
from aecodec.container import AecFile, Chunk, chunk_grid
from aecodec.depth import check_depth, filled, readings
from aecodec.depthplane import DepthPlane, Kind, PlaneWriter
from aecodec.encoder import Encoding
from aecodec.entropy import symbols_crc
from aecodec.errors import FormatError, InputError
from aecodec.layout import DEPTH_MARGIN, PREVIEW_SCALE, QUALITY_MAX, Rect
from aecodec.model.network import Network
from aecodec.model.vector_network import AnyNetwork
from aecodec.rate import Aim
from aecodec.samples import Samples, reduced

log = logging.getLogger("aecodec")

_START, _STEPS = 2432, (768, 384)  # stored qualities, of the search for a small residual
_HOPELESS = 1.25  # times the size without the network: no other quality is tried


def is_depth(network: AnyNetwork, samples: Samples, aim: Aim) -> bool:
    """Whether samples are coded as a depth map: as the model says.

    Raises:
        UnsupportedImageError: the model is for depth, and they are not 16-bit gray.
        InputError: it is not, but a bound of the error is asked for.
    """
    if network.depth is None:
        if aim.max_error is not None:
            raise InputError("max_error is for depth maps: it needs a model for depth")
        return False
    check_depth(samples, network.info.name)
    return True


class DepthEncoding(Encoding):
    """A depth map on its way to a file."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._writers: dict[int, PlaneWriter] = {}

    def meet(self) -> bytes:
        """The file that meets the aim."""
        if self._aim.max_error is not None and self._aim.quality is None:
            return self.smallest()
        return super().meet()

    def _file(self, quality: int) -> bytes:
        """The file at a stored quality: with the bound of the error, if there is one."""
        bound = self._aim.max_error
        if bound is None:
            return super()._file(quality)
        chunks = self._coded(quality)
        shown = self._decoded(quality)

        def plane(number: int) -> bytes:
            rows, cols = tiles.within(self._chunks[number], tiles.whole(self._header))
            return self._writer(number).residual(shown[rows, cols], bound - DEPTH_MARGIN)

        planes = tuple(self._workers.map(plane, range(len(self._chunks))))
        return self._serialise(quality, chunks, planes)

    def smallest(self) -> bytes:
        """The smallest file found that keeps the bound: without the network, or with it."""
        bound = self._aim.max_error
        assert bound is not None
        # scenes of planes are predicted to the level, and none of that is left in coarser steps
        best = min(map(self._without_network, sorted({0, bound})), key=len)
        if bound < DEPTH_MARGIN:
            return best
        file = lru_cache(self.file)
        quality = _START
        if len(file(quality)) > _HOPELESS * len(best):
            return best
        for step in _STEPS:
            around = (quality, max(quality - step, 0), min(quality + step, QUALITY_MAX))
            quality = min(around, key=lambda q: len(file(q)))
        return min(best, file(quality), key=len)

    def _without_network(self, bound: int) -> bytes:
        """The file whose planes are levels and whose latents are all zero."""

        def plane(number: int) -> bytes:
            return self._writer(number).levels(bound)

        numbers = range(len(self._chunks))
        self._tally.expect(tiles.area(tiles.whole(self._header)))
        chunks = [self._blank(number) for number in numbers]
        planes: list[bytes] = []
        for coded in self._workers.map(plane, numbers):
            self._tally.did(tiles.area(self._chunks[len(planes)]))
            planes.append(coded)
        return self._serialise(0, chunks, tuple(planes))

    def _blank(self, number: int) -> Chunk:
        """A chunk without a payload, which stands for integers that are all zero."""
        size = tiles.size(tiles.positions(self._chunks[number]))
        assert isinstance(self._network, Network)
        s = reading.zeros(self._network, size)
        return Chunk(b"", symbols_crc(s.z, s.q))

    def _decoded(self, quality: int) -> Samples:
        """What the network's picture will be at a stored quality, (H, W) `uint16`."""
        header = self._at(quality)
        whole = tiles.whole(header)
        out = np.empty(tiles.size(whole), np.uint16)
        latents = partial(self._latents, quality)
        for rect, part in decoder.parts(self._network, self._workers, header, latents, whole):
            out[tiles.within(rect, whole)] = part
        return out

    def _writer(self, number: int) -> PlaneWriter:
        """The planes of a chunk, kept if more than one will be asked for."""
        if number in self._writers:
            return self._writers[number]
        whole = tiles.whole(self._header)
        writer = PlaneWriter(self._pixels[tiles.within(self._chunks[number], whole)])
        if self._aim.searches:
            self._writers[number] = writer
        return writer

    def _plane(self, number: int) -> bytes:
        return self._writer(number).holes()

    def _error(self, rect: Rect, shown: Samples) -> NDArray[np.float32]:
        samples = self._pixels[tiles.within(rect, tiles.whole(self._header))]
        difference = samples.astype(np.float32) - shown
        return difference[readings(samples)]

    def _shown(self, outer: Rect) -> Samples:
        depth = self._network.depth
        assert depth is not None
        gray = filled(tiles.cut_pixels(self._pixels, outer), depth.limit)
        return np.repeat(gray[:, :, None], 3, axis=2)

    def _seen(self, rect: Rect) -> NDArray[np.bool_]:
        return readings(tiles.cut_pixels(self._pixels, rect))


def picture(
    file: AecFile, wanted: Rect, show: Callable[[], Samples], lost: list[int] | None = None
) -> Samples:
    """A part of a depth map, before the orientation is applied.

    Args:
        file: what it is decoded from.
        wanted: which part, in pixels.
        show: gives the network's picture of it, which may not be needed.
        lost: has the numbers of chunks whose latents are damaged after `show`, and takes
            those of chunks whose plane is: they come out without readings. Without such
            a list a damaged plane is an error.

    Returns:
        (h, w) `uint16` in millimetres.

    Raises:
        FormatError: a plane is damaged; says of which chunk.
    """
    found: dict[int, DepthPlane] = {}
    rects = chunk_grid(file.header).rects
    damaged = []
    for number, chunk in enumerate(rects):
        if tiles.overlap(chunk, wanted) is None:
            continue
        try:
            found[number] = tiles.plane(file, number, depthplane.decode)
        except FormatError:
            if lost is None:
                raise
            damaged.append(number)
    shown = None
    if any(plane.kind is not Kind.LEVELS for plane in found.values()):
        shown = show()
    out = np.zeros(tiles.size(wanted), np.uint16)
    for number, plane in found.items():
        if lost is not None and number in lost and plane.kind is not Kind.LEVELS:
            continue
        part = tiles.overlap(rects[number], wanted)
        if part is not None:
            here = tiles.within(part, wanted)
            cut = plane.cut(*tiles.within(part, rects[number]))
            out[here] = cut.apply(None if shown is None else shown[here])
    if lost is not None:
        lost[:] = [n for n in lost if n not in found or found[n].kind is not Kind.LEVELS]
        lost += damaged
    return out


def smaller(depth: Samples) -> Samples:
    """One eighth of a depth map: means of the readings in squares, 0 where there is none."""
    seen = np.where(depth > 0, 65535, 0).astype(np.uint16)
    small = reduced(np.dstack([depth, seen]), PREVIEW_SCALE)
    means: Samples = np.where(small[:, :, 1] > 0, np.maximum(small[:, :, 0], 1), 0)
    return means.astype(np.uint16)
