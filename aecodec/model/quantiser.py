"""From latents y to the integers that are coded, and back.

Both directions share `Conditions.walk`, the context passes; they differ only in where
the residuals come from.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..layout import QUALITY_STEPS
from .autoencoder import Autoencoder
from .config import SCALE_LEVELS
from .hyperprior import HYPER_STRIDE, pass_index
from .scale_head import ChunkScales, IntegerScaleHead


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


def _integers(x: Tensor) -> NDArray[np.int32]:
    return x.to(torch.int32).cpu().numpy()


class Conditions:
    """All that ẑ and the quality say about one chunk of y.

    Attributes:
        gain: (1, C, 1, 1) quantisation steps per unit of y.
        inverse: (1, C, 1, 1) units of ŷ per quantisation step.
        groups: (C, H, W) context pass of each element.
    """

    def __init__(
        self,
        network: Autoencoder,
        scale_head: IntegerScaleHead,
        z: NDArray[np.int32],
        quality: int,
        size: tuple[int, int],
    ) -> None:
        device = network.encoder_gain.log_rows.device
        q = torch.full((1,), quality / QUALITY_STEPS, device=device)
        integers = torch.from_numpy(z)
        self._scales_of = partial(scale_head.chunk, integers, quality, size)
        self.gain = network.encoder_gain(q)
        self.inverse = network.decoder_gain(q)
        features = network.hyper_synthesis(integers[None].to(device).float(), q)
        self._features = features[:, :, : size[0], : size[1]]
        self._context = network.context
        channels = network.config.latent_channels
        self.groups = pass_index(channels, len(network.context), *size).to(device)

    @cached_property
    def scales(self) -> ChunkScales:
        """The chunk's scale indices, exact; a decoder has them already."""
        return self._scales_of()

    def walk(self, residual: Callable[[int, Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Run the context passes.

        Args:
            residual: pass, means and the residuals so far, both (1, C, H, W) -> residuals
                of the same shape, of which the elements of the current pass are kept.

        Returns:
            Residuals and ŷ, each (1, C, H, W) float32.
        """
        residuals = latents = torch.zeros_like(self.groups, dtype=torch.float32)[None]
        for p, context in enumerate(self._context):
            mean = context(self._features, latents if p else None) * self.gain
            found = residual(p, mean, residuals)
            now = self.groups == p
            residuals = torch.where(now, found, residuals)
            latents = torch.where(now, (found + mean) * self.inverse, latents)
        return residuals, latents


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
        self._skip = skip
        self.deadzone = deadzone
        config = network.config
        index = torch.arange(SCALE_LEVELS, dtype=torch.float32)
        log_scales = math.log(config.scale_min) + index * config.log_scale_step
        self._thresholds = _zero_thresholds(log_scales.exp()).to(
            network.encoder_gain.log_rows.device
        )

    def scales(self, z: NDArray[np.int32], quality: int, size: tuple[int, int]) -> ChunkScales:
        """Exact scale indices of a chunk, for ẑ (Cz, h, w) and y of size (H, W)."""
        return self._head.chunk(torch.from_numpy(z), quality, size)

    def hyper(self, y: Tensor, quality: int) -> NDArray[np.int32]:
        """ẑ (Cz, h, w) of one chunk y (C, H, W) at a stored quality."""
        q = torch.full((1,), quality / QUALITY_STEPS, device=y.device)
        gained = y[None] * self._net.encoder_gain(q)
        h, w = hyper_shape(y.shape[1], y.shape[2])
        missing = (0, w * HYPER_STRIDE - y.shape[2], 0, h * HYPER_STRIDE - y.shape[1])
        return _integers(self._net.hyper_analysis(F.pad(gained, missing)).round()[0])

    def conditions(self, z: NDArray[np.int32], quality: int, size: tuple[int, int]) -> Conditions:
        """What ẑ (Cz, h, w) says about a chunk of y of size (H, W)."""
        return Conditions(self._net, self._head, z, quality, size)

    def quantise(self, y: Tensor, quality: int) -> Symbols:
        """Integers of one chunk.

        Args:
            y: (C, H, W) from the analysis transform, float32.
            quality: 0 to 3584.
        """
        return self.quantise_with(y, quality, self.hyper(y, quality), self.deadzone)[0]

    def quantise_with(
        self, y: Tensor, quality: int, z: NDArray[np.int32], deadzone: float | Tensor
    ) -> tuple[Symbols, Tensor]:
        """Integers of one chunk, and ŷ (1, C, H, W), for a given ẑ and strength of rounding.

        Args:
            y, quality: as for `quantise`.
            z: (Cz, ⌈H/4⌉, ⌈W/4⌉).
            deadzone: 0 to 1, for all or for each element (C, H, W).
        """
        given = self.conditions(z, quality, (y.shape[1], y.shape[2]))
        gained = y[None] * given.gain
        scales = given.scales
        index = scales.index(0, gained[0])

        def residual(p: int, mean: Tensor, known: Tensor) -> Tensor:
            nonlocal index
            if 0 < p < scales.passes:
                index = torch.where(scales.groups < p, index, scales.index(p, known[0]))
            exact = gained - mean
            threshold = self._thresholds[index.to(y.device).long()] * deadzone
            magnitude = (exact.abs() + 0.5 - threshold).floor().clamp(min=0)
            return torch.where((index >= self._skip).to(y.device), magnitude * exact.sign(), 0.0)

        residuals, decoded = given.walk(residual)
        groups = scales.groups.cpu().numpy().astype(np.uint8)
        return Symbols(z, _integers(residuals[0]), index.cpu().numpy(), groups), decoded

    def dequantise(self, z: NDArray[np.int32], q: NDArray[np.int32], quality: int) -> Tensor:
        """ŷ (C, H, W) float32, ready for the synthesis transform."""
        given = self.conditions(z, quality, (q.shape[1], q.shape[2]))
        known = torch.from_numpy(q).to(given.gain.device).float()[None]
        return given.walk(lambda p, mean, so_far: known)[1][0]


def _zero_thresholds(scales: Tensor) -> Tensor:
    """How much further than ½ a residual must be from an integer to round away from zero.

    At the rate-distortion optimum of a uniform quantiser at high rate, an error of e
    steps costs 6/ln 2 · e² bits; rounding up to ±1 instead of 0 costs the difference of
    their informations.
    """

    def mass(k: float) -> Tensor:
        upper: Tensor = torch.special.ndtr((k + 0.5) / scales.double())
        lower: Tensor = torch.special.ndtr((k - 0.5) / scales.double())
        return (upper - lower).clamp(min=1e-9)

    extra_bits = (mass(0.0) / mass(1.0)).log2()
    thresholds: Tensor = (extra_bits / (2 * 6 / math.log(2))).clamp(0, 0.5).float()
    return thresholds
