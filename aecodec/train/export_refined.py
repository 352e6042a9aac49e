"""Frequency tables for files with softness, counted on what effort makes of images.

Refined residuals are 0 more often than those of one pass: tables of their own save 0.4 % of
the bits. Effort itself still weighs them by the plain tables, since with these it finds
worse ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from aecodec.layout import QUALITY_MAX, STRIDE, Rect
from aecodec.model.network import Network
from aecodec.model.quantiser import Symbols
from aecodec.objective import Scene
from aecodec.refine import refine
from aecodec.samples import Samples
from aecodec.train.patches import load_image
from aecodec.train.prepare import DataConfig
from aecodec.train.tables import count_residuals, no_residuals, refined_tables

_EFFORT = 6
_SIDE = 192  # pixels of an image that are looked at, in its middle


@torch.inference_mode(False)  # effort needs gradients through the network
def count_refined(weights: Path, paths: Sequence[Path], data: DataConfig) -> dict[str, Tensor]:
    """The tensor `tables.y_soft` for a weights file.

    Args:
        weights: as `export` writes it without such tables.
        paths: training images, each refined once, at a quality drawn at random.
        data: how they are read.
    """
    network = Network(weights, device="cpu", precision="float32")
    counts = no_residuals()
    rng = np.random.default_rng(2)
    for path in tqdm(paths, desc="refining", unit="image"):
        image = load_image(path, data)
        if image is not None and min(image.shape[:2]) >= STRIDE:
            quality = int(rng.integers(QUALITY_MAX + 1))
            symbols = _refined(network, _middle(image, data.bits), quality)
            count_residuals(counts, symbols.index, symbols.q)
    return refined_tables(network.tables, counts)


def _middle(image: np.ndarray, bits: int) -> Samples:
    """At most 192² in the middle of an image (H, W, 1 or 3), sides multiples of 16, in RGB."""
    height, width = (min(side, _SIDE) // STRIDE * STRIDE for side in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    part = image[top : top + height, left : left + width]
    samples = np.broadcast_to(part, (height, width, 3)).astype(np.uint8 if bits == 8 else np.uint16)
    return samples


def _refined(network: Network, pixels: Samples, quality: int) -> Symbols:
    height, width = pixels.shape[:2]
    area = Rect(0, 0, width // STRIDE, height // STRIDE)
    with torch.inference_mode():
        y = network.analyse(pixels)
    scene = Scene(y, area, area, Rect(0, 0, width, height))
    return refine(network, scene, pixels, quality, _EFFORT)
