"""Effort: find better integers for the picture at hand; the decoder knows nothing of it.

The loss is the true one (`objective`). Low efforts move single residuals where that pays
(`greedy`); higher ones let y and z follow the gradient first (`annealing`).
"""

from __future__ import annotations

from collections.abc import Callable
from operator import index

import numpy as np
import torch
from numpy.typing import NDArray

from aecodec.annealing import anneal
from aecodec.errors import InputError
from aecodec.greedy import round_greedily
from aecodec.layout import QUALITY_MAX
from aecodec.model.network import Network
from aecodec.model.quantiser import Symbols
from aecodec.objective import Objective, Scene
from aecodec.samples import Samples

GREEDY_STEPS = (0, 1, 2, 4, 1, 1, 2, 2, 2, 12)
"""Passes of greedy rounding of each effort, 0 to 9."""

ANNEALING_STEPS = (0, 0, 0, 0, 8, 12, 20, 40, 80, 200)
"""Gradient steps of annealing before them."""

SOFTNESS = (0, 0, 0, 0, 2, 3, 3, 3, 3, 3)
"""Softness of the files of each effort: annealing makes more of steps that are finer than
the synthesis expects, and greedy moves, which see one step at a time, do not."""

MAX_EFFORT = len(GREEDY_STEPS) - 1


def lowered(quality: int, effort: int) -> int:
    """The stored quality, perhaps below 0, for the picture that one pass makes at `quality`.

    What annealing finds at a quality has a better picture, and at the lowest ones a larger
    file; so the same number would mean another thing at every effort. Fitted to photographs
    held out of training, at effort 6 and equal PSNR.
    """
    if not ANNEALING_STEPS[effort]:
        return quality
    return quality - round(55 + 140 * min(1.0, (QUALITY_MAX - quality) / 2700) ** 2)


def steps(effort: int) -> int:
    """How often `refine` reports progress."""
    return GREEDY_STEPS[effort] + ANNEALING_STEPS[effort]


def check_effort(effort: int) -> int:
    """Give back an effort.

    Raises:
        InputError: not a whole number within 0..9.
    """
    try:
        whole = index(effort)
    except TypeError:
        whole = -1
    if not 0 <= whole <= MAX_EFFORT:
        raise InputError(f"effort must lie within 0..{MAX_EFFORT}, and be whole, not {effort!r}")
    return whole


def refine(
    network: Network,
    scene: Scene,
    pixels: Samples,
    quality: int,
    effort: int,
    *,
    seed: int = 0,
    seen: NDArray[np.bool_] | None = None,
    progress: Callable[[], None] | None = None,
) -> Symbols:
    """Integers for one chunk, for a file of the softness of the effort.

    Args:
        network: the model.
        scene: the chunk.
        pixels: (16h, 16w, 3) of the scene's area, see `Network.to_input`.
        quality: stored quality, 0 to 3584; or lower, for the steps of 0 and errors that
            weigh still less.
        effort: 0 to 9.
        seed: of the random choices; the result depends on nothing else.
        seen: (16h, 16w), which of the pixels can be seen; None if all can.
        progress: called `steps(effort)` times.
    """
    quantiser = network.quantiser
    if effort == 0:
        return quantiser.quantise(scene.own, quality)
    objective = Objective(network, scene, pixels, quality, SOFTNESS[effort], seen)
    quality = objective.quality
    report = progress or (lambda: None)
    rng = torch.Generator(device=network.device).manual_seed(seed)
    found, passes = [], GREEDY_STEPS[effort]
    if ANNEALING_STEPS[effort]:
        y, z = anneal(objective, ANNEALING_STEPS[effort], rng, report)
        found.append(round_greedily(objective, y, z, 0.0, passes, rng, report))
        passes = 0
    z = quantiser.hyper(scene.own, quality)
    strength = quantiser.strength(quality)
    found.append(round_greedily(objective, scene.own, z, strength, passes, rng, report))
    return min(found, key=lambda pair: pair[0])[1]
