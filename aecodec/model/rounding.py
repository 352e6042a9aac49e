"""Rounding of residuals: to the nearest integer, or where the estimated cost is least."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from aecodec.model.config import SCALE_LEVELS, ModelConfig


def straight_through(x: Tensor, rounded: Tensor) -> Tensor:
    """The value of `rounded` with the gradient of `x`."""
    return x + (rounded - x).detach()


def round_ste(x: Tensor) -> Tensor:
    """Round to nearest; the gradient passes straight through."""
    return straight_through(x, x.round())


def round_towards_zero(x: Tensor, threshold: Tensor) -> Tensor:
    """Round to the nearest integer, or towards zero if that is hardly further away.

    Args:
        x: residuals in quantisation steps.
        threshold: how much further than ½ from the integer below a magnitude must be to
            round up, of the same shape; 0 to ½.
    """
    return (x.abs() + 0.5 - threshold).floor().clamp(min=0) * x.sign()


@lru_cache(maxsize=4)
@torch.inference_mode(False)
def thresholds_by_index(config: ModelConfig) -> Tensor:
    """`zero_thresholds` of every scale index, (64,) float32, shared by all callers."""
    index = torch.arange(SCALE_LEVELS, dtype=torch.float32)
    return zero_thresholds((math.log(config.scale_min) + index * config.log_scale_step).exp())


def zero_thresholds(scales: Tensor) -> Tensor:
    """How much further than ½ a residual must be from an integer to round away from zero.

    At the rate-distortion optimum of a uniform quantiser at high rate, an error of e
    steps costs 6/ln 2 · e² bits; rounding up to ±1 instead of 0 costs the difference of
    their informations.

    Args:
        scales: standard deviations of residuals in quantisation steps, any shape.
    """

    def mass(k: float) -> Tensor:
        upper: Tensor = torch.special.ndtr((k + 0.5) / scales.double())
        lower: Tensor = torch.special.ndtr((k - 0.5) / scales.double())
        return (upper - lower).clamp(min=1e-9)

    extra_bits = (mass(0.0) / mass(1.0)).log2()
    thresholds: Tensor = (extra_bits / (2 * 6 / math.log(2))).clamp(0, 0.5).float()
    return thresholds
