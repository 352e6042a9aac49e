"""Mean field annealing: y and z follow the gradient of the loss while rounding hardens.

Every residual is rounded up with a probability that the temperature sharpens, as in
stochastic Gumbel annealing (Yang, Bamler and Mandt 2020, "Improving inference for neural
image compression"). Here the loss is not sampled but expected: means stand for ŷ, and what
rounding scatters about them costs its variance times the curvature of the error (mean field
annealing, Bilbro et al. 1989). Gradients without noise take a tenth of the steps.

What a residual does to the means and scales of later ones, and what ẑ does to all of them,
is in the gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aecodec.model.quantiser import Conditions, integers
from aecodec.objective import Objective

_LEARNING_RATES = (0.14, 0.12)  # of Adam for gained y and for z, in many steps
_FALL = 0.9  # of the learning rate, on the way
_TEMPERATURES = (0.5, 0.13)  # first and last
_Z_FIXED = 0.6  # part of the steps after which ẑ stays: later ones know what it is
_VARIANCE = 0.4  # weight of the scatter; found best, where 1 takes it as independent


@torch.inference_mode(False)
def anneal(
    objective: Objective, steps: int, rng: torch.Generator, progress: Callable[[], None]
) -> tuple[Tensor, NDArray[np.int32]]:
    """Better latents for one chunk.

    Args:
        objective: the loss.
        steps: gradient steps.
        rng: of the direction in which the curvature is measured.
        progress: called after every step.

    Returns:
        y (C, h, w), to be rounded to the nearest, and ẑ (Cz, ⌈h/4⌉, ⌈w/4⌉).
    """
    with torch.no_grad():
        first = objective.quantiser.side(objective.y, objective.quality)
        start, curvature, conditions = _start(objective, first, rng)
        passes, gain = conditions.passes, conditions.gain
    u, z = start.requires_grad_(), first.clone().requires_grad_()
    optimiser = torch.optim.Adam([{"params": [u]}, {"params": [z]}], lr=0.0, betas=(0.9, 0.999))
    fixed: Tensor | None = None
    for step in range(steps):
        done = step / max(steps - 1, 1)
        for group, rate in zip(optimiser.param_groups, _LEARNING_RATES, strict=True):
            group["lr"] = rate * (1 + 2 / steps) * (1 - _FALL * done)  # few steps are longer
        if fixed is None and done >= _Z_FIXED:
            fixed = z.detach().round()
            with torch.no_grad():
                y = passes.restore(u) / gain
                curvature = passes.sort(_measure(objective, y, integers(fixed), 0.0, rng)[1])
        with torch.enable_grad():
            if fixed is None:
                side, bits = _expected_side(objective, z, _temperature(done / _Z_FIXED))
            else:
                side, bits = fixed, u.new_zeros(())
            given = objective.quantiser.relaxed(side[None], objective.quality, objective.size)
            loss = _expected(objective, given, u, curvature, _temperature(done))
            optimiser.zero_grad()
            (loss + bits / objective.pixels).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        progress()
    best = z.detach().round() if fixed is None else fixed
    with torch.no_grad():
        y = passes.restore(u) / gain
    return y, integers(best)


def _start(
    objective: Objective, z: Tensor, rng: torch.Generator
) -> tuple[Tensor, Tensor, Conditions]:
    """Gained y to start from and its curvature, both sorted by pass, and what ẑ gives.

    Half way from y to its rounding, most residuals are near what the first pass chose.
    """
    side = integers(z.round())
    strength = objective.quantiser.strength(objective.quality)
    decoded, curvature, given = _measure(objective, objective.y, side, strength, rng)
    gained = (objective.y * given.gain + decoded / given.inverse) / 2
    sort = given.passes.sort
    return sort(gained), sort(curvature), given


def _measure(
    objective: Objective,
    y: Tensor,
    side: NDArray[np.int32],
    strength: float,
    rng: torch.Generator,
) -> tuple[Tensor, Tensor, Conditions]:
    """ŷ that y (C, h, w) is rounded to, the curvature of the error there, and what ẑ gives."""
    quantiser, quality = objective.quantiser, objective.quality
    decoded = quantiser.quantise_with(y, quality, side, strength)[1]
    given, slope = quantiser.conditions(side, quality, objective.size), objective.slope(decoded)[1]
    return decoded, objective.measure_curvature(decoded, slope, given.inverse, rng), given


def _expected(
    objective: Objective, given: Conditions, u: Tensor, curvature: Tensor, temperature: float
) -> Tensor:
    """Expected loss of gained y (4, P, C), but for the bits of ẑ."""
    passes, inside = given.passes, given.passes.inside.to(u.device)
    bits, scatter = u.new_zeros(()), u.new_zeros(())

    def residual(p: int, mean: Tensor, known: list[Tensor]) -> Tensor:
        nonlocal bits, scatter
        now = passes.of(p)
        index = given.index(p, known)
        coded = (index.detach().round() >= objective.skip) & inside
        exact = u[:, :, now] - mean
        low = exact.detach().floor()
        up = _probability(exact - low, temperature)
        below, above = objective.relaxed_bits(low, index), objective.relaxed_bits(low + 1, index)
        bits = bits + (torch.lerp(below, above, up) * coded).sum()
        scatter = scatter + (curvature[:, :, now] * up * (1 - up) * coded).sum()
        return torch.where(coded, low + up, 0.0)

    decoded = passes.restore(given.walk(residual))
    return objective.error(decoded) + _VARIANCE * scatter / 2 + bits / objective.pixels


def _expected_side(objective: Objective, z: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Expected ẑ (Cz, h, w), and its bits."""
    low = z.detach().floor()
    up = _probability(z - low, temperature)
    bits = torch.lerp(objective.side_bits(low), objective.side_bits(low + 1), up)
    return low + up, bits.sum()


def _temperature(done: float) -> float:
    """That of a part of the way, 0 to 1."""
    first, last = _TEMPERATURES
    return first * math.pow(last / first, done)


def _probability(part: Tensor, temperature: float) -> Tensor:
    """Of rounding a fraction in [0, 1) up."""
    part = part.clamp(1e-4, 1 - 1e-4)
    return torch.sigmoid((torch.atanh(part) - torch.atanh(1 - part)) / temperature)
