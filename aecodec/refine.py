"""Effort: find better integers for the picture at hand; the decoder knows nothing of it.

The loss is the true one, λ·255²·MSE + bits per pixel, through the fixed decoder, with the
bits of the frequency tables. Two ways down:

- Greedy rate-distortion optimised rounding: one pass back through the synthesis transform
  tells, to second order, what moving a residual up or down by one would save; most of
  those that save something are moved at once.
- Stochastic Gumbel annealing (Yang, Bamler and Mandt 2020, "Improving inference for neural
  image compression"): y follows the gradient of the loss while every residual is rounded
  at random, up or down, with a randomness that vanishes. It sees what a residual does to
  the means of later ones, and takes many steps.

ẑ stays as the first pass chose it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import tiles
from .entropy import PRECISION, Tables
from .errors import InputError
from .layout import QUALITY_STEPS, Rect
from .model.network import Network
from .model.quantiser import Conditions, Symbols
from .samples import Samples

GREEDY_STEPS = (0, 1, 2, 4, 8, 3, 3, 4, 5, 6)
"""Passes of greedy rounding of each effort, 0 to 9."""

ANNEALING_STEPS = (0, 0, 0, 0, 0, 60, 120, 250, 450, 800)
"""Gradient steps of annealing before them."""

MAX_EFFORT = len(GREEDY_STEPS) - 1

_LEARNING_RATE = 0.4  # quantisation steps, of Adam, over √steps; falls to a tenth
_TEMPERATURES = (0.5, 0.13)  # first and last
_MOVED_AT_ONCE = 0.8  # of the residuals whose move pays; a few wait, as they may interact


def steps(effort: int) -> int:
    """How often `refine` reports progress."""
    return GREEDY_STEPS[effort] + ANNEALING_STEPS[effort]


def check_effort(effort: int) -> int:
    """Give back an effort.

    Raises:
        InputError: not within 0..9.
    """
    if not 0 <= effort <= MAX_EFFORT:
        raise InputError(f"effort must lie within 0..{MAX_EFFORT}, not {effort}")
    return effort


@dataclass(frozen=True)
class Scene:
    """A chunk amid its surroundings, before it is quantised.

    Attributes:
        latents: y of `area`, (C, h, w) float32.
        area: which positions of y these are, in the whole grid: those of the chunk, and
            for efforts above 0 what the synthesis of its pixels sees of its neighbours.
        core: the chunk's own positions.
        chunk: its pixels.
    """

    latents: Tensor
    area: Rect
    core: Rect
    chunk: Rect

    @property
    def own(self) -> Tensor:
        """y of the chunk alone."""
        return self.latents[tiles.latents_within(self.core, self.area)]


def refine(
    network: Network,
    scene: Scene,
    pixels: Samples,
    quality: int,
    effort: int,
    *,
    seed: int = 0,
    progress: Callable[[], None] | None = None,
) -> Symbols:
    """Integers for one chunk, never with a greater loss than those of effort 0.

    Args:
        network: the model.
        scene: the chunk.
        pixels: (16h, 16w, 3) of the scene's area, see `Network.to_input`.
        quality: stored quality, 0 to 3584.
        effort: 0 to 9.
        seed: of the random roundings; the result depends on nothing else.
        progress: called `steps(effort)` times.
    """
    quantiser = network.quantiser
    if effort == 0:
        return quantiser.quantise(scene.own, quality)
    z = quantiser.hyper(scene.own, quality)
    problem = _Problem(network, scene, pixels, z, quality, seed, progress or (lambda: None))
    found = []
    if ANNEALING_STEPS[effort]:
        y = problem.anneal(ANNEALING_STEPS[effort])
        found.append(problem.round_greedily(y, 0.0, GREEDY_STEPS[effort]))
    passes = 0 if found else GREEDY_STEPS[effort]
    found.append(problem.round_greedily(scene.own, quantiser.deadzone, passes))
    return min(found, key=lambda pair: pair[0])[1]


class _Problem:
    """The loss of one chunk at one quality, as a function of its integers or of its y."""

    def __init__(
        self,
        network: Network,
        scene: Scene,
        pixels: Samples,
        z: NDArray[np.int32],
        quality: int,
        seed: int,
        progress: Callable[[], None],
    ) -> None:
        self._network, self._z, self._quality, self._progress = network, z, quality, progress
        with torch.inference_mode(False):
            self._target = network.to_input(pixels)
            self._around = scene.latents.clone()[None]
            size = tiles.size(scene.core)
            self._given = network.quantiser.conditions(z, quality, size)
        self._own = tiles.latents_within(scene.core, scene.area)
        self._shown = tiles.within(scene.chunk, tiles.pixels(scene.area))
        self._pixels = tiles.area(scene.chunk)
        self._weight = network.config.lambda_at(quality / QUALITY_STEPS) * 255**2
        self._costs = costs(network.tables).to(network.device)
        self._rng = torch.Generator(device=network.device).manual_seed(seed)

    @torch.inference_mode(False)
    def round_greedily(self, y: Tensor, deadzone: float, passes: int) -> tuple[float, Symbols]:
        """The best integers on the way from the rounding of y (C, h, w), and their loss."""
        given = self._given
        latents = y.clone() * given.gain
        strength = torch.full_like(latents, deadzone)
        best: tuple[float, Symbols] | None = None
        curvature: Tensor | None = None
        for left in range(passes, -1, -1):
            s, decoded = self._network.quantiser.quantise_with(
                latents / given.gain, self._quality, self._z, strength
            )
            q, index = torch.from_numpy(s.q).to(y.device), torch.from_numpy(s.index)
            bits = self._bits(q, index)
            error, slope = self._slope(decoded, needed=left > 0)
            loss = error + float(bits.sum()) / self._pixels
            if best is None or loss < best[0]:
                best = (loss, s)
            if not left:
                break
            if curvature is None:
                curvature = self._curvature(decoded, slope)
            gain, move = torch.zeros_like(latents), torch.zeros_like(latents)
            for step in (-1, 1):
                extra = (self._bits(q + step, index) - bits) / self._pixels
                saved = -(slope * given.inverse * step + curvature / 2 + extra)
                move = torch.where(saved > gain, float(step), move)
                gain = torch.maximum(gain, saved)
            coded = (index >= self._network.tables.skip).to(y.device)
            chance = torch.rand(move.shape, generator=self._rng, device=y.device)
            moved = (move != 0) & coded & (chance < _MOVED_AT_ONCE)
            latents = torch.where(moved, decoded / given.inverse + move, latents)
            strength[moved] = 0.0
            self._progress()
        assert best is not None
        return best

    def _slope(self, decoded: Tensor, *, needed: bool = True) -> tuple[float, Tensor]:
        """Weighted error of ŷ and, if needed, its gradient."""
        variable = decoded.detach().requires_grad_(needed)
        with torch.set_grad_enabled(needed):
            error = self._error(variable) * self._weight
        slope = torch.autograd.grad(error, variable)[0] if needed else torch.zeros(())
        return float(error.detach()), slope

    def _curvature(self, decoded: Tensor, slope: Tensor) -> Tensor:
        """Mean second derivative of the weighted error for each channel, in steps.

        From one random direction (Hutchinson's estimator): the gradients of different
        elements of a channel are almost independent.
        """
        sign = torch.rand(decoded.shape, generator=self._rng, device=decoded.device).round() * 2 - 1
        change = sign * self._given.inverse / 2
        difference = self._slope(decoded + change)[1] - slope
        each = difference * sign * self._given.inverse * 2
        curvature: Tensor = each.mean(dim=(1, 2), keepdim=True).clamp(min=0)
        return curvature

    def anneal(self, steps: int) -> Tensor:
        """y (C, h, w) after so many gradient steps."""
        with torch.inference_mode(False), torch.enable_grad():
            core = self._around[0][self._own]
            latents = (core * self._given.gain).requires_grad_()
            rate = _LEARNING_RATE / steps**0.5
            optimiser = torch.optim.Adam([latents], lr=rate, betas=(0.9, 0.999))
            for step in range(steps):
                done = step / max(steps - 1, 1)
                optimiser.param_groups[0]["lr"] = rate * (1 - 0.9 * done)
                temperature = _TEMPERATURES[0] * (_TEMPERATURES[1] / _TEMPERATURES[0]) ** done
                bits, decoded = self._anneal(latents, self._given, temperature, self._rng)
                loss = self._error(decoded) * self._weight + bits / self._pixels
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                self._progress()
            y: Tensor = latents.detach() / self._given.gain
            return y

    def _anneal(
        self, latents: Tensor, given: Conditions, temperature: float, rng: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Expected bits and ŷ where every residual is rounded up or down at random."""
        passes, skip, total = given.passes, self._network.tables.skip, latents.new_zeros(())
        gained, inside = passes.sort(latents), passes.inside.to(latents.device)

        def residual(p: int, mean: Tensor, known: list[Tensor]) -> Tensor:
            nonlocal total
            index = given.index(p, [k.detach().round() for k in known]).to(latents.device)
            coded = index >= skip
            exact = gained[:, :, passes.of(p)] - mean
            low = exact.detach().floor()
            up = _round_at_random(exact - low, temperature, rng)
            bits = torch.lerp(self._bits(low, index), self._bits(low + 1, index), up)
            total = total + (bits * (coded & inside)).sum()
            return torch.where(coded, low + up, 0.0)

        decoded = passes.restore(given.walk(residual)[1])
        return total, decoded

    def _bits(self, q: Tensor, index: Tensor) -> Tensor:
        """Information of residuals, nothing for those that are not coded."""
        bound = self._costs.shape[1] // 2
        column = q.to(self._costs.device).clamp(-bound, bound).long() + bound
        return self._costs[index.to(self._costs.device).long(), column]

    def _error(self, decoded: Tensor) -> Tensor:
        """MSE of the chunk's own pixels for its ŷ (C, h, w), amid what surrounds it."""
        outer = self._around.clone()
        outer[0][self._own] = decoded
        pixels = self._network.decode(outer, self._quality / QUALITY_STEPS)
        rows, cols = self._shown
        difference = (pixels - self._target)[:, :, rows, cols]
        error: Tensor = difference.square().mean()
        return error


def _round_at_random(part: Tensor, temperature: float, rng: torch.Generator) -> Tensor:
    """How far up a fraction in [0, 1) is rounded, 0 to 1: a relaxed random bit."""
    part = part.clamp(1e-4, 1 - 1e-4)
    logit = (torch.atanh(part) - torch.atanh(1 - part)) / temperature
    uniform = torch.rand(part.shape, generator=rng, device=part.device).clamp(1e-6, 1 - 1e-6)
    # the difference of two Gumbel variables is logistic
    return torch.sigmoid((logit + torch.logit(uniform)) / temperature)


def costs(tables: Tables) -> Tensor:
    """Information of residuals in bits: (64, 2K + 1) float32, column K for 0.

    Beyond a table's bound come the escape symbol and about two bits for every doubling;
    scale indices that are not coded cost nothing.
    """
    widest = int(tables.y_bound.max())
    values = np.abs(np.arange(-widest, widest + 1))
    bits = np.zeros((len(tables.y), len(values)), np.float32)
    for i, (row, k) in enumerate(zip(tables.y, tables.y_bound.tolist(), strict=True)):
        if i < tables.skip:
            continue
        information = PRECISION - np.log2(row[: 2 * k + 2].astype(np.float64))
        bits[i, widest - k : widest + k + 1] = information[:-1]
        far = values > k
        bits[i, far] = information[-1] + 5 + np.floor(np.log2(2.0 * (values[far] - k)))
    return torch.from_numpy(bits)
