"""The scale head in floating point, with gradients: what refinement follows downhill.

Coding never uses it. It has the weights of `scale_head.IntegerScaleHead` and differs from
it only by what that rounds: an index rounded is mostly the exact one, or its neighbour. To
round here too, with gradients passed straight through, makes files 0.9 % larger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from aecodec.layout import QUALITY_STEPS
from aecodec.model.blocks import interpolate_rows
from aecodec.model.config import SCALE_LEVELS
from aecodec.model.hyperprior import magnitude_level
from aecodec.model.passes import Passes, from_cells, passes_of, slots, slots_of, to_cells
from aecodec.model.rounding import straight_through
from aecodec.model.scale_head import columns
from aecodec.model.scale_integers import coding_passes, fixed_point, real


class RelaxedScaleHead:
    """Runs the integers of a scale head as real numbers.

    Args:
        tensors: as from `scale_integers.quantise`.
        device: where.
    """

    def __init__(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        values = {name: value.float().to(device) for name, value in real(tensors).items()}
        self._limit = fixed_point(tensors).limit
        self._weights = [values[f"weight.{i}"] for i in range(3)]
        self._biases = [values[f"bias.{i}"] for i in range(3)]
        self.passes = coding_passes(tensors)
        self._slots = slots(len(self._weights[-1]), self.passes).to(device)
        self._tail = columns(self._weights[-1], self._slots)
        self._contexts = [
            _RelaxedContext(values, p, self.passes, self._limit) for p in range(1, self.passes)
        ]

    def chunk(self, z: Tensor, quality: int, size: tuple[int, int]) -> RelaxedScales:
        """The scales of one chunk, (H, W) positions of y, for ẑ (1, Cz, ⌈H/4⌉, ⌈W/4⌉)."""
        q = z.new_full((1,), quality / QUALITY_STEPS)
        h = z.clamp(-self._limit, self._limit)
        for weight, rows in list(zip(self._weights, self._biases, strict=True))[:-1]:
            h = F.conv2d(h, weight, padding=weight.shape[-1] // 2) + interpolate_rows(rows, q)
            h = F.pixel_shuffle(h.clamp(0, self._limit), 2)
        bias = interpolate_rows(self._biases[-1], q).flatten()[self._slots][:, None]
        passes = passes_of(self._slots.shape[1], self.passes, *size)
        return RelaxedScales(
            passes, h[:, :, : size[0], : size[1]], self._tail, bias, self._contexts, q
        )


@dataclass
class RelaxedScales:
    """Scale indices of one chunk as real numbers, pass after pass; see `ChunkScales`.

    Attributes:
        passes: how the elements are sorted.
        features: of the head, (1, F, H, W).
        weight, bias: of its last layer, sorted: (4, F, C) and (4, 1, C).
        contexts: what corrects each pass but the first.
        quality: (1,) continuous, in [0, 7].
    """

    passes: Passes
    features: Tensor
    weight: Tensor
    bias: Tensor
    contexts: list[_RelaxedContext]
    quality: Tensor

    def index(self, p: int, q: Tensor) -> Tensor:
        """Scale indices of pass p, (4, P, group) float32 in [0, 63], for residuals so far."""
        now = self.passes.of(p)
        total = to_cells(self.features)[0] @ self.weight[:, :, now] + self.bias[:, :, now]
        if p > 0:
            level, size = _level(q[:, :, : now.start]), self.passes.shape[1:]
            total = total + self.contexts[p - 1](level, self.features, self.quality, size)
        return total.clamp(0, SCALE_LEVELS - 1)


class _RelaxedContext:
    """Pass p of `hyperprior.ScaleContext`, on elements sorted by pass."""

    def __init__(self, values: Mapping[str, Tensor], p: int, passes: int, limit: int) -> None:
        names = [f"context.{p}.weight.{i}" for i in range(4)]
        known, self._head, self._spatial, tail = [values[n] for n in names]
        self._biases = [values[f"context.{p}.bias.{i}"] for i in range(2)]
        self._limit = limit
        before, now = slots_of(len(tail), passes, p)
        self._known = columns(known.transpose(0, 1), before).mT
        self._tail = columns(tail, now)

    def __call__(
        self, level: Tensor, features: Tensor, quality: Tensor, size: tuple[int, ...]
    ) -> Tensor:
        h = F.conv2d(features, self._head) + from_cells((level @ self._known)[None], *size)
        h = (h + interpolate_rows(self._biases[0], quality)).clamp(0, self._limit)
        h = F.conv2d(h, self._spatial, padding=1) + interpolate_rows(self._biases[1], quality)
        return to_cells(h.clamp(0, self._limit))[0] @ self._tail


def _level(q: Tensor) -> Tensor:
    """`magnitude_level` of residuals rounded, with the gradient of log₂(1 + |q|)."""
    return straight_through((1 + q.abs()).log2(), magnitude_level(q.detach().round()))
