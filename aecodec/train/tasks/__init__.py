"""What is trained: the model of a family, its images and its loss; one module a family."""

from __future__ import annotations

from pathlib import Path

from ..config import HYPERPRIOR, TrainConfig
from ..distributed import World
from .base import Task


def make_task(config: TrainConfig, images: Path, world: World) -> Task:
    """The task that a config names.

    Args:
        config: names the family.
        images: the data folder.
        world: where it computes.

    Raises:
        TrainingError: the images cannot be used.
    """
    if config.family == HYPERPRIOR:
        from .hyperprior import HyperpriorTask

        return HyperpriorTask(config, images, world)
    from .bottleneck import BottleneckTask

    return BottleneckTask(config, images, world)
