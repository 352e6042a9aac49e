"""The weights of a model: how many, and how they are distributed, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aecodec.figures import COLOURS, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from aecodec.model.families import LatentModel

QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
BINS = 64

_MOST_ROWS = 60  # more layers are drawn by the part of the network they belong to


@dataclass(frozen=True)
class Layer:
    """Parameters of one layer, or of one part of the network.

    Attributes:
        name: of the module.
        shapes: name of each tensor -> its shape.
        count: parameters in all.
        mean, deviation, minimum, maximum: of all values.
        zeros: share of exact zeros, 0 to 1.
        quantiles: (5,) those of `QUANTILES`.
        histogram: (64,) counts between `minimum` and `maximum`.
    """

    name: str
    shapes: dict[str, tuple[int, ...]]
    count: int
    mean: float
    deviation: float
    minimum: float
    maximum: float
    zeros: float
    quantiles: NDArray[np.float64]
    histogram: NDArray[np.int64]


@dataclass(frozen=True)
class Weights:
    """All layers of a model.

    Attributes:
        model: name of the model.
        layers: in the order of the network; the scale head of a hyperprior, which files
            hold in integers, comes last, as the real numbers that they stand for.
        drawn: what the picture shows: the layers, or parts of the network if they are many.
    """

    model: str
    layers: tuple[Layer, ...]
    drawn: tuple[Layer, ...]

    @property
    def count(self) -> int:
        """Parameters in all."""
        return sum(layer.count for layer in self.layers)

    def draw(self) -> Figure:
        """Parameter counts on the left, distributions on the right, a row a layer."""
        rows = len(self.drawn)
        title = f"{self.model}: {self.count:,} parameters in {len(self.layers)} layers"
        figure = new_figure(12, 1.7 + 0.22 * rows, title)
        left, right = figure.subplots(1, 2, sharey=True)
        self._counts(left)
        self._distributions(right)
        left.set_ylim(rows - 0.4, -0.6)
        for axes in (left, right):
            tidy(axes)
        return figure

    def _counts(self, axes: Axes) -> None:
        places = np.arange(len(self.drawn))
        axes.barh(places, [layer.count for layer in self.drawn], color=COLOURS[0])
        axes.set(xscale="log", xlabel="parameters (logarithmic)", title="parameter count")
        axes.set_yticks(places, [layer.name for layer in self.drawn], fontsize=7)
        for y, layer in zip(places, self.drawn, strict=True):
            axes.annotate(
                f"{layer.count:,}",
                (layer.count, y),
                (3, 0),
                textcoords="offset points",
                va="center",
                fontsize=6.5,
            )
        axes.margins(x=0.12)

    def _distributions(self, axes: Axes) -> None:
        axes.bxp(
            [_box(layer) for layer in self.drawn],
            positions=np.arange(len(self.drawn)),
            orientation="horizontal",
            showfliers=False,
            patch_artist=True,
            widths=0.6,
            manage_ticks=False,
            boxprops={"facecolor": COLOURS[5], "linewidth": 0.6},
            medianprops={"color": COLOURS[1], "linewidth": 1.4},
            whiskerprops={"linewidth": 0.6},
            capprops={"linewidth": 0.6},
        )
        _value_axis(axes, [abs(q) for layer in self.drawn for q in layer.quantiles.tolist()])
        axes.set_xlabel("value of a parameter (no unit)")
        axes.set_title("distribution: median (orange), quartiles (box), 1 % and 99 % (whiskers)")

    def numbers(self) -> dict[str, Any]:
        """Shapes, counts and statistics of every layer, with a histogram."""
        return {
            "model": self.model,
            "parameters": self.count,
            "quantiles": list(QUANTILES),
            "layers": [vars(layer) for layer in self.layers],
        }


def weights(model: LatentModel) -> Weights:
    """Count a model's parameters and describe their distribution.

    Args:
        model: from `aecodec.model.families.load_model`.
    """
    tensors = dict(_tensors(model))
    layers = _grouped(tensors, depth=None)
    drawn = layers
    for depth in (4, 3, 2, 1):
        if len(drawn) <= _MOST_ROWS:
            break
        drawn = _grouped(tensors, depth)
    return Weights(model.info.name, tuple(layers), tuple(drawn))


def _value_axis(axes: Axes, sizes: list[float]) -> None:
    """Logarithmic both ways from zero, where layers differ much in scale."""
    largest = max(sizes)
    linear = 10.0 ** math.floor(math.log10(float(np.median(sizes)) or 1.0))
    if largest <= 30 * linear:
        return
    axes.set_xscale("symlog", linthresh=linear)
    tens = [10.0**e for e in range(round(math.log10(linear)), math.ceil(math.log10(largest)) + 1)]
    ticks = [-t for t in reversed(tens)] + [0.0, *tens]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.set_xlim(-1.2 * tens[-1], 1.2 * tens[-1])


def _tensors(model: LatentModel) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Parameters by name; of a hyperprior's weights file also those of its integer scale head."""
    from aecodec.model.config import ModelConfig
    from aecodec.model.scale_integers import dequantise
    from aecodec.model.weights import load_weights, part

    for name, parameter in model.module.named_parameters():
        yield name, parameter.detach().double().cpu().numpy()
    if isinstance(model.config, ModelConfig) and model.info.id:  # not of a checkpoint
        integers = part(load_weights(model.info.path)[0], "scale_head.")
        for name, tensor in sorted(dequantise(integers, model.config).items()):
            yield name, tensor.double().numpy()


def _grouped(tensors: dict[str, NDArray[np.float64]], depth: int | None) -> list[Layer]:
    """Tensors by the module they belong to, down to a depth of the network."""
    groups: dict[str, dict[str, NDArray[np.float64]]] = {}
    for name, values in tensors.items():
        module, _, own = name.rpartition(".")
        parts = module.split(".") if module else [own]
        groups.setdefault(".".join(parts[:depth]), {})[name] = values
    return [_layer(name, found) for name, found in groups.items()]


def _layer(name: str, tensors: dict[str, NDArray[np.float64]]) -> Layer:
    values = np.concatenate([tensor.reshape(-1) for tensor in tensors.values()])
    prefix = f"{name}."
    return Layer(
        name,
        {key.removeprefix(prefix): tensor.shape for key, tensor in tensors.items()},
        values.size,
        float(values.mean()),
        float(values.std()),
        float(values.min()),
        float(values.max()),
        float(np.mean(values == 0)),
        np.quantile(values, QUANTILES),
        np.histogram(values, bins=BINS)[0],
    )


def _box(layer: Layer) -> dict[str, Any]:
    low, first, middle, third, high = layer.quantiles.tolist()
    return {"whislo": low, "q1": first, "med": middle, "q3": third, "whishi": high}
