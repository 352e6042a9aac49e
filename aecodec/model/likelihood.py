"""Bits of a quantised zero-mean Gaussian, with its gradient in closed form."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

_MIN_PROBABILITY = 1e-9
_INV_SQRT2 = 1 / math.sqrt(2)
_INV_SQRT2PI = 1 / math.sqrt(2 * math.pi)


class _GaussianBits(torch.autograd.Function):
    """Fused: autograd over erfc, log and clamps cost a tenth of a training step."""

    @staticmethod
    def forward(ctx: Any, residual: Tensor, log_scale: Tensor) -> Tensor:
        inv = torch.exp(-log_scale)
        distance = residual.abs()
        upper = (0.5 - distance).mul_(inv)
        lower = (-0.5 - distance).mul_(inv)
        p = torch.erfc(upper * -_INV_SQRT2).sub_(torch.erfc(lower * -_INV_SQRT2)).mul_(0.5)
        p.clamp_(min=_MIN_PROBABILITY)
        ctx.save_for_backward(residual, inv, upper, lower, p)
        return p.log2().neg_()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        residual, inv, upper, lower, p = ctx.saved_tensors
        density_up = torch.exp(upper.square().mul_(-0.5))
        density_low = torch.exp(lower.square().mul_(-0.5))
        factor = grads[0] * (-_INV_SQRT2PI / math.log(2)) / p
        d_distance = density_low.sub(density_up).mul_(inv).mul_(factor)
        d_log_scale = density_low.mul_(lower).sub_(density_up.mul_(upper)).mul_(factor)
        return d_distance.mul_(residual.sign()), d_log_scale


def gaussian_bits(residual: Tensor, log_scale: Tensor) -> Tensor:
    """−log₂ of the mass of N(0, σ²) within ±½ of each residual.

    Args:
        residual: y − μ in quantisation steps (plus noise in training), float32.
        log_scale: natural logarithm of σ, broadcast to the same shape.

    Returns:
        Bits of each element, at most 29.9.
    """
    bits: Tensor = _GaussianBits.apply(residual, log_scale)  # type: ignore[no-untyped-call]
    return bits
