"""Random changes to training images, each with a probability and a strength; all off at first.

Every function takes a generator and draws from nothing else, so that the same seed gives the
same images. Rotation by angle, colour jitter and elastic deformation come from kornia.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from aecodec.errors import TrainingError, needing
from aecodec.train.prepare import DataConfig, Window, centre
from aecodec.train.sections import typed

PROBABILITIES = (
    "flip_horizontal",
    "flip_vertical",
    "rotate90",
    "rotate",
    "crop",
    "colour_jitter",
    "noise",
    "elastic",
    "mixup",
    "cutmix",
)
_FROM_KORNIA = ("rotate", "colour_jitter", "elastic")


@dataclass(frozen=True)
class AugmentConfig:
    """Which changes are made how often, and how strong; the section [augment].

    Raises:
        TrainingError: a probability outside 0 to 1, or a strength that makes no sense.
    """

    flip_horizontal: float = 0.0  # a probability, as of all that follow without another unit
    flip_vertical: float = 0.0
    rotate90: float = 0.0  # by 90, 180 or 270 degrees; by 180 where sides differ
    rotate: float = 0.0  # by an angle, with reflected borders
    degrees: float = 15.0  # at most, either way
    crop: float = 0.0  # a random part, resized; without resizing a random place
    crop_scale: float = 0.7  # shortest side of the part, as a fraction
    colour_jitter: float = 0.0
    brightness: float = 0.2  # factors between 1 - this and 1 + this
    contrast: float = 0.2
    saturation: float = 0.2  # of RGB only
    hue: float = 0.02  # of RGB only; a fraction of the colour circle, either way
    noise: float = 0.0  # Gaussian
    noise_std: float = 0.02  # as a fraction of the range of samples
    elastic: float = 0.0  # elastic deformation
    elastic_pixels: float = 4.0  # typical displacement
    elastic_sigma: float = 8.0  # pixels over which displacements are smoothed
    mixup: float = 0.0  # with another image of the batch
    mixup_alpha: float = 0.4  # of the Beta distribution the share is drawn from
    cutmix: float = 0.0  # a rectangle of another image of the batch
    cutmix_alpha: float = 1.0

    def __post_init__(self) -> None:
        for name in PROBABILITIES:
            if not 0 <= getattr(self, name) <= 1:
                raise TrainingError(f"[augment] {name} is a probability, 0 to 1")
        for field in dataclasses.fields(self):
            if not 0 <= getattr(self, field.name) < math.inf:
                raise TrainingError(f"[augment] {field.name} is not negative")
        for name in ("crop_scale", "elastic_sigma", "mixup_alpha", "cutmix_alpha"):
            if getattr(self, name) == 0:
                raise TrainingError(f"[augment] {name} is more than 0")
        for name, most in (("crop_scale", 1), ("hue", 0.5)):
            if getattr(self, name) > most:
                raise TrainingError(f"[augment] {name} is at most {most}")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> AugmentConfig:
        """Build from a mapping, as in TOML.

        Raises:
            TrainingError: an unknown key (the nearest valid one is named) or a bad value.
        """
        return cls(**typed(cls, values, "augment"))

    def check_packages(self) -> None:
        """See before training that what the changes need is there.

        Raises:
            MissingDependencyError: kornia is not installed.
        """
        if any(getattr(self, name) for name in _FROM_KORNIA):
            _kornia()


def _kornia() -> Any:
    with needing("train", f"{' or '.join(_FROM_KORNIA)} in [augment]"):
        import kornia
    return kornia


def _uniform(generator: Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def _happens(generator: Generator, probability: float) -> bool:
    return _uniform(generator, 0, 1) < probability


def window(
    height: int, width: int, data: DataConfig, augment: AugmentConfig, generator: Generator
) -> Window:
    """The part of an image to use: a random one if a crop happens, else as without."""
    top, left, rows, cols = centre(height, width, data)
    if not data.height or not _happens(generator, augment.crop):
        return top, left, rows, cols
    if data.resize != "none":
        scale = _uniform(generator, augment.crop_scale, 1)
        rows, cols = max(1, round(rows * scale)), max(1, round(cols * scale))
    top = min(int(_uniform(generator, 0, height - rows + 1)), height - rows)
    left = min(int(_uniform(generator, 0, width - cols + 1)), width - cols)
    return top, left, rows, cols


def change(
    x: Tensor, mask: Tensor, config: AugmentConfig, data: DataConfig, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Apply what changes a single image.

    Args:
        x: (C, H, W) float32 in [-0.5, 0.5].
        mask: (1, H, W) bool, valid pixels; it moves along, without interpolation.
        config: probabilities and strengths.
        data: how the image was prepared.
        generator: all randomness; the same state gives the same result.

    Returns:
        A new image and mask of the same shapes and ranges.
    """
    x, mask = _turn(x, mask, config, generator)
    if _happens(generator, config.rotate):
        angle = torch.tensor([_uniform(generator, -config.degrees, config.degrees)])
        rotate = _kornia().geometry.transform.rotate
        x, mask = _warp(
            x,
            mask,
            data.masked,
            lambda image, mode: rotate(image, angle, mode=mode, padding_mode="reflection"),
        )
    if _happens(generator, config.elastic):
        x, mask = _warp(x, mask, data.masked, _elastic(x, config, generator))
    if _happens(generator, config.colour_jitter):
        x = _jitter(x, config, generator)
    if _happens(generator, config.noise):
        x = x + config.noise_std * torch.randn(x.shape, generator=generator)
    return torch.where(mask, x.clamp(-0.5, 0.5), data.hole).contiguous(), mask.contiguous()


def _turn(
    x: Tensor, mask: Tensor, config: AugmentConfig, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Flips and quarter turns."""
    if _happens(generator, config.flip_horizontal):
        x, mask = x.flip(2), mask.flip(2)
    if _happens(generator, config.flip_vertical):
        x, mask = x.flip(1), mask.flip(1)
    if _happens(generator, config.rotate90):
        turns = 1 + min(int(_uniform(generator, 0, 3)), 2)
        if x.shape[1] != x.shape[2]:
            turns = 2
        x, mask = x.rot90(turns, (1, 2)), mask.rot90(turns, (1, 2))
    return x, mask


def _warp(
    x: Tensor, mask: Tensor, masked: bool, warp: Callable[[Tensor, str], Tensor]
) -> tuple[Tensor, Tensor]:
    """Move pixels; where samples can be invalid, without mixing neighbours."""
    if not masked:
        return warp(x[None], "bilinear")[0], mask
    both = warp(torch.cat([x, mask.to(x.dtype)])[None], "nearest")[0]
    return both[:-1], both[-1:] > 0.5


def _elastic(
    x: Tensor, config: AugmentConfig, generator: Generator
) -> Callable[[Tensor, str], Tensor]:
    """Elastic deformation (Simard, Steinkraus, Platt 2003): smoothed random displacements."""
    height, width = x.shape[1:]
    noise = 2 * torch.rand((1, 2, height, width), generator=generator) - 1
    side = 2 * math.ceil(2 * config.elastic_sigma) + 1
    # Smoothing leaves the noise with a standard deviation of 1 / (√3 · 2 √π σ) a pixel; the
    # displacement is in units of half an image.
    gain = config.elastic_pixels * 2 * math.sqrt(3 * math.pi) * config.elastic_sigma
    transform = _kornia().geometry.transform.elastic_transform2d

    def warp(image: Tensor, mode: str) -> Tensor:
        moved: Tensor = transform(
            image,
            noise,
            kernel_size=(side, side),
            sigma=(config.elastic_sigma, config.elastic_sigma),
            alpha=(2 * gain / width, 2 * gain / height),
            mode=mode,
            padding_mode="reflection",
        )
        return moved

    return warp


def _jitter(x: Tensor, config: AugmentConfig, generator: Generator) -> Tensor:
    """Brightness, contrast, saturation and hue, one after the other."""
    enhance = _kornia().enhance

    def factor(strength: float) -> float:
        return _uniform(generator, max(0.0, 1 - strength), 1 + strength)

    image = (x + 0.5)[None]
    image = enhance.adjust_brightness_accumulative(image, factor(config.brightness))
    image = enhance.adjust_contrast_with_mean_subtraction(image, factor(config.contrast))
    if x.shape[0] == 3:
        saturation = factor(config.saturation)
        image = enhance.adjust_saturation_with_gray_subtraction(image, saturation)
        turn = 2 * math.pi * _uniform(generator, -config.hue, config.hue)
        image = enhance.adjust_hue(image, turn)
    jittered: Tensor = image[0] - 0.5
    return jittered


def mix(
    x: Tensor, mask: Tensor, label: Tensor, config: AugmentConfig, hole: float, generator: Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """MixUp (Zhang et al. 2018) and CutMix (Yun et al. 2019) between the images of a batch.

    Args:
        x: (N, C, H, W) float32.
        mask: (N, 1, H, W) bool. A mixed pixel is valid where both are.
        label: (N,) int64; that of the image which has the larger share is kept.
        config: probabilities and strengths.
        hole: what stands for an invalid sample.
        generator: all randomness.
    """
    if config.mixup == 0 and config.cutmix == 0:
        return x, mask, label
    out, valid, labels = x.clone(), mask.clone(), label.clone()
    for i in range(len(x)):
        if _happens(generator, config.mixup):
            other, share = _partner(len(x), config.mixup_alpha, generator)
            out[i] = share * x[i] + (1 - share) * x[other]
            valid[i] = mask[i] & mask[other]
        elif _happens(generator, config.cutmix):
            other, share = _partner(len(x), config.cutmix_alpha, generator)
            rows, cols, area = _box(x.shape[2], x.shape[3], 1 - share, generator)
            out[i, :, rows, cols] = x[other, :, rows, cols]
            valid[i, :, rows, cols] = mask[other, :, rows, cols]
            share = 1 - area
        else:
            continue
        labels[i] = label[i if share >= 0.5 else other]
    return torch.where(valid, out, hole), valid, labels


def _partner(count: int, alpha: float, generator: Generator) -> tuple[int, float]:
    """Another image of the batch, and the share of the first in the mixture, from Beta(α, α)."""
    other = min(int(_uniform(generator, 0, count)), count - 1)
    # Beta(α, α) from two gamma variates
    gammas = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64), generator)
    return other, float(gammas[0] / gammas.sum().clamp(min=1e-300))


def _box(height: int, width: int, area: float, generator: Generator) -> tuple[slice, slice, float]:
    """A rectangle of about that fraction of the image, cut at its borders, and its fraction."""
    rows, cols = height * math.sqrt(area), width * math.sqrt(area)
    y, x = _uniform(generator, 0, height), _uniform(generator, 0, width)
    top, bottom = max(0, round(y - rows / 2)), min(height, round(y + rows / 2))
    left, right = max(0, round(x - cols / 2)), min(width, round(x + cols / 2))
    return slice(top, bottom), slice(left, right), (bottom - top) * (right - left) / height / width
