"""The bottleneck family: image -> one latent vector -> image.

A convolutional autoencoder (Hinton and Salakhutdinov 2006) for images of one size, or a
variational one (Kingma and Welling 2014). What it can be made of is in `BottleneckConfig`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aecodec.errors import InputError, ModelError
from aecodec.model.bottleneck_config import BottleneckConfig
from aecodec.model.vector_blocks import (
    SLOPE,
    SelfAttention,
    activated,
    downsample,
    initialise,
    residuals,
    upsample,
)

__all__ = ["BottleneckAutoencoder", "BottleneckConfig", "BottleneckOutput"]

LOG_VARIANCE = 10.0
"""Log-variances are clamped to ± this."""


@dataclass
class BottleneckOutput:
    """What one training step needs."""

    pixels: Tensor  # (N, C, H, W), about [-0.5, 0.5]; clamped to it in evaluation mode
    latents: Tensor  # (N, D) what was decoded: drawn while a variational model trains
    mean: Tensor  # (N, D)
    log_variance: Tensor | None  # (N, D) of a variational model


@dataclass(frozen=True)
class Waist:
    """The last feature map as the linear maps see it: few enough values, whatever the image."""

    channels: int
    pool: int  # side of the squares of positions that are averaged
    grid: tuple[int, int]  # of the feature map
    pooled: tuple[int, int]

    @property
    def features(self) -> int:
        """Number of values."""
        return self.channels * self.pooled[0] * self.pooled[1]


def waist(config: BottleneckConfig) -> Waist:
    """Channels are given up first, down to 4, then positions are pooled."""
    grid = -(-config.height // config.stride), -(-config.width // config.stride)
    pool, pooled, least = 1, grid, min(4, config.widths[-1])
    while least * pooled[0] * pooled[1] > config.bottleneck_features and pooled != (1, 1):
        pool *= 2
        pooled = -(-grid[0] // pool), -(-grid[1] // pool)
    room = config.bottleneck_features // (pooled[0] * pooled[1])
    return Waist(max(min(config.widths[-1], room), least), pool, grid, pooled)


class Encoder(nn.Module):
    """Image to feature maps, and to what the linear map takes."""

    def __init__(self, config: BottleneckConfig) -> None:
        super().__init__()
        self._stride, self._waist = config.stride, waist(config)
        stages, before = [], config.channels
        for width in config.widths:
            stages.append(
                nn.Sequential(downsample(config, before, width), residuals(config, width))
            )
            before = width
        self.stages = nn.ModuleList(stages)
        self.attention = SelfAttention(before) if config.attention else nn.Identity()
        self.narrow = nn.Conv2d(before, self._waist.channels, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(N, C, H, W) -> (N, features), and the maps of all stages but the last."""
        missing = [-side % self._stride for side in x.shape[2:]]
        h = F.pad(x, (0, missing[1], 0, missing[0]), mode="replicate")
        maps = []
        for stage in self.stages:
            h = stage(h)
            maps.append(h)
        h = self.narrow(self.attention(h))
        if self._waist.pool > 1:
            h = F.avg_pool2d(h, self._waist.pool, ceil_mode=True)
        return F.leaky_relu(h, SLOPE).flatten(1), maps[:-1]


class Decoder(nn.Module):
    """Feature map to image, with the maps of the encoder beside it if the config has skips."""

    def __init__(self, config: BottleneckConfig) -> None:
        super().__init__()
        self._waist = waist(config)
        *lower, last = config.widths
        before = last
        self.widen = activated(config, nn.Conv2d(self._waist.channels, last, 1), last)
        self.attention = SelfAttention(last) if config.attention else nn.Identity()
        self.first = residuals(config, last)
        ups, joins, blocks = [], [], []
        for width in reversed(lower):
            ups.append(upsample(config, before, width))
            if config.skips:
                joins.append(activated(config, nn.Conv2d(2 * width, width, 1), width))
            blocks.append(residuals(config, width))
            before = width
        self.ups, self.joins = nn.ModuleList(ups), nn.ModuleList(joins)
        self.blocks = nn.ModuleList(blocks)
        fine = max(before // 2, 8)
        self.last = upsample(config, before, fine)
        self.tail = nn.Conv2d(fine, config.channels, 3, padding=1)

    def forward(self, features: Tensor, maps: list[Tensor]) -> Tensor:
        """(N, features), and the encoder's maps -> (N, C, H', W'), padded to the stride."""
        shape = self._waist
        h = features.reshape(-1, shape.channels, *shape.pooled)
        if shape.pool > 1:
            h = F.interpolate(h, size=shape.grid, mode="bilinear", align_corners=False)
        h = self.first(self.attention(self.widen(h)))
        for i, (up, block) in enumerate(zip(self.ups, self.blocks, strict=True)):
            h = up(h)
            if len(self.joins):
                h = self.joins[i](torch.cat([h, maps[-1 - i]], dim=1))
            h = block(h)
        out: Tensor = self.tail(self.last(h))
        return out


class BottleneckAutoencoder(nn.Module):
    """Image -> latent vector (N, D) -> image, D being the config's `latent_dim`.

    Images are (N, C, H, W) in [-0.5, 0.5], of the config's size.
    """

    def __init__(self, config: BottleneckConfig) -> None:
        super().__init__()
        self.config = config
        features = waist(config).features
        self.encoder = Encoder(config)
        self.to_latent = nn.Linear(features, config.latent_dim * (1 + config.variational))
        self.from_latent = nn.Linear(config.latent_dim, features)
        self.decoder = Decoder(config)
        initialise(self)
        with torch.no_grad():
            self.to_latent.weight.mul_(0.5)  # vectors of about unit variance
            self.to_latent.weight[config.latent_dim :].mul_(0.1)
            self.decoder.tail.weight.mul_(0.1)  # start near medium gray

    def forward(self, x: Tensor) -> BottleneckOutput:
        """Reconstruct; a variational model in training mode draws its vectors.

        Args:
            x: (N, C, H, W) in [-0.5, 0.5].

        Raises:
            InputError: images of another shape.
        """
        self._check(x)
        mean, log_variance, maps = self._encode(x)
        z = mean
        if self.training and log_variance is not None:
            z = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        return BottleneckOutput(self._decode(z, maps), z, mean, log_variance)

    def encode_image(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [-0.5, 0.5] -> (N, D): of a variational model the means.

        Raises:
            ModelError: the model has skips.
            InputError: images of another shape.
        """
        self._refuse_skips()
        self._check(x)
        return self._encode(x)[0]

    def decode_latent(self, z: Tensor) -> Tensor:
        """(N, D) -> (N, C, H, W) in [-0.5, 0.5].

        Raises:
            ModelError: the model has skips.
            InputError: vectors of another length.
        """
        self._refuse_skips()
        if z.ndim != 2 or z.shape[1] != self.config.latent_dim:
            raise InputError(
                f"latents of shape {tuple(z.shape)} do not fit this model: "
                f"it takes (N, {self.config.latent_dim})"
            )
        return self._decode(z, []).clamp(-0.5, 0.5)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Images (n, C, H, W) of vectors drawn from the standard normal prior.

        Raises:
            ModelError: the model is not variational.
        """
        if not self.config.variational:
            raise ModelError("only a variational model has a prior to sample from")
        weight = self.from_latent.weight
        z = torch.randn(n, self.config.latent_dim, generator=generator, dtype=weight.dtype)
        return self.decode_latent(z.to(weight.device))

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor | None, list[Tensor]]:
        features, maps = self.encoder(x)
        out = self.to_latent(features)
        if not self.config.variational:
            return out, None, maps
        mean, log_variance = out.chunk(2, dim=1)
        return mean, log_variance.clamp(-LOG_VARIANCE, LOG_VARIANCE), maps

    def _decode(self, z: Tensor, maps: list[Tensor]) -> Tensor:
        features = F.leaky_relu(self.from_latent(z), SLOPE)
        pixels: Tensor = self.decoder(features, maps if self.config.skips else [])
        pixels = pixels[:, :, : self.config.height, : self.config.width]
        return pixels if self.training else pixels.clamp(-0.5, 0.5)

    def _check(self, x: Tensor) -> None:
        if tuple(x.shape[1:]) != self.config.image_shape:
            raise InputError(
                f"images of shape {tuple(x.shape)} do not fit this model: it takes (N, "
                f"{', '.join(map(str, self.config.image_shape))})"
            )

    def _refuse_skips(self) -> None:
        if self.config.skips:
            raise ModelError(
                "this model has skips, which bypass the latent vector: it reconstructs images, "
                "but neither encodes nor decodes them"
            )
