"""The whole road: pixels -> latents -> integers -> bytes, and back."""

from __future__ import annotations

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
    Precision,
    chunk_grid,
    parse,
    serialise,
)
from .entropy import ChunkDecoder, encode_chunk, symbols_crc
from .errors import ChecksumError, FormatError, InputError, ModelMismatchError
from .layout import QUALITY_STEPS, Rect
from .model.network import Network
from .model.quantiser import Symbols, hyper_shape
from .pixels import as_array, upright
from .rate import quality_index

_PRECISIONS = {torch.float32: Precision.FLOAT32, torch.bfloat16: Precision.BFLOAT16}


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

    @torch.inference_mode()
    def encode(self, image: Any, *, quality: float = 75.0) -> bytes:
        """Code an image.

        Args:
            image: `uint8` array of shape (H, W, 3) or (H, W), or a Pillow image.
            quality: 1 (small) to 100 (close to the original).

        Returns:
            The bytes of an `.aec` file.

        Raises:
            InputError: the image or the quality cannot be coded.
        """
        index = quality_index(quality)
        pixels = as_array(image)
        header = Header(
            width=pixels.shape[1],
            height=pixels.shape[0],
            model_id=bytes.fromhex(self.model_id),
            quality=index,
            colour=ColourMode.GRAY if pixels.ndim == 2 else ColourMode.RGB,
            precision=_PRECISIONS.get(self.network.dtype, Precision.OTHER),
        )
        rgb = pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
        chunks = []
        for rect in chunk_grid(header).rects:
            window = tiles.window(rect, header.height, header.width, self.network.halo)
            y = self.network.analyse(tiles.cut_pixels(rgb, window.outer))
            rows, cols = window.inner
            symbols = self.network.quantiser.quantise(y[:, rows, cols], index)
            chunks.append(self._code(symbols, index))
        return serialise(AecFile(header, tuple(chunks)))

    @torch.inference_mode()
    def decode(
        self, data: bytes, *, limits: Limits | None = None, name: str | None = None
    ) -> NDArray[np.uint8]:
        """Decode an `.aec` file.

        Args:
            data: the whole file.
            limits: what to accept; None for the default ones.
            name: what to call the data in error messages.

        Returns:
            `uint8` of shape (H, W, 3), or (H, W) for gray.

        Raises:
            FormatError: not an `.aec` file, or a damaged one.
            LimitError: larger than `limits` allow.
            ModelMismatchError: made with other weights than these.
        """
        file = parse(data, limits=limits or DEFAULT_LIMITS, name=name)
        header = file.header
        rows, cols = tiles.latent_size(header.height, header.width)
        latents = torch.empty(
            self.network.config.latent_channels, rows, cols, device=self.network.device
        )
        rects = chunk_grid(header).rects
        windows = [
            tiles.window(rect, header.height, header.width, self.network.halo) for rect in rects
        ]
        for number, window in enumerate(windows):
            symbols = self._symbols(file, number, window, name)
            core = self.network.quantiser.dequantise(symbols.z, symbols.q, header.quality)
            latents[_within(window.core)] = core
        image = np.empty((header.height, header.width, 3), np.uint8)
        for rect, window in zip(rects, windows, strict=True):
            outer = latents[_within(window.outer)]
            pixels = self.network.synthesise(outer, header.quality / QUALITY_STEPS)
            top, left = (part.start * tiles.STRIDE for part in window.inner)
            height, width = rect.bottom - rect.top, rect.right - rect.left
            image[rect.top : rect.bottom, rect.left : rect.right] = pixels[
                top : top + height, left : left + width
            ]
        image = image if header.colour is ColourMode.RGB else _gray(image)
        return upright(image, header.orientation)

    @torch.inference_mode()
    def symbols(self, data: bytes, *, name: str | None = None) -> list[Symbols]:
        """The integers of every chunk, without running the synthesis transform.

        Raises:
            FormatError, LimitError, ModelMismatchError: as `decode`.
        """
        file = parse(data, name=name)
        head = file.header
        return [
            self._symbols(file, number, tiles.window(rect, head.height, head.width, 0), name)
            for number, rect in enumerate(chunk_grid(head).rects)
        ]

    def verify(self, data: bytes, *, name: str | None = None) -> None:
        """Check that a file decodes to exactly the integers that were coded.

        Raises:
            FormatError, LimitError, ModelMismatchError: as `decode`.
        """
        self.symbols(data, name=name)

    def _code(self, symbols: Symbols, quality: int) -> Chunk:
        row = _prior_row(quality)
        payload = encode_chunk(symbols.z, symbols.q, symbols.index, row, self.network.tables)
        return Chunk(payload, symbols_crc(symbols.z, symbols.q))

    def _symbols(
        self, file: AecFile, number: int, window: tiles.Window, name: str | None
    ) -> Symbols:
        """Decode and check the integers of one chunk."""
        header, chunk = file.header, file.chunks[number]
        if header.model_id.hex() != self.model_id:
            prefix = "" if name is None else f"{name}: "
            raise ModelMismatchError(
                f"{prefix}made with model {header.model_id.hex()}, "
                f"not with {self.network.info.name} {self.model_id}"
            )
        size = (window.core.bottom - window.core.top, window.core.right - window.core.left)
        try:
            decoder = ChunkDecoder(chunk.payload, self.network.tables, _prior_row(header.quality))
            z = decoder.z((self.network.config.hyper_channels, *hyper_shape(*size)))
            index = self.network.quantiser.scale_index(z, header.quality, size).cpu().numpy()
            q = decoder.q(index)
        except FormatError as error:
            error.cause = f"chunk {number}: {error.cause}"
            raise error.named(name) if name else error from None
        if symbols_crc(z, q) != chunk.symbols_crc:
            raise ChecksumError(f"chunk {number}: decoded integers fail their checksum", name=name)
        return Symbols(z, q, index)


def _prior_row(quality: int) -> int:
    """Row of the ẑ tables for a stored quality: the nearest anchor."""
    return (quality + QUALITY_STEPS // 2) // QUALITY_STEPS


def _within(rect: Rect) -> tuple[slice, slice, slice]:
    return slice(None), slice(rect.top, rect.bottom), slice(rect.left, rect.right)


def _gray(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mean of the three channels, rounded."""
    total = image.astype(np.uint16).sum(axis=2)
    return np.asarray((total + 1) // 3, dtype=np.uint8)
