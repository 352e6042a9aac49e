"""Images as a model wants them: those of a folder, and single ones.

A bottleneck model gets them prepared as in training, by the `[data]` config that its file
carries. A hyperprior takes any size: images go in as RGB, cropped around the centre to at
most 512 pixels a side and to multiples of 16 (what is smaller than 16 stays as it is).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from aecodec.errors import InputError, TrainingError
from aecodec.imagefiles import find_images, listed, relative, spread
from aecodec.layout import STRIDE
from aecodec.modelimages import ModelImages

if TYPE_CHECKING:
    from torch import Tensor

    from aecodec.model.families import LatentModel
    from aecodec.train.dataset import FolderDataset

log = logging.getLogger(__name__)

LARGEST = 512
"""Pixels a side of the images that go into a hyperprior."""


@dataclass(frozen=True)
class Images:
    """Some images of one size.

    Attributes:
        x: (N, C, H, W) float32 in [-0.5, 0.5], depth for a hyperprior up to 1.5.
        mask: (N, 1, H, W) bool, which pixels are valid.
        names: N paths relative to the folder.
        labels: N indices into the folder's classes, -1 without one.
    """

    x: Tensor
    mask: Tensor
    names: list[str]
    labels: list[int]


class ImageFolder:
    """The images of a folder, for one model.

    Args:
        model: which they are prepared for.
        data: the folder; folders in it are classes.
        limit: only so many images, spread evenly over the sorted list.
        test_files: a text file that lists the images to take, one path a line, relative to `data`.

    Attributes:
        classes: names of the class folders, sorted.

    Raises:
        InputError: no folder, no images in it, none of the kind that the model takes, or a
            listed one is missing.
    """

    def __init__(
        self,
        model: LatentModel,
        data: Path,
        *,
        limit: int | None = None,
        test_files: Path | None = None,
    ) -> None:
        from aecodec.train.files import classes

        self._model, self._data = model, data
        paths = find_images(data) if test_files is None else listed(test_files, data)
        self._paths = paths = spread(paths, limit)
        self._set: FolderDataset | None = None
        config = ModelImages(model).data
        if model.image_shape is not None and config is not None:
            from aecodec.train.dataset import FolderDataset

            with _as_input_errors():
                self._set = FolderDataset(paths, data, replace(config, workers=0, cache=0))
        self.classes = classes(data)

    def batches(self, size: int = 32) -> Iterator[Images]:
        """All images in order, up to `size` of equal shape at a time.

        Files that cannot be read are left out with a warning.

        Raises:
            InputError: none can be read.
        """
        count = 0
        for part in self._prepared(size) if self._set is not None else self._cropped(size):
            count += len(part.names)
            yield part
        if not count:
            raise InputError(f"{self._data}: none of {len(self._paths)} images can be read")

    def _prepared(self, size: int) -> Iterator[Images]:
        assert self._set is not None
        with _as_input_errors():
            for batch in self._set.batches(size):
                names = [relative(self._set.paths[i], self._data) for i in batch.index.tolist()]
                yield Images(batch.x, batch.mask, names, batch.label.tolist())

    def _cropped(self, size: int) -> Iterator[Images]:
        waiting: list[tuple[Path, Tensor, Tensor]] = []
        for path in self._paths:
            try:
                x, mask = load_image(self._model, path)
            except InputError as error:
                log.warning("skipped: %s", error)
                continue
            if waiting and (x.shape != waiting[0][1].shape or len(waiting) == size):
                yield self._stack(waiting)
                waiting = []
            waiting.append((path, x, mask))
        if waiting:
            yield self._stack(waiting)

    def _stack(self, found: list[tuple[Path, Tensor, Tensor]]) -> Images:
        import torch

        from aecodec.train.files import label

        x = torch.cat([x for _, x, _ in found])
        mask = torch.cat([mask for _, _, mask in found])
        names = [relative(path, self._data) for path, _, _ in found]
        labels = [label(path, self._data, self.classes) for path, _, _ in found]
        return Images(x, mask, names, labels)


def sample_maximum(model: LatentModel) -> float:
    """The sample value of the files that is +0.5 for the model: 255, 65535, 10000 mm, ..."""
    return float(ModelImages(model).top())


def load_image(model: LatentModel, path: Path) -> tuple[Tensor, Tensor]:
    """One image for a model.

    Returns:
        (1, C, H, W) float32 in [-0.5, 0.5], depth for a hyperprior up to 1.5; and which pixels
        are valid, (1, 1, H, W) bool.

    Raises:
        InputError: it cannot be read, or is not of the kind that the model takes.
    """
    images = ModelImages(model)
    x, valid = images.prepare(images.read(path))
    if images.prepared:
        return x, valid
    sides = [min(LARGEST, side // STRIDE * STRIDE or side) for side in x.shape[2:]]
    x = x.expand(-1, 3, -1, -1)
    return _centre(x, *sides).contiguous(), _centre(valid, *sides).contiguous()


def load_pair(model: LatentModel, a: Path, b: Path) -> tuple[Tensor, Tensor]:
    """Two images (1, C, H, W) of one size: the larger is cropped around its centre."""
    one, other = load_image(model, a)[0], load_image(model, b)[0]
    sides = [min(p, q) for p, q in zip(one.shape[2:], other.shape[2:], strict=True)]
    return _centre(one, *sides), _centre(other, *sides)


def _centre(x: Tensor, height: int, width: int) -> Tensor:
    top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
    return x[:, :, top : top + height, left : left + width]


@contextmanager
def _as_input_errors() -> Iterator[None]:
    """What training says of its images is here about the input."""
    try:
        yield
    except TrainingError as error:
        raise InputError(str(error)) from error
