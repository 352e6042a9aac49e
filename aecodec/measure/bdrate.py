"""Rate-distortion curves and the Bjøntegaard delta rate between two of them.

BD-rate is the mean difference in log rate at equal quality, over the qualities that
both curves reach, as a percentage: -20 means files a fifth smaller than the anchor's.
"""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from aecodec.errors import needing

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Curve:
    """Quality against rate, one point a quality setting, averaged over images."""

    codec: str
    metric: str
    """`psnr` or `ms_ssim_db`."""
    bpp: tuple[float, ...]
    quality: tuple[float, ...]


@dataclass(frozen=True)
class BDRate:
    """How much rate a codec needs for the anchor's quality."""

    codec: str
    anchor: str
    metric: str
    percent: float | None
    """Negative: smaller files than the anchor's. None: cannot be computed; see `note`."""
    low: float | None
    """The qualities compared: from the higher of the two curves' lowest ..."""
    high: float | None
    """... to the lower of their highest."""
    note: str = ""


def mean_point(pairs: Iterable[tuple[float | None, float | None]]) -> tuple[float, float] | None:
    """Mean rate and mean quality over the images that have both; None if there are none."""
    known = [(rate, quality) for rate, quality in pairs if rate is not None and quality is not None]
    if not known:
        return None
    rates, qualities = zip(*known, strict=True)
    return statistics.fmean(rates), statistics.fmean(qualities)


def clean(curve: Curve) -> tuple[Curve, list[str]]:
    """Sort a curve by rate; drop, with a note, what has no place on a rising curve.

    Dropped are points without a finite quality (a lossless one has an infinite PSNR)
    and points no better than one that costs no more.
    """
    kept: list[tuple[float, float]] = []
    notes: list[str] = []
    for bpp, quality in sorted(
        zip(curve.bpp, curve.quality, strict=True), key=lambda point: (point[0], -point[1])
    ):
        if not (math.isfinite(quality) and bpp > 0):
            reason = "is not finite"
        elif kept and quality <= kept[-1][1]:
            reason = f"is no better than {kept[-1][1]:.3f} dB at {kept[-1][0]:.4f} bpp"
        else:
            kept.append((bpp, quality))
            continue
        point = f"{quality:.3f} dB at {bpp:.4f} bpp"
        notes.append(f"{curve.codec}, {curve.metric}: dropped a point: {point} {reason}")
        log.warning("%s", notes[-1])
    rates, qualities = tuple(p[0] for p in kept), tuple(p[1] for p in kept)
    return Curve(curve.codec, curve.metric, rates, qualities), notes


def bd_rate(curve: Curve, anchor: Curve) -> BDRate:
    """BD-rate of `curve` against `anchor`, both clean, interpolated by PCHIP in log rate.

    Raises:
        MissingDependencyError: bjontegaard is not installed.
    """
    names = (curve.codec, anchor.codec, curve.metric)
    if min(len(curve.bpp), len(anchor.bpp)) < 2:
        return BDRate(*names, None, None, None, "fewer than two points")
    low = max(curve.quality[0], anchor.quality[0])
    high = min(curve.quality[-1], anchor.quality[-1])
    if low >= high:
        return BDRate(*names, None, None, None, "the curves share no quality")
    with needing("bench", "BD-rate"):
        import bjontegaard
    percent = bjontegaard.bd_rate(
        anchor.bpp,
        anchor.quality,
        curve.bpp,
        curve.quality,
        method="pchip",
        require_matching_points=False,
        min_overlap=0,
    )
    return BDRate(*names, float(percent), low, high, _caution(curve, anchor, low, high))


def _caution(curve: Curve, anchor: Curve, low: float, high: float) -> str:
    """What a reader should know before trusting the number, if anything."""
    points = min(sum(low <= q <= high for q in c.quality) for c in (curve, anchor))
    cautions = []
    if points < 3:
        cautions.append(f"only {points} points of a curve lie in the overlap")
    span = max(curve.quality[-1], anchor.quality[-1]) - min(curve.quality[0], anchor.quality[0])
    if (high - low) / span < 0.5:
        cautions.append("less than half of the qualities overlap")
    return "; ".join(cautions)
