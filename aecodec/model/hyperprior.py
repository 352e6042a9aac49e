"""What the entropy model needs: hyper transforms, z prior, scale head, spatial context.

The mean-scale hyperprior of Minnen, Ballé and Toderici (2018), with two changes. The
scale of every residual comes from integers alone, ẑ and the residuals decoded before,
through `ScaleHead` and `ScaleContext`, networks that are evaluated in integers when files
are coded (see `scale_head.py`). The means come from ẑ and from already known ŷ in 1, 2 or
4 passes over a checkerboard of channel groups and positions (after Li, Li and Lu 2023,
DCVC-DC); they never influence what is decoded.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aecodec.model.blocks import QualityBias, ResidualBlock, blocks, interpolate_rows
from aecodec.model.config import QUALITY_ROWS, ModelConfig

_BOUND = 127  # of activations of the scale head, in training

HYPER_STRIDE = 4
"""Positions of y per position of z, each way."""


class HyperAnalysis(nn.Module):
    """h_a: gained y to z."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        c, w = config.latent_channels, config.hyper_width
        self.head = nn.Conv2d(c, w, 1)
        self.down_32 = nn.Conv2d(4 * w, w, 1)
        self.block_32 = ResidualBlock(w)
        self.down_64 = nn.Conv2d(4 * w, w, 1)
        self.block_64 = ResidualBlock(w)
        self.tail = nn.Conv2d(w, config.hyper_channels, 3, padding=1)
        with torch.no_grad():  # ẑ starts out all zero, so that it costs nothing at first
            self.tail.weight.mul_(0.1)
            self.tail.bias.zero_()  # type: ignore[union-attr]

    def forward(self, y: Tensor) -> Tensor:
        """(B, C, h, w) in quantisation steps, sides multiples of 4 -> z (B, Cz, h/4, w/4)."""
        # asinh: scales are predicted in log units, and y spans four decades
        h = F.leaky_relu(self.head(_asinh(y)), 0.1)
        h = self.block_32(F.leaky_relu(self.down_32(F.pixel_unshuffle(h, 2)), 0.1))
        h = self.block_64(F.leaky_relu(self.down_64(F.pixel_unshuffle(h, 2)), 0.1))
        out: Tensor = self.tail(h)
        return out


def _asinh(x: Tensor) -> Tensor:
    """`torch.asinh` to within 3e-7, on a CPU in a fifth of its time."""
    size = x.abs()
    return (size + (size * size + 1).sqrt()).log().copysign(x)


class HyperSynthesis(nn.Module):
    """h_s: ẑ to the features that the context passes start from."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        w = config.hyper_width
        self.up_32 = nn.Conv2d(config.hyper_channels, 4 * w, 3, padding=1)
        self.block_32 = ResidualBlock(w)
        self.up_16 = nn.Conv2d(w, 4 * w, 1)
        self.tail = nn.Conv2d(w, config.context_width, 1)
        self.bias = QualityBias(config.context_width)

    def forward(self, z: Tensor, quality: Tensor) -> Tensor:
        """ẑ (B, Cz, h, w), quality (B,) -> features (B, F, 4h, 4w)."""
        out: Tensor = self.tail(self.hidden(z)) + self.bias(quality)
        return out

    def hidden(self, z: Tensor) -> Tensor:
        """ẑ (B, Cz, h, w) -> what the last layer sees, (B, hyper_width, 4h, 4w)."""
        h = self.block_32(F.leaky_relu(F.pixel_shuffle(self.up_32(z), 2), 0.1))
        return F.leaky_relu(F.pixel_shuffle(self.up_16(h), 2), 0.1)


class HyperPrior(nn.Module):
    """Logistic density of every channel of z, a row for each quality anchor."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(QUALITY_ROWS, config.hyper_channels))
        self.log_scale = nn.Parameter(
            torch.full((QUALITY_ROWS, config.hyper_channels), math.log(0.07))
        )

    def bits(self, z: Tensor, quality: Tensor) -> Tensor:
        """Information of z (B, Cz, h, w) in bits per image, shape (B,); float32."""
        scale = interpolate_rows(self.log_scale, quality).clamp(min=math.log(0.03)).exp()
        distance = (z - interpolate_rows(self.mean, quality)).abs()
        upper = torch.sigmoid((0.5 - distance) / scale)
        lower = torch.sigmoid((-0.5 - distance) / scale)
        return -(upper - lower).clamp(min=1e-9).log2().sum(dim=(1, 2, 3))


class ScaleHead(nn.Module):
    """ẑ to log-scales, in floating point, for training.

    Shaped so that `scale_integers.quantise` can turn it into integers: plain convolutions,
    bounded ReLU, and biases interpolated between quality rows. Integers have a lower bound,
    `FixedPoint.limit`; trained activations stay far under either (20 on photographs).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        shapes = self.shapes(config)
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(o, i, k, k) * math.sqrt(2 / (i * k * k))) for i, o, k in shapes
        )
        self.biases = nn.ParameterList(
            nn.Parameter(torch.zeros(QUALITY_ROWS, o)) for _, o, _ in shapes
        )
        with torch.no_grad():
            self.weights[2].mul_(0.1)
            self.biases[0].fill_(0.1)

    @staticmethod
    def shapes(config: ModelConfig) -> list[tuple[int, int, int]]:
        """Of each layer (in, out, side of the kernel); all have biases."""
        w = config.scale_width
        return [
            (config.hyper_channels, 4 * w, 3),
            (w, 4 * w, 3),
            (w, config.latent_channels, 1),
        ]

    def features(self, z: Tensor, quality: Tensor) -> Tensor:
        """ẑ (B, Cz, h, w), quality (B,) -> (B, scale_width, 4h, 4w), values 0 to `_BOUND`."""
        h = z
        for weight, rows in list(zip(self.weights, self.biases, strict=True))[:2]:
            h = F.conv2d(h, weight, padding=weight.shape[-1] // 2)
            h = F.pixel_shuffle(h + interpolate_rows(rows, quality), 2).clamp(0, _BOUND)
        return h

    def forward(self, features: Tensor, quality: Tensor) -> Tensor:
        """What `features` gives, quality (B,) -> log σ (B, C, h, w)."""
        return F.conv2d(features, self.weights[2]) + interpolate_rows(self.biases[2], quality)


def magnitude_level(q: Tensor) -> Tensor:
    """log₂(1 + |q|), linear between powers of two: integers would give the same, exactly.

    Args:
        q: integers of any floating dtype; beyond ±1023 they count as 1023.
    """
    mantissa, exponent = torch.frexp(q.abs().clamp(max=1023) + 1)
    return exponent + (2 * mantissa - 2)


class ScaleContext(nn.Module):
    """One pass: what the residuals known so far say about the scales of the next.

    Shaped like `ScaleHead`, so that `scale_integers.quantise` turns it into integers too.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(o, i, k, k) * math.sqrt(2 / (i * k * k)))
            for i, o, k in self.shapes(config)
        )
        w = config.scale_context_width
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(QUALITY_ROWS, w)) for _ in range(2))
        with torch.no_grad():
            self.weights[1].mul_(0.1)
            self.weights[3].zero_()

    @staticmethod
    def shapes(config: ModelConfig) -> list[tuple[int, int, int]]:
        """Of each layer (in, out, side of the kernel); the two hidden ones have biases."""
        w, c = config.scale_context_width, config.latent_channels
        return [(c, w, 1), (config.scale_width, w, 1), (w, w, 3), (w, c, 1)]

    def forward(self, level: Tensor, features: Tensor, quality: Tensor) -> Tensor:
        """Correction of log σ.

        Args:
            level: `magnitude_level` of the known residuals, 0 elsewhere, (B, C, h, w).
            features: of the scale head, (B, scale_width, h, w).
            quality: (B,).

        Returns:
            (B, C, h, w)
        """
        known, head, spatial, tail = self.weights
        h = F.conv2d(level, known) + F.conv2d(features, head)
        h = (h + interpolate_rows(self.biases[0], quality)).clamp(0, _BOUND)
        h = F.conv2d(h, spatial, padding=1) + interpolate_rows(self.biases[1], quality)
        return F.conv2d(h.clamp(0, _BOUND), tail)


class ContextPass(nn.Module):
    """One pass: features and the ŷ known so far to the means of the next elements."""

    def __init__(self, config: ModelConfig, count: int, *, first: bool) -> None:
        super().__init__()
        c, w = config.latent_channels, config.context_width
        self.known = None if first else nn.Conv2d(c, w, 1, bias=False)
        self.blocks = blocks(w, count, config.context_inner)
        self.tail = nn.Conv2d(w, c, 1)
        with torch.no_grad():
            self.tail.weight.mul_(0.1)
            self.tail.bias.zero_()  # type: ignore[union-attr]

    def forward(self, features: Tensor, known: Tensor | None) -> Tensor:
        """(B, F, h, w), and ŷ (B, C, h, w) with zeros where unknown -> means (B, C, h, w)."""
        h = features if self.known is None else features + self.known(known)
        out: Tensor = self.tail(self.blocks(h))
        return out
