"""Batches that can be made again from the number of their step, by worker processes or without."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator

from aecodec.errors import AecError, InputError, TrainingError, WorkerError
from aecodec.train import augment as augmentation
from aecodec.train.dataset import Batch, FolderDataset, Sample, generator, stack


@dataclass
class _Made:
    """A batch as it comes from a worker: arrays, which go through a pipe, and what went wrong."""

    arrays: tuple[np.ndarray[Any, Any], ...] = ()
    skipped: dict[Path, str] = field(default_factory=dict)
    error: AecError | None = None


class FolderSource:
    """Batches for training: every step's is known from (seed, step, rank) alone.

    Every image comes once before any comes again. One that cannot be read is passed over.

    Args:
        dataset: the images.
        batch: how many a step, in this process.
        seed: of order and changes.
        workers: processes that read images; batches do not depend on their number. None
            takes that of the dataset's config.
        rank, world: number of this process among those that train together, and theirs.

    Raises:
        TrainingError: the batch is empty.
    """

    def __init__(
        self,
        dataset: FolderDataset,
        batch: int,
        seed: int,
        workers: int | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch < 1:
            raise TrainingError(f"batch must be at least 1, not {batch}")
        self.dataset, self.batch, self.seed = dataset, batch, seed
        self.workers = dataset.data.workers if workers is None else workers
        self.rank, self.world = rank, world
        self._order: tuple[int, Any] = (-1, None)
        self._loader: Iterator[_Made] | None = None
        self._next = 0

    def batch_at(self, step: int) -> Batch:
        """The batch of a step, counted from 0. Asking for one after the other is fastest.

        Raises:
            InputError: no image can be read, or images differ in size.
            WorkerError: a worker process was killed.
        """
        made = self._from_workers(step) if self.workers else self.make(step)
        for path, cause in made.skipped.items():
            self.dataset.skip(path, cause)
        if made.error is not None:
            raise made.error
        return Batch(*map(torch.from_numpy, made.arrays))

    def close(self) -> None:
        """End the worker processes; a later `batch_at` starts new ones."""
        self._loader = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_loader": None}

    def make(self, step: int) -> _Made:
        """Make a batch in this process; errors on purpose are part of what is returned."""
        skipped: dict[Path, str] = {}
        first = (step * self.world + self.rank) * self.batch
        try:
            with _one_thread():
                found = [self._draw(first + i, skipped) for i in range(self.batch)]
                made = stack(found, self.dataset)
                made = self._mix(made, generator(self.seed, 1, step, self.rank))
        except AecError as error:
            return _Made(skipped=skipped, error=error)
        arrays = (made.x, made.mask, made.label, made.index)
        return _Made(tuple(part.numpy() for part in arrays), skipped)

    def _draw(self, place: int, skipped: dict[Path, str]) -> tuple[int, Sample]:
        """The image at a place in the order of all steps, or the next that can be read."""
        count = len(self.dataset)
        epoch, offset = divmod(place, count)
        order = self._shuffled(epoch)
        for extra in range(count):
            index = int(order[(offset + extra) % count])
            try:
                return index, self.dataset.draw(index, generator(self.seed, 0, place))
            except InputError as error:
                skipped[self.dataset.paths[index]] = str(error)
        causes = next(iter(skipped.values()))
        raise InputError(f"{self.dataset.root}: none of {count} images can be read: {causes}")

    def _shuffled(self, epoch: int) -> Any:
        if self._order[0] != epoch:
            random = np.random.default_rng([self.seed % 2**63, epoch])
            self._order = (epoch, random.permutation(len(self.dataset)))
        return self._order[1]

    def _mix(self, batch: Batch, random: Generator) -> Batch:
        config, hole = self.dataset.augment, self.dataset.data.hole
        if config is None:
            return batch
        x, mask, label = augmentation.mix(batch.x, batch.mask, batch.label, config, hole, random)
        return Batch(x, mask, label, batch.index)

    def _from_workers(self, step: int) -> _Made:
        if self._loader is None or step != self._next:
            self._loader = self._start(step)
        self._next = step + 1
        try:
            return next(self._loader)
        except RuntimeError as error:  # torch tells of a worker's death like this
            self._loader = None
            raise WorkerError(f"a process that reads images ended: {error}") from error

    def _start(self, step: int) -> Iterator[_Made]:
        from torch.utils.data import DataLoader

        loader: Any = DataLoader(
            _Steps(self),  # type: ignore[arg-type]
            batch_size=None,
            sampler=_From(step),
            num_workers=self.workers,
            collate_fn=_as_it_is,  # type: ignore[arg-type]
            generator=torch.Generator(),  # its own: training's must not notice
        )
        return iter(loader)


class _Steps:
    """Maps steps to batches, for torch's DataLoader."""

    def __init__(self, source: FolderSource) -> None:
        self.source = source
        self.alone = True

    def __getitem__(self, step: int) -> _Made:
        if self.alone:
            self.alone = False
            self.source.dataset.share_cache(self.source.workers)
        return self.source.make(step)


class _From:
    """All steps from a first one on."""

    def __init__(self, first: int) -> None:
        self.first = first

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.first)


def _as_it_is(made: _Made) -> _Made:
    return made  # arrays stay arrays: tensors would need shared memory, which containers lack


@contextmanager
def _one_thread() -> Iterator[None]:
    """As in a worker, so that sums are made in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
