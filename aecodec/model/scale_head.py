"""The scale head in integers: the one network whose output decides how symbols decode.

Weights are int16 with 12 fractional bits, activations have 8, biases 20; every layer
computes floor((Σ w·a + b + half) / 2^shift) on integers. Evaluated in float64, where
products and sums stay below 2^53: exact on any machine, in any order of summation, with
any number of threads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import WeightsError
from ..layout import QUALITY_STEPS
from .config import QUALITY_ROWS, SCALE_LEVELS, ModelConfig
from .hyperprior import ScaleHead

ACTIVATION_BITS = 8
WEIGHT_BITS = 12
INPUT_LIMIT = 127
"""ẑ is clamped to ±127 before it enters the network (not when it is coded)."""

_LAYERS = 3


def quantise(head: ScaleHead, config: ModelConfig) -> dict[str, Tensor]:
    """Turn a trained head into integers, with its output in units of scale indices.

    Returns:
        `weight.{0,1,2}` int16 (out, in, k, k) and `bias.{0,1,2}` int32 (8, out).

    Raises:
        WeightsError: a weight does not fit 16 bits.
    """
    tensors = {}
    for i, (weight, rows) in enumerate(zip(head.weights, head.biases, strict=True)):
        w, b = weight.detach().double(), rows.detach().double()
        if i == _LAYERS - 1:  # log σ -> index
            low = torch.tensor(config.scale_min, dtype=torch.float64).log()
            w, b = w / config.log_scale_step, (b - low) / config.log_scale_step
        w = (w * 2**WEIGHT_BITS).round()
        b = (b * 2 ** (WEIGHT_BITS + ACTIVATION_BITS)).round()
        if w.abs().max() > 32767 or b.abs().max() > 2**31 - 1:
            raise WeightsError("scale head: a weight is too large for its integer format")
        tensors[f"weight.{i}"] = w.to(torch.int16)
        tensors[f"bias.{i}"] = b.to(torch.int32)
    return tensors


class IntegerScaleHead:
    """Runs the integers that `quantise` made.

    Args:
        tensors: as from `quantise`.
        device: any with float64; others (MPS) are refused by torch, use the CPU there.
    """

    def __init__(self, tensors: dict[str, Tensor], device: torch.device) -> None:
        self._device = device
        self._weights = [tensors[f"weight.{i}"].to(device).double() for i in range(_LAYERS)]
        self._biases = [tensors[f"bias.{i}"].to(device).long() for i in range(_LAYERS)]

    def __call__(self, z: Tensor, quality: int) -> Tensor:
        """Scale indices.

        Args:
            z: ẑ, integers of any dtype, (B, Cz, h, w).
            quality: 0 to 3584, 512 steps a row.

        Returns:
            (B, C, 4h, 4w) uint8, values 0 to 63.
        """
        a = z.to(self._device).double().clamp(-INPUT_LIMIT, INPUT_LIMIT) * 2**ACTIVATION_BITS
        for i, weight in enumerate(self._weights):
            # rounded at once: an algorithm that does not sum exactly is off by far less than 1/2
            total = F.conv2d(a, weight, padding=weight.shape[-1] // 2).round()
            total += self._bias(i, quality)
            if i < _LAYERS - 1:
                a = _shift(total, WEIGHT_BITS).clamp(0, INPUT_LIMIT << ACTIVATION_BITS)
                a = F.pixel_shuffle(a, 2)
        index = _shift(total, WEIGHT_BITS + ACTIVATION_BITS).clamp(0, SCALE_LEVELS - 1)
        return index.to(torch.uint8)

    def _bias(self, layer: int, quality: int) -> Tensor:
        """Row interpolated in integers, (1, out, 1, 1) float64."""
        rows = self._biases[layer]
        low = min(quality // QUALITY_STEPS, QUALITY_ROWS - 2)
        part = quality - low * QUALITY_STEPS
        mixed = rows[low] * (QUALITY_STEPS - part) + rows[low + 1] * part
        row = torch.div(mixed + QUALITY_STEPS // 2, QUALITY_STEPS, rounding_mode="floor")
        return row.double()[None, :, None, None]


def _shift(x: Tensor, bits: int) -> Tensor:
    """floor((x + 2^(bits-1)) / 2^bits), exact in float64."""
    return (x + float(2 ** (bits - 1))).mul(2.0**-bits).floor()
