"""Sheets of reconstructions: original, what came back, and where it is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aecodec.figures import bare, new_figure, shortened
from aecodec.measure.evaluate import Evaluation, Measured, judge
from aecodec.measure.evaluate_subject import Original
from aecodec.samples import Samples, bit_depth, block_means

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 12
"""Images on a sheet."""

_SIDE = 480  # pixels a side of what is drawn


@dataclass(frozen=True)
class _Cell:
    """One picture of a sheet, or an error map, in the units of the files."""

    values: NDArray[np.float64]
    caption: str
    error: bool = False


def choose(found: Evaluation, most: int = MOST) -> dict[str, str]:
    """Which images to show: image -> why, from the worst to the best.

    The order is that of PSNR with the first model at the middle one of its qualities.
    """
    label = next(iter(found.subjects))
    settings = found.settings[label]
    ranked = sorted(found.of(label, settings[len(settings) // 2]), key=lambda r: r.psnr)
    names = [result.image for result in ranked]
    if len(names) <= most:
        places = {0: "worst", len(names) - 1: "best"}
        return {name: places.get(i, f"{i + 1} of {len(names)}") for i, name in enumerate(names)}
    part = most // 3
    start = (len(names) - part) // 2
    return (
        dict.fromkeys(names[:part], "worst")
        | dict.fromkeys(names[start : start + part], "median")
        | dict.fromkeys(names[-part:], "best")
    )


def settings(found: Evaluation) -> list[tuple[float | None, ...]]:
    """The sheets to draw: for each, a quality of each model.

    Of two models they are the same quality where both have it, else the second one's last.
    """
    first, *others = found.settings.values()
    return [(q, *(q if q in other else other[-1] for other in others)) for q in first]


def sheet(found: Evaluation, qualities: tuple[float | None, ...], chosen: dict[str, str]) -> Figure:
    """Draw some images, coded again, a row each.

    Args:
        found: what was measured.
        qualities: of each model.
        chosen: image -> why, from `choose`.
    """
    rows = [_row(found, name, qualities) for name in chosen]
    columns = max(len(row) for row in rows)
    cell = 2.9 if max(max(row[0].values.shape[:2]) for row in rows) > 160 else 1.9
    shares = [min(1.5, max(0.4, row[0].values.shape[0] / row[0].values.shape[1])) for row in rows]
    height = sum(cell * share + 0.45 for share in shares)
    models = ", ".join(
        f"{label} {_words(quality)}"
        for label, quality in zip(found.subjects, qualities, strict=True)
    )
    title = f"{models}: {len(rows)} of {len(found.paths)} images of {found.data.name}"
    figure = new_figure(cell * columns + 2.4, height + 1.0, title)
    grid: Any = figure.subplots(len(rows), columns, squeeze=False, height_ratios=shares)
    largest = _largest_error(rows)
    scale = _scale(rows)
    drawn: dict[bool, Any] = {}
    for panels, row, (name, why) in zip(grid, rows, chosen.items(), strict=True):
        for axes, one in zip(panels, row, strict=True):
            top = largest if one.error else None
            drawn[one.error] = _show(axes, one, top, scale) or drawn.get(one.error)
        label = f"{why}\n{shortened(name, 24)}"
        panels[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
    errors = figure.colorbar(drawn[True], ax=grid[:, -1], fraction=0.06, aspect=40)
    errors.set_label("absolute error (units of the samples)", fontsize=8)
    if scale is not None and drawn.get(False) is not None:
        values = figure.colorbar(
            drawn[False], ax=grid[:, 0], fraction=0.06, aspect=40, location="left"
        )
        values.set_label("sample value", fontsize=8)
    return figure


def _words(quality: float | None) -> str:
    return "without quantisation" if quality is None else f"at quality {quality:g}"


def _row(found: Evaluation, name: str, qualities: tuple[float | None, ...]) -> list[_Cell]:
    """The cells of an image: the original, then each model's picture and error map."""
    cells: list[_Cell] = []
    for (label, subject), quality in zip(found.subjects.items(), qualities, strict=True):
        original = subject.read(found.paths[name])
        back, size = subject.run(original, quality)
        result = judge(original, back, size, name, label, quality)
        if not cells:
            sides = f"{result.width} × {result.height}"
            cells.append(_Cell(_shown(original.samples, original), f"original, {sides}"))
        whose = f"{label}\n" if len(qualities) > 1 else ""
        cells.append(_Cell(_shown(back, original), whose + _caption(result)))
        error = f"{whose}error, MAE {result.mae:.4g}"
        cells.append(_Cell(_error(original, back), error, error=True))
    return cells


def _caption(result: Measured) -> str:
    parts = ["exact" if result.rmse == 0 else f"{result.psnr:.2f} dB"]
    if result.ms_ssim is not None:
        parts.append(f"MS-SSIM {result.ms_ssim:.3f}")
    elif result.ssim is not None:
        parts.append(f"SSIM {result.ssim:.3f}")
    if result.bpp is not None:
        parts.append(f"{result.bpp:.3g} bpp")
    return ", ".join(parts)


def _shown(samples: Samples, original: Original) -> NDArray[np.float64]:
    """Pictures of 8 bits as 0 to 1; 16-bit gray in its units, NaN where it is invalid."""
    values = _small(samples.astype(np.float64))
    if _by_value(samples):
        return np.where(_small(original.valid.astype(np.float64)) >= 0.5, values, np.nan)
    return np.clip(values / original.peak, 0, 1)


def _by_value(samples: Samples) -> bool:
    """Whether samples are shown by a colour scale: 16-bit gray, such as depth."""
    return samples.ndim == 2 and bit_depth(samples) == 16


def _error(original: Original, back: Samples) -> NDArray[np.float64]:
    """(h, w): mean absolute error of the channels, NaN where the original is invalid."""
    difference = np.abs(original.samples.astype(np.float64) - back)
    if difference.ndim == 3:
        difference = difference.mean(axis=2)
    valid = _small(original.valid.astype(np.float64))
    total = _small(np.where(original.valid, difference, 0))
    return np.where(valid > 0, total / np.maximum(valid, 1e-9), np.nan)


def _small(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of squares, so that a side has at most `_SIDE` of them."""
    return block_means(values, -(-max(values.shape[:2]) // _SIDE))


def _largest_error(rows: list[list[_Cell]]) -> float:
    """Where the colours of errors end: one scale for the sheet, without its rarest errors."""
    maps = [cell.values[np.isfinite(cell.values)] for row in rows for cell in row if cell.error]
    return max(1.0, float(np.percentile(np.concatenate(maps), 99.5)))


def _scale(rows: list[list[_Cell]]) -> tuple[float, float] | None:
    """The range of values of 16-bit gray; None of pictures that need no scale."""
    values = [row[0].values for row in rows if row[0].values.ndim == 2]
    known = [one[np.isfinite(one)] for one in values]
    known = [one for one in known if one.size and one.max() > 1]
    if not known:
        return None
    together = np.concatenate(known)
    return float(np.percentile(together, 0.5)), float(np.percentile(together, 99.5))


def _show(axes: Axes, cell: _Cell, largest: float | None, scale: tuple[float, float] | None) -> Any:
    """Draw one; gives what a colour bar is made of, None of a plain picture."""
    import matplotlib as mpl

    options: dict[str, Any] = {"interpolation": "nearest"}
    coloured = True
    if largest is not None:
        options |= {"cmap": mpl.colormaps["inferno"].with_extremes(bad="#bbbbbb")}
        options |= {"vmin": 0, "vmax": largest}
    elif cell.values.ndim == 2 and scale is not None:
        options |= {"cmap": mpl.colormaps["viridis"].with_extremes(bad="#bbbbbb")}
        options |= {"vmin": scale[0], "vmax": scale[1]}
    else:
        coloured = False
        options |= {"cmap": "gray", "vmin": 0, "vmax": 1}
    image = axes.imshow(cell.values, **options)
    bare(axes)
    axes.set_title(cell.caption, fontsize=7.5, pad=3)
    return image if coloured else None
