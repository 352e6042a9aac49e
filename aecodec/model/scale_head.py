"""The scale head in integers: the one network whose output decides how symbols decode.

Weights are int16 with 12 fractional bits, activations have 8, biases 20; every layer
computes floor((Σ w·a + b + half) / 2^shift) on integers. Evaluated in float64, where
products and sums stay below 2^53: exact on any machine, in any order of summation, with
any number of threads.

What ẑ says about a scale is corrected by the residuals that are known already, where the
model has scale context: they are integers too, and decoded before they are needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import WeightsError
from ..layout import QUALITY_STEPS
from .config import QUALITY_ROWS, SCALE_LEVELS, ModelConfig
from .hyperprior import ScaleContext, ScaleHead, magnitude_level
from .passes import Passes, from_cells, passes_of, slots, to_cells

ACTIVATION_BITS = 8
WEIGHT_BITS = 12
INPUT_LIMIT = 127
"""ẑ is clamped to ±127 before it enters the network (not when it is coded)."""

_LAYERS = 3


def quantise(
    head: ScaleHead, contexts: Iterable[nn.Module], config: ModelConfig
) -> dict[str, Tensor]:
    """Turn trained heads into integers, with their output in units of scale indices.

    Returns:
        `weight.{0,1,2}` int16 (out, in, k, k) and `bias.{0,1,2}` int32 (8, out); for
        every coding pass p > 0 `context.{p}.weight.{0..3}` and `context.{p}.bias.{0,1}`.

    Raises:
        WeightsError: a weight does not fit 16 bits.
    """
    low = torch.tensor(config.scale_min, dtype=torch.float64).log()
    weights = [w.detach().double() for w in head.weights]
    biases = [b.detach().double() for b in head.biases]
    weights[-1] = weights[-1] / config.log_scale_step  # log σ -> index
    biases[-1] = (biases[-1] - low) / config.log_scale_step
    tensors = _integers("", weights, biases)
    for p, context in enumerate(contexts, start=1):
        assert isinstance(context, ScaleContext)
        weights = [w.detach().double() for w in context.weights]
        weights[-1] = weights[-1] / config.log_scale_step
        biases = [b.detach().double() for b in context.biases]
        tensors |= _integers(f"context.{p}.", weights, biases)
    return tensors


def _integers(prefix: str, weights: list[Tensor], biases: list[Tensor]) -> dict[str, Tensor]:
    tensors = {}
    for i, weight in enumerate(weights):
        w = (weight * 2**WEIGHT_BITS).round()
        if w.abs().max() > 32767:
            raise WeightsError("scale head: a weight is too large for its integer format")
        tensors[f"{prefix}weight.{i}"] = w.to(torch.int16)
    for i, bias in enumerate(biases):
        b = (bias * 2 ** (WEIGHT_BITS + ACTIVATION_BITS)).round()
        if b.abs().max() > 2**31 - 1:
            raise WeightsError("scale head: a bias is too large for its integer format")
        tensors[f"{prefix}bias.{i}"] = b.to(torch.int32)
    return tensors


def dequantise(tensors: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The inverse of `quantise`: parameters of an `Autoencoder`, float32, by name."""
    low = torch.tensor(config.scale_min, dtype=torch.float64).log()
    params = {}
    for name, integers in tensors.items():
        *context, kind, i = name.split(".")
        value = integers.double() / 2 ** (WEIGHT_BITS + ACTIVATION_BITS * (kind == "bias"))
        if kind == "weight" and i == ("3" if context else "2"):
            value = value * config.log_scale_step
        elif kind == "bias" and i == "2":
            value = value * config.log_scale_step + low
        part = {"weight": "weights", "bias": "biases"}[kind]
        owner = f"scale_context.{int(context[1]) - 1}" if context else "scale_head"
        params[f"{owner}.{part}.{i}"] = value.float()
    return params


class IntegerScaleHead:
    """Runs the integers that `quantise` made.

    Args:
        tensors: as from `quantise`.
        device: any with float64; others (MPS) are refused by torch, use the CPU there.

    Attributes:
        tensors: the integers.
        passes: how many coding passes have scales of their own; 1 without scale context.
    """

    def __init__(self, tensors: dict[str, Tensor], device: torch.device) -> None:
        self.tensors = tensors
        self._device = device
        self._weights = [tensors[f"weight.{i}"].to(device).double() for i in range(_LAYERS)]
        self._biases = [tensors[f"bias.{i}"].to(device).long() for i in range(_LAYERS)]
        self.passes = 1 + sum(name.endswith("weight.3") for name in tensors)
        self._contexts = [
            _IntegerContext(tensors, p, self.passes, device) for p in range(1, self.passes)
        ]
        channels = len(self._weights[-1])
        self._slots = slots(channels, self.passes).to(device)
        self._sorted = columns(self._weights[-1], self._slots)

    def __call__(self, z: Tensor, quality: int) -> Tensor:
        """Scale indices as far as ẑ alone gives them.

        Args:
            z: ẑ, integers of any dtype, (B, Cz, h, w).
            quality: 0 to 3584, 512 steps a row.

        Returns:
            (B, C, 4h, 4w) uint8, values 0 to 63.
        """
        return _to_index(self._base(self._features(z, quality), quality))

    def chunk(self, z: Tensor, quality: int, size: tuple[int, int]) -> ChunkScales:
        """The scales of one chunk, (H, W) positions of y, for ẑ (Cz, ⌈H/4⌉, ⌈W/4⌉)."""
        features = self._features(z[None], quality)[:, :, : size[0], : size[1]]
        passes = passes_of(self._slots.shape[1], self.passes, *size)
        bias = _row(self._biases[-1], quality).flatten()[self._slots][:, None]
        return ChunkScales(passes, features, self._sorted, bias, self._contexts, quality)

    def _features(self, z: Tensor, quality: int) -> Tensor:
        a: Tensor = z.to(self._device).double().clamp(-INPUT_LIMIT, INPUT_LIMIT)
        a = a * 2**ACTIVATION_BITS
        for weight, bias in list(zip(self._weights, self._biases, strict=True))[:-1]:
            total = _conv(a, weight).add_(_row(bias, quality))
            a = F.pixel_shuffle(_activate(total), 2)
        return a

    def _base(self, features: Tensor, quality: int) -> Tensor:
        return _conv(features, self._weights[-1]).add_(_row(self._biases[-1], quality))


class ChunkScales:
    """Scale indices of one chunk, pass after pass, of elements sorted by coding pass.

    Attributes:
        passes: how the elements are sorted.
    """

    def __init__(
        self,
        passes: Passes,
        features: Tensor,
        weight: Tensor,
        bias: Tensor,
        contexts: list[_IntegerContext],
        quality: int,
    ) -> None:
        self.passes = passes
        self._features, self._weight, self._bias = features, weight, bias
        self._cells = to_cells(features)[0]
        self._contexts, self._quality = contexts, quality
        self._levels = _levels().to(features.device)

    def index(self, p: int, q: Tensor) -> Tensor:
        """Scale indices of the elements of pass p.

        Args:
            p: 0 to passes − 1.
            q: (4, P, C) residuals, integers of any dtype; those of passes before p count,
                others may be missing.

        Returns:
            (4, P, group) uint8, values 0 to 63.
        """
        now = self.passes.of(p)
        total = (self._cells @ self._weight[:, :, now]).round_().add_(self._bias[:, :, now])
        if p > 0:
            magnitude = q[:, :, : now.start].to(total.device).int().abs().clamp_(max=1023)
            level = self._levels.take(magnitude.long())
            size = self.passes.shape[1:]
            total += self._contexts[p - 1](level, self._features, self._quality, size)
        return _to_index(total)


class _IntegerContext:
    """Pass p of `hyperprior.ScaleContext` in integers, on elements sorted by pass."""

    def __init__(
        self, tensors: dict[str, Tensor], p: int, passes: int, device: torch.device
    ) -> None:
        names = [f"context.{p}.weight.{i}" for i in range(4)]
        known, self._head, spatial, tail = [tensors[n].to(device).double() for n in names]
        self._taps = spatial.permute(2, 3, 0, 1).flatten(0, 1).contiguous()  # (9, out, in)
        names = [f"context.{p}.bias.{i}" for i in range(2)]
        self._biases = [tensors[n].to(device).long() for n in names]
        order, group = slots(len(tail), passes).to(device), len(tail) // passes
        self._known = columns(known.transpose(0, 1), order[:, : p * group]).mT.contiguous()
        self._tail = columns(tail, order[:, p * group : (p + 1) * group])

    def __call__(
        self, level: Tensor, features: Tensor, quality: int, size: tuple[int, ...]
    ) -> Tensor:
        known = from_cells((level @ self._known).round_()[None], *size)
        total = _conv(features, self._head).add_(known).add_(_row(self._biases[0], quality))
        a = _conv_narrow(_activate(total), self._taps).add_(_row(self._biases[1], quality))
        return (to_cells(_activate(a))[0] @ self._tail).round_()


def columns(weight: Tensor, order: Tensor) -> Tensor:
    """1×1 weights (out, in, 1, 1), with their outputs sorted: (4, in, n) for order (4, n)."""
    return weight[:, :, 0, 0][order].mT.contiguous()


@lru_cache(maxsize=1)
@torch.inference_mode(False)
def _levels() -> Tensor:
    """`magnitude_level` of 0 to 1023 with 8 fractional bits, float64."""
    levels: Tensor = (magnitude_level(torch.arange(1024).double()) * 2**ACTIVATION_BITS).floor()
    return levels


def _conv(a: Tensor, weight: Tensor) -> Tensor:
    # rounded at once: an algorithm that does not sum exactly is off by far less than 1/2
    if weight.shape[-1] == 1:  # a convolution in float64 would copy its input first
        total = (weight[:, :, 0, 0] @ a.flatten(2)).reshape(-1, len(weight), *a.shape[2:])
    else:
        total = F.conv2d(a, weight, padding=weight.shape[-1] // 2)
    total.round_()
    return total


def _conv_narrow(a: Tensor, taps: Tensor) -> Tensor:
    """3×3 convolution of (1, in, h, w) with taps (9, out, in): half the time of torch's in float64.

    A matrix product for every tap, on the picture moved by it: with padded rows laid end to
    end a move is an offset. What lies between the rows is cut off.
    """
    (height, width), out = a.shape[2:], taps.shape[1]
    stride = width + 2
    flat = F.pad(a, (1, 1, 1, 1)).reshape(a.shape[1], -1)
    total = a.new_empty(out, height * stride)
    run = total[:, : height * stride - 2]
    for k, tap in enumerate(taps):
        first = k // 3 * stride + k % 3
        moved = flat[:, first : first + run.shape[1]]
        torch.addmm(run, tap, moved, beta=min(k, 1), out=run)
    return total.round_().view(1, out, height, stride)[..., :width]


# What follows works in place: tensors are large, and fresh memory costs more than the sums.


def _activate(total: Tensor) -> Tensor:
    return _shift(total, WEIGHT_BITS).clamp_(0, INPUT_LIMIT << ACTIVATION_BITS)


def _to_index(total: Tensor) -> Tensor:
    index = _shift(total, WEIGHT_BITS + ACTIVATION_BITS).clamp_(0, SCALE_LEVELS - 1)
    return index.to(torch.uint8)


def _row(rows: Tensor, quality: int) -> Tensor:
    """Row interpolated in integers, (1, out, 1, 1) float64."""
    low = min(quality // QUALITY_STEPS, QUALITY_ROWS - 2)
    part = quality - low * QUALITY_STEPS
    mixed = rows[low] * (QUALITY_STEPS - part) + rows[low + 1] * part
    row = torch.div(mixed + QUALITY_STEPS // 2, QUALITY_STEPS, rounding_mode="floor")
    return row.double()[None, :, None, None]


def _shift(x: Tensor, bits: int) -> Tensor:
    """floor((x + 2^(bits-1)) / 2^bits), exact in float64."""
    return x.add_(float(2 ** (bits - 1))).mul_(2.0**-bits).floor_()
