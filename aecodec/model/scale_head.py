"""The scale head in integers: the one network whose output decides how symbols decode.

Weights, activations and biases are fixed-point integers (`scale_integers.FixedPoint`);
every layer computes floor((Σ w·a + b + half) / 2^shift) on them. Evaluated in float32 where
no sum can reach 2^24, else in float64, where none reaches 2^53: exact on any machine, in any
order of summation, with any number of threads.

What ẑ says about a scale is corrected by the residuals that are known already, where the
model has scale context: they are integers too, and decoded before they are needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from aecodec.errors import WeightsError
from aecodec.model.blocks import spread
from aecodec.model.config import SCALE_LEVELS
from aecodec.model.passes import from_cells, passes_of, slots, slots_of, to_cells
from aecodec.model.scale_integers import FixedPoint, coding_passes, fixed_point, largest_sum
from aecodec.rate import mixed_row

_FLOAT32_LIMIT, _FLOAT64_LIMIT = 2**24, 2**53
_PROBE = 4095  # its square fits float32 exactly; bfloat16 and TF32 would round both


def float32_is_float32() -> bool:
    """Whether products of float32 matrices are computed in float32 on the CPU.

    Libraries can be told to use bfloat16 or TF32 instead: by
    `torch.set_float32_matmul_precision`, by environment variables of oneDNN and MKL.
    """
    eye = torch.eye(64, dtype=torch.float32, device="cpu")
    return torch.equal((eye * _PROBE) @ (eye * _PROBE), eye * _PROBE**2)


class IntegerScaleHead:
    """Runs the integers that `scale_integers.quantise` made.

    Args:
        tensors: as from `quantise`.
        device: any with float64; others (MPS) are refused by torch, use the CPU there.

    Attributes:
        tensors: the integers.

    Raises:
        WeightsError: their format is none, or their sums are too large to be exact.
    """

    def __init__(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        self.tensors = tensors
        largest = largest_sum(tensors)
        if largest >= _FLOAT64_LIMIT:
            raise WeightsError(f"scale head: sums up to {largest} would be rounded")
        small = device.type == "cpu" and largest < _FLOAT32_LIMIT
        self._dtype = torch.float32 if small else torch.float64
        self._layers = lru_cache(lambda dtype: _Layers(tensors, device, dtype))
        self._layers(self._dtype)

    def chunk(self, z: Tensor, quality: int, size: tuple[int, int]) -> ChunkScales:
        """The scales of one chunk.

        Args:
            z: ẑ, integers of any dtype, (Cz, ⌈H/4⌉, ⌈W/4⌉).
            quality: 0 to 3584, 512 steps a row.
            size: (H, W), positions of y.
        """
        exact = self._dtype if float32_is_float32() else torch.float64
        return ChunkScales(self._layers(exact), z, quality, size)


class _Layers:
    """The integers as floating-point numbers, arranged for how they are used."""

    def __init__(
        self, tensors: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype
    ) -> None:
        values = {name: tensor.to(device) for name, tensor in tensors.items()}
        weights = {name: v.to(dtype) for name, v in values.items() if "weight" in name}
        self.form = fixed_point(tensors)
        self.passes = coding_passes(tensors)
        self.hidden = [
            (_taps(_shuffled(weights[f"weight.{i}"])), _shuffled(values[f"bias.{i}"].T).T)
            for i in range(2)
        ]
        tail = weights["weight.2"]
        self.slots = slots(len(tail), self.passes).to(device)
        self.tail = columns(tail, self.slots)
        self.bias = values["bias.2"]
        self.contexts = [
            _Context(weights, values, p, self.passes, self.form) for p in range(1, self.passes)
        ]


class ChunkScales:
    """Scale indices of one chunk, pass after pass, of elements sorted by coding pass.

    Attributes:
        passes: how the elements are sorted.
    """

    def __init__(self, layers: _Layers, z: Tensor, quality: int, size: tuple[int, int]) -> None:
        form = layers.form
        a = z.to(layers.tail.device).clamp(-form.limit, form.limit) << form.activation_bits
        a = a.to(layers.tail.dtype)[None]
        for taps, rows in layers.hidden:
            total = _conv(a, taps).add_(_offset(rows, quality, form.weight_bits, a.dtype))
            a = spread(_activate(total, form))
        self.passes = passes_of(layers.slots.shape[1], layers.passes, *size)
        self._features = a[:, :, : size[0], : size[1]]
        self._cells = to_cells(self._features)[0]
        bias = _offset(layers.bias, quality, form.bias_bits, a.dtype)
        self._bias = bias.flatten()[layers.slots][:, None]
        self._layers, self._quality = layers, quality

    def index(self, p: int, q: Tensor) -> Tensor:
        """Scale indices of the elements of pass p.

        Args:
            p: 0 to passes − 1.
            q: (4, P, C) residuals, integers of any dtype; those of passes before p count,
                others may be missing.

        Returns:
            (4, P, group) uint8, values 0 to 63.
        """
        layers, now = self._layers, self.passes.of(p)
        total = (self._cells @ layers.tail[:, :, now]).round_().add_(self._bias[:, :, now])
        if p > 0:
            level = _level(q[:, :, : now.start].to(total.device), layers.form).to(total.dtype)
            size = self.passes.shape[1:]
            total += layers.contexts[p - 1](level, self._features, self._quality, size)
        total.mul_(2.0**-layers.form.bias_bits).floor_().clamp_(0, SCALE_LEVELS - 1)
        return total.to(torch.uint8)


class _Context:
    """A pass of `hyperprior.ScaleContext` in integers, on elements sorted by pass."""

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        biases: Mapping[str, Tensor],
        p: int,
        passes: int,
        form: FixedPoint,
    ) -> None:
        names = [f"context.{p}.weight.{i}" for i in range(4)]
        known, head, spatial, tail = [weights[name] for name in names]
        before, now = slots_of(len(tail), passes, p)
        self._known = columns(known.transpose(0, 1), before).mT.contiguous()
        self._head, self._spatial = _taps(head), _taps(spatial)
        self._tail = columns(tail, now)
        self._rows = [biases[f"context.{p}.bias.{i}"] for i in range(2)]
        self._form = form

    def __call__(
        self, level: Tensor, features: Tensor, quality: int, size: tuple[int, ...]
    ) -> Tensor:
        shift, dtype = self._form.weight_bits, level.dtype
        known = from_cells((level @ self._known).round_()[None], *size)
        total = _conv(features, self._head).add_(known)
        a = _activate(total.add_(_offset(self._rows[0], quality, shift, dtype)), self._form)
        total = _conv(a, self._spatial).add_(_offset(self._rows[1], quality, shift, dtype))
        return (to_cells(_activate(total, self._form))[0] @ self._tail).round_()


def columns(weight: Tensor, order: Tensor) -> Tensor:
    """1×1 weights (out, in, 1, 1), with their outputs sorted: (4, in, n) for order (4, n)."""
    return weight[:, :, 0, 0][order].mT.contiguous()


def _taps(weight: Tensor) -> Tensor:
    """Weights (out, in, k, k) -> (k·k, in, out)."""
    return weight.permute(2, 3, 1, 0).flatten(0, 1).contiguous()


def _shuffled(x: Tensor) -> Tensor:
    """Output channels (4F, …) from the order of `F.pixel_shuffle` to that of `spread`."""
    return x.reshape(-1, 4, *x.shape[1:]).transpose(0, 1).flatten(0, 1)


def _level(q: Tensor, form: FixedPoint) -> Tensor:
    """`magnitude_level` of integers of any dtype, in fixed point, int32.

    It is how float32 stores 1 + |q|: exponent before mantissa, shifted to so many bits.
    """
    stored = q.abs().clamp(max=1023).float().add_(1).view(torch.int32)
    return stored.sub_(127 << 23).bitwise_right_shift_(23 - form.activation_bits)


def _conv(a: Tensor, taps: Tensor) -> Tensor:
    """1×1 or 3×3 convolution, zero padding: (1, in, h, w) -> (1, out, h, w), channels-last.

    By matrix products alone: torch's convolutions may take algorithms that do not sum
    exactly, and are slow in float64. For 3×3, one for every tap, on the picture moved by it:
    with padded rows laid end to end a move is an offset. What lies between them is cut off.
    """
    (height, width), (count, channels, out) = a.shape[2:], taps.shape
    rows = a[0].permute(1, 2, 0)
    if count == 1:
        total = rows.reshape(-1, channels) @ taps[0]
        return total.round_().view(1, height, width, out).permute(0, 3, 1, 2)
    stride = width + 2
    flat = F.pad(rows, (0, 0, 1, 1, 1, 1)).reshape(-1, channels)
    total = a.new_empty(height * stride, out)
    run = total[: height * stride - 2]
    for k, tap in enumerate(taps):
        first = k // 3 * stride + k % 3
        torch.addmm(run, flat[first : first + len(run)], tap, beta=min(k, 1), out=run)
    return total.round_().view(1, height, stride, out)[:, :, :width].permute(0, 3, 1, 2)


# What follows works in place: tensors are large, and fresh memory costs more than the sums.


def _activate(total: Tensor, form: FixedPoint) -> Tensor:
    """floor(total / 2^weight_bits), clamped; `_offset` has added the half."""
    return total.mul_(2.0**-form.weight_bits).floor_().clamp_(0, form.top)


def _offset(rows: Tensor, quality: int, shift: int, dtype: torch.dtype) -> Tensor:
    """Row interpolated in integers, and half of what is shifted out: (1, out, 1, 1)."""
    row: Tensor = mixed_row(rows.long(), quality)
    return (row + (1 << (shift - 1))).to(dtype)[None, :, None, None]
