"""Frequency tables from counts of symbols."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aecodec.entropy import PRECISION, Tables
from aecodec.model.config import SCALE_LEVELS, ModelConfig

SKIP_PROBABILITY = 0.996
"""Residuals that are zero at least this often are not coded."""

MAX_BOUND = 1023
Z_BOUND = 31

Counts = NDArray[np.float64]
"""How often values from −bound to bound were seen, and values beyond: (..., 2·bound + 2)."""

_REFINED_PRIOR = 2000  # residuals that the tables of one pass count as, for each scale index


def no_residuals() -> Counts:
    """Counts of residuals by scale index, (64, 2·1023 + 2), before any is seen."""
    return np.zeros((SCALE_LEVELS, 2 * MAX_BOUND + 2))


def count_residuals(counts: Counts, index: NDArray[np.uint8], q: NDArray[np.int32]) -> None:
    """Add residuals q of scale indices of the same shape."""
    value = np.where(np.abs(q) > MAX_BOUND, MAX_BOUND + 1, q) + MAX_BOUND
    flat = index.astype(np.int64) * counts.shape[1] + value
    counts += np.bincount(flat.ravel(), minlength=counts.size).reshape(counts.shape)


def _mass(scale: Counts, bound: int) -> Counts:
    """Masses of a quantised Gaussian on −bound..bound, then beyond; (..., 2·bound + 2)."""
    edges = torch.arange(-bound, bound + 2).double() - 0.5
    cdf = torch.special.ndtr(edges / torch.from_numpy(scale).double()[..., None])
    inside = cdf.diff(dim=-1)
    beyond = 1 - inside.sum(dim=-1, keepdim=True)
    return np.asarray(torch.cat([inside, beyond.clamp(min=0)], dim=-1).numpy())


def frequencies(weights: Counts) -> NDArray[np.int32]:
    """Integers >= 1 that sum to 2^24, in proportion to the weights along the last axis."""
    total = 1 << PRECISION
    share = weights / weights.sum(axis=-1, keepdims=True)
    table = np.floor(share * (total - weights.shape[-1])).astype(np.int64) + 1
    largest = table.argmax(axis=-1)[..., None]
    missing = total - table.sum(axis=-1, keepdims=True)
    np.put_along_axis(table, largest, np.take_along_axis(table, largest, -1) + missing, -1)
    return np.asarray(table, dtype=np.int32)


def residual_tables(config: ModelConfig, counts: Counts) -> dict[str, Tensor]:
    """Tables for y: what was counted on photographs, smoothed towards the Gaussian.

    Args:
        counts: (64, 2·1023 + 2) how often each residual was seen at each scale index.
    """
    scales = config.scale_min * np.exp(np.arange(SCALE_LEVELS) * config.log_scale_step)
    width = 2 * MAX_BOUND + 2
    table = np.zeros((SCALE_LEVELS, width), np.int32)
    bounds = np.zeros(SCALE_LEVELS, np.int32)
    for i, scale in enumerate(scales):
        k = int(np.clip(math.ceil(5 * scale), 2, MAX_BOUND))
        # the Gaussian counts as 200 samples, its tails a little lifted
        prior = 200 * _mass(np.array(scale), k) + 200 * 0.003 * _mass(np.array(2 * scale), k)
        table[i, : 2 * k + 2] = frequencies(_within(counts[i], k) + prior)
        bounds[i] = k
    gaussian = _mass(scales, 0)[:, 0]
    zero = np.where(counts.sum(1) > 1e4, counts[:, MAX_BOUND] / counts.sum(1).clip(1), gaussian)
    coded = np.flatnonzero(zero < SKIP_PROBABILITY)
    return {
        "tables.y": torch.from_numpy(table),
        "tables.y_bound": torch.from_numpy(bounds),
        "tables.skip": torch.tensor(int(coded[0]), dtype=torch.int32),
    }


def refined_tables(plain: Tables, counts: Counts) -> dict[str, Tensor]:
    """Tables for residuals that effort refined, smoothed towards the plain ones.

    Args:
        plain: of residuals from one pass; the bounds are theirs.
        counts: as for `residual_tables`.
    """
    table = np.zeros_like(plain.y)
    for i, k in enumerate(plain.y_bound.tolist()):
        prior = plain.y[i, : 2 * k + 2] * (_REFINED_PRIOR / (1 << PRECISION))
        table[i, : 2 * k + 2] = frequencies(_within(counts[i], k) + prior)
    return {"tables.y_soft": torch.from_numpy(table)}


def _within(counts: Counts, bound: int) -> Counts:
    """Counts (2·1023 + 2,) for a smaller bound; residuals are symmetric."""
    seen = counts[MAX_BOUND - bound : MAX_BOUND + bound + 1]
    return np.append((seen + seen[::-1]) / 2, counts.sum() - seen.sum())


def hyper_tables(counts: Counts) -> dict[str, Tensor]:
    """Tables for ẑ from counts (8, Cz, 2·31 + 2); neighbouring quality rows share a little."""
    shared = counts + 0.05 * counts.sum(axis=0, keepdims=True) + 1e-3
    peak = np.zeros(counts.shape[-1])
    peak[Z_BOUND - 1 : Z_BOUND + 2] = (0.25, 1.0, 0.25)
    table = frequencies(shared + peak)
    bounds = np.full(counts.shape[:2], Z_BOUND, np.int32)
    return {"tables.z": torch.from_numpy(table), "tables.z_bound": torch.from_numpy(bounds)}
