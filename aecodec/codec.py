"""The whole road: pixels -> latents -> integers -> bytes, and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from . import tiles
from .container import (
    DEFAULT_LIMITS,
    AecFile,
    Chunk,
    ColourMode,
    Header,
    Limits,
    Metadata,
    Precision,
    chunk_grid,
    chunk_ok,
    parse,
    parse_header,
    serialise,
)
from .entropy import ChunkDecoder, encode_chunk, symbols_crc
from .errors import ChecksumError, FormatError, InputError, ModelMismatchError
from .layout import STRIDE, Rect
from .model.network import Network
from .model.quantiser import Symbols, hyper_shape
from .pixels import as_array, upright
from .rate import Aim, prior_row

_LOST = 128  # the gray of chunks that could not be recovered
_PRECISIONS = {torch.float32: Precision.FLOAT32, torch.bfloat16: Precision.BFLOAT16}


@dataclass(frozen=True)
class _Picture:
    """An image on its way to a file, before its quality is chosen."""

    pixels: NDArray[np.uint8]  # (H, W, 3) or (H, W)
    header: Header  # quality not yet set
    latents: list[torch.Tensor]  # y of every chunk, (C, h, w)
    metadata: tuple[Metadata, ...]


class Codec:
    """Encodes and decodes with one model, loaded once.

    Args:
        model: name of an installed model, its identity, or a weights file.
        device: "cpu", "cuda", ...
        threads: CPU threads for the whole process; None leaves the choice to torch.
        precision: of the transforms: "auto", "float32", "float64" or "bfloat16".

    Raises:
        ModelError: the weights cannot be found or used.
        InputError: a bad device, thread count or precision.
    """

    def __init__(
        self,
        model: str | Path = "photo",
        *,
        device: str = "cpu",
        threads: int | None = None,
        precision: str = "auto",
    ) -> None:
        if threads is not None:
            if threads < 1:
                raise InputError(f"threads must be at least 1, not {threads}")
            torch.set_num_threads(threads)
        self.network = Network(model, device=device, precision=precision)

    @property
    def model_id(self) -> str:
        """Identity of the weights, 16 hexadecimal digits."""
        return self.network.info.id

    def encode(
        self,
        image: Any,
        *,
        quality: float | None = None,
        target_size: int | None = None,
        target_bpp: float | None = None,
        target_psnr: float | None = None,
        metadata: tuple[Metadata, ...] = (),
    ) -> bytes:
        """Code an image, at a quality or at the quality that meets a target.

        Args:
            image: `uint8` array of shape (H, W, 3) or (H, W), or a Pillow image.
            quality: 1 (small) to 100 (close to the original); 75 if nothing is given.
            target_size: bytes of the whole file, met from below.
            target_bpp: the same as bits per pixel.
            target_psnr: dB over all samples, met from above.
            metadata: to store behind the picture.

        Returns:
            The bytes of an `.aec` file.

        Raises:
            InputError: the image or the quality cannot be coded, more than one of
                quality and targets is given, or a target is out of reach.
        """
        aim = Aim(quality, target_size, target_bpp, target_psnr)
        return self.encode_to(aim, image, metadata=metadata)

    @torch.inference_mode()
    def encode_to(self, aim: Aim, image: Any, *, metadata: tuple[Metadata, ...] = ()) -> bytes:
        """`encode`, with quality and targets as one value."""
        picture = self._analyse(image, metadata)
        header = picture.header
        file = lru_cache(partial(self._file, picture))  # the search's last file is the result
        quality = aim.meet(
            header.width * header.height, lambda q: len(file(q)), partial(self._psnr, picture)
        )
        return file(quality)

    @torch.inference_mode()
    def decode(
        self,
        data: bytes | AecFile,
        *,
        region: tuple[int, int, int, int] | None = None,
        limits: Limits | None = None,
        name: str | None = None,
    ) -> NDArray[np.uint8]:
        """Decode an `.aec` file, or a part of it.

        Args:
            data: the whole file, or what `container.parse` made of it.
            region: (x, y, width, height) in pixels of the upright picture; only the
                chunks it needs are decoded. None for the whole picture.
            limits: what bytes to accept; None for the default ones.
            name: what to call the data in error messages.

        Returns:
            `uint8` of shape (H, W, 3), or (H, W) for gray.

        Raises:
            FormatError: not an `.aec` file, or a damaged one.
            LimitError: larger than `limits` allow.
            InputError: a region that is empty or not inside the picture.
            ModelMismatchError: made with other weights than these.
        """
        file = self._parse(data, limits or DEFAULT_LIMITS, name)
        header = file.header
        turned = header.orientation != 1  # then the region is cut from the whole
        wanted = tiles.whole(header) if turned or region is None else tiles.inside(region, header)
        image = self._picture(header, partial(self._checked, file, name), wanted)
        image = upright(image, header.orientation)
        if turned and region is not None:
            sides = replace(header, width=image.shape[1], height=image.shape[0])
            cut = tiles.inside(region, sides)
            image = image[cut.top : cut.bottom, cut.left : cut.right].copy()
        return image

    @torch.inference_mode()
    def recover(
        self, data: bytes, *, limits: Limits | None = None, name: str | None = None
    ) -> tuple[NDArray[np.uint8], list[int]]:
        """Decode what is left of a damaged or shortened file; its header must be whole.

        Returns:
            The picture as from `decode`, lost chunks in gray, and the numbers of the
            lost chunks in raster order.

        Raises:
            FormatError: the header is damaged.
            LimitError, ModelMismatchError: as `decode`.
        """
        info = parse_header(data, limits=limits or DEFAULT_LIMITS, name=name)
        chunks = tuple(
            Chunk(data[e.offset : e.offset + e.length], e.symbols_crc, chunk_ok(data, e))
            for e in info.entries
        )
        file = AecFile(info.header, chunks)
        self._check_model(info.header, name)
        lost: list[int] = []

        def symbols(number: int, core: Rect) -> Symbols | None:
            if chunks[number].ok:
                try:
                    return self._symbols(file, number, core)
                except FormatError:
                    pass  # damage that happens to keep the checksum
            lost.append(number)
            return None

        image = self._picture(info.header, symbols, tiles.whole(info.header))
        return upright(image, info.header.orientation), lost

    @torch.inference_mode()
    def symbols(self, data: bytes | AecFile, *, name: str | None = None) -> list[Symbols]:
        """The integers of every chunk, without running the synthesis transform.

        Raises:
            FormatError, LimitError, ModelMismatchError: as `decode`.
        """
        file = self._parse(data, DEFAULT_LIMITS, name)
        windows = self._windows(file.header)
        return [self._checked(file, name, i, window.core) for i, (_, window) in enumerate(windows)]

    def verify(self, data: bytes | AecFile, *, name: str | None = None) -> None:
        """Check that a file decodes to exactly the integers that were coded.

        Raises:
            FormatError, LimitError, ModelMismatchError: as `decode`.
        """
        self.symbols(data, name=name)

    def _analyse(self, image: Any, metadata: tuple[Metadata, ...]) -> _Picture:
        """Run the analysis transform, which does not depend on the quality."""
        pixels = as_array(image)
        header = Header(
            width=pixels.shape[1],
            height=pixels.shape[0],
            model_id=bytes.fromhex(self.model_id),
            quality=0,
            colour=ColourMode.GRAY if pixels.ndim == 2 else ColourMode.RGB,
            precision=_PRECISIONS.get(self.network.dtype, Precision.OTHER),
        )
        rgb = pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
        latents = []
        for _, window in self._windows(header):
            y = self.network.analyse(tiles.cut_pixels(rgb, window.outer))
            rows, cols = window.inner
            latents.append(y[:, rows, cols])
        return _Picture(pixels, header, latents, metadata)

    def _file(self, picture: _Picture, quality: int) -> bytes:
        """Quantise, code and pack at a stored quality."""
        chunks = []
        for y in picture.latents:
            s = self.network.quantiser.quantise(y, quality)
            row, tables = prior_row(quality), self.network.tables
            payload = encode_chunk(s.z, s.q, s.index, row, tables, s.groups)
            chunks.append(Chunk(payload, symbols_crc(s.z, s.q)))
        header = replace(picture.header, quality=quality)
        return serialise(AecFile(header, tuple(chunks), picture.metadata))

    def _psnr(self, picture: _Picture, quality: int) -> float:
        """What a file of this stored quality will decode to, in dB."""
        header = replace(picture.header, quality=quality)

        def symbols(number: int, core: Rect) -> Symbols:
            return self.network.quantiser.quantise(picture.latents[number], quality)

        decoded = self._picture(header, symbols, tiles.whole(header))
        error = picture.pixels.astype(np.float32) - decoded
        return 10 * math.log10(255**2 / max(float(np.square(error).mean()), 1e-10))

    def _parse(self, data: bytes | AecFile, limits: Limits, name: str | None) -> AecFile:
        """Read a file, unless that is done, and see that it was made with these weights."""
        file = data if isinstance(data, AecFile) else parse(data, limits=limits, name=name)
        self._check_model(file.header, name)
        return file

    def _check_model(self, header: Header, name: str | None) -> None:
        made_with = header.model_id.hex()
        if made_with != self.model_id:
            prefix = "" if name is None else f"{name}: "
            raise ModelMismatchError(
                f"{prefix}made with model {made_with}, "
                f"not with {self.network.info.name} {self.model_id}"
            )

    def _windows(self, header: Header) -> list[tuple[Rect, tiles.Window]]:
        """Every chunk's pixels, and its window in the latent grid."""
        halo = self.network.halo
        return [
            (rect, tiles.window(rect, header.height, header.width, halo))
            for rect in chunk_grid(header).rects
        ]

    def _checked(self, file: AecFile, name: str | None, number: int, core: Rect) -> Symbols:
        """Decode the integers of a chunk; an error says which chunk of which file."""
        try:
            return self._symbols(file, number, core)
        except FormatError as error:
            error.cause = f"chunk {number}: {error.cause}"
            raise error.named(name) if name else error from None

    def _symbols(self, file: AecFile, number: int, core: Rect) -> Symbols:
        quality, chunk = file.header.quality, file.chunks[number]
        size = (core.bottom - core.top, core.right - core.left)
        decoder = ChunkDecoder(chunk.payload, self.network.tables, prior_row(quality))
        z = decoder.z((self.network.config.hyper_channels, *hyper_shape(*size)))
        scales = self.network.quantiser.scales(z, quality, size)
        groups = scales.groups.cpu().numpy().astype(np.uint8)
        q, index = np.zeros(groups.shape, np.int32), np.zeros(groups.shape, np.uint8)
        for p in range(scales.passes):
            now = groups == p
            index[now] = scales.index(p, torch.from_numpy(q)).cpu().numpy()[now]
            q[now] = decoder.q(index[now])
        decoder.finish()
        if symbols_crc(z, q) != chunk.symbols_crc:
            raise ChecksumError("decoded integers fail their checksum")
        return Symbols(z, q, index, groups)

    def _picture(
        self, header: Header, symbols: Callable[[int, Rect], Symbols | None], wanted: Rect
    ) -> NDArray[np.uint8]:
        """From integers to pixels, before the orientation is applied.

        Args:
            header: of the file.
            symbols: chunk number and its latent positions -> integers, or None if lost.
            wanted: the pixels to return.
        """
        windows = self._windows(header)
        shown = [(rect, w) for rect, w in windows if tiles.overlap(rect, wanted)]
        area = tiles.bounds(window.outer for _, window in shown)
        size = (area.bottom - area.top, area.right - area.left)
        latents = torch.zeros(self.network.config.latent_channels, *size).to(self.network.device)
        lost = []
        for number, (rect, window) in enumerate(windows):
            part = tiles.overlap(window.core, area)
            if part is None:
                continue
            s = symbols(number, window.core)
            if s is None:
                lost.append(rect)
                continue
            core = self.network.quantiser.dequantise(s.z, s.q, header.quality)
            latents[_within(part, area)] = core[_within(part, window.core)]
        image = np.empty((wanted.bottom - wanted.top, wanted.right - wanted.left, 3), np.uint8)
        for rect, window in shown:
            outer = latents[_within(window.outer, area)]
            pixels = self.network.synthesise(outer, header.q)
            origin = Rect(*(STRIDE * side for side in window.outer))
            tiles.paste(image, wanted, pixels, origin, rect)
        for rect in lost:
            tiles.paint(image, wanted, rect, _LOST)
        return image if header.colour is ColourMode.RGB else _gray(image)


def _within(rect: Rect, area: Rect) -> tuple[slice, slice, slice]:
    """Index of a latent rectangle in a tensor (C, ...) that begins at `area`."""
    rows = slice(rect.top - area.top, rect.bottom - area.top)
    return slice(None), rows, slice(rect.left - area.left, rect.right - area.left)


def _gray(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mean of the three channels, rounded."""
    total = image.astype(np.uint16).sum(axis=2)
    return np.asarray((total + 1) // 3, dtype=np.uint8)
