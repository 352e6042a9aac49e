"""What the figures of `aecodec.explore` have in common, and the JSON beside each picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aecodec import jsontext
from aecodec.errors import OutputError
from aecodec.figures import COLOURS, bare, need_matplotlib, save
from aecodec.output import check_output, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg")

#: Up to so many classes have a colour each and a legend; more share a scale and a colour bar.
MOST_COLOURS = len(COLOURS)


class Result(Protocol):
    """What every function of `aecodec.explore` gives: a picture and the numbers behind it."""

    def draw(self) -> Figure:
        """The picture."""

    def numbers(self) -> dict[str, Any]:
        """Everything the picture shows, for JSON."""


def check_outputs(out: Path, *, overwrite: bool = False, sources: Sequence[Path] = ()) -> Path:
    """Find out before any work that a picture, or the JSON beside it, cannot be written.

    Args:
        out: the picture, `.png` or `.svg`.
        overwrite: whether existing files may be replaced.
        sources: files read from, which are never overwritten.

    Returns:
        The JSON beside it: the same name ending in `.json`.

    Raises:
        OutputError: another ending, an existing file, or no such folder.
        MissingDependencyError: Matplotlib is not installed.
    """
    need_matplotlib()
    if out.suffix.lower() not in FORMATS:
        raise OutputError(f"{out}: a picture is written as {' or '.join(FORMATS)}")
    beside = out.with_suffix(".json")
    for path in (out, beside):
        check_output(path, overwrite=overwrite)
        for source in sources:
            check_output(path, overwrite=True, source=source)
    return beside


def write(result: Result, out: Path, *, overwrite: bool = False) -> list[Path]:
    """Draw a result as PNG or SVG and put its numbers beside it, as JSON.

    Args:
        result: what a function of `aecodec.explore` gave.
        out: the picture; the same name ending in `.json` gets the numbers.
        overwrite: whether existing files may be replaced.

    Returns:
        The two files.

    Raises:
        OutputError: as `check_outputs`; or writing fails.
        MissingDependencyError: Matplotlib is not installed.
    """
    beside = check_outputs(out, overwrite=overwrite)
    text = as_json(result.numbers())
    write_text(beside, text, overwrite=overwrite)  # first: it cannot be had again
    save(result.draw(), out, overwrite=overwrite)
    return [out, beside]


def as_json(numbers: Mapping[str, Any]) -> str:
    """JSON with a final newline; arrays become lists, NaN and infinities null."""
    return jsontext.as_json(numbers, digits=7)  # float32 does not have more


def show(axes: Axes, x: NDArray[np.float32], caption: str = "") -> None:
    """Draw an image (1 or 3, H, W) in [-0.5, 0.5], with a caption above."""
    image = np.clip(np.moveaxis(x, 0, -1) + 0.5, 0, 1)
    gray = image.shape[2] == 1
    axes.imshow(
        image[:, :, 0] if gray else image,
        cmap="gray" if gray else None,
        vmin=0,
        vmax=1,
        interpolation="nearest" if max(image.shape[:2]) <= 128 else "antialiased",
    )
    bare(axes)
    if caption:
        axes.set_title(caption, fontsize=8, pad=3)


def row_label(axes: Axes, text: str) -> None:
    """A label to the left of a row of images, horizontal."""
    axes.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=9)


def scatter_classes(
    figure: Figure,
    axes: Axes,
    points: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    title: str = "class",
    legend: bool = True,
) -> None:
    """Points (N, 2), coloured by class; with a legend, or a colour bar for many classes.

    Labels of -1 mean none: gray.
    """
    size = float(np.clip(8000 / max(1, len(points)), 7, 40))
    known = labels >= 0
    if not known.all():
        none = f"no {title}" if known.any() else None
        x, y = points[~known].T
        axes.scatter(x, y, s=size, c="#777777", linewidths=0, alpha=0.8, label=none)
    if not known.any():
        return
    if len(classes) <= MOST_COLOURS:
        for index, name in enumerate(classes):
            x, y = points[labels == index].T
            colour = COLOURS[index]
            axes.scatter(x, y, s=size, c=colour, linewidths=0, alpha=0.85, label=name)
        if legend:
            axes.legend(title=title, fontsize=8, markerscale=1.5, framealpha=0.9)
        return
    drawn = _on_a_scale(axes, points[known], labels[known], size, len(classes))
    _name_classes(axes, points, labels, classes)
    if legend:
        bar: Any = figure.colorbar(drawn, ax=axes, label=title)
        ticks = np.unique(np.linspace(0, len(classes) - 1, 10).round().astype(int))
        bar.set_ticks(ticks.tolist(), labels=[classes[i] for i in ticks])
        bar.solids.set_alpha(1)


def _on_a_scale(
    axes: Axes, points: NDArray[np.float32], labels: NDArray[np.int64], size: float, count: int
) -> Any:
    """Points of more classes than there are colours, by one colour scale over them all."""
    x, y = points.T
    return axes.scatter(
        x,
        y,
        s=size,
        c=labels,
        cmap="viridis",
        vmin=-0.5,
        vmax=count - 0.5,
        linewidths=0,
        alpha=0.85,
    )


def _name_classes(
    axes: Axes, points: NDArray[np.float32], labels: NDArray[np.int64], classes: Sequence[str]
) -> None:
    """Names at the medians of classes that lie together, where a scale alone says too little."""
    from matplotlib.patheffects import withStroke

    extent = np.ptp(points, axis=0) + 1e-12
    unit = points / extent  # the plane as a square of side 1

    def spread(some: NDArray[np.float32]) -> float:
        return float(np.median(np.linalg.norm(some - np.median(some, axis=0), axis=1)))

    taken: list[NDArray[np.float32]] = []
    for index, name in enumerate(classes):
        mine = unit[labels == index]
        if not len(mine) or spread(mine) > spread(unit) / 2:
            continue
        place = np.median(mine, axis=0)
        if any(abs(place[0] - t[0]) < 0.07 and abs(place[1] - t[1]) < 0.025 for t in taken):
            continue
        taken.append(place)
        short = name if len(name) <= 12 else f"{name[:11]}…"
        x, y = place * extent
        text = axes.annotate(short, (float(x), float(y)), fontsize=6.5, ha="center")
        text.set_path_effects([withStroke(linewidth=2, foreground="white")])
