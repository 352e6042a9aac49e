"""Feature maps of one image, layer by layer."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aecodec.errors import InputError
from aecodec.explore.figures import row_label, show
from aecodec.figures import bare, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor, nn

    from aecodec.model.families import LatentModel

ROWS = 8
"""Layers that are drawn if none are named."""


@dataclass(frozen=True)
class FeatureMaps:
    """What one layer gave.

    Attributes:
        layer: its name in the network.
        kind: its class.
        shape: (C, H, W) of its output.
        mean, deviation, minimum, maximum: over all of its output.
        zeros: share of exact zeros, 0 to 1.
        channels: those kept, by falling standard deviation.
        maps: (K, H, W) float32, of those channels.
    """

    layer: str
    kind: str
    shape: tuple[int, int, int]
    mean: float
    deviation: float
    minimum: float
    maximum: float
    zeros: float
    channels: tuple[int, ...]
    maps: NDArray[np.float32]


@dataclass(frozen=True)
class Features:
    """Feature maps of one image, in the order in which the layers ran.

    Attributes:
        model: name of the model.
        image: name of the image.
        x: the image as it went in, (C, H, W) in [-0.5, 0.5].
        layers: all layers that give feature maps.
        drawn: names of those in the picture.
    """

    model: str
    image: str
    x: NDArray[np.float32]
    layers: tuple[FeatureMaps, ...]
    drawn: tuple[str, ...]

    def draw(self) -> Figure:
        """A row a layer: its most active channels, on a scale of its own."""
        shown = [one for one in self.layers if one.layer in self.drawn]
        columns = 1 + max(len(one.channels) for one in shown)
        side = 1.35
        tall = side * self.x.shape[1] / self.x.shape[2] + 0.25
        title = f"Feature maps of {self.image} in {self.model}: the channels that vary most"
        figure = new_figure(2.8 + side * columns, 0.8 + tall * len(shown), title)
        panels = figure.subplots(len(shown), columns, squeeze=False)
        for i, (row, one) in enumerate(zip(panels, shown, strict=True)):
            for axes in row:
                bare(axes)
            if i == 0:
                show(row[0], self.x, "image")
            else:
                row[0].set_facecolor("none")
            row_label(row[0], f"{one.layer}\n{one.kind}\n{' × '.join(map(str, one.shape))}")
            low, high = np.percentile(one.maps, [1, 99])
            for axes, channel, values in zip(row[1:], one.channels, one.maps, strict=False):
                drawn = axes.imshow(
                    values,
                    cmap="viridis",
                    vmin=low,
                    vmax=max(high, low + 1e-9),
                    interpolation="nearest",
                )
                axes.set_title(f"channel {channel}", fontsize=7, pad=2)
            bar = figure.colorbar(drawn, ax=row[-1], fraction=0.08)
            bar.ax.tick_params(labelsize=7)
            bar.set_label("activation", fontsize=7)
        return figure

    def numbers(self) -> dict[str, Any]:
        """Shape and statistics of every layer; whether it is drawn, and which channels."""
        rows = []
        for one in self.layers:
            row = {k: v for k, v in vars(one).items() if k != "maps"}
            rows.append({**row, "drawn": one.layer in self.drawn})
        return {"model": self.model, "image": self.image, "layers": rows}


def features(
    model: LatentModel,
    image: Path,
    *,
    layers: Sequence[str] = (),
    channels: int = 8,
) -> Features:
    """Run one image through encoder and decoder and keep what the layers give.

    Layers are those with weights of their own whose output is a feature map: convolutions
    and normalisations.

    Args:
        model: from `aecodec.model.families.load_model`.
        image: an image file.
        layers: patterns of the layers to draw, such as `encoder.*`; none for `ROWS` of
            them, spread over the network.
        channels: maps kept a layer, those with the largest standard deviation.

    Raises:
        InputError: the image cannot be read, no layer has such a name, or no channels.
    """
    from aecodec.explore.images import load_image

    if channels < 1:
        raise InputError("no channel to draw")
    x = load_image(model, image)[0]
    found = tuple(_run(model, x, channels))
    names = [one.layer for one in found]
    if layers:
        for pattern in layers:
            if not fnmatch.filter(names, pattern):
                raise InputError(
                    f"{model.info.name}: no layer with feature maps is called '{pattern}'; "
                    f"there are {', '.join(names)}"
                )
        drawn = tuple(n for n in names if any(fnmatch.fnmatch(n, p) for p in layers))
    else:
        places = np.linspace(0, len(names) - 1, min(ROWS, len(names))).round().astype(int)
        drawn = tuple(names[i] for i in places)
    return Features(model.info.name, image.name, x[0].cpu().numpy(), found, drawn)


def _run(model: LatentModel, x: Tensor, channels: int) -> list[FeatureMaps]:
    """Every layer's maps, by hooks that are gone when it is over."""
    found: dict[str, FeatureMaps] = {}
    handles = []

    def watch(name: str, module: nn.Module) -> None:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if getattr(output, "ndim", 0) == 4:
                found[name] = _maps(name, module, output.detach(), channels)

        handles.append(module.register_forward_hook(hook))

    for name, module in model.module.named_modules():
        leaf = next(module.children(), None) is None
        if leaf and next(module.parameters(recurse=False), None) is not None:
            watch(name, module)
    try:
        model.reconstruct(x)
    finally:
        for handle in handles:
            handle.remove()
    return [one for one in found.values() if min(one.shape[1:]) > 1] or list(found.values())


def _maps(name: str, module: nn.Module, output: Tensor, channels: int) -> FeatureMaps:
    maps = output[0].float()
    spread = maps.flatten(1).std(dim=1, correction=0)
    order = spread.argsort(descending=True, stable=True)[:channels]
    return FeatureMaps(
        name,
        type(module).__name__,
        (maps.shape[0], maps.shape[1], maps.shape[2]),
        float(maps.mean()),
        float(maps.std(correction=0)),
        float(maps.min()),
        float(maps.max()),
        float((maps == 0).float().mean()),
        tuple(order.tolist()),
        maps[order].cpu().numpy(),
    )
