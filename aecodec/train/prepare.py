"""From image files to what models take: size, channels and range, with a mask of valid samples."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from aecodec.errors import InputError, TrainingError
from aecodec.pixels import read_image
from aecodec.samples import Samples, bit_depth, colour
from aecodec.train.sections import typed

log = logging.getLogger(__name__)

RESIZE = ("stretch", "crop", "none")
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow converts to gray
Window = tuple[int, int, int, int]
"""Top, left, height and width of a part of an image."""


@dataclass(frozen=True)
class DataConfig:
    """How image files become tensors; the section [data].

    Raises:
        TrainingError: a value that makes no sense.
    """

    height: int = 0  # of the images a model sees; 0: as they are
    width: int = 0
    channels: int = 3  # 1 gray, 3 RGB; images are converted
    bits: int = 8  # a sample, of the files: 8 or 16
    resize: str = "stretch"  # "crop": the shorter side, then the centre; "none": the centre alone
    maximum: int = 0  # the sample value that becomes +0.5; 0: 255 or 65535, by `bits`
    invalid: int = -1  # samples of this value are masked out; -1: none are
    validation: float = 0.1  # fractions of the files, by a hash of their paths
    test: float = 0.1
    workers: int = 0  # processes that read images; 0: the training process does
    cache: int = 1024  # MiB of images kept in memory

    def __post_init__(self) -> None:
        problems = {
            "height and width are both 0 or both positive": (self.height > 0) == (self.width > 0)
            and min(self.height, self.width) >= 0,
            "channels is 1 or 3": self.channels in (1, 3),
            "bits is 8 or 16": self.bits in (8, 16),
            f"resize is one of {', '.join(RESIZE)}": self.resize in RESIZE,
            f"maximum is at most {2**self.bits - 1}": 0 <= self.maximum < 2**self.bits,
            "invalid is -1 or a sample value": -1 <= self.invalid < 2**self.bits,
            "validation and test are fractions with a sum below 1": self.validation >= 0
            and self.test >= 0
            and self.validation + self.test < 1,
            "workers and cache are not negative": self.workers >= 0 and self.cache >= 0,
        }
        for rule, kept in problems.items():
            if not kept:
                raise TrainingError(f"[data] {rule}")
        if self.maximum == 0:
            object.__setattr__(self, "maximum", 2**self.bits - 1)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DataConfig:
        """Build from a mapping, as in TOML or in the metadata of a model file.

        Raises:
            TrainingError: an unknown key (the nearest valid one is named) or a bad value.
        """
        return cls(**typed(cls, values, "data"))

    @property
    def masked(self) -> bool:
        """Whether samples can be invalid."""
        return self.invalid >= 0

    @property
    def hole(self) -> float:
        """What stands for an invalid sample in tensors."""
        return min(max(self.invalid, 0) / self.maximum, 1.0) - 0.5


def load(path: Path, config: DataConfig) -> Samples:
    """Read an image file, upright, without alpha.

    Returns:
        (H, W) or (H, W, 3), `uint8` or `uint16` as `config.bits` says.

    Raises:
        InputError: it cannot be read, has other bits a sample, or is too small.
    """
    samples = colour(read_image(path))
    if bit_depth(samples) != config.bits:
        raise InputError(f"{path}: {wrong_bits(bit_depth(samples), config.bits)}")
    height, width = samples.shape[:2]
    if config.resize == "none" and (height < config.height or width < config.width):
        wanted = f"{config.width} x {config.height}"
        raise InputError(f"{path}: {width} x {height} pixels; {wanted} are needed")
    return samples


def wrong_bits(found: int, wanted: int) -> str:
    """Why an image of `found` bits a sample is not used where `wanted` are asked for."""
    return f"{found} bits a sample, where [data] says bits = {wanted}"


def prepare(
    samples: Samples, config: DataConfig, window: Window | None = None
) -> tuple[Tensor, Tensor]:
    """Turn the samples of an image, or of a part of it, into what a model takes.

    Invalid samples never mix into valid ones: where they are masked, resizing averages over
    the valid ones alone, and gives an invalid one where most are.

    Args:
        samples: (H, W) or (H, W, 3), `uint8` or `uint16`.
        config: size, channels and range. Samples over `maximum` are cut to it, or are
            invalid, too, if any can be.
        window: the part to take; None takes what `config.resize` says.

    Returns:
        The image, (C, H, W) float32 in [-0.5, 0.5], and which of its pixels are valid,
        (1, H, W) bool.
    """
    top, left, height, width = window or centre(samples.shape[0], samples.shape[1], config)
    part = np.ascontiguousarray(np.atleast_3d(samples[top : top + height, left : left + width]))
    raw = torch.from_numpy(part.astype(np.float32)).permute(2, 0, 1)[None]
    valid = torch.ones_like(raw[:, :1], dtype=torch.bool)
    if config.masked:
        valid = ((raw != config.invalid) & (raw <= config.maximum)).all(dim=1, keepdim=True)
    x = _channels(raw / config.maximum, config.channels).clamp(0, 1)
    if config.height and (height, width) != (config.height, config.width):
        x, valid = _resize(x, valid, (config.height, config.width), config.masked)
    x = torch.where(valid, x - 0.5, config.hole)
    return x[0].contiguous(), valid[0].contiguous()


def centre(height: int, width: int, config: DataConfig) -> Window:
    """The part of an image that is used: all of it, or its centre with the sides asked for."""
    if not config.height or config.resize == "stretch":
        return 0, 0, height, width
    if config.resize == "none":
        rows, cols = config.height, config.width
    else:  # the largest part of that shape
        scale = min(height / config.height, width / config.width)
        rows = max(1, min(height, round(config.height * scale)))
        cols = max(1, min(width, round(config.width * scale)))
    return (height - rows) // 2, (width - cols) // 2, rows, cols


def _channels(x: Tensor, channels: int) -> Tensor:
    """(N, 1 or 3, H, W) as gray or RGB."""
    if x.shape[1] == channels:
        return x
    if channels == 3:
        return x.expand(-1, 3, -1, -1)
    weights = torch.tensor(LUMA, dtype=x.dtype).view(1, 3, 1, 1)
    return (x * weights).sum(dim=1, keepdim=True)


def _resize(x: Tensor, valid: Tensor, size: tuple[int, int], masked: bool) -> tuple[Tensor, Tensor]:
    def scaled(values: Tensor) -> Tensor:
        return interpolate(values, size, mode="bilinear", align_corners=False, antialias=True)

    if not masked:
        return scaled(x).clamp(0, 1), valid.new_ones((x.shape[0], 1, *size))
    weight = scaled(valid.to(x.dtype))
    mean = scaled(x * valid) / weight.clamp(min=1e-6)
    return mean.clamp(0, 1), weight >= 0.5


def to_samples(x: Tensor, config: DataConfig) -> Samples:
    """The way back: an image of a model as samples in the units of the files.

    Args:
        x: (C, H, W), C 1 or 3; values outside [-0.5, 0.5] are cut.
        config: as the image was prepared.

    Returns:
        (H, W) or (H, W, 3), `uint8` or `uint16`.
    """
    scaled = ((x.detach().double().cpu() + 0.5).clamp(0, 1) * config.maximum).round()
    array = scaled.permute(1, 2, 0).numpy().astype(np.uint8 if config.bits == 8 else np.uint16)
    return array[:, :, 0] if array.shape[2] == 1 else array
