"""The scale head as whole numbers: how trained weights become them, and how large they get."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from aecodec.errors import WeightsError
from aecodec.model.config import QUALITY_ROWS, ModelConfig
from aecodec.model.hyperprior import ScaleContext, ScaleHead

_MAX_LEVEL = 10  # `magnitude_level` of 1023 and above
_LAYERS = 3


class FixedPoint(NamedTuple):
    """The format of a scale head's numbers, in its weights file as `fixed_point`.

    The default makes every sum of the release models small enough for float32, and their
    files 0.02 % larger than 12 and 8 bits do.

    Attributes:
        weight_bits: fractional bits of weights.
        activation_bits: fractional bits of activations; biases have those of both.
        limit: activations are clamped to it, and ẑ to ± so much before it enters the
            network (not when it is coded).
    """

    weight_bits: int = 8
    activation_bits: int = 3
    limit: int = 63

    @property
    def bias_bits(self) -> int:
        """Fractional bits of biases and of sums."""
        return self.weight_bits + self.activation_bits

    @property
    def top(self) -> int:
        """The largest activation, as an integer."""
        return self.limit << self.activation_bits


ORIGINAL = FixedPoint(12, 8, 127)
"""Of weights files that do not say."""


def fixed_point(tensors: Mapping[str, Tensor]) -> FixedPoint:
    """The format of what `quantise` made.

    Raises:
        WeightsError: it cannot be one.
    """
    if "fixed_point" not in tensors:
        return ORIGINAL
    values = tensors["fixed_point"].flatten().tolist()
    if len(values) != 3 or not all(0 < v < 16 for v in values[:2]) or not 0 < values[2] < 1024:
        raise WeightsError(f"scale head: not a fixed-point format: {values}")
    return FixedPoint(*values)


def coding_passes(tensors: Mapping[str, Tensor]) -> int:
    """How many coding passes have scales of their own; 1 without scale context."""
    return 1 + sum(name.endswith("weight.3") for name in tensors)


def check_shapes(tensors: Mapping[str, Tensor], config: ModelConfig) -> None:
    """See that a scale head is that of a model.

    Raises:
        WeightsError: a tensor is missing, superfluous or of another shape.
    """
    expected: dict[str, tuple[int, ...]] = {}
    for i, (ins, outs, side) in enumerate(ScaleHead.shapes(config)):
        expected[f"weight.{i}"] = (outs, ins, side, side)
        expected[f"bias.{i}"] = (QUALITY_ROWS, outs)
    width = config.scale_context_width
    for p in range(1, config.scale_passes):
        for i, (ins, outs, side) in enumerate(ScaleContext.shapes(config)):
            expected[f"context.{p}.weight.{i}"] = (outs, ins, side, side)
        expected |= {f"context.{p}.bias.{i}": (QUALITY_ROWS, width) for i in range(2)}
    found = {name: tuple(t.shape) for name, t in tensors.items() if name != "fixed_point"}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise WeightsError(
                f"scale_head.{name} has the shape {found.get(name)}, "
                f"where the config asks for {expected.get(name)}"
            )


def quantise(
    head: ScaleHead,
    contexts: Iterable[nn.Module],
    config: ModelConfig,
    form: FixedPoint = FixedPoint(),  # noqa: B008 (immutable)
) -> dict[str, Tensor]:
    """Turn trained heads into integers, with their output in units of scale indices.

    Returns:
        `weight.{0,1,2}` int16 (out, in, k, k) and `bias.{0,1,2}` int32 (8, out); for
        every coding pass p > 0 `context.{p}.weight.{0..3}` and `context.{p}.bias.{0,1}`;
        and `fixed_point`, int32 (3,).

    Raises:
        WeightsError: a weight does not fit 16 bits.
    """
    low = torch.tensor(config.scale_min, dtype=torch.float64).log()
    weights = [w.detach().double() for w in head.weights]
    biases = [b.detach().double() for b in head.biases]
    weights[-1] = weights[-1] / config.log_scale_step  # log σ -> index
    biases[-1] = (biases[-1] - low) / config.log_scale_step
    tensors = {"fixed_point": torch.tensor(form, dtype=torch.int32)}
    tensors |= _integers("", weights, biases, form)
    for p, context in enumerate(contexts, start=1):
        assert isinstance(context, ScaleContext)
        weights = [w.detach().double() for w in context.weights]
        weights[-1] = weights[-1] / config.log_scale_step
        biases = [b.detach().double() for b in context.biases]
        tensors |= _integers(f"context.{p}.", weights, biases, form)
    return tensors


def _integers(
    prefix: str, weights: list[Tensor], biases: list[Tensor], form: FixedPoint
) -> dict[str, Tensor]:
    tensors = {}
    for i, weight in enumerate(weights):
        w = (weight * 2**form.weight_bits).round()
        if w.abs().max() > 32767:
            raise WeightsError("scale head: a weight is too large for its integer format")
        tensors[f"{prefix}weight.{i}"] = w.to(torch.int16)
    for i, bias in enumerate(biases):
        b = (bias * 2**form.bias_bits).round()
        if b.abs().max() > 2**31 - 1:
            raise WeightsError("scale head: a bias is too large for its integer format")
        tensors[f"{prefix}bias.{i}"] = b.to(torch.int32)
    return tensors


def real(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `quantise` made as real numbers, float64; the last outputs are scale indices."""
    form = fixed_point(tensors)
    return {
        name: t.double() / 2 ** (form.bias_bits if "bias" in name else form.weight_bits)
        for name, t in tensors.items()
        if name != "fixed_point"
    }


def dequantise(tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The inverse of `quantise`: parameters of an `Autoencoder`, float32, by name."""
    low = torch.tensor(config.scale_min, dtype=torch.float64).log()
    params = {}
    for name, value in real(tensors).items():
        *context, kind, i = name.split(".")
        if kind == "weight" and i == ("3" if context else "2"):
            value = value * config.log_scale_step
        elif kind == "bias" and i == "2":
            value = value * config.log_scale_step + low
        owner = f"scale_context.{int(context[1]) - 1}" if context else "scale_head"
        params[f"{owner}.{'weights' if kind == 'weight' else 'biases'}.{i}"] = value.float()
    return params


def largest_sum(tensors: Mapping[str, Tensor]) -> int:
    """No sum inside the scale head, in whatever order it is taken, is larger than this."""
    form = fixed_point(tensors)

    def reach(weight: str, top: int = form.top) -> Tensor:
        return tensors[weight].long().abs().sum(dim=(1, 2, 3)) * top  # of each output

    def offset(bias: str) -> Tensor:
        return tensors[bias].long().abs().amax(dim=0)

    sums = [reach(f"weight.{i}") + offset(f"bias.{i}") for i in range(_LAYERS)]
    index = sums[-1]
    for p in range(1, coding_passes(tensors)):
        name = f"context.{p}."
        known = reach(f"{name}weight.0", _MAX_LEVEL << form.activation_bits)
        sums.append(known + reach(f"{name}weight.1") + offset(f"{name}bias.0"))
        sums.append(reach(f"{name}weight.2") + offset(f"{name}bias.1"))
        sums.append(index + reach(f"{name}weight.3"))
    half = 1 << (form.bias_bits - 1)  # added before a shift
    return max(int(s.max()) for s in sums) + half
