"""From pixels to the bytes of a file, at one quality or at several."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from aecodec import alpha, decoder, tiles
from aecodec.container import AecFile, Chunk, Header, Metadata, chunk_grid, serialise
from aecodec.entropy import encode_chunk, symbols_crc
from aecodec.layout import NO_MARGINS, Rect
from aecodec.model.network import Network
from aecodec.model.quantiser import Symbols
from aecodec.model.vector_network import AnyNetwork
from aecodec.objective import Scene
from aecodec.parallel import Workers
from aecodec.progress import Progress, Tally
from aecodec.rate import Aim, prior_row
from aecodec.refine import lowered, refine, steps
from aecodec.samples import Samples
from aecodec.tiles import Window


class Encoding:
    """A picture on its way to a file. Its latents y do not depend on the quality.

    Args:
        network: the model.
        workers: what chunks are computed on.
        pixels: samples of the picture.
        header: of the file, but for the quality.
        aim: what the file is to be. Where that takes a search, y is kept for further
            qualities, which takes 4 C / 256 bytes a pixel for C channels; else every chunk
            is analysed, coded and forgotten.
        metadata: to store behind the picture.
        effort: 0 to 9; see `refine`.
        progress: see `progress.Progress`; every quality tried adds the picture to its total.
    """

    def __init__(
        self,
        network: AnyNetwork,
        workers: Workers,
        pixels: Samples,
        header: Header,
        *,
        aim: Aim,
        metadata: tuple[Metadata, ...] = (),
        effort: int = 0,
        progress: Progress | None = None,
    ) -> None:
        self._network = network
        self._workers = workers
        self._pixels = pixels
        self._header = header
        self._aim = aim
        self._planes: tuple[bytes, ...] | None = None if header.planes else ()
        self._metadata = metadata
        self._effort = effort
        self._chunks = chunk_grid(header).rects
        self._kept: dict[int, Scene] | None = {} if aim.searches else None
        self._refined: dict[tuple[int, int], Symbols] = {}
        self._tally = Tally(progress)

    def meet(self) -> bytes:
        """The file that meets the aim.

        Raises:
            InputError: a target is out of reach.
        """
        file = lru_cache(self.file)  # the last file of a search is its result
        pixels = self._header.width * self._header.height
        return file(self._aim.meet(pixels, lambda q: len(file(q)), self.psnr))

    def file(self, quality: int) -> bytes:
        """The file of a quality, 0 to 3584; what it stores is lower at some efforts."""
        return self._file(lowered(quality, self._effort))

    def psnr(self, quality: int) -> float:
        """What the file of a quality will decode to, in dB over what can be seen."""
        return self._psnr(lowered(quality, self._effort))

    # From here on qualities are those that files store, or below 0, see `refine`.

    def _at(self, quality: int) -> Header:
        return replace(self._header, quality=max(quality, 0))

    def _file(self, quality: int) -> bytes:
        chunks = self._coded(quality)
        if self._planes is None:
            self._planes = tuple(self._workers.map(self._plane, range(len(self._chunks))))
        return self._serialise(quality, chunks, self._planes)

    def _coded(self, quality: int) -> list[Chunk]:
        self._tally.expect(tiles.area(tiles.whole(self._header)))
        chunks: list[Chunk] = []
        for chunk in self._workers.map(partial(self._chunk, quality), range(len(self._chunks))):
            self._tally.did(tiles.area(self._chunks[len(chunks)]))
            chunks.append(chunk)
        return chunks

    def _serialise(self, quality: int, chunks: list[Chunk], planes: tuple[bytes, ...]) -> bytes:
        return serialise(AecFile(self._at(quality), tuple(chunks), self._metadata, planes))

    def _psnr(self, quality: int) -> float:
        header, total, count = self._at(quality), 0.0, 0
        shown = tiles.whole(header)
        self._tally.expect(tiles.area(shown))
        latents = partial(self._latents, quality)
        for rect, part in decoder.parts(self._network, self._workers, header, latents, shown):
            error = self._error(rect, part)
            total += float(np.square(error).sum(dtype=np.float64))
            count += error.size
            self._tally.did(tiles.area(rect))
        peak = 2**header.bit_depth - 1
        return 10 * math.log10(peak**2 / max(total / max(count, 1), 1e-10))

    def _chunk(self, quality: int, number: int) -> Chunk:
        s = self._symbols(quality, number)
        tables = self._network.tables_of(self._header)
        row = prior_row(self._at(quality).quality)
        payload = encode_chunk(s.z, s.q, s.index, row, tables, s.groups)
        return Chunk(payload, symbols_crc(s.z, s.q))

    def _error(self, rect: Rect, shown: Samples) -> NDArray[np.float32]:
        """Differences of what can be seen of a rectangle from its decoded colour."""
        return alpha.error(self._pixels[tiles.within(rect, tiles.whole(self._header))], shown)

    def _plane(self, number: int) -> bytes:
        samples = self._pixels[tiles.within(self._chunks[number], tiles.whole(self._header))]
        return alpha.encode(samples[:, :, -1], self._aim.alpha_quality)

    def _latents(self, quality: int, number: int) -> Tensor:
        """ŷ of a chunk, as decoders see it."""
        s = self._symbols(quality, number)
        return self._network.quantiser.dequantise(s.z, s.q, self._at(quality).quality)

    def _symbols(self, quality: int, number: int) -> Symbols:
        if self._effort == 0:
            y = self._scene(number).own
            return self._network.quantiser.quantise(y, quality, self._workers.beside)
        if (quality, number) in self._refined:
            return self._refined[quality, number]
        assert isinstance(self._network, Network)  # others code at effort 0 alone
        scene, total = self._scene(number), steps(self._effort)
        share = tiles.area(self._chunks[number])
        self._tally.expect(share * total)
        area = tiles.pixels(scene.area)
        symbols = refine(
            self._network,
            scene,
            self._shown(area),
            quality,
            self._effort,
            seed=number,
            seen=self._seen(area),
            progress=lambda: self._tally.did(share),
        )
        if self._aim.target_psnr is not None or self._aim.max_error is not None:
            # what the picture is like was asked first, its file comes later
            self._refined[quality, number] = symbols
        return symbols

    def _shown(self, rect: Rect) -> Samples:
        """What the network sees of a rectangle of pixels: (h, w, 3)."""
        return alpha.visible(tiles.cut_pixels(self._pixels, rect))

    def _seen(self, rect: Rect) -> NDArray[np.bool_] | None:
        """Which pixels of a rectangle count, (h, w); None if all do."""
        return alpha.seen(tiles.cut_pixels(self._pixels, rect))

    def _scene(self, number: int) -> Scene:
        """A chunk with its y, and with its surroundings if they matter."""
        if self._kept is not None and number in self._kept:
            return self._kept[number]
        scene = self._analyse(self._chunks[number])
        if self._kept is not None:
            self._kept[number] = scene
        return scene

    def _analyse(self, chunk: Rect) -> Scene:
        # a single chunk in halves, for any number of threads: else it would change the bytes
        divide = tiles.halves if len(self._chunks) == 1 else tiles.windows
        windows = divide(chunk, self._header, self._network.halo)
        beside = [self._workers.beside(partial(self._analysed, w)) for w in windows[1:]]
        parts = [self._analysed(windows[0]), *(part() for part in beside)]
        core = tiles.bounds([window.core for window in windows])
        area = tiles.bounds([window.outer for window in windows]) if self._effort else core
        y = parts[0].new_empty(len(parts[0]), *tiles.size(area))
        if self._effort:
            for window, part in zip(windows, parts, strict=True):
                y[tiles.latents_within(window.outer, area)] = part
            places = [tiles.latents_within(window.core, window.outer) for window in windows]
            parts = [part[place] for part, place in zip(parts, places, strict=True)]
        for window, part in zip(windows, parts, strict=True):
            y[tiles.latents_within(window.core, area)] = part  # over halos of their neighbours
        return Scene(y, area, core, chunk)

    def _analysed(self, window: Window) -> Tensor:
        """y of a window: of its core, or with its halo if the surroundings matter."""
        margins = NO_MARGINS if self._effort else window.margins
        return self._network.analyse(self._shown(window.seen), margins)
