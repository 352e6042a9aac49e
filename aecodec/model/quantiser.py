"""From latents y to the integers that are coded, and back.

The two directions share `_walk`, the context passes; they differ only in where the
residuals come from.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from .autoencoder import Autoencoder
from .hyperprior import HYPER_STRIDE, pass_index
from .scale_head import QUALITY_STEPS, IntegerScaleHead


@dataclass(frozen=True)
class Symbols:
    """Everything a chunk's stream holds, and what decodes it."""

    z: NDArray[np.int32]  # (Cz, h, w)
    q: NDArray[np.int32]  # (C, H, W) residuals of y
    index: NDArray[np.uint8]  # (C, H, W) scale indices


def hyper_shape(height: int, width: int) -> tuple[int, int]:
    """Size of z for a y of the given size."""
    return -(-height // HYPER_STRIDE), -(-width // HYPER_STRIDE)


def _integers(x: Tensor) -> NDArray[np.int32]:
    return x.to(torch.int32).cpu().numpy()


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
        config = network.config
        index = torch.arange(64, dtype=torch.float32)
        scales = config.scale_min * torch.exp(index * config.log_scale_step)
        self._thresholds = deadzone * _zero_thresholds(scales)

    def _quality(self, quality: int, like: Tensor) -> Tensor:
        return torch.full((1,), quality / QUALITY_STEPS, device=like.device)

    def scale_index(self, z: NDArray[np.int32], quality: int, size: tuple[int, int]) -> Tensor:
        """Exact scale indices (C, H, W) uint8 for ẑ (Cz, h, w) and y of size (H, W)."""
        index = self._head(torch.from_numpy(z)[None], quality)
        return index[0, :, : size[0], : size[1]]

    def quantise(self, y: Tensor, quality: int) -> Symbols:
        """Integers of one chunk.

        Args:
            y: (C, H, W) from the analysis transform, float32.
            quality: 0 to 3584.
        """
        size = y.shape[1], y.shape[2]
        q = self._quality(quality, y)
        gained = y[None] * self._net.encoder_gain(q)
        h, w = hyper_shape(*size)
        padded = F.pad(gained, (0, w * HYPER_STRIDE - size[1], 0, h * HYPER_STRIDE - size[0]))
        z = _integers(self._net.hyper_analysis(padded).round()[0])
        index = self.scale_index(z, quality, size)
        threshold = self._thresholds.to(y.device)[index.long()].to(y.device)
        coded = (index >= self._skip).to(y.device)

        def residual(mean: Tensor) -> Tensor:
            exact = gained - mean
            magnitude = (exact.abs() + 0.5 - threshold).floor().clamp(min=0)
            return torch.where(coded, magnitude * exact.sign(), 0.0)

        residuals, _ = self._walk(z, quality, size, residual)
        return Symbols(z, _integers(residuals[0]), index.cpu().numpy())

    def dequantise(self, z: NDArray[np.int32], q: NDArray[np.int32], quality: int) -> Tensor:
        """ŷ (C, H, W) float32, ready for the synthesis transform."""
        device = self._net.encoder_gain.log_rows.device
        known = torch.from_numpy(q).to(device).float()[None]
        size = q.shape[1], q.shape[2]
        _, latents = self._walk(z, quality, size, lambda mean: known)
        return latents[0]

    def _walk(
        self,
        z: NDArray[np.int32],
        quality: int,
        size: tuple[int, int],
        residual: Callable[[Tensor], Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Run the context passes; returns residuals and ŷ, each (1, C, H, W)."""
        net = self._net
        gain_rows = net.encoder_gain.log_rows
        q = self._quality(quality, gain_rows)
        gain, inverse = net.encoder_gain(q), net.decoder_gain(q)
        z_hat = torch.from_numpy(z).to(gain_rows.device).float()[None]
        features = net.hyper_synthesis(z_hat, q)[:, :, : size[0], : size[1]]
        index = pass_index(gain_rows.shape[1], len(net.context), *size).to(gain_rows.device)
        residuals = latents = torch.zeros(1, gain_rows.shape[1], *size, device=gain_rows.device)
        for p, context in enumerate(net.context):
            mean = context(features, latents if p else None) * gain
            found = residual(mean)
            now = index == p
            residuals = torch.where(now, found, residuals)
            latents = torch.where(now, (found + mean) * inverse, latents)
        return residuals, latents


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
