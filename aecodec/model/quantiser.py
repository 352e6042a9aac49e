"""From latents y to the integers that are coded, and back.

Both directions share `Conditions.walk`, the context passes; they differ only in where
the residuals come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from aecodec.layout import QUALITY_STEPS
from aecodec.model.autoencoder import Autoencoder
from aecodec.model.hyperprior import HYPER_STRIDE
from aecodec.model.means import Means
from aecodec.model.passes import Passes, passes_of, slots
from aecodec.model.relaxed import RelaxedScaleHead
from aecodec.model.rounding import round_towards_zero, thresholds_by_index
from aecodec.model.scale_head import ChunkScales, IntegerScaleHead
from aecodec.parallel import Beside, at_once

_LOW_QUALITY = QUALITY_STEPS // 2  # under it rounding grows stronger
_LOW_EXTRA = 2 / 3  # up to so much, as a share of its strength


@dataclass(frozen=True)
class Symbols:
    """Everything a chunk's stream holds, and what decodes it."""

    z: NDArray[np.int32]  # (Cz, h, w)
    q: NDArray[np.int32]  # (C, H, W) residuals of y
    index: NDArray[np.uint8]  # (C, H, W) scale indices
    groups: NDArray[np.uint8]  # (C, H, W) coding pass of each residual


def hyper_shape(height: int, width: int) -> tuple[int, int]:
    """Size of z for a y of the given size."""
    return -(-height // HYPER_STRIDE), -(-width // HYPER_STRIDE)


def integers(x: Tensor) -> NDArray[np.int32]:
    """Whole numbers of any dtype as NumPy's int32."""
    return x.to(torch.int32).cpu().numpy()


class Scales(Protocol):
    """Scale indices of a chunk, pass after pass: `ChunkScales`, or `RelaxedScales`."""

    passes: Passes

    def index(self, p: int, q: Tensor) -> Tensor:
        """Those of pass p, (4, P, group), for the residuals (4, P, n) of passes before."""


class Conditions:
    """All that ẑ and the quality say about one chunk of y, its elements sorted by pass.

    Attributes:
        passes: how they are sorted.
        gain: (C, 1, 1) quantisation steps per unit of y.
        inverse: (C, 1, 1) units of ŷ per quantisation step.
    """

    def __init__(
        self,
        network: Autoencoder,
        means: Means,
        scales_of: Callable[[], Scales],
        z: Tensor,
        quality: int,
        size: tuple[int, int],
    ) -> None:
        device = network.encoder_gain.log_rows.device
        q = network.encoder_gain.log_rows.new_full((1,), quality / QUALITY_STEPS)
        self._scales_of = scales_of
        channels = network.config.latent_channels
        count = network.config.passes
        order = slots(channels, count).to(device)
        self.gain, self.inverse = network.encoder_gain(q)[0], network.decoder_gain(q)[0]
        self._gain = self.gain.flatten()[order][:, None]  # (4, 1, C)
        self._inverse = self.inverse.flatten()[order][:, None]
        self._means, self._size, self._quality = means, size, q
        self._start = means.start(z, size)
        self.passes = passes_of(channels, count, *size)

    @cached_property
    def scales(self) -> Scales:
        """The chunk's scale indices, exact; a decoder has them already."""
        return self._scales_of()

    @cached_property
    def _whole(self) -> Tensor:
        """Scale indices of a model that has a single coding pass, (4, P, C)."""
        index = self.scales.index(0, torch.zeros(4, 1, 0))
        return self.passes.sort(self.scales.passes.restore(index))

    def index(self, p: int, known: list[Tensor]) -> Tensor:
        """Scale indices of pass p, (4, P, group), for the residuals of those before."""
        if self.scales.passes.count == 1:
            return self._whole[:, :, self.passes.of(p)]
        return self.scales.index(p, torch.cat(known, dim=2) if known else torch.zeros(4, 1, 0))

    def walk(
        self,
        residual: Callable[[int, Tensor, list[Tensor]], Tensor],
        before: Callable[[int, list[Tensor]], None] | None = None,
    ) -> Tensor:
        """Run the context passes.

        Args:
            residual: pass, means (4, P, group) and the residuals of each pass before ->
                residuals of this pass, of the same shape.
            before: called with a pass and the residuals before it, ahead of its means.

        Returns:
            ŷ (4, P, C) float32.
        """
        residuals: list[Tensor] = []
        latents: list[Tensor] = []
        ahead = None
        for p in range(self.passes.count):
            now = self.passes.of(p)
            if before is not None:
                before(p, residuals)
            if ahead is None:
                ahead = self._means.ahead(p, self._start, self._quality)
            mean = self._means.of(p, ahead, latents, self._size) * self._gain[:, :, now]
            if p + 1 < self.passes.count:  # while residuals may still be coming
                ahead = self._means.ahead(p + 1, self._start, self._quality)
            found = residual(p, mean, residuals)
            residuals.append(found)
            latents.append((found + mean) * self._inverse[:, :, now])
        return torch.cat(latents, dim=2)


class Quantiser:
    """Quantises and dequantises one chunk of y at a time, always in float32.

    Args:
        network: the model, in evaluation mode.
        scale_head: its integer scale head.
        skip: residuals with a scale index below this are forced to zero.
        deadzone: strength of the rate-distortion optimised rounding; 0 rounds to the
            nearest, 1 rounds where the estimated cost is least.
    """

    def __init__(
        self, network: Autoencoder, scale_head: IntegerScaleHead, skip: int, deadzone: float
    ) -> None:
        self._net = network
        self._head = scale_head
        self._means = Means(network)
        self._skip = skip
        self.deadzone = deadzone
        self._device = network.encoder_gain.log_rows.device
        self._thresholds = thresholds_by_index(network.config).to(self._device)

    def scales(self, z: NDArray[np.int32], quality: int, size: tuple[int, int]) -> ChunkScales:
        """Exact scale indices of a chunk, for ẑ (Cz, h, w) and y of size (H, W)."""
        return self._head.chunk(torch.from_numpy(z), quality, size)

    def strength(self, quality: int) -> float:
        """Of rounding in one pass at a stored quality, 0 to 1.

        It is `deadzone`, but at the lowest qualities more, so that they reach smaller files.
        """
        low = max(0.0, 1 - quality / _LOW_QUALITY)
        return min(1.0, self.deadzone * (1 + _LOW_EXTRA * low))

    def hyper(self, y: Tensor, quality: int) -> NDArray[np.int32]:
        """ẑ (Cz, h, w) of one chunk y (C, H, W) at a stored quality."""
        return integers(self.side(y, quality).round())

    def side(self, y: Tensor, quality: int) -> Tensor:
        """z (Cz, h, w) of one chunk y (C, H, W) at a stored quality, before it is rounded."""
        q = y.new_full((1,), quality / QUALITY_STEPS)
        gained = y[None] * self._net.encoder_gain(q)
        h, w = hyper_shape(y.shape[1], y.shape[2])
        missing = (0, w * HYPER_STRIDE - y.shape[2], 0, h * HYPER_STRIDE - y.shape[1])
        z: Tensor = self._net.hyper_analysis(F.pad(gained, missing))[0]
        return z

    def conditions(self, z: NDArray[np.int32], quality: int, size: tuple[int, int]) -> Conditions:
        """What ẑ (Cz, h, w) says about a chunk of y of size (H, W)."""
        given = torch.from_numpy(z)
        scales = partial(self._head.chunk, given, quality, size)
        real = given[None].to(self._device).float()
        return Conditions(self._net, self._means, scales, real, quality, size)

    def relaxed(self, z: Tensor, quality: int, size: tuple[int, int]) -> Conditions:
        """The same for a real ẑ (1, Cz, h, w), scale indices real too, with gradients."""
        scales = partial(self._relaxed_head.chunk, z, quality, size)
        return Conditions(self._net, self._means, scales, z, quality, size)

    @cached_property
    def _relaxed_head(self) -> RelaxedScaleHead:
        with torch.inference_mode(False):
            return RelaxedScaleHead(self._head.tensors, self._device)

    def quantise(self, y: Tensor, quality: int, beside: Beside = at_once) -> Symbols:
        """Integers of one chunk.

        Args:
            y: (C, H, W) from the analysis transform, float32.
            quality: 0 to 3584.
            beside: what to compute scales by while means are computed; the result is the same.
        """
        z, strength = self.hyper(y, quality), self.strength(quality)
        return self.quantise_with(y, quality, z, strength, beside)[0]

    def quantise_with(
        self,
        y: Tensor,
        quality: int,
        z: NDArray[np.int32],
        deadzone: float | Tensor,
        beside: Beside = at_once,
    ) -> tuple[Symbols, Tensor]:
        """Integers of one chunk, and ŷ (C, H, W), for a given ẑ and strength of rounding.

        Args:
            y, quality, beside: as for `quantise`.
            z: (Cz, ⌈H/4⌉, ⌈W/4⌉).
            deadzone: 0 to 1, for all or for each element (C, H, W).
        """
        given = self.conditions(z, quality, (y.shape[1], y.shape[2]))
        passes = given.passes
        gained = passes.sort(y * given.gain)
        strength = passes.sort(deadzone) if isinstance(deadzone, Tensor) else None
        indices: list[Tensor] = []
        residuals: list[Tensor] = []
        coming: list[Callable[[], Tensor]] = []

        def before(p: int, known: list[Tensor]) -> None:
            coming.append(beside(partial(given.index, p, list(known))))

        def residual(p: int, mean: Tensor, known: list[Tensor]) -> Tensor:
            now = passes.of(p)
            index = coming[p]().to(y.device)
            indices.append(index)
            threshold = self._thresholds[index.long()]
            threshold *= deadzone if strength is None else strength[:, :, now]
            rounded = round_towards_zero(gained[:, :, now] - mean, threshold)
            residuals.append(torch.where(index >= self._skip, rounded, 0.0))
            return residuals[-1]

        decoded = given.walk(residual, before)
        index = passes.restore(torch.cat(indices, dim=2)).contiguous().cpu().numpy()
        groups = given.scales.passes.index.numpy()
        q = integers(passes.restore(torch.cat(residuals, dim=2))).copy(order="C")
        return Symbols(z, q, index, groups), passes.restore(decoded)

    def dequantise(self, z: NDArray[np.int32], q: NDArray[np.int32], quality: int) -> Tensor:
        """ŷ (C, H, W) float32 in channels-last memory, ready for the synthesis transform."""
        size = (q.shape[1], q.shape[2])
        passes = passes_of(len(q), self._net.config.passes, *size)
        known = passes.sort(torch.from_numpy(q))
        residuals = (known[:, :, passes.of(p)] for p in range(passes.count))
        return self.reconstruct(z, residuals, quality, size)

    def reconstruct(
        self, z: NDArray[np.int32], residuals: Iterable[Tensor], quality: int, size: tuple[int, int]
    ) -> Tensor:
        """The same from residuals that may still be coming in.

        Args:
            z, quality: as for `quantise_with`.
            residuals: integers of pass after pass, (4, P, group).
            size: (H, W), positions of y.
        """
        given = self.conditions(z, quality, size)
        coming = iter(residuals)
        decoded = given.walk(lambda p, mean, known: next(coming).to(mean))
        latents = given.passes.restore(decoded)
        for _ in coming:
            pass  # whoever makes them may have work to do behind the last
        return latents
