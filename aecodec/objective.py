"""What effort makes smaller: λ·255²·MSE + bits per pixel of one chunk, through the decoder."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from aecodec import tiles
from aecodec.entropy import PRECISION, Tables
from aecodec.layout import QUALITY_MAX, QUALITY_STEPS, STRIDE, Rect, softened
from aecodec.model.config import ModelConfig
from aecodec.model.network import Network
from aecodec.rate import prior_row
from aecodec.samples import Samples

_EMPHASIS = 1.6
"""Weight of the error at the lowest quality, against what λ gives it; 1 at the highest.

Found on photographs held out of training: there an error is saved for fewer bits.
"""


@dataclass(frozen=True)
class Scene:
    """A chunk amid its surroundings, before it is quantised.

    Attributes:
        latents: y of `area`, (C, h, w) float32.
        area: which positions of y these are, in the whole grid: those of the chunk, and
            for efforts above 0 what the synthesis of its pixels sees of its neighbours.
        core: the chunk's own positions.
        chunk: its pixels.
    """

    latents: Tensor
    area: Rect
    core: Rect
    chunk: Rect

    @property
    def own(self) -> Tensor:
        """y of the chunk alone."""
        return self.latents[tiles.latents_within(self.core, self.area)]


class Objective:
    """The loss of one chunk at one quality, part by part.

    Args:
        network: the model.
        scene: the chunk.
        pixels: (16h, 16w, 3) of the scene's area, see `Network.to_input`.
        quality: stored quality, 0 to 3584; below 0 only the weight of errors falls further.
        softness: of the file, see `Header`.
        seen: (16h, 16w), which of the pixels can be seen: the others have no error. None if
            all can.

    Attributes:
        quantiser: that of the network.
        skip: residuals with a scale index below this are not coded.
        quality: the stored one.
        y: (C, h, w) of the chunk, as the first pass has it.
        size: (h, w).
        pixels: how many the chunk has.
        curvature: what `measure_curvature` found last.
    """

    def __init__(
        self,
        network: Network,
        scene: Scene,
        pixels: Samples,
        quality: int,
        softness: int = 0,
        seen: NDArray[np.bool_] | None = None,
    ) -> None:
        self._error_weight = error_weight(network.config, quality)
        self._network, self.quality = network, max(quality, 0)
        self._synthesis_q = softened(self.quality, softness)
        self.quantiser, self.skip = network.quantiser, network.tables.skip
        row = prior_row(self.quality)
        z = information(network.tables.z[row], network.tables.z_bound[row])
        self._margins = tiles.margins(scene.core, scene.area)
        rows, cols = tiles.within(scene.chunk, tiles.pixels(scene.area))
        with torch.inference_mode(False):
            self._target = network.to_input(pixels[rows, cols])
            self._around = scene.latents.clone()[None]
            self._costs = costs(network.tables).to(network.device)
            self._z_costs = torch.from_numpy(z).to(network.device)
            self._seen = None if seen is None else torch.tensor(seen[rows, cols]).to(network.device)
        self._own = tiles.latents_within(scene.core, scene.area)
        self.y, self.size = self._around[0][self._own], tiles.size(scene.core)
        self.pixels = tiles.area(scene.chunk)
        self.curvature: Tensor | None = None

    def bits(self, q: Tensor, index: Tensor) -> Tensor:
        """Information of residuals, nothing for those that are not coded."""
        return self._costs[index.to(self._costs.device).long(), self._column(q, self._costs)]

    def relaxed_bits(self, q: Tensor, index: Tensor) -> Tensor:
        """The same for real scale indices: linear between neighbouring tables."""
        low = index.detach().floor().clamp(self.skip, len(self._costs) - 2)
        column, row = self._column(q, self._costs), low.long()
        return torch.lerp(self._costs[row, column], self._costs[row + 1, column], index - low)

    def side_bits(self, z: Tensor) -> Tensor:
        """Information of every element of ẑ (Cz, h, w), integers of any dtype."""
        z = z.to(self._z_costs.device)
        channel = torch.arange(len(z), device=z.device)[:, None, None]
        return self._z_costs[channel, self._column(z, self._z_costs)]

    @staticmethod
    def _column(q: Tensor, table: Tensor) -> Tensor:
        bound = table.shape[1] // 2
        return q.to(table.device).clamp(-bound, bound).long() + bound

    def error(self, decoded: Tensor) -> Tensor:
        """Weighted error of the chunk's own pixels for its ŷ (C, h, w), amid what surrounds it."""
        outer = self._around.clone()
        outer[0][self._own] = decoded
        pixels = self._network.decode(outer, self._synthesis_q, self._margins)
        height, width = self._target.shape[2:]
        squares = (pixels[:, :, :height, :width] - self._target).square()
        if self._seen is not None:
            squares = squares * self._seen
        error: Tensor = squares.mean() * self._error_weight
        return error

    def slope(self, decoded: Tensor, *, needed: bool = True) -> tuple[float, Tensor]:
        """Weighted error of ŷ and, if needed, its gradient."""
        variable = decoded.detach().requires_grad_(needed)
        with torch.set_grad_enabled(needed):
            error = self.error(variable)
        slope = torch.autograd.grad(error, variable)[0] if needed else error.detach()
        return float(error.detach()), slope

    def measure_curvature(
        self, decoded: Tensor, slope: Tensor, step: Tensor, rng: torch.Generator
    ) -> Tensor:
        """Second derivative of the weighted error, (C, h, w): that of a channel where all is seen.

        From one random direction (Hutchinson's estimator): the gradients of different
        elements of a channel are almost independent, and it hardly depends on the place.

        Args:
            decoded: ŷ (C, h, w).
            slope: the gradient there.
            step: (C, 1, 1) the unit of each channel.
            rng: of the direction.
        """
        # not uniform_ of something alike: that would depend on how decoded lies in memory
        sign = torch.rand(decoded.shape, generator=rng, dtype=decoded.dtype, device=decoded.device)
        sign = sign.round() * 2 - 1
        difference = self.slope(decoded + sign * step / 2)[1] - slope
        each: Tensor = difference * sign * step * 2
        total, seen = each.sum(dim=(1, 2), keepdim=True), self._visibility
        self.curvature = (total / seen.sum().clamp(min=1)).clamp(min=0) * seen
        return self.curvature

    @cached_property
    def _visibility(self) -> Tensor:
        """Which part of its 16×16 pixels every position of y can see: (h, w)."""
        if self._seen is None:
            return self.y.new_ones(self.size)
        missing = [STRIDE * n - m for n, m in zip(self.size, self._seen.shape, strict=True)]
        padded = F.pad(self._seen[None].float(), (0, missing[1], 0, missing[0]))
        return F.avg_pool2d(padded, STRIDE)[0]


def error_weight(config: ModelConfig, quality: int) -> float:
    """Bits per pixel that an MSE of 1, of samples with a range of 1, is worth to effort.

    Below quality 0 it falls three times as fast: where the steps cannot grow any more, it
    takes so much for files to go on shrinking as they do above.
    """
    quality *= 1 if quality > 0 else 3
    emphasis = math.pow(_EMPHASIS, 1 - quality / QUALITY_MAX)
    return emphasis * config.lambda_at(quality / QUALITY_STEPS) * 255**2


def costs(tables: Tables) -> Tensor:
    """Information of residuals in bits: (64, 2K + 1) float32, column K for 0.

    Scale indices that are not coded cost nothing.
    """
    bits = information(tables.y, tables.y_bound)
    bits[: tables.skip] = 0
    return torch.from_numpy(bits)


def information(tables: NDArray[np.int32], bounds: NDArray[np.int32]) -> NDArray[np.float32]:
    """Information of integers in bits, (n, 2K + 1) for n tables, column K for 0.

    Beyond a table's bound come the escape symbol and about two bits for every doubling.
    """
    widest = int(bounds.max())
    values = np.abs(np.arange(-widest, widest + 1))
    bits = np.zeros((len(tables), len(values)), np.float32)
    for i, (row, k) in enumerate(zip(tables, bounds.tolist(), strict=True)):
        each = PRECISION - np.log2(row[: 2 * k + 2].clip(1).astype(np.float64))
        bits[i, widest - k : widest + k + 1] = each[:-1]
        far = values > k
        bits[i, far] = each[-1] + 5 + np.floor(np.log2(2.0 * (values[far] - k)))
    return bits
