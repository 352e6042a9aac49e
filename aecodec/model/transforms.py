"""Analysis and synthesis transforms, each with a linear path that starts as a DCT."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aecodec.layout import NO_MARGINS, STRIDE, Margins
from aecodec.model.blocks import QualityGain, blocks, spread
from aecodec.model.config import QUALITY_ROWS, ModelConfig

CHROMA_WEIGHT = 2.6
"""How many times a chroma frequency counts when the lowest frequencies are chosen."""


def dct_basis(channels: int) -> Tensor:
    """The `channels` lowest-frequency 16×16 DCT basis functions, as a matrix.

    The colour axes are an orthonormal YCbCr-like triple. Rows follow the layout of
    `PixelUnshuffle(16)` on RGB: column c·256 + y·16 + x.

    Returns:
        (channels, 768) with orthonormal rows, ordered from low to high frequency.
    """
    n = torch.arange(STRIDE, dtype=torch.float64)
    cosine = torch.cos(math.pi * (2 * n[None, :] + 1) * n[:, None] / (2 * STRIDE))
    cosine *= math.sqrt(2 / STRIDE)
    cosine[0] /= math.sqrt(2)
    colour = torch.tensor([[1, 1, 1], [1, 0, -1], [-1, 2, -1]], dtype=torch.float64)
    colour /= colour.norm(dim=1, keepdim=True)
    full = torch.einsum("kc,vy,ux->kvucyx", colour, cosine, cosine).reshape(768, 768)
    frequency = (n[:, None] ** 2 + n[None, :] ** 2).sqrt().flatten()
    weight = torch.cat(
        [frequency, (frequency + 1) * CHROMA_WEIGHT, (frequency + 1) * CHROMA_WEIGHT]
    )
    order = torch.argsort(weight, stable=True)[:channels]
    return full[order].float()


def _scaled(layer: nn.Conv2d, factor: float) -> nn.Conv2d:
    with torch.no_grad():
        layer.weight.mul_(factor)
        if layer.bias is not None:
            layer.bias.zero_()
    return layer


def _unshuffle(x: Tensor, factor: int) -> Tensor:
    """`F.pixel_unshuffle` of a few channels into channels-last memory.

    The same values, sooner: and convolutions need no copy of it, which makes all of g_a
    a fifth faster on a CPU.
    """
    b, c, h, w = x.shape
    cells = x.reshape(b, c, h // factor, factor, w // factor, factor).permute(0, 2, 4, 1, 3, 5)
    rows = cells.reshape(b, h // factor, w // factor, c * factor**2)
    return rows.permute(0, 3, 1, 2)


class _Cells(nn.Conv2d):
    """1×1 convolution to cells of 8×8 pixels, its outputs in the order (row, column, colour).

    The weights have them as (colour, row, column). In the other order a cell is eight runs of
    24 samples that stand in a channels-last picture as they are, so none is moved on its own.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 192, h, w)."""
        assert self.bias is not None
        order = torch.arange(192).reshape(3, 64).T.flatten()
        return F.conv2d(x, self.weight[order], self.bias[order])


def _join_cells(x: Tensor) -> Tensor:
    """Cells of 8×8×3 samples, (B, 192, h, w), to the picture (B, 3, 8h, 8w): channels-last."""
    b, _, h, w = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(b, h, w, 8, 24).permute(0, 1, 3, 2, 4)
    return rows.reshape(b, 8 * h, 8 * w, 3).permute(0, 3, 1, 2)


def _trimmed(x: Tensor, margins: Margins, keep: int, scale: int = 1) -> tuple[Tensor, Margins]:
    """Cut margins down, for what comes next does not see that far: the rest of them, too.

    Args:
        x: (B, C, h, w), its margins included.
        margins: in positions of y.
        keep: the most of them that are to stay on each side.
        scale: samples of x for each position, each way.
    """
    left, top, right, bottom = (scale * max(m - keep, 0) for m in margins)
    x = x[:, :, top : x.shape[2] - bottom, left : x.shape[3] - right]
    return x, Margins(*(min(m, keep) for m in margins))


def _in_float32(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Run a layer in float32 even under autocast: y spans more than bfloat16 resolves."""
    with torch.autocast(x.device.type, enabled=False):
        out: Tensor = layer(x.float())
    return out


class Analysis(nn.Module):
    """g_a: pixels to latents y, independent of quality."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        n, m, c = config.width_8, config.width_16, config.latent_channels
        self.linear = nn.Conv2d(3 * STRIDE**2, c, 1, bias=False)
        with torch.no_grad():
            self.linear.weight.copy_(dct_basis(c)[:, :, None, None])
        self.head = nn.Conv2d(192, n, 1)
        self.blocks_8 = blocks(n, config.analysis_blocks[0])
        self.down = nn.Conv2d(4 * n, m, 1)
        self.blocks_16 = blocks(m, config.analysis_blocks[1])
        self.tail = _scaled(nn.Conv2d(m, c, 1), 0.05)
        at_8, at_16 = config.analysis_blocks
        self._reach = (at_16 + -(-at_8 // 2), at_16)  # of all blocks, and of those at 1/16

    def forward(self, x: Tensor, margins: Margins = NO_MARGINS) -> Tensor:
        """Latents of what lies within the margins.

        Args:
            x: (B, 3, H, W) in [-0.5, 0.5], sides multiples of 16.
            margins: around the h × w positions that are wanted, in positions of y.

        Returns:
            y (B, C, h, w)
        """
        x, margins = _trimmed(x, margins, self._reach[0], STRIDE)
        h = _unshuffle(x, 8).to(self.head.weight.dtype)
        h, rest = _trimmed(self.blocks_8(self.head(h)), margins, self._reach[1], 2)
        h, _ = _trimmed(self.blocks_16(self.down(F.pixel_unshuffle(h, 2))), rest, 0)
        out: Tensor = self.tail(h).to(x.dtype)
        x, _ = _trimmed(x, margins, 0, STRIDE)
        return out + _in_float32(self.linear, _unshuffle(x, STRIDE))

    def set_precision(self, dtype: torch.dtype) -> None:
        """Run everything but the linear path in another precision."""
        _cast(self, dtype)


class Synthesis(nn.Module):
    """g_s: latents ŷ to pixels; its features are scaled by quality."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        n, m, c = config.width_8, config.width_16, config.latent_channels
        self.linear = nn.Conv2d(c, 3 * STRIDE**2, 1, bias=False)
        with torch.no_grad():
            self.linear.weight.copy_(dct_basis(c).T[:, :, None, None])
        self.head = nn.Conv2d(c, m, 1)
        self.gain_16 = QualityGain(torch.zeros(QUALITY_ROWS, m))
        self.blocks_16 = blocks(m, config.synthesis_blocks[1], config.synthesis_inner[1])
        self.up = nn.Conv2d(m, 4 * n, 1)
        self.gain_8 = QualityGain(torch.zeros(QUALITY_ROWS, n))
        self.blocks_8 = blocks(n, config.synthesis_blocks[0], config.synthesis_inner[0])
        self.tail = _Cells(n, 192, 1)
        _scaled(self.tail, 0.05)
        self._reach_8 = -(-config.synthesis_blocks[0] // 2)  # of the blocks at 1/8

    def forward(self, y: Tensor, quality: Tensor, margins: Margins = NO_MARGINS) -> Tensor:
        """Pixels of what lies within the margins.

        Args:
            y: ŷ (B, C, H, W).
            quality: (B,).
            margins: around the h × w positions whose pixels are wanted, in positions of y.

        Returns:
            (B, 3, 16h, 16w), about [-0.5, 0.5].
        """
        h = self.head(y.to(self.head.weight.dtype))
        h = self.blocks_16(h * self.gain_16(quality).to(h.dtype))
        h, rest = _trimmed(h, margins, self._reach_8)
        h = F.pixel_shuffle(self.up(h), 2)
        h, _ = _trimmed(self.blocks_8(h * self.gain_8(quality).to(h.dtype)), rest, 0, 2)
        # in place: the sum needs no fresh memory
        return _join_cells(self._straight(_trimmed(y, margins, 0)[0]).add_(self.tail(h)))

    def set_precision(self, dtype: torch.dtype) -> None:
        """Run everything but the linear path and the gains in another precision."""
        _cast(self, dtype)

    def _straight(self, y: Tensor) -> Tensor:
        """The linear path alone: (B, C, h, w) to (B, 192, 2h, 2w), cells of 8×8×3 samples."""
        cells = self.linear.weight.reshape(3, 2, 8, 2, 8, -1).permute(1, 3, 2, 4, 0, 5)
        with torch.autocast(y.device.type, enabled=False):
            return spread(F.conv2d(y.float(), cells.flatten(0, 4)[:, :, None, None]))

    def eighth(self, y: Tensor) -> Tensor:
        """Means of 8×8 pixels of the linear path, at a hundredth of its cost: (B, 3, 2h, 2w).

        What the rest of the transform adds has a mean near zero.
        """
        weight = self.linear.weight.reshape(3, 2, 8, 2, 8, -1).mean(dim=(2, 4))
        return F.pixel_shuffle(F.conv2d(y, weight.reshape(12, -1, 1, 1)), 2)


def _cast(transform: Analysis | Synthesis, dtype: torch.dtype) -> None:
    for name, module in transform.named_children():
        if name != "linear" and not isinstance(module, QualityGain):
            module.to(dtype)
