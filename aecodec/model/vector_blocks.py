"""Building blocks of the bottleneck family: stages, residual blocks, attention."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aecodec.model.bottleneck_config import BottleneckConfig

SLOPE = 0.1
"""Of LeakyReLU below zero."""

_DILATIONS = (1, 2, 4)
_HEAD_WIDTH = 32


def normalisation(kind: str, channels: int) -> nn.Module:
    """The layer of a config's `norm`; groups of at least 4 channels, at most 8 groups."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        groups = next(
            g for g in (8, 4, 2, 1) if (channels % g == 0 and channels >= 4 * g) or g == 1
        )
        return nn.GroupNorm(groups, channels)
    return nn.Identity()


def activated(config: BottleneckConfig, layer: nn.Module, channels: int) -> nn.Sequential:
    """A layer, then normalisation and LeakyReLU."""
    return nn.Sequential(layer, normalisation(config.norm, channels), nn.LeakyReLU(SLOPE))


class Parallel(nn.Module):
    """3×3 convolutions with dilations 1, 2 and 4 side by side, joined by a 1×1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // len(_DILATIONS), 1)
        self.branches = nn.ModuleList(
            nn.Conv2d(channels, inner, 3, padding=d, dilation=d) for d in _DILATIONS
        )
        self.join = nn.Conv2d(inner * len(_DILATIONS), channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        out: Tensor = self.join(torch.cat([branch(x) for branch in self.branches], dim=1))
        return out


def _spatial(kind: str, channels: int) -> nn.Module:
    """One layer that sees the neighbourhood, channels kept."""
    if kind == "separable":
        depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        return nn.Sequential(depthwise, nn.Conv2d(channels, channels, 1))
    if kind == "dilated":
        return Parallel(channels)
    return nn.Conv2d(channels, channels, 3, padding=1)


class Residual(nn.Module):
    """x plus two layers of the config's kind (He et al. 2016, without the last activation)."""

    def __init__(self, config: BottleneckConfig, channels: int) -> None:
        super().__init__()
        self.first = activated(config, _spatial(config.block, channels), channels)
        self.second = nn.Sequential(
            _spatial(config.block, channels), normalisation(config.norm, channels)
        )
        self.gain = nn.Parameter(torch.full((1,), 0.3))  # start near the identity

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        out: Tensor = x + self.gain * self.second(self.first(x))
        return F.leaky_relu(out, SLOPE)


def residuals(config: BottleneckConfig, channels: int) -> nn.Sequential:
    """The residual blocks of one stage."""
    return nn.Sequential(*(Residual(config, channels) for _ in range(config.residual_blocks)))


def downsample(config: BottleneckConfig, channels: int, out: int) -> nn.Sequential:
    """Half of both sides: a 4×4 convolution of stride 2."""
    return activated(config, nn.Conv2d(channels, out, 4, stride=2, padding=1), out)


def upsample(config: BottleneckConfig, channels: int, out: int) -> nn.Sequential:
    """Twice both sides, without checkerboard (Odena et al. 2016).

    A transposed convolution whose kernel, 4, is a multiple of its stride, 2, so that
    every pixel gets as many terms; or a 3×3 convolution and pixel shuffle, whose four
    phases start out equal (Aitken et al. 2017).
    """
    if config.upsampling == "transposed":
        return activated(config, nn.ConvTranspose2d(channels, out, 4, stride=2, padding=1), out)
    return activated(config, Shuffle(channels, out), out)


class Shuffle(nn.Module):
    """3×3 convolution to four times the channels, then pixel shuffle."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4 * out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out, 2H, 2W)."""
        return F.pixel_shuffle(self.conv(x), 2)


@torch.no_grad()
def initialise(model: nn.Module) -> None:
    """He initialisation (He et al. 2015): values keep their spread from layer to layer."""
    gain = 2 / (1 + SLOPE**2)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            terms = module.weight[0].numel()  # of one output
            if isinstance(module, nn.ConvTranspose2d):
                terms = module.weight[:, 0].numel() // math.prod(module.stride)
            nn.init.normal_(module.weight, std=math.sqrt(gain / terms))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in model.modules():
        if isinstance(module, Shuffle):  # its four phases alike
            module.conv.weight.copy_(module.conv.weight[::4].repeat_interleave(4, dim=0))
        elif isinstance(module, SelfAttention):
            module.out.weight.mul_(0.1)  # start near the identity


class SelfAttention(nn.Module):
    """x plus multi-head attention of every position to all (Vaswani et al. 2017)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = math.gcd(channels, max(channels // _HEAD_WIDTH, 1))
        self.norm = nn.GroupNorm(1, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        n, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).reshape(n, 3, self.heads, c // self.heads, h * w)
        q, k, v = qkv.transpose(-1, -2).unbind(1)
        mixed = F.scaled_dot_product_attention(q, k, v)  # (N, heads, positions, C / heads)
        out: Tensor = x + self.out(mixed.transpose(-1, -2).reshape(n, c, h, w))
        return out
