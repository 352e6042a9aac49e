"""From a latent vector to the integers that are coded, and back.

Element d at a stored quality is rounded to q = round((y − mean) / step), and ŷ = mean +
q · step. The step is float: it changes pixels, never how a symbol is coded. That is up to
the scale index, which integer tables alone decide.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aecodec.entropy import ChunkDecoder
from aecodec.layout import QUALITY_STEPS
from aecodec.model.config import QUALITY_ROWS, SCALE_LEVELS
from aecodec.model.quantiser import Symbols
from aecodec.parallel import Beside, at_once
from aecodec.rate import mixed_row, rows_around

_MAX = 2.0**24
"""More than entropy coding takes, which then says so."""


class VectorQuantiser:
    """Quantises and dequantises vectors of length D.

    Args:
        mean: (D,) float32.
        log_step: (8, D) float32, natural logarithm of the step at each quality row.
        index: (8, D) scale indices at each quality row, 0 to 63.
        skip: elements with a scale index below this are forced to q = 0.

    Raises:
        ValueError: shapes or indices that make no sense.
    """

    def __init__(self, mean: Tensor, log_step: Tensor, index: NDArray[np.int32], skip: int) -> None:
        shape = (QUALITY_ROWS, len(mean))
        if tuple(log_step.shape) != shape or index.shape != shape:
            raise ValueError("tables of the latent vector differ in shape")
        if index.min() < 0 or index.max() >= SCALE_LEVELS:
            raise ValueError(f"a scale index is not within 0..{SCALE_LEVELS - 1}")
        self._mean, self._log_step = mean.float(), log_step.float()
        self._index, self._skip = index.astype(np.int64), skip

    @property
    def size(self) -> int:
        """D."""
        return len(self._mean)

    def index(self, quality: int) -> NDArray[np.uint8]:
        """Scale indices (D, 1, 1) at a stored quality, interpolated in integers."""
        index: NDArray[np.uint8] = mixed_row(self._index, quality).astype(np.uint8)
        return index.reshape(-1, 1, 1)

    def step(self, quality: int) -> Tensor:
        """Steps (D,) float32 at a stored quality: their logarithms are interpolated."""
        low, part = rows_around(quality, QUALITY_ROWS)
        return self._log_step[low].lerp(self._log_step[low + 1], part / QUALITY_STEPS).exp()

    def quantise(self, y: Tensor, quality: int, beside: Beside = at_once) -> Symbols:
        """Integers of a vector y (D, 1, 1), at a stored quality 0 to 3584; nothing is `beside`."""
        exact = ((y.flatten() - self._mean) / self.step(quality)).clamp(-_MAX, _MAX)
        index = self.index(quality)
        q = exact.round().to(torch.int32).cpu().numpy().reshape(index.shape)
        return self._symbols(np.where(index < self._skip, np.int32(0), q), index)

    def dequantise(self, z: NDArray[np.int32], q: NDArray[np.int32], quality: int) -> Tensor:
        """ŷ (D, 1, 1) float32; ẑ is empty."""
        known = torch.from_numpy(q).to(self._mean.device).flatten()
        return (self._mean + known * self.step(quality)).reshape(-1, 1, 1)

    def read(self, decoder: ChunkDecoder, quality: int) -> Symbols:
        """Decode the integers of a vector.

        Raises:
            FormatError: they cannot be decoded.
        """
        index = self.index(quality)
        return self._symbols(decoder.q(index), index)

    def _symbols(self, q: NDArray[np.int32], index: NDArray[np.uint8]) -> Symbols:
        return Symbols(np.zeros((0, 1, 1), np.int32), q, index, np.zeros_like(index))
