"""Rate-distortion plots: PSNR and MS-SSIM against bits per pixel, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aecodec import figures
from aecodec.figures import new_figure, rate_axis, save, tidy
from aecodec.measure.bdrate import Curve
from aecodec.measure.peers import OWN
from aecodec.measure.runner import METRICS

MAX_BPP = 2.5
AXES = {"psnr": "RGB PSNR (dB)", "ms_ssim_db": "MS-SSIM (dB, −10 log₁₀(1 − MS-SSIM))"}
TICKS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2, 1.8, 2.5)

STYLES: dict[str, tuple[str, str]] = {
    OWN: (figures.VERMILION, "o"),
    "jpeg": (figures.BLACK, "s"),
    "webp": (figures.GREEN, "^"),
    "avif-s4": (figures.BLUE, "D"),
    "avif-s6": (figures.SKY, "v"),
    "jxl": (figures.PURPLE, "P"),
}
SPARE_STYLES = ((figures.ORANGE, "X"), (figures.YELLOW, "*"), ("#999999", "h"))
DASHES = ((5, 2), (1, 1.5), (7, 2, 1.5, 2), (3, 3), (9, 3), (5, 2, 1, 2, 1, 2))


@dataclass(frozen=True)
class Plot:
    """What to draw."""

    title: str
    curves: Sequence[Curve]
    """Clean curves of both metrics."""
    labels: Mapping[str, str]
    """Codec names to labels, in the order of the legend."""
    published: Sequence[Curve] = ()


def draw(plot: Plot, paths: Sequence[Path]) -> None:
    """Draw once, save to each path (the suffix says how: .png, .svg)."""
    figure = new_figure(12.5, 6.4, plot.title)
    panels = figure.subplots(1, len(METRICS), sharex=True)
    for panel, metric in zip(panels, METRICS, strict=True):
        _panel(panel, plot, metric)
    rates = [curve.bpp[0] for curve in [*plot.curves, *plot.published] if curve.bpp]
    panels[0].set_xlim(0.9 * min(rates, default=TICKS[0]), MAX_BPP)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False)
    for path in paths:
        save(figure, path)


def _panel(panel: Any, plot: Plot, metric: str) -> None:
    """One metric: measured curves, and below them the published ones, thin and grey."""
    own = {curve.codec: curve for curve in plot.curves if curve.metric == metric}
    for name, (color, marker) in styles(list(plot.labels)).items():
        curve, strong = own[name], name == OWN
        panel.plot(
            curve.bpp,
            curve.quality,
            color=color,
            marker=marker,
            markersize=6 if strong else 5,
            linewidth=2.4 if strong else 1.5,
            label=plot.labels[name],
            zorder=5 if strong else 3,
        )
    known = [curve for curve in plot.published if curve.metric == metric]
    for index, curve in enumerate(known):
        panel.plot(
            curve.bpp,
            curve.quality,
            color="#777777",
            linewidth=1,
            dashes=DASHES[index % len(DASHES)],
            label=curve.codec,
            zorder=2,
        )
    _axes(panel, [*own.values(), *known], metric)


def _axes(panel: Any, curves: Sequence[Curve], metric: str) -> None:
    """A logarithmic rate axis up to `MAX_BPP`, and a quality axis for what lies in it."""
    from matplotlib.ticker import MultipleLocator

    rate_axis(panel, TICKS)
    ends = [curve for curve in curves if curve.bpp and curve.bpp[0] < MAX_BPP]
    if ends:
        low = min(curve.quality[0] for curve in ends)
        high = max(float(np.interp(MAX_BPP, curve.bpp, curve.quality)) for curve in ends)
        panel.set_ylim(low - 0.6, high + 0.6)
        if high - low < 40:
            panel.yaxis.set_major_locator(MultipleLocator(2))
    panel.set_ylabel(AXES[metric])
    tidy(panel)


def styles(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each codec: its own, or a spare one."""
    spare = iter(SPARE_STYLES * len(names))
    return {name: STYLES.get(name) or next(spare) for name in names}
