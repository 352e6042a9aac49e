"""Images of a folder as tensors, changed at random where training asks for it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from aecodec.errors import InputError
from aecodec.pixels import read_shape
from aecodec.samples import Samples
from aecodec.train import augment as augmentation
from aecodec.train.augment import AugmentConfig
from aecodec.train.files import classes, label
from aecodec.train.prepare import DataConfig, load, prepare, wrong_bits

log = logging.getLogger(__name__)


class Sample(NamedTuple):
    """One image.

    Attributes:
        x: (C, H, W) float32 in [-0.5, 0.5].
        mask: (1, H, W) bool, which pixels are valid.
        label: number of the class folder; -1 without.
    """

    x: Tensor
    mask: Tensor
    label: int


@dataclass(frozen=True)
class Batch:
    """Images of one size.

    Attributes:
        x: (N, C, H, W) float32 in [-0.5, 0.5].
        mask: (N, 1, H, W) bool.
        label: (N,) int64.
        index: (N,) int64, which images of the dataset they are.
    """

    x: Tensor
    mask: Tensor
    label: Tensor
    index: Tensor

    def to(self, device: torch.device | str) -> Batch:
        """The same on another device."""
        moved = {name: value.to(device) for name, value in vars(self).items()}
        return replace(self, **moved)


class FolderDataset:
    """Image files as prepared samples, the same each time.

    Files that are no images are left out with a warning, as are those that are too small;
    `paths` has the rest. One that turns out to be damaged later raises InputError when it is
    asked for; `batches` and `FolderSource` pass over it.

    Args:
        paths: image files.
        root: the data folder; its folders are the classes.
        data: how images are prepared.
        augment: random changes; None for none.
        seed: of these changes.

    Raises:
        InputError: no usable images, or one with other bits a sample than `data` says.
        MissingDependencyError: `augment` needs kornia.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        root: Path,
        data: DataConfig,
        augment: AugmentConfig | None = None,
        seed: int = 0,
    ) -> None:
        self.root, self.data, self.augment, self.seed = root, data, augment, seed
        if augment is not None:
            augment.check_packages()
        self.classes = classes(root)
        self.skipped: dict[Path, str] = {}
        self.paths = self._usable(paths)
        self._cache: dict[int, Any] = {}
        self._room = data.cache * 2**20

    def _usable(self, paths: Sequence[Path]) -> list[Path]:
        """The files whose headers are fine."""
        kept, data = [], self.data
        for path in paths:
            try:
                width, height, bits = read_shape(path)
            except InputError as error:
                self.skip(path, str(error))
                continue
            if bits > 16 or (bits > 8) != (data.bits == 16):
                raise InputError(f"{path}: {wrong_bits(bits, data.bits)}")
            short, long = sorted((data.height, data.width))
            if data.resize == "none" and (min(width, height) < short or max(width, height) < long):
                wanted = f"{data.width} x {data.height}"
                self.skip(path, f"{path}: {width} x {height} pixels; {wanted} are needed")
                continue
            kept.append(path)
        if not kept:
            cause = f": {next(iter(self.skipped.values()))}" if self.skipped else ""
            raise InputError(f"{self.root}: none of {len(paths)} images can be used{cause}")
        return kept

    def skip(self, path: Path, cause: str) -> None:
        """Remember a file that cannot be used, and report it once."""
        if path not in self.skipped:
            self.skipped[path] = cause
            log.warning("skipped: %s", cause)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        """An image, changed in the same way each time.

        Raises:
            InputError: the file cannot be read.
        """
        return self.draw(index, generator(self.seed, index))

    def draw(self, index: int, random: Generator) -> Sample:
        """An image, changed as `random` draws.

        Raises:
            InputError: the file cannot be read.
        """
        path, data, augment = self.paths[index], self.data, self.augment
        if augment is not None and augment.crop > 0:
            samples: Samples = self._cached(index, lambda: load(path, data))
            height, width = samples.shape[:2]
            part = augmentation.window(height, width, data, augment, random)
            x, mask = prepare(samples, data, part)
        else:
            x, mask = self._cached(index, lambda: prepare(load(path, data), data))
        if augment is not None:
            x, mask = augmentation.change(x, mask, augment, data, random)
        return Sample(x.clone(), mask.clone(), label(path, self.root, self.classes))

    def batches(self, size: int) -> Iterator[Batch]:
        """All images in order, `size` at a time, without those that cannot be read.

        Raises:
            InputError: images differ in size.
        """
        found: list[tuple[int, Sample]] = []
        for index, path in enumerate(self.paths):
            try:
                found.append((index, self[index]))
            except InputError as error:
                self.skip(path, str(error))
            if found and (len(found) == size or index + 1 == len(self)):
                yield stack(found, self)
                found = []
        if found:
            yield stack(found, self)

    def _cached(self, index: int, make: Callable[[], Any]) -> Any:
        """What `make` gives, kept while there is room: no image is dropped for another."""
        if index in self._cache:
            return self._cache[index]
        value = make()
        parts = value if isinstance(value, tuple) else (value,)
        size = sum(part.nbytes for part in parts)
        if size <= self._room:
            self._room -= size
            self._cache[index] = value
        return value

    def share_cache(self, processes: int) -> None:
        """Keep to a share of the memory that the config allows, in each of several processes."""
        self._cache, self._room = {}, self.data.cache * 2**20 // processes


def generator(seed: int, *place: int) -> Generator:
    """Random numbers that depend on a seed and a place alone."""
    state = np.random.SeedSequence([seed % 2**63, *place]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


def stack(found: Sequence[tuple[int, Sample]], dataset: FolderDataset) -> Batch:
    """Numbered samples of a dataset as a batch.

    Raises:
        InputError: images differ in size.
    """
    shapes: dict[tuple[int, ...], int] = {}
    for index, sample in found:
        shapes.setdefault(tuple(sample.x.shape[1:]), index)
    if len(shapes) > 1:
        (first, one), (second, other) = list(shapes.items())[:2]
        raise InputError(
            f"{dataset.paths[one]} has {first[1]} x {first[0]} pixels, {dataset.paths[other]} "
            f"{second[1]} x {second[0]}: give height and width in [data]"
        )
    return Batch(
        torch.stack([sample.x for _, sample in found]),
        torch.stack([sample.mask for _, sample in found]),
        torch.tensor([sample.label for _, sample in found]),
        torch.tensor([index for index, _ in found]),
    )
