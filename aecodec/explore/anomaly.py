"""Which images a model reconstructs worst: those unlike what it was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aecodec.errors import InputError
from aecodec.explore.figures import row_label, show
from aecodec.figures import COLOURS, bare, new_figure, shortened, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

    from aecodec.model.families import LatentModel

MAD = 3.5
"""The threshold if none is asked for: so many robust standard deviations over the median."""

_TO_DEVIATION = 1.4826  # MAD of a normal distribution to its standard deviation


@dataclass(frozen=True)
class Anomalies:
    """Images by their reconstruction error.

    Attributes:
        model: name of the model.
        names: N paths relative to the folder, by falling error.
        errors: (N,) root mean square errors over valid pixels, in sample values.
        threshold: images with a larger error are flagged.
        rule: how the threshold came about, in words.
        maximum: the largest sample value, such as 255.
        worst: (K, 2, C, H, W) the first K images and their reconstructions, each in
            [-0.5, 0.5]; K is 0 if none were kept.
    """

    model: str
    names: tuple[str, ...]
    errors: NDArray[np.float64]
    threshold: float
    rule: str
    maximum: float
    worst: tuple[NDArray[np.float32], ...]

    @property
    def flagged(self) -> tuple[str, ...]:
        """Names of the images over the threshold."""
        return self.names[: int(np.sum(self.errors > self.threshold))]

    def draw(self) -> Figure:
        """All errors with the threshold, and a sheet of the worst."""
        columns = max(1, len(self.worst))
        shape = self.worst[0].shape if self.worst else (2, 1, 1, 1)
        side = 1.45
        tall = side * min(1.5, shape[2] / shape[3]) + 0.25
        title = (
            f"Reconstruction by {self.model}: {len(self.flagged)} of {len(self.names)} images "
            f"over the threshold"
        )
        figure = new_figure(max(8.0, 1.2 + side * columns), 3.9 + 3 * tall, title)
        parts: Any = figure.subfigures(2, 1, height_ratios=[3.4, 3 * tall])
        upper, lower = parts
        self._histogram(upper)
        if self.worst:
            self._sheet(lower)
        return figure

    def _histogram(self, figure: SubFigure) -> None:
        axes = figure.subplots()
        bins = min(60, max(10, len(self.errors) // 8))
        axes.hist(self.errors, bins=bins, color=COLOURS[0], label="images")
        label = f"threshold {self.threshold:.4g} ({self.rule})"
        axes.axvline(self.threshold, color=COLOURS[1], linewidth=2, label=label)
        locator: Any = axes.yaxis.get_major_locator()
        locator.set_params(integer=True)
        axes.set(
            xlabel=f"reconstruction error (RMSE, sample values of 0 to {self.maximum:g})",
            ylabel="images",
        )
        axes.legend()
        tidy(axes)

    def _sheet(self, figure: SubFigure) -> None:
        panels = figure.subplots(3, len(self.worst), squeeze=False)
        largest = max(float(np.abs(a - b).mean(axis=0).max()) for a, b in self.worst)
        for column, pair, name, error in zip(
            panels.T, self.worst, self.names, self.errors, strict=False
        ):
            show(column[0], pair[0], f"{shortened(name, 16)}\n{error:.4g}")
            show(column[1], pair[1])
            difference = np.abs(pair[0] - pair[1]).mean(axis=0) * self.maximum
            drawn = column[2].imshow(
                difference, cmap="cividis", vmin=0, vmax=max(largest * self.maximum, 1e-9)
            )
            bare(column[2])
        for axes, text in zip(panels[:, 0], ("image", "recon-\nstruction", "|error|"), strict=True):
            row_label(axes, text)
        bar = figure.colorbar(drawn, ax=panels[2, :].tolist(), fraction=0.03, pad=0.01)
        bar.set_label("sample values", fontsize=8)

    def numbers(self) -> dict[str, Any]:
        """The flagged files, the threshold, and every image's error."""
        return {
            "model": self.model,
            "unit": f"RMSE in sample values of 0 to {self.maximum:g}",
            "rule": self.rule,
            "threshold": self.threshold,
            "flagged": list(self.flagged),
            "images": [
                {"name": n, "error": e, "flagged": bool(e > self.threshold)}
                for n, e in zip(self.names, self.errors, strict=True)
            ],
        }


def anomaly(
    model: LatentModel,
    data: Path,
    *,
    quantile: float | None = None,
    mad: float | None = None,
    reference: Path | None = None,
    limit: int | None = None,
    test_files: Path | None = None,
    worst: int = 8,
) -> Anomalies:
    """Rank images by reconstruction error and flag those over a threshold.

    Args:
        model: from `aecodec.model.families.load_model`.
        data: the folder of images to judge.
        quantile: the threshold is this quantile of the errors, above 0, below 1.
        mad: or the median plus so many robust standard deviations, 1.4826 times the median
            absolute deviation (Leys et al. 2013); 3.5 if neither is given.
        reference: a folder of normal images whose errors set the threshold; None takes
            those of `data` itself.
        limit, test_files: which images of `data`; see `aecodec.explore.latents`.
        worst: how many images to keep for the picture.

    Raises:
        InputError: no images, both rules, or a number out of range.
    """
    from aecodec.explore.images import ImageFolder, sample_maximum

    if quantile is not None and mad is not None:
        raise InputError("a threshold is a quantile or a number of deviations, not both")
    if quantile is not None and not 0 < quantile < 1:
        raise InputError(f"quantile {quantile:g} is out of range: above 0, below 1")
    if mad is not None and mad <= 0:
        raise InputError(f"{mad:g} deviations are out of range: above 0")
    if worst < 0:
        raise InputError(f"{worst} images cannot be drawn")
    maximum = sample_maximum(model)
    found = _errors(model, ImageFolder(model, data, limit=limit, test_files=test_files), worst)
    basis, source = found, "these images"
    if reference is not None:
        basis, source = _errors(model, ImageFolder(model, reference), 0), f"{reference.name}"
    threshold, rule = _threshold(np.array([error for error, _, _ in basis]), quantile, mad)
    return Anomalies(
        model.info.name,
        tuple(name for _, name, _ in found),
        np.array([error for error, _, _ in found]) * maximum,
        threshold * maximum,
        f"{rule} of {source}",
        maximum,
        tuple(pair for _, _, pair in found[:worst] if pair is not None),
    )


_Found = tuple[float, str, "NDArray[np.float32] | None"]


def _errors(model: LatentModel, folder: Any, keep: int) -> list[_Found]:
    """(RMSE, name, image and reconstruction) by falling error; pixels of the first `keep` only."""
    import torch

    found: list[_Found] = []
    for part in folder.batches():
        back = model.reconstruct(part.x).float().cpu()
        square = (back - part.x).double().square() * part.mask
        valid = part.mask.flatten(1).sum(dim=1) * part.x.shape[1]
        errors = (square.flatten(1).sum(dim=1) / valid.clamp(min=1)).sqrt().tolist()
        pairs = torch.stack([part.x, back], dim=1).numpy()
        found += list(zip(errors, part.names, pairs, strict=True))
        found.sort(key=lambda one: (-one[0], one[1]))
        found = [*found[:keep], *((error, name, None) for error, name, _ in found[keep:])]
    return found


def _threshold(
    errors: NDArray[np.float64], quantile: float | None, mad: float | None
) -> tuple[float, str]:
    if quantile is not None:
        return float(np.quantile(errors, quantile)), f"quantile {quantile:g}"
    count = MAD if mad is None else mad
    middle = float(np.median(errors))
    spread = _TO_DEVIATION * float(np.median(np.abs(errors - middle)))
    return middle + count * spread, f"median + {count:g} · 1.4826 · MAD"
