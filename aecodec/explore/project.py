"""Latents on a plane: PCA, t-SNE or UMAP, of one model or of several side by side."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aecodec.errors import InputError, needing
from aecodec.explore.figures import scatter_classes
from aecodec.explore.latents import Latents
from aecodec.figures import new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METHODS = ("pca", "tsne", "umap", "none")
_FEW = 250  # images up to which exact t-SNE is quicker than starting threads for the other
_NAMES = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP", "none": "latents"}


@dataclass(frozen=True)
class Plane:
    """One model's latents as points.

    Attributes:
        latents: what was projected.
        points: (N, 2) float32.
        explained: of PCA, the share of the variance along each axis, 0 to 1; else empty.
    """

    latents: Latents
    points: NDArray[np.float32]
    explained: tuple[float, ...] = ()


@dataclass(frozen=True)
class Projection:
    """Latents of one or several models on planes, side by side.

    Attributes:
        method: one of `METHODS`.
        planes: one a model, of the same images.
        settings: seed, perplexity, ... as they were used.
    """

    method: str
    planes: tuple[Plane, ...]
    settings: dict[str, Any] = field(default_factory=dict)

    def draw(self) -> Figure:
        """A scatter plot a model, coloured by class."""
        count = len(self.planes)
        images = len(self.planes[0].latents)
        title = f"{_NAMES[self.method]} of the latents of {images} images"
        figure = new_figure(1.6 + 6.2 * count, 5.8, title)
        for axes, plane in zip(np.atleast_1d(figure.subplots(1, count)), self.planes, strict=True):
            latents = plane.latents
            scatter_classes(figure, axes, plane.points, latents.labels, latents.classes)
            axes.set_title(f"{latents.model}, {latents.vectors.shape[1]} dimensions")
            for name, label in zip("xy", axis_labels(self.method, plane), strict=True):
                axes.set(**{f"{name}label": label})
            tidy(axes)
        return figure

    def numbers(self) -> dict[str, Any]:
        """The points, names and labels of every model."""
        return {
            "method": self.method,
            **self.settings,
            "models": [
                {
                    **plane.latents.describe(),
                    "explained_variance": list(plane.explained),
                    "points": plane.points,
                }
                for plane in self.planes
            ],
        }


def axis_labels(method: str, plane: Plane) -> tuple[str, str]:
    """What stands at the axes. Only those of PCA and of the latents themselves have a unit."""
    if method == "pca":
        x, y = (
            f"component {i + 1} (latent units; {100 * share:.1f} % of the variance)"
            for i, share in enumerate(plane.explained)
        )
        return x, y
    if method == "none":
        return "dimension 0 (latent units)", "dimension 1 (latent units)"
    return f"{_NAMES[method]} 1 (no unit)", f"{_NAMES[method]} 2 (no unit)"


def project(
    latents: Latents | Sequence[Latents],
    method: str = "pca",
    *,
    seed: int = 0,
    perplexity: float | None = None,
    neighbours: int | None = None,
) -> Projection:
    """Project latents to two dimensions.

    Args:
        latents: of one model, or of several of the same images.
        method: "pca"; "tsne" (van der Maaten and Hinton 2008); "umap" (McInnes, Healy and
            Melville 2018); "none": the latents themselves, if they have two dimensions.
        seed: of t-SNE and UMAP; equal seeds give equal points on one machine.
        perplexity: of t-SNE, less than the number of images; None for 30, or a third of
            the images if that is less.
        neighbours: of UMAP, at least 2 and less than the number of images; None for 15,
            or all others if there are fewer.

    Returns:
        The points; axes of t-SNE and UMAP have no unit, and distances between far groups
        mean little.

    Raises:
        InputError: an unknown method, too few images or dimensions for it, a perplexity or
            number of neighbours out of range, or models with different images.
        MissingDependencyError: scikit-learn or umap-learn is not installed.
    """
    sets = [latents] if isinstance(latents, Latents) else list(latents)
    if method not in METHODS:
        raise InputError(f"unknown projection '{method}'; there are {', '.join(METHODS)}")
    if not sets:
        raise InputError("nothing to project")
    for other in sets[1:]:
        if other.names != sets[0].names:
            raise InputError(
                f"{sets[0].model} and {other.model} hold latents of different images "
                f"({len(sets[0])} and {len(other)}): side by side they must be the same ones"
            )
    settings: dict[str, Any] = {}
    if method == "tsne":
        settings = {"seed": seed, "perplexity": _perplexity(len(sets[0]), perplexity)}
    elif method == "umap":
        settings = {"seed": seed, "neighbours": _neighbours(len(sets[0]), neighbours)}
    planes = tuple(_plane(one, method, settings) for one in sets)
    return Projection(method, planes, settings)


def _perplexity(count: int, wanted: float | None) -> float:
    if count < 4:
        raise InputError(f"t-SNE needs at least 4 images, not {count}; PCA needs 2")
    if wanted is None:
        return min(30.0, (count - 1) / 3)
    if not 1 <= wanted < count:
        raise InputError(
            f"perplexity {wanted:g} is out of range: at least 1, and less than the {count} images"
        )
    return wanted


def _neighbours(count: int, wanted: int | None) -> int:
    if count < 4:
        raise InputError(f"UMAP needs at least 4 images, not {count}; PCA needs 2")
    if wanted is None:
        return min(15, count - 1)
    if not 2 <= wanted < count:
        raise InputError(
            f"{wanted} neighbours are out of range: at least 2, and less than the {count} images"
        )
    return wanted


def _plane(latents: Latents, method: str, settings: dict[str, Any]) -> Plane:
    vectors = latents.vectors
    if vectors.shape[1] < 2:
        raise InputError(f"{latents.model}: latents of one dimension cannot fill a plane")
    if method == "none":
        if vectors.shape[1] != 2:
            raise InputError(
                f"{latents.model}: latents have {vectors.shape[1]} dimensions; without a "
                f"projection they must have 2"
            )
        return Plane(latents, vectors)
    if len(vectors) > 1 and not np.ptp(vectors, axis=0).any():
        raise InputError(f"{latents.model}: all {len(vectors)} latents are equal")
    if method == "pca":
        return _pca(latents)
    if method == "tsne":
        with needing("explore", "t-SNE"):
            from sklearn.manifold import TSNE
        tsne = TSNE(
            perplexity=settings["perplexity"],
            init="pca",
            random_state=settings["seed"],
            method="exact" if len(vectors) <= _FEW else "barnes_hut",
        )
        return Plane(latents, tsne.fit_transform(vectors).astype(np.float32))
    return Plane(latents, _umap(vectors, settings))


def _pca(latents: Latents) -> Plane:
    if len(latents) < 2:
        raise InputError(f"{latents.model}: PCA needs at least 2 images, not {len(latents)}")
    with needing("explore", "PCA"):
        from sklearn.decomposition import PCA
    pca = PCA(2, svd_solver="full")
    points = pca.fit_transform(latents.vectors.astype(np.float64)).astype(np.float32)
    shares = np.nan_to_num(pca.explained_variance_ratio_)  # no variance at all: 0/0
    return Plane(latents, points, tuple(float(share) for share in shares))


def _umap(vectors: NDArray[np.float32], settings: dict[str, Any]) -> NDArray[np.float32]:
    with needing("explore", "UMAP"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TensorFlow, which it has an optional use for
        from umap import UMAP
    umap = UMAP(
        n_neighbors=settings["neighbours"], init="pca", random_state=settings["seed"], n_jobs=1
    )
    points: NDArray[np.float32] = np.asarray(umap.fit_transform(vectors), dtype=np.float32)
    return points
