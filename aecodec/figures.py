"""Figures: one style, colours that everyone can tell apart, files that appear whole."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aecodec.errors import needing
from aecodec.output import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Okabe and Ito's colours, which differ for every common kind of colour vision.
COLOURS = (
    BLUE := "#0072B2",
    VERMILION := "#D55E00",
    GREEN := "#009E73",
    PURPLE := "#CC79A7",
    ORANGE := "#E69F00",
    SKY := "#56B4E9",
    BLACK := "#000000",
    YELLOW := "#F0E442",
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

_DPI = 140
_LONGEST = 200.0  # inches a side that Agg draws at `_DPI` without trouble


def need_matplotlib() -> None:
    """Find out before any work that nothing can be drawn.

    Raises:
        MissingDependencyError: Matplotlib is not installed.
    """
    with needing("explore", "drawing"):
        import matplotlib.backends.backend_agg
        import matplotlib.figure  # noqa: F401


def new_figure(width: float, height: float, title: str) -> Figure:
    """An empty figure of so many inches, its title wrapped to fit.

    Raises:
        MissingDependencyError: Matplotlib is not installed.
    """
    need_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, min(height, _LONGEST)), layout="constrained")
    FigureCanvasAgg(figure)
    lines = textwrap.wrap(title, max(20, int(width * 10.5)), break_on_hyphens=False)
    figure.suptitle("\n".join(lines), fontsize=12)
    return figure


def tidy(axes: Axes) -> None:
    """A light grid behind what is drawn, no frame above and to the right, small text."""
    axes.set_axisbelow(True)
    axes.title.set_fontsize(10)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_fontsize(9.5)
    axes.tick_params(labelsize=9)
    axes.grid(color="#dddddd", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)


def bare(axes: Axes) -> None:
    """No ticks and no frame, but room for labels."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def rate_axis(axes: Axes, ticks: Sequence[float]) -> None:
    """A logarithmic axis of bits per pixel, with ticks at some of them."""
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xlabel("rate (bits per pixel, logarithmic)")


def shortened(name: str, most: int) -> str:
    """A name of so many characters at most; of a longer one, its end."""
    return name if len(name) <= most else f"…{name[1 - most :]}"


def save(figure: Figure, path: Path, *, overwrite: bool = True) -> None:
    """Write a figure as its suffix says (.png, .svg), whole or not at all.

    The same figure gives the same bytes.

    Raises:
        OutputError: it cannot be written, or is there and may not be replaced.
    """
    import matplotlib as mpl

    _take_names_literally(figure)
    kind, buffer = path.suffix.lower()[1:], io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "aecodec"}):
        figure.savefig(
            buffer, format=kind, dpi=_DPI, metadata={"Date": None} if kind == "svg" else None
        )
    write_bytes(path, buffer.getvalue(), overwrite=overwrite)


def _take_names_literally(figure: Figure) -> None:
    """Names of files may be no Unicode, or have dollars as formulas do."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_text(text.get_text().encode(errors="replace").decode())
        if "$" in text.get_text():
            text.set_parse_math(False)
