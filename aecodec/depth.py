"""Depth maps: 16-bit gray in millimetres, 0 where the camera has no reading.

A model is one for depth if the section `data` of its metadata says so: 16 bits a sample, and
an `invalid` value of 0. Its `maximum` is the depth that its network sees as +0.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aecodec.alpha import fill
from aecodec.errors import UnsupportedImageError, WeightsError
from aecodec.samples import NAMES, Samples, bit_depth, mode_name

LARGEST = 65535
"""The largest depth, in millimetres."""


@dataclass(frozen=True)
class DepthRange:
    """How millimetres become what a network sees: linearly, 0 as −0.5, `maximum` as +0.5.

    Depths up to twice the maximum, +1.5, are told apart; those above are taken as that.
    """

    maximum: int

    @property
    def limit(self) -> int:
        """The largest depth that a network sees, in millimetres."""
        return min(2 * self.maximum, LARGEST)


def range_of(data: Mapping[str, Any]) -> DepthRange | None:
    """The range of a model for depth; None of any other model.

    Args:
        data: the section `data` of its metadata.

    Raises:
        WeightsError: its `maximum` is no depth.
    """
    try:
        if data.get("bits") != 16 or data.get("invalid") != 0:
            return None
        maximum = int(data.get("maximum", LARGEST))
    except (ValueError, TypeError, OverflowError) as error:
        raise WeightsError(f"the metadata `data` is malformed: {error}") from error
    if not 1 <= maximum <= LARGEST:
        raise WeightsError(f"the metadata `data` has a maximum of {maximum}")
    return DepthRange(maximum)


def check_depth(samples: Samples, model: str) -> None:
    """Refuse what a model for depth does not take.

    Raises:
        UnsupportedImageError: samples that are not 16-bit gray; the message names the model.
    """
    mode, bits = mode_name(samples), bit_depth(samples)
    if (mode, bits) != ("L", 16):
        raise UnsupportedImageError(
            f"model {model} is for depth, 16-bit gray in millimetres, "
            f"not for {NAMES[mode]} with {bits} bits a sample"
        )


def readings(samples: Samples) -> NDArray[np.bool_]:
    """Which pixels (h, w) have a reading."""
    found: NDArray[np.bool_] = samples > 0
    return found


def filled(samples: Samples, limit: int) -> Samples:
    """Depths as a network sees them: up to the limit, holes filled smoothly.

    Args:
        samples: (h, w) `uint16` in millimetres.
        limit: in millimetres.

    Returns:
        (h, w) `uint16`; without any reading all of it is a quarter of the limit.
    """
    seen = readings(samples)
    shown = np.minimum(samples, limit)
    if seen.all():
        return shown
    if not seen.any():
        return np.full_like(samples, max(limit // 4, 1))
    return fill(shown[:, :, None], seen)[:, :, 0]
