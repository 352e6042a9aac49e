"""The means of residuals, as they are computed when files are coded: `ContextPass`, folded.

A pass adds features and what is known of ŷ, h = f + K·ŷ, then what its residual blocks find,
h += E·s with s = φ(S ∗ φ(R·h)), and ends in means T·h. Between the leaky ReLUs φ and the 3×3
convolutions S everything is linear: what R and T see of the last hidden layer u of the hyper
synthesis, of ŷ and of s are products of weights, made once. That is a fifth fewer
multiplications than layer by layer, and for all that comes from u no pass waits for another.

Elements are sorted by pass (see `passes.py`), so that work on a pass costs its share.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aecodec.model.autoencoder import Autoencoder
from aecodec.model.blocks import ResidualBlock, interpolate_rows
from aecodec.model.hyperprior import ContextPass, HyperSynthesis
from aecodec.model.passes import from_cells, slots_of, to_cells


class Means:
    """All context passes of a network.

    Args:
        network: the model, in evaluation mode.
    """

    def __init__(self, network: Autoencoder) -> None:
        self._synthesis = network.hyper_synthesis
        count = len(network.context)
        self._passes = [
            _Pass(cast(ContextPass, context), network.hyper_synthesis, p, count)
            for p, context in enumerate(network.context)
        ]

    def start(self, z: Tensor, size: tuple[int, int]) -> Tensor:
        """ẑ (1, Cz, h, w), y of size (H, W) -> the hidden layer u, (4, P, hidden)."""
        hidden = self._synthesis.hidden(z)[:, :, : size[0], : size[1]]
        return to_cells(hidden)[0]

    def ahead(self, p: int, start: Tensor, quality: Tensor) -> Tensor:
        """What `start` says to pass p, for which no other pass has to be known.

        Args:
            p: the pass.
            start: (4, P, hidden).
            quality: (1,), in [0, 7].

        Returns:
            (4, P, n)
        """
        made = self._passes[p]
        rows = interpolate_rows(made.rows.flatten(1), quality).view(4, 1, -1)
        return torch.baddbmm(rows, start, made.hidden)

    def of(self, p: int, ahead: Tensor, known: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Means of pass p, (4, P, group), in units of y.

        Args:
            p: the pass.
            ahead: of it, from `ahead`.
            known: ŷ of each pass before, (4, P, group).
            size: (H, W), positions of y.
        """
        return self._passes[p](ahead, known, size)


class _Pass:
    """One pass. Its targets are the layers that see h: R of each block, then T.

    Attributes:
        hidden: (4, hidden, n) from u to all targets, for each position of a 2×2 cell.
        rows: (8, 4, n) what is added, for each quality row.
    """

    def __init__(self, context: ContextPass, synthesis: HyperSynthesis, p: int, count: int) -> None:
        device = context.tail.weight.device
        before, now = (order.to(device) for order in slots_of(context.tail.out_channels, count, p))
        made = [cast(ResidualBlock, block) for block in context.blocks]
        # each (out, width), T by place (4, out, width)
        targets = [_matrix(block.reduce) for block in made] + [_matrix(context.tail)[now]]
        biases = [_bias(block.reduce) for block in made] + [_bias(context.tail)[now]]

        from_hidden = _matrix(synthesis.tail)
        offset = synthesis.bias.rows.detach() + _bias(synthesis.tail)  # (8, width) of h
        hidden: list[Tensor] = []
        rows: list[Tensor] = []
        expansions: list[Tensor] = []
        self._inner: list[Tensor] = []  # to each target, from s of all blocks before
        for k, (target, bias) in enumerate(zip(targets, biases, strict=True)):
            hidden.append(_by_place((target @ from_hidden).mT))
            seen = torch.einsum("...mw,rw->r...m", target, offset) + bias
            rows.append(seen if seen.dim() == 3 else seen[:, None].expand(-1, 4, -1))
            parts = [_by_place((target @ expansion).mT) for expansion in expansions]
            self._inner.append(torch.cat(parts, dim=1) if parts else from_hidden.new_empty(0))
            if k < len(made):
                expansions.append(_matrix(made[k].expand))
                offset = offset + _bias(made[k].expand)
        self.hidden, self.rows = torch.cat(hidden, dim=2), torch.cat(rows, dim=2)
        self._known = None
        if context.known is not None:
            known = _matrix(context.known).T  # (C, width)
            parts = [
                (known @ t.T)[before] if t.dim() == 2 else known[before] @ t.mT for t in targets
            ]
            self._known = torch.cat(parts, dim=2)  # (4, p·group, n)
        self._spatial = [block.spatial for block in made]
        self._widths = [target.shape[-2] for target in targets]

    def __call__(self, total: Tensor, known: list[Tensor], size: tuple[int, int]) -> Tensor:
        if self._known is not None:
            total = torch.baddbmm(total, torch.cat(known, dim=2), self._known)
        *seen, mean = torch.split(total, self._widths, dim=2)
        inner: list[Tensor] = []
        for h, spatial, mix in zip(seen, self._spatial, self._inner, strict=False):
            h = F.leaky_relu(_plus(h, inner, mix), 0.1)
            h = spatial(from_cells(h[None], *size))
            inner.append(to_cells(F.leaky_relu(h, 0.1, inplace=True))[0])
        return _plus(mean, inner, self._inner[-1])


def _plus(total: Tensor, parts: list[Tensor], matrix: Tensor) -> Tensor:
    return torch.baddbmm(total, torch.cat(parts, dim=2), matrix) if parts else total


def _by_place(matrix: Tensor) -> Tensor:
    """(in, out), or already one for each position of a 2×2 cell, as (4, in, out)."""
    return matrix.expand(4, -1, -1)


def _matrix(layer: nn.Conv2d) -> Tensor:
    """(out, in) of a 1×1 convolution."""
    return layer.weight.detach()[:, :, 0, 0]


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias.detach()
