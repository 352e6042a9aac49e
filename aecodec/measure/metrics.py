"""PSNR, SSIM, MS-SSIM and mean errors of images, over all samples or over the valid ones."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from aecodec.errors import InputError, needing
from aecodec.samples import Samples

RGB: TypeAlias = npt.NDArray[np.uint8]
"""An image: (height, width, 3), 0 to 255."""

Mask: TypeAlias = npt.NDArray[np.bool_]
"""Which pixels are valid: (height, width)."""

MS_SSIM_MIN_SIDE = 161
"""Five scales of an 11-pixel window fit in no smaller image."""

SSIM_MIN_SIDE = 11
"""The window of SSIM."""


def psnr(
    reference: Samples, image: Samples, *, peak: float = 255, valid: Mask | None = None
) -> float:
    """Peak signal-to-noise ratio in dB over all (valid) samples; inf when identical."""
    return psnr_of(mean_errors(reference, image, valid)[1], peak)


def psnr_of(mse: float, peak: float = 255) -> float:
    """PSNR in dB of a mean squared error; inf of none."""
    return math.inf if mse == 0 else 10 * math.log10(peak**2 / mse)


def mean_errors(
    reference: Samples, image: Samples, valid: Mask | None = None
) -> tuple[float, float]:
    """Mean absolute and mean squared error over all (valid) samples, in their units.

    Raises:
        InputError: other shapes, or no valid sample.
    """
    _same_shape(reference, image)
    difference = reference.astype(np.int64) - image
    if valid is not None:
        difference = difference[valid]
    if difference.size == 0:
        raise InputError("no valid samples to compare")
    squares = np.mean(np.square(difference), dtype=np.float64)
    return float(np.mean(np.abs(difference), dtype=np.float64)), float(squares)


def ssim(
    reference: Samples, image: Samples, *, peak: float = 255, valid: Mask | None = None
) -> float | None:
    """Structural similarity (Wang et al. 2004), -1 to 1; None for images too small for it.

    Gaussian windows of 11 pixels that lie within the image. Of an image with invalid pixels
    the windows around valid ones count; what lies in them invalid should be equal in both.

    Raises:
        InputError: the shapes differ.
        MissingDependencyError: scikit-image is not installed.
    """
    _same_shape(reference, image)
    if min(reference.shape[:2]) < SSIM_MIN_SIDE:
        return None
    with needing("bench", "SSIM"):
        from skimage.metrics import structural_similarity
    compute: Any = structural_similarity
    _, similar = compute(
        reference.astype(np.float64),
        image.astype(np.float64),
        data_range=peak,
        channel_axis=2 if reference.ndim == 3 else None,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    edge = SSIM_MIN_SIDE // 2
    inside = (slice(edge, reference.shape[0] - edge), slice(edge, reference.shape[1] - edge))
    counted = similar[inside] if valid is None else similar[inside][valid[inside]]
    return float(np.mean(counted)) if counted.size else None


def ms_ssim(reference: Samples, image: Samples, *, peak: float = 255) -> float | None:
    """Multi-scale structural similarity, 0 to 1; None for images too small for it.

    Raises:
        InputError: the shapes differ.
        MissingDependencyError: pytorch-msssim is not installed.
    """
    _same_shape(reference, image)
    if min(reference.shape[:2]) < MS_SSIM_MIN_SIDE:
        return None
    with needing("bench", "MS-SSIM"):
        import pytorch_msssim
    import torch

    pair = [
        torch.from_numpy(np.atleast_3d(x).astype(np.float32)).permute(2, 0, 1).unsqueeze(0)
        for x in (reference, image)
    ]
    with torch.inference_mode():
        return float(pytorch_msssim.ms_ssim(*pair, data_range=peak))


def decibels(similarity: float) -> float:
    """MS-SSIM on the scale it is plotted on: -10 log10(1 - x); inf when identical."""
    return math.inf if similarity >= 1 else -10 * math.log10(1 - similarity)


def _same_shape(reference: Samples, image: Samples) -> None:
    if reference.shape != image.shape:
        raise InputError(f"cannot compare {reference.shape} with {image.shape} samples")
