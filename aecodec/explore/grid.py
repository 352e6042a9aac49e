"""One image at several qualities, from real `.aec` files, and its compression curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aecodec.errors import InputError
from aecodec.explore.figures import show
from aecodec.figures import COLOURS, new_figure, rate_axis, tidy
from aecodec.measure.metrics import psnr
from aecodec.samples import Samples, bit_depth, colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

QUALITIES = (5.0, 20.0, 40.0, 60.0, 80.0, 95.0)

_COLUMNS = 4
_MOST_PIXELS = 640  # a side of what is drawn


@dataclass(frozen=True)
class Coded:
    """The image at one quality.

    Attributes:
        quality: 1 to 100.
        size: bytes of the whole file.
        bpp: bits per pixel, of the whole file.
        psnr: dB over all colour samples; inf if they are identical.
        pixels: the decoded image.
    """

    quality: float
    size: int
    bpp: float
    psnr: float
    pixels: Samples


@dataclass(frozen=True)
class Grid:
    """An image at several qualities.

    Attributes:
        name: of the image.
        model: which coded it.
        original: its pixels.
        coded: by quality.
        region: (x, y, width, height) of what is drawn; None for all of it.
    """

    name: str
    model: str
    original: Samples
    coded: tuple[Coded, ...]
    region: tuple[int, int, int, int] | None = None

    def draw(self) -> Figure:
        """The original and every quality, and below them PSNR against bits per pixel."""
        columns = min(_COLUMNS, 1 + len(self.coded))
        rows = math.ceil((1 + len(self.coded)) / columns)
        height, width = self._shown(self.original).shape[:2]
        tall = min(2.5, 3.3 * height / width) + 0.3
        title = f"{self.name}, coded by {self.model} at {len(self.coded)} qualities"
        figure = new_figure(0.4 + 3.4 * columns, 0.8 + tall * rows + 3.6, title)
        parts: Any = figure.subfigures(2, 1, height_ratios=[tall * rows, 3.6])
        upper, lower = parts
        self._pictures(np.atleast_1d(upper.subplots(rows, columns)).reshape(-1))
        self._curve(lower.subplots())
        return figure

    def _pictures(self, panels: Any) -> None:
        """The original and what became of it, one a panel; panels left over stay empty."""
        tiles: list[tuple[str, Samples]] = [("original", self.original)]
        tiles += [
            (f"quality {c.quality:g}: {c.bpp:.3f} bpp, {c.psnr:.2f} dB", c.pixels)
            for c in self.coded
        ]
        for axes in panels:
            axes.set_axis_off()
        for axes, (caption, pixels) in zip(panels, tiles, strict=False):
            show(axes, _unit(self._shown(pixels)), caption)

    def _curve(self, axes: Axes) -> None:
        """PSNR against bits per pixel."""
        rates = [c.bpp for c in self.coded]
        axes.plot(
            rates,
            [c.psnr for c in self.coded],
            color=COLOURS[0],
            marker="o",
            label=self.model,
        )
        for c in self.coded:
            axes.annotate(
                f"{c.quality:g}", (c.bpp, c.psnr), (0, -12), textcoords="offset points", fontsize=8
            )
        rate_axis(axes, _ticks(min(rates), max(rates)))
        axes.set_ylabel("PSNR (dB)")
        axes.set_title("compression curve; numbers are qualities")
        axes.legend(loc="lower right")
        axes.margins(y=0.12)
        tidy(axes)

    def _shown(self, pixels: Samples) -> Samples:
        if self.region is not None:
            x, y, width, height = self.region
            return pixels[y : y + height, x : x + width]
        step = -(-max(pixels.shape[:2]) // _MOST_PIXELS)
        return pixels[::step, ::step]

    def numbers(self) -> dict[str, Any]:
        """Size of the image, and bytes, bpp and PSNR of every quality."""
        return {
            "image": self.name,
            "model": self.model,
            "width": self.original.shape[1],
            "height": self.original.shape[0],
            "qualities": [
                {"quality": c.quality, "bytes": c.size, "bpp": c.bpp, "psnr": c.psnr}
                for c in self.coded
            ],
        }


def grid(
    image: Path,
    model: str | Path = "photo",
    qualities: Sequence[float] = QUALITIES,
    *,
    region: tuple[int, int, int, int] | None = None,
    device: str = "cpu",
) -> Grid:
    """Code an image at several qualities and decode it again.

    Args:
        image: an image file; see `aecodec.pixels.read_image`.
        model: name of an installed model, or a model file.
        qualities: each 1 to 100.
        region: (x, y, width, height) in pixels, to draw a detail; all is measured.
        device: "cpu", "cuda", ...

    Raises:
        InputError: the image cannot be read or coded, no qualities, one out of range, or a
            region outside of the image.
        ModelError: the weights cannot be used.
    """
    from aecodec.api import decode, encode
    from aecodec.pixels import read_image

    wanted = sorted({float(quality) for quality in qualities})
    if not wanted:
        raise InputError("no quality to code at")
    pixels = read_image(image)
    _check_region(region, pixels, image)
    peak = 2 ** bit_depth(pixels) - 1
    coded = []
    for quality in wanted:
        data = encode(pixels, quality=quality, model=model, device=device)
        back = decode(data, model=model, device=device)
        bpp = 8 * len(data) / (pixels.shape[0] * pixels.shape[1])
        similar = psnr(colour(pixels), colour(back), peak=peak)
        coded.append(Coded(quality, len(data), bpp, similar, back))
    name = Path(model).stem if str(model).endswith(".safetensors") else str(model)
    return Grid(image.name, name, pixels, tuple(coded), region)


def _check_region(region: tuple[int, int, int, int] | None, pixels: Samples, image: Path) -> None:
    if region is None:
        return
    x, y, width, height = region
    if min(x, y) < 0 or min(width, height) < 1:
        raise InputError(f"{image}: region {region} is empty or outside of the image")
    if x + width > pixels.shape[1] or y + height > pixels.shape[0]:
        size = f"{pixels.shape[1]} x {pixels.shape[0]}"
        raise InputError(f"{image}: region {region} is outside of the image, which is {size}")


def _unit(pixels: Samples) -> np.ndarray[Any, np.dtype[np.float32]]:
    """What `show` takes: (1 or 3, H, W) in [-0.5, 0.5]."""
    plain = colour(pixels)
    x = plain.astype(np.float32) / (2 ** bit_depth(pixels) - 1) - 0.5
    return x[None] if x.ndim == 2 else np.moveaxis(x, -1, 0)


def _ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 times powers of ten, from the one below `low` to the one above `high`."""
    steps = [s * 10.0**e for e in range(-6, 5) for s in (1, 2, 5)]
    below = max((s for s in steps if s <= low), default=steps[0])
    above = min((s for s in steps if s >= high), default=steps[-1])
    return [round(s, 9) for s in steps if below <= s <= above]
