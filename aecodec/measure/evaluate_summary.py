"""An evaluation in few numbers: means by quality, and one model against the other."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from aecodec.jsontext import plain
from aecodec.measure.bdrate import Curve, bd_rate, clean, mean_point
from aecodec.measure.evaluate import Evaluation, Measured
from aecodec.measure.metrics import decibels

FORMAT = "aecodec-evaluation"
VERSION = 1


def numbers(found: Evaluation) -> dict[str, Any]:
    """Everything, for JSON; what is infinite or unknown is null."""
    data = {
        "format": FORMAT,
        "format_version": VERSION,
        "data": str(found.data),
        "images": len(found.paths),
        "skipped": found.skipped,
        "models": [
            {"label": label, **subject.described} for label, subject in found.subjects.items()
        ],
        "summary": summary(found),
        "comparison": comparison(found),
        "results": [{**asdict(r), "bits": r.bits} for r in found.results],
    }
    return dict(plain(data))


def summary(found: Evaluation) -> list[dict[str, Any]]:
    """One row for each model and quality, means over the images.

    PSNR is the mean over images that differ at all (`exact` counts the others), RMSE the
    root of the mean square; SSIM and MS-SSIM are over the images that are large enough.
    Images of 8 and of 16 bits have no MAE and RMSE in common: they are None, as `sample_bits`.
    """
    return [
        _row(label, quality, found.of(label, quality))
        for label, settings in found.settings.items()
        for quality in settings
    ]


def _row(label: str, quality: float | None, results: Sequence[Measured]) -> dict[str, Any]:
    psnrs = sorted(r.psnr for r in results if math.isfinite(r.psnr))
    bits = {r.sample_bits for r in results}
    alike = len(bits) == 1  # of other images errors are in other units
    return {
        "model": label,
        "quality": quality,
        "images": len(results),
        "exact": len(results) - len(psnrs),
        "psnr": _mean(psnrs),
        "psnr_min": psnrs[0] if psnrs else None,
        "psnr_median": statistics.median(psnrs) if psnrs else None,
        "psnr_max": psnrs[-1] if psnrs else None,
        "ssim": _mean([r.ssim for r in results if r.ssim is not None]),
        "ms_ssim": _mean([r.ms_ssim for r in results if r.ms_ssim is not None]),
        "sample_bits": bits.pop() if alike else None,
        "mae": _mean([r.mae for r in results]) if alike else None,
        "rmse": math.sqrt(statistics.fmean(r.rmse**2 for r in results)) if alike else None,
        "bytes": sum(r.bytes for r in results if r.bytes is not None) or None,
        "bpp": _mean([r.bpp for r in results if r.bpp is not None]),
    }


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def comparison(found: Evaluation) -> dict[str, Any] | None:
    """The second model against the first; None of one model alone."""
    if len(found.subjects) < 2:
        return None
    first, second = found.subjects
    shared = [q for q in found.settings[first] if q in found.settings[second]]
    pairs = [_pair(q, found.of(first, q), found.of(second, q)) for q in shared]
    curves = [
        (_curve(found, second, metric), _curve(found, first, metric))
        for metric in ("psnr", "ms_ssim")
    ]
    return {
        "model": second,
        "against": first,
        "settings": pairs,
        "bd_rates": [
            asdict(bd_rate(one, anchor))
            for one, anchor in curves
            if min(len(one.bpp), len(anchor.bpp)) >= 2
        ],
    }


def _pair(
    quality: float | None, first: Sequence[Measured], second: Sequence[Measured]
) -> dict[str, Any]:
    pairs = [(a, b) for a, b in zip(first, second, strict=True)]
    gains = [b.psnr - a.psnr for a, b in pairs if math.isfinite(a.psnr) and math.isfinite(b.psnr)]
    return {
        "quality": quality,
        "images": len(pairs),
        "psnr_gain": _mean(gains),
        "better": sum(b.psnr > a.psnr for a, b in pairs),
        "worse": sum(b.psnr < a.psnr for a, b in pairs),
        "same_size": all((a.width, a.height) == (b.width, b.height) for a, b in pairs),
    }


def points(found: Evaluation, label: str, metric: str) -> list[tuple[float, float, float]]:
    """Rate, quality and setting of each point of a model's curve.

    Args:
        found: what was measured.
        label: of the model.
        metric: "psnr", "ms_ssim", which is given in dB, or "ssim".

    Returns:
        Bits per pixel and quality as means over the images that have both; points that
        none has, and infinite ones, are left out.
    """
    result = []
    for setting in found.settings[label]:
        pairs = ((r.bpp, _finite(getattr(r, metric))) for r in found.of(label, setting))
        point = mean_point(pairs)
        if point is not None and setting is not None:
            bpp, quality = point
            quality = decibels(quality) if metric == "ms_ssim" else quality
            if math.isfinite(quality):
                result.append((bpp, quality, setting))
    return result


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _curve(found: Evaluation, label: str, metric: str) -> Curve:
    """PSNR, or MS-SSIM in dB, against bits per pixel; only points that rise."""
    known = points(found, label, metric)
    name = "ms_ssim_db" if metric == "ms_ssim" else metric
    return clean(Curve(label, name, tuple(p[0] for p in known), tuple(p[1] for p in known)))[0]


def table(found: Evaluation) -> str:
    """The summary as lines of text."""
    head = ("model", "quality", "PSNR, dB", "SSIM", "MS-SSIM", "MAE", "RMSE", "bpp", "bytes")
    lines = [head]
    for row in summary(found):
        lines.append(
            (
                str(row["model"]),
                setting(row["quality"]),
                "exact" if row["exact"] == row["images"] else _text(row["psnr"], ".2f"),
                _text(row["ssim"], ".4f"),
                _text(row["ms_ssim"], ".4f"),
                _text(row["mae"], ".4g"),
                _text(row["rmse"], ".4g"),
                _text(row["bpp"], ".3f"),
                _text(row["bytes"], "d"),
            )
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def setting(quality: float | None) -> str:
    """A quality in words: `50`, or `none` of a reconstruction."""
    return "none" if quality is None else f"{quality:g}"


def _text(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
