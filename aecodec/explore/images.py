"""Images as a model wants them: those of a folder, and single ones.

A bottleneck model gets them prepared as in training, by the `[data]` config that its file
carries. A hyperprior takes any size: images go in as RGB, cropped around the centre to at
most 512 pixels a side and to multiples of 16 (what is smaller than 16 stays as it is).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aecodec.errors import InputError, TrainingError

if TYPE_CHECKING:
    from torch import Tensor

    from aecodec.model.families import LatentModel
    from aecodec.train.dataset import FolderDataset
    from aecodec.train.prepare import DataConfig

log = logging.getLogger(__name__)

LARGEST = 512
"""Pixels a side of the images that go into a hyperprior."""

_STRIDE = 16


@dataclass(frozen=True)
class Images:
    """Some images of one size.

    Attributes:
        x: (N, C, H, W) float32 in [-0.5, 0.5].
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
        from aecodec.train.files import classes, find_images, listed, spread

        self._model, self._data = model, data
        with _as_input_errors():
            paths = find_images(data) if test_files is None else listed(test_files, data)
            self._paths = paths = spread(paths, limit)
            self._set: FolderDataset | None = None
            if model.image_shape is not None:
                from aecodec.train.dataset import FolderDataset

                self._set = FolderDataset(paths, data, data_config(model))
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
                names = [self._name(self._set.paths[i]) for i in batch.index.tolist()]
                yield Images(batch.x, batch.mask, names, batch.label.tolist())

    def _cropped(self, size: int) -> Iterator[Images]:
        waiting: list[tuple[Path, Tensor]] = []
        for path in self._paths:
            try:
                x = load_image(self._model, path)[0]
            except InputError as error:
                log.warning("skipped: %s", error)
                continue
            if waiting and (x.shape != waiting[0][1].shape or len(waiting) == size):
                yield self._stack(waiting)
                waiting = []
            waiting.append((path, x))
        if waiting:
            yield self._stack(waiting)

    def _stack(self, found: list[tuple[Path, Tensor]]) -> Images:
        import torch

        from aecodec.train.files import label

        x = torch.cat([x for _, x in found])
        names = [self._name(path) for path, _ in found]
        labels = [label(path, self._data, self.classes) for path, _ in found]
        return Images(x, torch.ones_like(x[:, :1], dtype=torch.bool), names, labels)

    def _name(self, path: Path) -> str:
        return path.relative_to(self._data).as_posix()


def data_config(model: LatentModel) -> DataConfig:
    """How images are prepared for a model of one image size: as in its training."""
    from aecodec.train.prepare import DataConfig

    assert model.image_shape is not None
    channels, height, width = model.image_shape
    values: dict[str, Any] = {"bits": getattr(model.config, "bits", 8), **model.data}
    values |= {"channels": channels, "height": height, "width": width, "workers": 0, "cache": 0}
    return DataConfig.from_dict(values)


def sample_maximum(model: LatentModel) -> float:
    """The sample value of the files that is +0.5 for the model: 255, 65535, 10000 mm, ..."""
    return 255.0 if model.image_shape is None else float(data_config(model).maximum)


def load_image(model: LatentModel, path: Path) -> tuple[Tensor, Tensor]:
    """One image for a model.

    Returns:
        (1, C, H, W) float32 in [-0.5, 0.5], and which pixels are valid, (1, 1, H, W) bool.

    Raises:
        InputError: it cannot be read, or is not of the kind that the model takes.
    """
    import torch

    if model.image_shape is None:
        x = _any_size(path)
        return x, torch.ones_like(x[:, :1], dtype=torch.bool)
    from aecodec.train.prepare import load, prepare

    config = data_config(model)
    with _as_input_errors():
        one, valid = prepare(load(path, config), config)
    return one[None], valid[None]


def load_pair(model: LatentModel, a: Path, b: Path) -> tuple[Tensor, Tensor]:
    """Two images (1, C, H, W) of one size: the larger is cropped around its centre."""
    one, other = load_image(model, a)[0], load_image(model, b)[0]
    sides = [min(p, q) for p, q in zip(one.shape[2:], other.shape[2:], strict=True)]
    return _centre(one, *sides), _centre(other, *sides)


def _any_size(path: Path) -> Tensor:
    import torch

    from aecodec.pixels import read_image
    from aecodec.samples import bit_depth, colour

    samples = read_image(path)
    values = colour(samples).astype(np.float32) / (2 ** bit_depth(samples) - 1) - 0.5
    x = torch.from_numpy(np.atleast_3d(values)).permute(2, 0, 1)[None].expand(-1, 3, -1, -1)
    sides = [min(LARGEST, side // _STRIDE * _STRIDE or side) for side in x.shape[2:]]
    return _centre(x, *sides).contiguous()


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
