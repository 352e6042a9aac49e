"""k-means on latents, drawn on a projection and compared with the classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aecodec.errors import InputError, needing
from aecodec.explore.figures import scatter_classes
from aecodec.explore.latents import Latents
from aecodec.explore.project import Projection, axis_labels, project
from aecodec.figures import new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Clustering:
    """What k-means found.

    Attributes:
        clusters: (N,) int64, the cluster of each image, 0 to k − 1.
        centres: (k, D) float32.
        inertia: sum of squared distances to the centres.
        ari: adjusted Rand index against the classes (Hubert and Arabie 1985): 1 for the
            same partition, about 0 for chance; None without classes.
        nmi: normalised mutual information with the classes, 0 to 1; None without classes.
        projection: of the same latents, for the picture.
        seed: of k-means.
    """

    clusters: NDArray[np.int64]
    centres: NDArray[np.float32]
    inertia: float
    ari: float | None
    nmi: float | None
    projection: Projection
    seed: int

    @property
    def latents(self) -> Latents:
        """What was clustered."""
        return self.projection.planes[0].latents

    def draw(self) -> Figure:
        """Clusters on the projection; beside them the classes, where there are any."""
        plane, latents = self.projection.planes[0], self.latents
        count = len(self.centres)
        title = f"{count} clusters (k-means) of the latents of {len(latents)} images"
        if self.ari is not None:
            title += f"; ARI {self.ari:.3f}, NMI {self.nmi:.3f} against the classes"
        panels = [("cluster", self.clusters, tuple(str(i) for i in range(count)))]
        if self.ari is not None:
            panels.append(("class", latents.labels, latents.classes))
        figure = new_figure(1.6 + 6.2 * len(panels), 5.8, title)
        drawn = np.atleast_1d(figure.subplots(1, len(panels), sharex=True, sharey=True))
        for axes, (name, labels, names) in zip(drawn, panels, strict=True):
            scatter_classes(figure, axes, plane.points, labels, names, name)
            axes.set_title(f"{latents.model}, by {name}")
            axes.tick_params(labelleft=True)
            x, y = axis_labels(self.projection.method, plane)
            axes.set(xlabel=x, ylabel=y)
            tidy(axes)
        return figure

    def numbers(self) -> dict[str, Any]:
        """Clusters, their sizes, the scores, and the projection."""
        return {
            "k": len(self.centres),
            "seed": self.seed,
            "inertia": self.inertia,
            "ari": self.ari,
            "nmi": self.nmi,
            "sizes": np.bincount(self.clusters, minlength=len(self.centres)),
            "clusters": self.clusters,
            "centres": self.centres,
            "projection": self.projection.numbers(),
        }


def cluster(
    latents: Latents, k: int | None = None, *, method: str = "pca", seed: int = 0
) -> Clustering:
    """Cluster latents with k-means (10 starts of k-means++).

    Args:
        latents: of one model.
        k: how many clusters, from 1 to the number of images; None for one a class.
        method: the projection of the picture; see `aecodec.explore.project`.
        seed: of k-means and of the projection.

    Returns:
        The clusters; ARI and NMI over the images that have a class, if there are at
        least two classes.

    Raises:
        InputError: k is out of range, or not given for latents without classes; or as
            `project`.
        MissingDependencyError: scikit-learn is not installed.
    """
    known = latents.labels >= 0
    if k is None:
        if not latents.has_classes:
            raise InputError(f"{latents.model}: the images have no classes; say how many clusters")
        k = len(np.unique(latents.labels[known]))
    if not 1 <= k <= len(latents):
        raise InputError(f"{k} clusters of {len(latents)} images are out of range")
    distinct = len(np.unique(latents.vectors, axis=0))
    if k > distinct:
        raise InputError(f"{k} clusters of {distinct} different latents are out of range")
    with needing("explore", "clustering"):
        from sklearn.cluster import KMeans
        from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    projection = project(latents, method, seed=seed)
    found = KMeans(k, n_init=10, random_state=seed).fit(latents.vectors)
    clusters = found.labels_.astype(np.int64)
    ari = nmi = None
    if latents.has_classes:
        ari = float(adjusted_rand_score(latents.labels[known], clusters[known]))
        nmi = float(normalized_mutual_info_score(latents.labels[known], clusters[known]))
    centres = found.cluster_centers_.astype(np.float32)
    return Clustering(clusters, centres, float(found.inertia_), ari, nmi, projection, seed)
