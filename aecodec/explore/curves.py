"""Training curves of one or more runs, from their `metrics.jsonl`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aecodec.errors import InputError
from aecodec.figures import COLOURS, new_figure, shortened, tidy
from aecodec.train.runfolder import read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AXES = {"step": "step", "minutes": "training time (minutes)"}

_CLOCKS = {"step", "minutes", "patches", "images", "epoch"}
_TRAINING = "train"  # before the metrics of training images
_LAST = ("learning_rate", "gradient_norm")
_UNITS = {
    "loss": "loss",
    "psnr": "PSNR (dB)",
    "bpp": "rate (bits per pixel)",
    "mse": "MSE (pixel range 1)",
    "l1": "L1 (pixel range 1)",
    "kl": "KL divergence (nats)",
    "ms_ssim": "1 − MS-SSIM",
    "learning_rate": "learning rate",
    "gradient_norm": "gradient norm",
}
_STYLES = ("solid", "dashed", "dashdot", "dotted", (0, (1, 1)), (0, (6, 2, 1, 2, 1, 2)))
_MARKERS = "os^DvPX*"


@dataclass(frozen=True)
class Run:
    """The validations of one run.

    Attributes:
        name: of its folder.
        rows: one a validation, by step; of steps that were done twice the last.
    """

    name: str
    rows: tuple[dict[str, float], ...]

    def series(self, key: str, axis: str) -> tuple[list[float], list[float]]:
        """Places on the axis and values of a metric, wherever both were written."""
        pairs = [(row[axis], row[key]) for row in self.rows if axis in row and key in row]
        return [x for x, _ in pairs], [y for _, y in pairs]


@dataclass(frozen=True)
class Curves:
    """Training curves.

    Attributes:
        runs: one or more.
        axis: "step" or "minutes".
    """

    runs: tuple[Run, ...]
    axis: str = "step"

    @property
    def groups(self) -> dict[str, list[str]]:
        """What belongs into one panel: `psnr` -> `psnr/0.5`, `psnr/2.0`, `train/psnr`, ..."""
        groups: dict[str, list[str]] = {}
        for run in self.runs:
            for row in run.rows:
                for key in row:
                    known = groups.setdefault(_split(key)[0], [])
                    if key not in known:
                        known.append(key)
        names = sorted(groups.keys() - _CLOCKS, key=lambda name: (name in _LAST, _place(name)))
        return {name: groups[name] for name in names}

    def draw(self) -> Figure:
        """A panel a metric, a colour a run, a line style a part of the metric."""
        groups = self.groups
        columns = min(3, len(groups))
        rows = math.ceil(len(groups) / columns)
        names = ", ".join(shortened(run.name, 20) for run in self.runs)
        figure = new_figure(0.8 + 4.6 * columns, 1.2 + 3.4 * rows, f"Training of {names}")
        panels = np.atleast_1d(figure.subplots(rows, columns)).reshape(-1)
        for axes, (name, keys) in zip(panels, groups.items(), strict=False):
            self._panel(axes, name, keys)
        for axes in panels[len(groups) :]:
            axes.set_axis_off()
        return figure

    def _panel(self, axes: Axes, name: str, keys: Sequence[str]) -> None:
        """One run has a colour a part; several have a colour a run and a line style a part."""
        several = len(self.runs) > 1
        for i, run in enumerate(self.runs):
            for j, key in enumerate(keys):
                x, y = run.series(key, self.axis)
                if not x:
                    continue
                label = _label(key, shortened(run.name, 20) if several else "", len(keys) > 1)
                axes.plot(
                    x,
                    y,
                    color=COLOURS[(i if several else j) % len(COLOURS)],
                    linestyle=_STYLES[(j if several else 0) % len(_STYLES)],
                    marker=_MARKERS[(i if several else j) % len(_MARKERS)],
                    markersize=3.5,
                    markevery=max(1, len(x) // 15),
                    linewidth=1.4,
                    label=label,
                )
        values = [v for run in self.runs for key in keys for v in run.series(key, self.axis)[1]]
        finite = [value for value in values if math.isfinite(value)]
        if finite and min(finite) > 0 and max(finite) > 30 * min(finite):
            axes.set_yscale("log")
        axes.set(
            title=name.replace("_", " "), xlabel=AXES[self.axis], ylabel=_UNITS.get(name, name)
        )
        tidy(axes)
        if several or len(keys) > 1:
            axes.legend(fontsize=7, title="run" if len(keys) == 1 else None, ncols=2)

    def numbers(self) -> dict[str, Any]:
        """Every validation of every run."""
        return {
            "axis": self.axis,
            "runs": [{"name": run.name, "validations": list(run.rows)} for run in self.runs],
        }


def _split(key: str) -> tuple[str, str]:
    """Metric and part of it: `psnr/0.5` and, of training images, `train/psnr`."""
    first, _, rest = key.partition("/")
    return (rest, "training") if first == _TRAINING else (first, rest)


def _place(name: str) -> int:
    """Metrics that have a unit first, in the order of these."""
    known = list(_UNITS)
    return known.index(name) if name in known else len(known)


def _label(key: str, run: str, parts: bool) -> str:
    part = _split(key)[1] or ("validation" if parts else "")
    return " ".join(filter(None, [run, part])) or key


def curves(runs: Path | Sequence[Path], *, axis: str = "step") -> Curves:
    """Read the validations of one or more runs.

    Args:
        runs: run folders.
        axis: "step", or "minutes" of training.

    Raises:
        InputError: no run folder, nothing validated yet, or a damaged `metrics.jsonl`; a
            last line that was cut off is left out, with a note.
    """
    folders = [runs] if isinstance(runs, Path) else list(runs)
    if axis not in AXES:
        raise InputError(f"unknown axis '{axis}'; there are {', '.join(AXES)}")
    if not folders:
        raise InputError("no run to draw")
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):  # a/run and b/run
        names = [str(folder) for folder in folders]
    found = []
    for name, folder in zip(names, folders, strict=True):
        run = Run(name, _read(folder))
        if not any(axis in row for row in run.rows):
            raise InputError(f"{folder / 'metrics.jsonl'}: says nothing about '{axis}'")
        found.append(run)
    result = Curves(tuple(found), axis)
    if not result.groups:
        raise InputError(f"{folders[0] / 'metrics.jsonl'}: holds no metrics")
    return result


def _read(folder: Path) -> tuple[dict[str, float], ...]:
    path = folder / "metrics.jsonl"
    if not folder.is_dir():
        raise InputError(f"{folder}: not a run folder")
    if not path.exists():
        raise InputError(f"{path}: there is none yet: nothing was validated")
    by_step: dict[float, dict[str, float]] = {}
    for number, found in enumerate(read_metrics(path), start=1):
        row = _numbers(found)
        by_step[row.get("step", float(number))] = row
    if not by_step:
        raise InputError(f"{path}: nothing was validated yet")
    return tuple(by_step[step] for step in sorted(by_step))


def _numbers(row: dict[str, Any]) -> dict[str, float]:
    return {
        str(key): float(value)
        for key, value in row.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
