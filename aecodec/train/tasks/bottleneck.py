"""Training a bottleneck autoencoder: whole images, prepared and augmented as the config says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aecodec.errors import InputError
from aecodec.imagefiles import find_images, relative
from aecodec.model.bottleneck import BottleneckAutoencoder
from aecodec.model.bottleneck_config import BottleneckConfig
from aecodec.train.augment import AugmentConfig
from aecodec.train.config import TrainConfig
from aecodec.train.dataset import Batch, FolderDataset
from aecodec.train.distributed import World
from aecodec.train.files import split
from aecodec.train.losses import Distortion, kl_divergence
from aecodec.train.source import FolderSource
from aecodec.train.tasks.base import PICTURES, Task, psnr


class BottleneckTask(Task):
    """Images of a folder, their reconstructions, and the parts of a weighted loss.

    Args:
        config: of the family bottleneck.
        images: the data folder; its folders are classes.
        world: where it computes.

    Raises:
        InputError: no image can be used.
    """

    def __init__(self, config: TrainConfig, images: Path, world: World) -> None:
        super().__init__(config, world)
        assert isinstance(config.model, BottleneckConfig)
        parts = split(find_images(images), images, config.data)
        self.test_files = tuple(relative(path, images) for path in parts.test)
        augment = None if config.augment == AugmentConfig() else config.augment
        seed = config.seed + 1
        self.source = FolderSource(
            FolderDataset(parts.train, images, config.data, augment, seed),
            config.batch,
            seed,
            config.data.workers,
            world.rank,
            world.size,
        )
        self.validates = bool(parts.validation)
        if self.validates:
            self.validation = FolderDataset(parts.validation, images, config.data)
            paths = self.validation.paths
            some = paths[:: -(-len(paths) // PICTURES)]  # of several classes
            self._shown = FolderDataset(some, images, config.data)
        shape = config.model.height, config.model.width
        self.distortion = Distortion(config.loss, shape, self.device)
        self.model = BottleneckAutoencoder(config.model)
        self.model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def prepare(self) -> None:
        """Nothing depends on the data."""

    def batch(self, step: int) -> Batch:
        """Images and masks, a function of the step alone."""
        return self._moved(self.source.batch_at(step))

    def _moved(self, batch: Batch) -> Batch:
        if self.device.type != "cuda":
            return batch.to(self.device)
        # from pinned memory the copy does not wait for the steps before it
        pinned = {name: value.pin_memory() for name, value in vars(batch).items()}
        return Batch(**{k: v.to(self.device, non_blocking=True) for k, v in pinned.items()})

    def loss(
        self, model: nn.Module, batch: Any, step: int | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Distortion of the valid pixels; of a variational model also `kl` in nats."""
        with self.autocast():
            out = model(batch.x)
        mask = batch.mask if self.config.data.masked else None
        loss, parts = self.distortion(out.pixels, batch.x, mask)
        if out.log_variance is not None:
            kl = kl_divergence(out.mean, out.log_variance)
            config = self.config.loss
            loss = loss + (config.kl if step is None else config.kl_weight(step)) * kl
            parts["kl"] = kl.detach()
        return loss.mean(), parts

    @staticmethod
    def metrics(config: TrainConfig) -> tuple[str, ...]:
        """See `Task`."""
        kl = ("kl",) if getattr(config.model, "variational", False) else ()
        return ("loss", "psnr", *config.loss.measured, *kl)

    def validate(self) -> dict[str, float]:
        """Mean loss and its parts, and PSNR in dB."""
        found: dict[str, list[Tensor]] = {"loss": [], "psnr": []}
        count = 0
        for batch in self.validation.batches(self.config.batch):
            batch = self._moved(batch)
            size = len(batch.x)
            loss, parts = self.loss(self.model, batch, None)
            found["loss"].append(loss * size)
            found["psnr"].append(psnr(parts["mse"]).sum())
            for name, value in parts.items():
                found.setdefault(name, []).append(value.sum())
            count += size
        if not count:
            raise InputError(f"{self.validation.root}: no validation image can be read")
        return {name: float(torch.stack(sums).sum()) / count for name, sums in found.items()}

    def pictures(self) -> tuple[Tensor, Tensor] | None:
        """Validation images from all over the folder."""
        for batch in self._shown.batches(PICTURES):
            x = self._moved(batch).x
            with self.autocast():
                return x, self.model(x).pixels
        return None

    def close(self) -> None:
        """End the processes that read images."""
        self.source.close()
