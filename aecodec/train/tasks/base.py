"""What the loop asks of a family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aecodec.model.precision import pick_precision
from aecodec.train.config import TrainConfig
from aecodec.train.distributed import World
from aecodec.train.initial import load_initial
from aecodec.train.optimiser import Group, is_matrix

PICTURES = 4
"""How many validation images TensorBoard shows."""


class Task(ABC):
    """A model, its images and its loss.

    Attributes:
        model: on its device.
        generator: that draws the images, if they are not a function of the step alone.
        test_files: paths relative to the data folder of what is kept for later analysis.
        validates: whether there are validation images.
        unit: what a batch is made of.
    """

    model: nn.Module
    generator: torch.Generator | None = None
    test_files: tuple[str, ...] = ()
    validates: bool
    unit = "images"

    def __init__(self, config: TrainConfig, world: World) -> None:
        self.config, self.world = config, world
        self.device = world.device
        self.precision = pick_precision(config.precision, world.device)

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which the model runs at the precision of training."""
        if self.precision == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.precision)

    @abstractmethod
    def prepare(self) -> None:
        """Set what depends on the data, before the first step of a fresh model."""

    def load_initial(self, path: Path) -> None:
        """Start from a checkpoint's moving average, or from a release.

        Raises:
            ModelError: it cannot be read.
            TrainingError: it does not fit the model.
        """
        load_initial(path, self.model)

    def separate(self, step: int) -> None:
        """Let each process but the first draw random numbers of its own from here on."""
        if not self.world.first:
            seed = (self.config.seed * 1_000_003 + self.world.rank) * 1_000_003 + step
            seed %= 2**63  # torch takes no more
            torch.manual_seed(seed)
            if self.generator is not None:
                self.generator.manual_seed(seed)

    def groups(self) -> list[Group]:
        """All parameters, by how they are optimised."""
        params = list(self.model.parameters())
        return [
            Group([p for p in params if is_matrix(p)], matrices=True),
            Group([p for p in params if not is_matrix(p)]),
        ]

    @abstractmethod
    def batch(self, step: int) -> Any:
        """What the loss of a step needs, on the device."""

    @abstractmethod
    def loss(
        self, model: nn.Module, batch: Any, step: int | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch.

        Args:
            model: `self.model`, or what wraps it.
            batch: from `batch`.
            step: for weights that change; None takes them as they are in the end.

        Returns:
            The mean loss, a scalar with a gradient; and its parts, (N,) each, detached.
        """

    @staticmethod
    @abstractmethod
    def metrics(config: TrainConfig) -> tuple[str, ...]:
        """Names of what `validate` gives with a config, `loss` first."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Mean `loss`, and parts of it, over the validation images; the model is in eval mode."""

    @abstractmethod
    def pictures(self) -> tuple[Tensor, Tensor] | None:
        """A few validation images (N, C, H, W) in [-0.5, 0.5] and what the model makes of them.

        Always the same; None if they cannot be read.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of worker processes."""


def psnr(mse: Tensor) -> Tensor:
    """Peak signal to noise ratio in dB of samples with a range of 1."""
    return -10 * mse.clamp(min=1e-10).log10()
