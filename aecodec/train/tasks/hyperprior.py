"""Training the variable-rate codec: random patches, rate and distortion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aecodec.errors import naming
from aecodec.imagefiles import find_images
from aecodec.model.autoencoder import Autoencoder
from aecodec.model.config import ModelConfig
from aecodec.train.config import TrainConfig
from aecodec.train.distributed import World
from aecodec.train.losses import Distortion
from aecodec.train.optimiser import Group, is_matrix
from aecodec.train.patches import PatchSource, split_by_name, validation_batches
from aecodec.train.tasks.base import PICTURES, Task, psnr

VALIDATION_QUALITIES = (0.5, 2.0, 3.5, 5.0, 6.5)
_SHOWN_QUALITY = 3.5
_START_PATCHES = 64  # that the scales are started from


class HyperpriorTask(Task):
    """Patches of photographs, each with a quality drawn for it.

    Args:
        config: of the family hyperprior.
        images: folder of training images.
        world: where it computes.

    Raises:
        InputError: no image can be used.
    """

    unit = "patches"

    def __init__(self, config: TrainConfig, images: Path, world: World) -> None:
        super().__init__(config, world)
        assert isinstance(config.model, ModelConfig)
        training, held_out = split_by_name(find_images(images), config.validation_fraction)
        with naming(str(images)):
            self.source = PatchSource(
                training, config.patch, config.sampling, self.device, config.seed + 1, config.data
            )
        self.generator = self.source.generator
        self.validation = validation_batches(held_out, config.patch, self.device, config.data)
        self.validates = bool(self.validation)
        self.distortion = Distortion(config.loss, (config.patch, config.patch), self.device)
        self.shape = config.model
        self.network = Autoencoder(config.model)
        self.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network.deadzone = config.deadzone
        self.model = self.network

    def prepare(self) -> None:
        """Start the scales from the spread of y."""
        self.network.start_scales(self.source.batch(_START_PATCHES))

    def groups(self) -> list[Group]:
        """Convolutions for Muon, the linear path more slowly, tables by quality faster."""
        matrices, linear, tables, rest = [], [], [], []
        for name, p in self.model.named_parameters():
            if name.endswith("linear.weight"):
                linear.append(p)
            elif p.ndim == 4 and is_matrix(p):
                matrices.append(p)
            elif p.ndim == 2:  # per-quality rows
                tables.append(p)
            else:
                rest.append(p)
        return [
            Group(matrices, matrices=True),
            Group(linear, rate=self.config.linear_rate, matrices=True),
            Group(rest),
            Group(tables, rate=self.config.table_rate),
        ]

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Patches (N, 3, P, P) in [-0.5, 0.5], and their qualities (N,) in [0, 7]."""
        x = self.source.batch(self.config.batch)
        world = self.world
        drawn = draw_qualities(self.config.batch * world.size, self.config.quality_power)
        return x, drawn[world.rank :: world.size].to(self.device)

    def loss(
        self, model: nn.Module, batch: Any, step: int | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Rate and distortion of (x, quality); the parts have `bpp`."""
        x, quality = batch
        lambdas = self.shape.lambda_at(quality)
        with self.autocast():
            out = model(x, quality)
        distortion, parts = self.distortion(out.pixels, x)
        bpp = (out.y_bits + out.z_bits) / (x.shape[2] * x.shape[3])
        # divided by √λ, so that no rate dominates the gradient
        loss = ((lambdas * 255**2 * distortion + bpp) / lambdas.sqrt()).mean()
        return loss, {"bpp": bpp.detach(), **parts}

    @staticmethod
    def metrics(config: TrainConfig) -> tuple[str, ...]:
        """See `Task`."""
        return ("loss", *(f"{name}/{q}" for q in VALIDATION_QUALITIES for name in ("bpp", "psnr")))

    def validate(self) -> dict[str, float]:
        """Mean loss, and bits per pixel and PSNR at five qualities, on held-out images."""
        result: dict[str, float] = {}
        total = torch.zeros((), device=self.device)
        for quality in VALIDATION_QUALITIES:
            rates, errors = [], []
            for x in self.validation:
                q = torch.full((x.shape[0],), quality, device=self.device)
                loss, parts = self.loss(self.model, (x, q), None)
                total += loss * len(x)  # the last batch may be smaller
                rates.append(parts["bpp"])
                errors.append(psnr(parts["mse"]))
            result[f"bpp/{quality}"] = float(torch.cat(rates).mean())
            result[f"psnr/{quality}"] = float(torch.cat(errors).mean())
        images = sum(len(x) for x in self.validation)
        result["loss"] = float(total) / (len(VALIDATION_QUALITIES) * images)
        return result

    def pictures(self) -> tuple[Tensor, Tensor]:
        """The first validation crops at a middling quality."""
        x = self.validation[0][:PICTURES]
        with self.autocast():
            out = self.model(x, torch.full((x.shape[0],), _SHOWN_QUALITY, device=self.device))
        return x, out.pixels

    def close(self) -> None:
        """All images are in memory."""


def draw_qualities(count: int, power: float) -> Tensor:
    """Random qualities (N,) in [0, 7], ascending, one from each of N equally likely parts.

    A step that always has low and high qualities has steadier gradients than one whose
    qualities are drawn independently. Which patch gets which is random, as patches are.

    Args:
        count: how many, N: the patches of a step.
        power: qualities are 7 uᵖ with u uniform in [0, 1): over 1, low ones are more frequent.
    """
    u = (torch.arange(count) + torch.rand(count)) / count
    return 7 * u**power
