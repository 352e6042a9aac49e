"""The quality scale: 1..100 for people, 0..3584 in files."""

from __future__ import annotations

import math

from .errors import InputError
from .layout import QUALITY_MAX


def quality_index(quality: float) -> int:
    """Stored quality for a quality in 1..100: linear in log λ.

    Raises:
        InputError: not a number within 1..100.
    """
    if not (math.isfinite(quality) and 1 <= quality <= 100):
        raise InputError(f"quality must lie within 1..100, not {quality:g}")
    return round((quality - 1) / 99 * QUALITY_MAX)


def quality_from_index(index: int) -> float:
    """Quality in 1..100 of a stored quality, to one decimal."""
    return round(1 + 99 * index / QUALITY_MAX, 1)
