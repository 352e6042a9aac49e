"""The quality scale, 1..100 for people and 0..3584 in files, and the search for targets."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any

from aecodec.errors import InputError
from aecodec.layout import DEPTH_MARGIN, MAX_ERROR, QUALITY_MAX, QUALITY_STEPS

DEFAULT_QUALITY = 75.0

_LARGEST = 1e15  # of any number that an aim may have: what follows computes in floats

SIZE_TOLERANCE = 0.01
"""A target size is met within this fraction below it."""

PSNR_TOLERANCE = 0.05
"""A target PSNR is met within this many dB above it."""


@dataclass(frozen=True)
class Aim:
    """What an encoding aims at: a quality, or one target that decides the quality.

    Attributes:
        quality: 1 to 100; `DEFAULT_QUALITY` if nothing at all is given.
        target_size: bytes of the whole file, met from below.
        target_bpp: the same as bits per pixel.
        target_psnr: dB over all colour samples that can be seen, met from above.
        alpha_quality: beside it, of the alpha channel: 1 (opaque or transparent) to 99
            (half of the levels); 100 and None are lossless.
        max_error: of a depth map: what no reading may be off by, in whole millimetres. With
            a quality at least 1; without one 0, too, and the smallest file is looked for.

    Raises:
        InputError: one is no number, more than one is given, a quality is not within 1..100, a
            target is not finite, or a bound cannot be promised.
    """

    quality: float | None = None
    target_size: int | None = None
    target_bpp: float | None = None
    target_psnr: float | None = None
    alpha_quality: float | None = None
    max_error: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and type(value) is not bool:
                object.__setattr__(self, field.name, _plain(value, field.name))
        aims = (self.quality, self.target_size, self.target_bpp, self.target_psnr)
        if sum(aim is not None for aim in aims) > 1:
            raise InputError("give one of quality, target_size, target_bpp and target_psnr")
        if self.quality is not None:
            quality_index(self.quality)
        for name in ("target_size", "target_bpp", "target_psnr"):
            target = getattr(self, name)
            if target is not None and not math.isfinite(target):
                raise InputError(f"{name} must be a finite number, not {target:g}")
        quality = self.alpha_quality
        if quality is not None and not (math.isfinite(quality) and 1 <= quality <= 100):
            raise InputError(f"alpha quality must lie within 1..100, not {quality:g}")
        if self.max_error is not None:
            self._check_max_error(self.max_error)

    def _check_max_error(self, bound: int) -> None:
        if isinstance(bound, bool) or not 0 <= bound <= MAX_ERROR or int(bound) != bound:
            raise InputError(f"max_error must be a whole number of mm, 0..{MAX_ERROR}, not {bound}")
        if (self.target_size, self.target_bpp, self.target_psnr) != (None, None, None):
            raise InputError("max_error decides the size: it takes no target beside it")
        if self.quality is not None and bound < DEPTH_MARGIN:
            raise InputError(f"max_error with a quality must be at least {DEPTH_MARGIN} mm")

    @property
    def fixed(self) -> int | None:
        """The stored quality if no target has to be searched for, else None."""
        if (self.target_size, self.target_bpp, self.target_psnr) != (None, None, None):
            return None
        return quality_index(DEFAULT_QUALITY if self.quality is None else self.quality)

    @property
    def searches(self) -> bool:
        """Whether several qualities are tried, or one is decoded again."""
        return self.fixed is None or self.max_error is not None

    def meet(
        self, pixels: int, size_at: Callable[[int], int], psnr_at: Callable[[int], float]
    ) -> int:
        """The stored quality that meets the aim.

        Args:
            pixels: of the picture, width times height.
            size_at: bytes of the file at a stored quality.
            psnr_at: dB at a stored quality.

        Raises:
            InputError: a target is out of reach.
        """
        if self.fixed is not None:
            return self.fixed
        if self.target_psnr is not None:
            return psnr_index(psnr_at, self.target_psnr)
        if self.target_bpp is not None:
            return size_index(size_at, int(self.target_bpp * pixels / 8))
        return size_index(size_at, self.target_size or 0)


def _plain(value: Any, name: str) -> float:
    """A number as Python's: NumPy's small ones would overflow in what follows."""
    if not isinstance(value, Real):
        raise InputError(f"{name} must be a number, not {value!r}")
    try:
        plain = int(value) if isinstance(value, Integral) else float(value)
    except OverflowError:
        plain = _LARGEST + 1
    if _LARGEST < abs(plain) < math.inf:
        raise InputError(f"{name} is too large")
    return plain


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


def prior_row(index: int) -> int:
    """Row of the ẑ tables for a stored quality: the nearest anchor, 0 to 7."""
    return (index + QUALITY_STEPS // 2) // QUALITY_STEPS


def rows_around(index: int, rows: int) -> tuple[int, int]:
    """Of `rows` anchors the one below a stored quality, and how far the next counts, of 512."""
    low = min(index // QUALITY_STEPS, rows - 2)
    return low, index - low * QUALITY_STEPS


def mixed_row(table: Any, index: int) -> Any:
    """A table's row at a stored quality, interpolated in integers, as decoding depends on it.

    Args:
        table: (8, ...) int64, an array or a tensor, below 2^53.
        index: stored quality, 0 to 3584.

    Returns:
        The row, (...) int64, rounded to the nearest, halves up.
    """
    low, part = rows_around(index, len(table))
    mixed = table[low] * (QUALITY_STEPS - part) + table[low + 1] * part
    return (mixed + QUALITY_STEPS // 2) // QUALITY_STEPS  # floors, of negative ones too


def size_index(size_at: Callable[[int], int], target: int) -> int:
    """The stored quality whose file is at most `target` bytes, and at least 99 % of it.

    Where no quality meets the tolerance (files of a few hundred bytes), the largest
    file that is not above the target is taken.

    Args:
        size_at: bytes of the file at a stored quality, growing with it.
        target: in bytes.

    Raises:
        InputError: the target is out of reach; the message names the range.
    """
    smallest, largest = size_at(0), size_at(QUALITY_MAX)
    if not smallest <= target <= largest / (1 - SIZE_TOLERANCE):
        raise InputError(
            f"a size of {target} bytes is out of reach: "
            f"this image takes {smallest} to {largest} bytes"
        )
    if largest <= target:
        return QUALITY_MAX
    return _search(
        lambda index: math.log(size_at(index)),
        (math.log(smallest), math.log(largest)),
        (math.log(target * (1 - SIZE_TOLERANCE)), math.log(target)),
    )[0]


def psnr_index(psnr_at: Callable[[int], float], target: float) -> int:
    """The stored quality that decodes to at least `target` dB, and at most 0.05 dB more.

    Args:
        psnr_at: dB at a stored quality, growing with it.
        target: in dB.

    Raises:
        InputError: the target is out of reach; the message names the range.
    """
    worst, best = psnr_at(0), psnr_at(QUALITY_MAX)
    if not worst - PSNR_TOLERANCE <= target <= best:
        raise InputError(
            f"{target:g} dB is out of reach: this image decodes to {worst:.2f} to {best:.2f} dB"
        )
    if target <= worst:
        return 0
    return _search(psnr_at, (worst, best), (target, target + PSNR_TOLERANCE))[1]


def _search(
    value_at: Callable[[int], float], ends: tuple[float, float], wanted: tuple[float, float]
) -> tuple[int, int]:
    """Close in on an interval of values; interpolation, with bisection as a guard.

    Returns:
        (i, i) for an index whose value lies within `wanted`; else neighbours, the first
        below and the second not below the interval's ends.
    """
    (low_value, high_value), (least, most) = ends, wanted
    low, high = 0, QUALITY_MAX
    middle = (least + most) / 2
    for step in range(64):
        if high - low <= 1:
            break
        share = 0.5
        if step % 3 < 2 and high_value > low_value:
            share = (middle - low_value) / (high_value - low_value)
        index = min(max(low + round(share * (high - low)), low + 1), high - 1)
        value = value_at(index)
        if least <= value <= most:
            return index, index
        if value < least:
            low, low_value = index, value
        else:
            high, high_value = index, value
    return low, high
