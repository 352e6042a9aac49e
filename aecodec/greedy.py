"""Greedy rate-distortion optimised rounding of residuals.

One pass back through the synthesis transform tells, to second order, what moving a
residual up or down by one would save; most of those that save something are moved at once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aecodec.model.quantiser import Symbols
from aecodec.objective import Objective

_MOVED_AT_ONCE = 0.8  # of the residuals whose move pays; a few wait, as they may interact


@torch.inference_mode(False)
def round_greedily(
    objective: Objective,
    y: Tensor,
    z: NDArray[np.int32],
    deadzone: float,
    passes: int,
    rng: torch.Generator,
    progress: Callable[[], None],
) -> tuple[float, Symbols]:
    """The best integers on the way from the rounding of y, and their loss.

    Args:
        objective: the loss.
        y: (C, h, w).
        z: ẑ (Cz, ⌈h/4⌉, ⌈w/4⌉), which stays.
        deadzone: strength of the rounding to start from, 0 to 1.
        passes: how often residuals are moved.
        rng: which of them wait.
        progress: called after every pass.
    """
    quantiser = objective.quantiser
    given = quantiser.conditions(z, objective.quality, objective.size)
    side = float(objective.side_bits(torch.from_numpy(z)).sum())
    latents = y.clone() * given.gain
    strength = torch.full_like(latents, deadzone)
    best: tuple[float, Symbols] | None = None
    for left in range(passes, -1, -1):
        s, decoded = quantiser.quantise_with(latents / given.gain, objective.quality, z, strength)
        q, index = torch.from_numpy(s.q).to(y.device), torch.from_numpy(s.index)
        bits = objective.bits(q, index)
        error, slope = objective.slope(decoded, needed=left > 0)
        loss = error + (float(bits.sum()) + side) / objective.pixels
        if best is None or loss < best[0]:
            best = (loss, s)
        if not left:
            break
        curvature = objective.curvature
        if curvature is None:
            curvature = objective.measure_curvature(decoded, slope, given.inverse, rng)
        move = _best_moves(objective, q, index, bits, slope * given.inverse, curvature)
        coded = (index >= objective.skip).to(y.device)
        chance = torch.rand(move.shape, generator=rng, dtype=torch.float32, device=y.device)
        moved = (move != 0) & coded & (chance < _MOVED_AT_ONCE)
        latents = torch.where(moved, decoded / given.inverse + move, latents)
        strength[moved] = 0.0
        progress()
    assert best is not None
    return best


def _best_moves(
    objective: Objective, q: Tensor, index: Tensor, bits: Tensor, slope: Tensor, curvature: Tensor
) -> Tensor:
    """Of every residual what to add to it, -1 or 1, to save most; 0 where nothing saves.

    Args:
        objective: the loss.
        q: residuals (C, h, w).
        index: (C, h, w), their scale indices.
        bits: what each of them costs.
        slope: (C, h, w), change of the error per unit that each is moved by.
        curvature: second derivative of the error, likewise.
    """
    gain, move = torch.zeros_like(slope), torch.zeros_like(slope)
    for step in (-1, 1):
        extra = (objective.bits(q + step, index) - bits) / objective.pixels
        saved = -(slope * step + curvature / 2 + extra)
        move = torch.where(saved > gain, float(step), move)
        gain = torch.maximum(gain, saved)
    return move
