"""Plots of an evaluation: rate-distortion curves, and how PSNR varies from image to image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from aecodec.figures import COLOURS, MARKERS, new_figure, rate_axis, tidy
from aecodec.measure.evaluate import Evaluation
from aecodec.measure.evaluate_summary import points, summary
from aecodec.measure.metrics import decibels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DASHES = ("solid", "dashed")
_BINS = 30


def has_rates(found: Evaluation) -> bool:
    """Whether there is anything to plot against bits per pixel."""
    return any(result.bpp is not None for result in found.results)


def rate_distortion(found: Evaluation) -> Figure:
    """PSNR, and MS-SSIM (SSIM of small images), against bits per pixel; means over images."""
    rows = summary(found)
    large = any(row["ms_ssim"] is not None for row in rows)
    metrics = {"psnr": "PSNR (dB)"}
    if large:
        metrics["ms_ssim"] = "MS-SSIM (dB, −10 log₁₀(1 − MS-SSIM))"
    elif any(row["ssim"] is not None for row in rows):
        metrics["ssim"] = "SSIM"
    title = f"Rate-distortion, mean of {len(found.paths)} images of {found.data.name}"
    figure = new_figure(5.4 * len(metrics), 4.6, f"{title}; numbers are qualities")
    panels: Any = figure.subplots(1, len(metrics), squeeze=False)
    for axes, (metric, label) in zip(panels[0], metrics.items(), strict=True):
        for number, name in enumerate(found.subjects):
            _curve(axes, points(found, name, metric), name, number)
            own = [row for row in rows if row["model"] == name and row["quality"] is None]
            _level(axes, own, metric, name, number)
        axes.set_ylabel(label)
        rate_axis(axes, _ticks([row["bpp"] for row in rows if row["bpp"] is not None]))
        axes.margins(0.08, 0.12)
        axes.legend(fontsize=8, loc="lower right")
        tidy(axes)
    return figure


def _curve(axes: Axes, known: list[tuple[float, float, float]], name: str, number: int) -> None:
    if known:
        rates, values, _ = zip(*known, strict=True)
        axes.plot(rates, values, color=COLOURS[number], marker=MARKERS[number], label=name)
    for i, (rate, value, quality) in enumerate(known):
        place = (-12, 5) if i % 2 else (2, -12)  # neighbours may be close
        axes.annotate(f"{quality:g}", (rate, value), place, textcoords="offset points", fontsize=8)


def _level(axes: Axes, rows: list[dict[str, Any]], metric: str, name: str, number: int) -> None:
    """Of reconstructions that were not quantised, and have no rate."""
    for row in rows:
        value = _value(row, metric)
        if value is not None:
            label = f"{name}, not quantised"
            axes.axhline(value, color=COLOURS[number], linestyle="dotted", lw=1.4, label=label)


def _value(row: dict[str, Any], metric: str) -> float | None:
    value = row[metric]
    if value is None:
        return None
    changed = decibels(value) if metric == "ms_ssim" else float(value)
    return changed if math.isfinite(changed) else None


def _ticks(rates: list[float]) -> list[float]:
    """Numbers that people write, in the range of some rates."""
    steps = [round(s * 10.0**e, 9) for e in range(-5, 3) for s in (1, 1.5, 2, 3, 4, 5, 7)]
    low, high = min(rates) / 1.1, max(rates) * 1.1
    return [step for step in steps if low <= step <= high] or [rates[0]]


def histogram(found: Evaluation) -> Figure:
    """How many images have which PSNR, a panel for each quality, models in colours."""
    settings = list(dict.fromkeys(q for each in found.settings.values() for q in each))
    title = f"PSNR over the {len(found.paths)} images of {found.data.name}"
    figure = new_figure(7.5, 1.0 + 1.9 * len(settings), title)
    panels: Any = figure.subplots(len(settings), 1, sharex=True, squeeze=False)
    finite = [r.psnr for r in found.results if math.isfinite(r.psnr)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    room = 0.5 if high - low < 1 else 0.0  # of what hardly varies
    bins = np.linspace(low - room, high + room, _BINS + 1)
    for axes, quality in zip(panels[:, 0], settings, strict=True):
        for number, name in enumerate(found.subjects):
            if quality in found.settings[name]:
                psnrs = [r.psnr for r in found.of(name, quality)]
                _distribution(axes, psnrs, bins, name, number)
        where = "not quantised" if quality is None else f"quality {quality:g}"
        axes.set(ylabel="images", title=where)
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.legend(fontsize=8)
        tidy(axes)
    panels[-1, 0].set_xlabel("PSNR (dB)")
    return figure


def _distribution(axes: Axes, psnrs: list[float], bins: Any, name: str, number: int) -> None:
    finite = [value for value in psnrs if math.isfinite(value)]
    exact = len(psnrs) - len(finite)
    mean = f"mean {np.mean(finite):.2f} dB" if finite else "none differ"
    label = f"{name}: {mean}" + (f"; {exact} exact" if exact else "")
    axes.hist(
        finite,
        bins,
        histtype="stepfilled",
        facecolor=(COLOURS[number], 0.3),
        edgecolor=COLOURS[number],
        linestyle=_DASHES[number],
        label=label,
    )
    if finite:
        axes.axvline(float(np.mean(finite)), color=COLOURS[number], linestyle=_DASHES[number])
