"""PSNR and MS-SSIM of 8-bit RGB images."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from aecodec.errors import InputError
from aecodec.measure import needs_bench

RGB: TypeAlias = npt.NDArray[np.uint8]
"""An image: (height, width, 3), 0 to 255."""

MS_SSIM_MIN_SIDE = 161
"""Five scales of an 11-pixel window fit in no smaller image."""


def psnr(reference: RGB, image: RGB) -> float:
    """Peak signal-to-noise ratio in dB over all samples, peak 255; inf when identical."""
    _same_shape(reference, image)
    difference = reference.astype(np.int32) - image
    mse = float(np.mean(np.square(difference), dtype=np.float64))
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)


def ms_ssim(reference: RGB, image: RGB) -> float | None:
    """Multi-scale structural similarity, 0 to 1; None for images too small for it."""
    _same_shape(reference, image)
    if min(reference.shape[:2]) < MS_SSIM_MIN_SIDE:
        return None
    with needs_bench():
        import pytorch_msssim
        import torch
    pair = [
        torch.from_numpy(x.astype(np.float32)).permute(2, 0, 1).unsqueeze(0)
        for x in (reference, image)
    ]
    with torch.inference_mode():
        return float(pytorch_msssim.ms_ssim(*pair, data_range=255))


def decibels(similarity: float) -> float:
    """MS-SSIM on the scale it is plotted on: -10 log10(1 - x); inf when identical."""
    return math.inf if similarity >= 1 else -10 * math.log10(1 - similarity)


def _same_shape(reference: RGB, image: RGB) -> None:
    if reference.shape != image.shape:
        raise InputError(f"cannot compare {reference.shape} with {image.shape} samples")
