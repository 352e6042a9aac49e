"""Building blocks shared by the transforms and the entropy model."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aecodec.model.config import QUALITY_ROWS


class ResidualBlock(nn.Module):
    """Residual block: 1×1 C→I, 3×3, 1×1 I→C (He et al. 2015), without normalisation.

    Dense and channel-heavy on purpose: it runs near peak on AVX-512, AMX and GPUs,
    where depthwise convolutions are bound by memory.

    Args:
        channels: C.
        inner: I; 0 for half of C.
    """

    def __init__(self, channels: int, inner: int = 0) -> None:
        super().__init__()
        inner = inner or channels // 2
        self.reduce = nn.Conv2d(channels, inner, 1)
        self.spatial = nn.Conv2d(inner, inner, 3, padding=1)
        self.expand = nn.Conv2d(inner, channels, 1)
        nn.init.zeros_(self.expand.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            self.expand.weight.mul_(0.3)  # start near the identity

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        h = F.leaky_relu(self.reduce(x), 0.1, inplace=True)
        h = F.leaky_relu(self.spatial(h), 0.1, inplace=True)
        out: Tensor = self.expand(h)
        # in place where no gradient and no autocast can mind: 3 % of a block's time
        return out.add_(x) if torch.is_inference_mode_enabled() else x + out


def blocks(channels: int, count: int, inner: int = 0) -> nn.Sequential:
    """A stack of residual blocks."""
    return nn.Sequential(*(ResidualBlock(channels, inner) for _ in range(count)))


def spread(x: Tensor) -> Tensor:
    """Channels (2, 2, F) of each position to a 2×2 cell: (B, 4F, h, w) -> (B, F, 2h, 2w).

    `F.pixel_shuffle` with the channels in another order, faster in channels-last memory, since
    the F channels of a cell's position lie together; the result is channels-last.
    """
    b, c, h, w = x.shape
    cells = x.permute(0, 2, 3, 1).reshape(b, h, w, 2, 2, c // 4).permute(0, 1, 3, 2, 4, 5)
    return cells.reshape(b, 2 * h, 2 * w, c // 4).permute(0, 3, 1, 2)


def interpolate_rows(table: Tensor, quality: Tensor) -> Tensor:
    """Linear interpolation between the rows of a per-quality table.

    Args:
        table: (8, C) anchor rows.
        quality: (B,) continuous qualities in [0, 7].

    Returns:
        (B, C, 1, 1), ready to broadcast over feature maps.
    """
    low = quality.floor().clamp(0, QUALITY_ROWS - 2)
    fraction = (quality - low)[:, None]
    index = low.long()
    rows = torch.lerp(table[index], table[index + 1], fraction)
    return rows[:, :, None, None]


class QualityGain(nn.Module):
    """Per-channel factor exp(row(q)), interpolated between 8 anchor rows."""

    def __init__(self, initial: Tensor) -> None:
        super().__init__()
        self.log_rows = nn.Parameter(initial)

    def forward(self, quality: Tensor) -> Tensor:
        """(B,) -> (B, C, 1, 1)."""
        return interpolate_rows(self.log_rows, quality).exp()


class QualityBias(nn.Module):
    """Per-channel offset, interpolated between 8 anchor rows; starts at zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.zeros(QUALITY_ROWS, channels))

    def forward(self, quality: Tensor) -> Tensor:
        """(B,) -> (B, C, 1, 1)."""
        return interpolate_rows(self.rows, quality)
